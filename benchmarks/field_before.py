"""What the first version of this package printed where docs/field.md shows "Before".

    git archive 3096389 src | tar -x -C OLD
    python -m benchmarks.field_before OLD/src benchmarks/field_before.json [KIND ...]

The inputs are those of ``benchmarks/field.py``; commands have the names of that version.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.field_inputs import CURVES, SCORES, write_all
from medsgssl.utils.io import write_json

_RUN = "--data nih --set encoder.pretrained=false --set data.cache_dir=cache"
_TINY = f"{_RUN} --set data.img_size=64 --set encoder.name=test_efficientnet"
_SHORT = "--set pretrain.epochs=1 --set finetune.epochs=1 --set data.batch_size=16"
# 28 images of val and test in batches of 13: the last batch has 2.
_EQUAL = (
    "--data blank --set encoder.pretrained=false --set data.cache_dir=cache --set data.img_size=64 "
    "--set data.batch_size=13 --set finetune.epochs=1"
)
_TWICE = "--set pretrain.epochs=2 --set finetune.epochs=2 --set data.batch_size=16"
# After so many seconds a command that waits for what will never come is stopped.
_LONGEST = 90
_READ = "from medsgssl.sources import read_image"
_TRIES: dict[str, tuple[str, ...]] = {
    "One bad file": ("masks build headers --out m1", "catalog headers --split train"),
    "Padding": (
        "masks build padding --out m2",
        f""">>> {_READ}
>>> for name in ("none", "65535", "signed", "range"):
...     image = read_image(Path(f"padding/p0_{{name}}.dcm"))
...     low, high = np.percentile(image[:, 12:], [1, 99])
...     print(f"{{name:6}} tissue spans {{high - low:.0f}} levels")""",
    ),
    "Lookup tables": (
        f""">>> {_READ}
>>> one, other = read_image(Path("lut/plain.dcm")), read_image(Path("lut/lut8.dcm"))
>>> same = np.corrcoef(one.ravel(), other.ravel())[0, 1]
>>> print(f"correlation with the same curve applied by hand: {{same:.3f}}")""",
    ),
    "Suffixes": ("catalog formats --split train",),
    "Folders": ("catalog linked --split train", "catalog nested --split random"),
    "Patients": (
        "catalog mimic --split train",
        "catalog padchest --split train",
        "catalog chexpert --split train",
        """>>> import pandas as pd
>>> for name in ("mimic", "padchest", "chexpert"):
...     catalog = pd.read_parquet(next(Path(".").rglob(f"{name}-*/*catalog.parquet")))
...     print(name, sorted(set(catalog["patient_id"])))""",
    ),
    "Columns": (
        "catalog nested --split random",
        """>>> import pandas as pd
>>> catalog = pd.read_parquet(next(Path(".").rglob("nested*/*catalog.parquet")))
>>> print({value: int(count) for value, count in catalog["sex"].value_counts().items()})""",
    ),
    "Settings": ("catalog kaggle --split random --set data.labels=sample_labels.csv",
                 "masks build kaggle --set data.labels=sample_labels.csv --out m8"),
    "Own masks": tuple(
        f"masks build films --own {kind} --out m9{kind}"
        for kind in ("deep", "alpha", "labels", "inverted", "others")
    ),
    "Usable": ("catalog nodecoder --split train", "catalog odd --split train"),
    "Channels last": (
        """>>> import torch
>>> from medsgssl.config import EncoderSettings
>>> from medsgssl.models import build_encoder
>>> for name in ("swin_tiny_patch4_window7_224", "mambaout_femto"):
...     encoder = build_encoder(EncoderSettings(name=name, pretrained=False), 224)
...     print(name, tuple(encoder.features(torch.rand(1, 1, 224, 224)).spatial.shape))""",
    ),
    "Rollout": (
        """>>> import torch
