#!/usr/bin/env bash
# A first hour with the built wheel in an environment of its own, as Markdown: commands and what
# they print. `make transcript DICOM=FOLDER` builds the wheel and writes docs/results/transcript.md.
#   benchmarks/transcript.sh WHEEL CONSTRAINTS DICOM_FOLDER > transcript.md
# PYTHON is the interpreter of the environment, TORCH_INDEX an index of PyTorch's CPU wheels.
set -euo pipefail
wheel=$(realpath "$1") constraints=$(realpath "$2") dicom=$(realpath "$3")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
ln -s "$dicom" dicom
"${PYTHON:-python3}" -m venv fresh
# PYTHONPATH would lend packages that the wheel does not ask for.
env -u PYTHONPATH fresh/bin/pip install --quiet --constraint "$constraints" \
  ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} "$wheel[dicom,onnx]" >&2

# Nothing of the caller's environment reaches the commands but the number of threads.
clean=(env -i HOME="$work" PATH="$work/fresh/bin:/usr/bin:/bin" LANG=C.UTF-8 COLUMNS=110
  PYTHONWARNINGS=ignore PYTHONNOUSERSITE=1 ${OMP_NUM_THREADS:+OMP_NUM_THREADS=$OMP_NUM_THREADS})
say() { printf '\n%s\n' "$*"; }
# Lines that only report progress are left out; so is the place of the temporary folder.
tidy() {
  { grep -vE '^(checking|decoding|drawing|scoring) [a-z ]+: [0-9]+ of' || true; } |
    sed -e "s#$PWD/##g" -e "s#$PWD#.#g" -e 's/ *$//'
}
# Shows a command, its output, and its exit status where that is not 0.
try() {
  printf '\n```console\n$ %s\n' "$1"
  local status=0
  "${clean[@]}" bash -c "$1" > output 2>&1 || status=$?
  tidy < output
  [ "$status" = 0 ] || echo "[exit $status]"
  printf '```\n'
}
# Likewise, with Ctrl-C after the second epoch of pretraining.
interrupt() {
  printf '\n```console\n$ %s\n' "$1"
  local status=0
  set -m # or the command would ignore Ctrl-C
  "${clean[@]}" bash -c "exec $1" > output 2>&1 &
  local process=$!
  until grep -q '^pretrain 2/' output || ! kill -0 $process; do sleep 0.2; done
  kill -INT $process || true
  wait $process || status=$?
  set +m
  grep -E '^pretrain|stopped|Stopped' output | sed 's/^pretrain: stopped/^C\n&/'
  echo "[exit $status]"
  printf '```\n'
}

say '# A first hour, from the wheel'
say "Made by \`make transcript\` on $(date +%Y-%m-%d) with the built wheel in an environment of its
own. The films are synthetic, and the runs too small to learn much: this page shows commands, not
results."
say '## The environment'
cat > where.py <<'P'
import importlib.metadata
import sys

import medsgssl

packages = list(importlib.metadata.distributions())
lent = [one.name for one in packages if not str(one.locate_file("")).startswith(sys.prefix)]
print(medsgssl.__file__)
print(len(packages), "packages, of them from outside the environment:", lent)
P
try 'python where.py'
[ "$("${clean[@]}" python where.py | grep -c ': \[\]$')" = 1 ] || { cat output >&2; exit 1; }
say '## Look around'
try 'medsgssl --version'
try 'medsgssl doctor'
try 'medsgssl methods --json | python -c "import json,sys; print(*(m[\"name\"] for m in json.load(sys.stdin)[\"methods\"]))"'
say '## Everything once, on synthetic X-rays'
try 'medsgssl demo --out demo --quiet'
say '## A table of one'"'"'s own'
try 'medsgssl phantom films --count 200 --size 64 --quiet'
cat > table.py <<'P'
import pandas as pd

entry = pd.read_csv("films/Data_Entry_2017.csv")
found = entry["Finding Labels"].str.get_dummies("|")
table = pd.DataFrame({"image": entry["Image Index"], "patient": entry["Patient ID"]})
table["Fluid"], table["Spot"] = found["Effusion"], found[["Mass", "Nodule"]].max(axis=1)
table.to_csv("films/mine.csv", index=False)
P
try 'cat table.py; python table.py; head -3 films/mine.csv'
try 'medsgssl catalog films --set data.labels=mine.csv --quiet'
say '## A run'
small='--set data.labels=mine.csv --set data.img_size=64 --set encoder.pretrained=false --set pretrain.epochs=1 --set finetune.epochs=2 --set data.batch_size=32'
try "medsgssl run simclr --data films --out runs/mine --quiet $small"
say 'The same command again does nothing that is done:'
try "medsgssl run simclr --data films --out runs/mine --quiet $small"
say 'Another run is interrupted, and the same command continues it:'
longer="${small/pretrain.epochs=1/pretrain.epochs=6}"
interrupt "medsgssl run simclr --data films --out runs/longer $longer"
try "medsgssl run simclr --data films --out runs/longer $longer | grep -vE '^(finetune|Warning)'"
say '## Score other films: DICOM, and a folder'
try 'medsgssl predict runs/mine dicom --out scores.csv --quiet; python -c "import pandas; print(pandas.read_csv(\"scores.csv\").T.to_string())"'
try 'medsgssl predict runs/mine films/images --out folder.csv --overlays overlays --quiet; ls overlays | head -2'
say 'Test images get exactly the scores of the run:'
cat > same.py <<'P'
import pandas as pd

run = pd.read_parquet("runs/mine/predictions.parquet").set_index("image_id")
mine = pd.read_csv("folder.csv")
mine.index = mine["file"].str.removeprefix("films/").str.replace("/", "_")
same = mine.loc[run.index, "Fluid_score"].astype("float32") == run["score_Fluid"].astype("float32")
print(f"{same.sum()} of {len(same)} scores are equal")
P
try 'python same.py'
say '## Features and exports'
try 'medsgssl embed runs/mine films/images --out features.parquet --quiet'
try 'medsgssl export runs/mine --to timm --out encoder'
cat > load.py <<'P'
import timm

model = timm.create_model(
    "mobilenetv2_100", num_classes=0, checkpoint_path="encoder/model.safetensors"
).eval()
print(sum(p.numel() for p in model.parameters()), "parameters loaded, strictly")
P
try 'cat load.py; python load.py'
try 'medsgssl export runs/mine --to onnx --out model.onnx'
cat > onnx_run.py <<'P'
import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession("model.onnx")
print(session.get_modelmeta().custom_metadata_map["classes"])
views = np.random.default_rng(0).integers(0, 256, (2, 1, 64, 64), dtype=np.uint8)
print(session.run(["probabilities"], {"images": views})[0].round(3))
P
try 'python onnx_run.py'
say '## The exported encoder, frozen, in another run'
frozen="${small/--set pretrain.epochs=1 /}"
try "medsgssl run direct --data films --out runs/frozen --quiet ${frozen/encoder.pretrained=false/encoder.name=local-dir:encoder} --set finetune.mode=linear"
