#!/usr/bin/env bash
# A first hour with the installed package, as Markdown: commands and what they print.
#   benchmarks/transcript.sh DICOM_FOLDER > docs/results/transcript.md
# Run it in an empty folder, with `medsgssl` and `python` of a fresh environment on the PATH:
#   python -m venv fresh; fresh/bin/pip install 'medsgssl-*.whl[dicom,onnx]'
set -uo pipefail
export COLUMNS=110 PYTHONWARNINGS=ignore
ln -sfn "$1" dicom

say() { printf '\n%s\n' "$*"; }
# Shows a command and its output; lines that only report progress are left out.
try() {
  printf '\n```console\n$ %s\n' "$1"
  bash -c "$1" 2>&1 | grep -vE '[0-9]+ of [0-9]+$|^(checking|decoding|drawing|scoring|epoch)' | sed "s#$PWD/##g"
  printf '```\n'
}

say '# A first hour, from the wheel'
say 'Made by `benchmarks/transcript.sh` in a fresh environment with the built wheel, on one CPU. The
films are synthetic, and the runs too small to learn much: this page shows commands, not results.'
say '## Look around'
try 'medsgssl --version'
try 'medsgssl methods --json | python -c "import json,sys; print(*(m[\"name\"] for m in json.load(sys.stdin)[\"methods\"]))"'
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
try 'medsgssl export runs/mine --to onnx --out model.onnx 2>/dev/null'
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
try "medsgssl run direct --data films --out runs/frozen --quiet ${small/--set pretrain.epochs=1 /} --set encoder.name=local-dir:encoder --set encoder.pretrained=true --set finetune.mode=linear"