>>> from medsgssl.config import EncoderSettings
>>> from medsgssl.localisation.maps import attention_rollout
>>> from medsgssl.models import build_encoder
>>> from medsgssl.training import Classifier
>>> from medsgssl.views import ViewBatch
>>> seed = torch.manual_seed(0)
>>> settings = EncoderSettings(name="eva02_tiny_patch14_224", pretrained=False)
>>> classifier = Classifier(build_encoder(settings, 224)).eval()
>>> weights, none = [], [torch.zeros(1)] * 6
>>> batch = ViewBatch(torch.rand(1, 1, 1, 224, 224), torch.ones(1, 1, 224, 224) > 0, *none)
>>> for block in classifier.encoder.backbone.blocks:
...     block.attn.fused_attn = False
...     block.attn.qkv.weight.data *= 10  # as sharp as trained attention
...     keep = lambda _, given: weights.append(given[0][0].mean(0))
...     handle = block.attn.attn_drop.register_forward_pre_hook(keep)
>>> ours = attention_rollout(classifier, batch).flatten()
>>> flow = torch.eye(257)
>>> for layer in weights:
...     flow = (layer + torch.eye(257)) / 2 @ flow
>>> off = (ours - flow[0, 1:]).abs().max() / flow[0, 1:].max()
>>> print(f"off by {off:.2f} of the peak from the attention that timm computes")""",
    ),
    "Any model": (
        f"run multi-region {_RUN} {_SHORT} --set data.img_size=224 --out r1 "
        "--set encoder.name=pit_ti_224",
        f"run direct {_RUN} {_SHORT} --out r2 --set encoder.name=densenet121 "
        "--set encoder.drop_path=0.1",
    ),
    "Ranges": (
        """>>> import torch
>>> from medsgssl.training.losses import FocalLoss
>>> logits = torch.tensor([[-17.0, -40.0]], requires_grad=True)
>>> FocalLoss(gamma=0.5)(logits, torch.zeros(1, 2)).backward()
>>> print(logits.grad)""",
        f"run direct {_TINY} --out r3 --set finetune.epochs=0",
    ),
    "The machine": (
        f"run direct {_TINY} --out r4 --set finetune.accelerator=gpu",
        f"run simclr {_TINY} {_SHORT} --out r5 --set finetune.num_nodes=2",
    ),
    "Two curves of one name": (
        f"run simclr {_TINY} {_TWICE} --out r6",
        CURVES.format(folder="r6/logs/tensorboard"),
    ),
    "Ranks": (
        f"run direct {_EQUAL} --out r7",
        SCORES.format(folder="r7"),
    ),
    "Surface distance": (
        """>>> from medsgssl.masks.agreement import surface_distance
>>> one, other = np.zeros((2, 60, 60), bool)
>>> one[5, 5] = other[26, 42] = True
>>> print(surface_distance(one, other), np.hypot(21, 37))""",
    ),
    "Lines and paths": (
        "catalog lines --set data.labels=labels.csv --set data.classes=[Tube]",
    ),
}  # fmt: skip
# Boxes of tables, progress, and where files are kept say nothing about the kind.
_NOISE = re.compile(
    r"[┏┓┡┩├┤└┘━┃╭╰]|^│ (?!Effusion|No such)|^\s*$|^ *No Finding|"
    r"^(Catalog:|Ages set|Validation |Split |Duplicates )|\d/\d|it/s|"
    r"slurm.py|^concurrent|^\"\"\"|^Warning: no usable val"
)


def main() -> None:
    """Run the commands of that version and keep what they print."""
    source, page = Path(sys.argv[1]).absolute(), Path(sys.argv[2]).absolute()
    printed = json.loads(page.read_text()) if page.is_file() else {}
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        write_all()
        for kind in sys.argv[3:] or _TRIES:
            printed[kind] = "\n\n".join(_answer(words, source) for words in _TRIES[kind])
            write_json(page, printed)


def _answer(words: str, source: Path) -> str:
    python = words.startswith(">>>")
    code = re.sub(r"^(>>> |\.\.\. )", "", words, flags=re.MULTILINE)
    given = ["-c", f"import numpy as np\nfrom pathlib import Path\n{code}"]
    typed = given if python else ["-m", "medsgssl", *words.split()]
    settings = {"PYTHONPATH": str(source), "COLUMNS": "160", "TERM": "dumb"}
    settings["XDG_CACHE_HOME"] = str(Path.cwd())
    with subprocess.Popen(
        [sys.executable, *typed], env={**os.environ, **settings}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    ) as ran:  # fmt: skip
        end = ""
        try:
            printed = "".join(ran.communicate(timeout=_LONGEST))
        except subprocess.TimeoutExpired:
            os.killpg(ran.pid, signal.SIGKILL)
            printed, end = "".join(ran.communicate()), f"[stopped: nothing more in {_LONGEST} s]"
    said, mark, trace = printed.partition("Traceback (most recent call last)")
    lines = [line.rstrip() for line in said.splitlines() if not _NOISE.search(line)]
    if mark:
        lines += ["Traceback (most recent call last):", "  ...", trace.strip().splitlines()[-1]]
    elif end:
        lines.append(end)
    elif ran.returncode:
        lines.append(f"[exit {ran.returncode}]")
    said = "\n".join(line[:160] for line in lines).replace(f"{Path.cwd().resolve()}/", "")
    return f"{words if python else f'$ medsgssl {words}'}\n{said}"


if __name__ == "__main__":
    main()
