"""Problems that people reported in public, typed again: the first part of docs/field.md.

    python benchmarks/field.py docs/field.md [KIND ...]

Inputs are written, every command is run, and the page shows what it prints. With kinds named, only
their sections are written again. ``tests/cli/test_field.py`` compares the page with the commands.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from benchmarks.field_inputs import CURVES, SCORES, write_all
from medsgssl.cli.app import main as command_line

_RUN = "--data nih --out run --set encoder.pretrained=false --set data.cache_dir=cache"
_TINY = f"{_RUN} --set data.img_size=64 --set encoder.name=test_efficientnet"
_SHORT = "--set pretrain.epochs=2 --set finetune.epochs=2 --set data.batch_size=16 --quiet"
_COUNTS = r"^(Images|Read as|Patients|Other files|Linked folders)"


@dataclass(frozen=True)
class Try:
    """One command of a kind.

    Attributes:
        words: What is typed after ``medsgssl``, or Python behind ``>>>``.
        keep: Lines of the output that are shown match this; all by default.
    """

    words: str
    keep: str = ""


@dataclass(frozen=True)
class Kind:
    """One kind of problem.

    Attributes:
        name: A word for it, the heading of its section.
        problem: What people ran into.
        before: What the first version of this package printed.
        tries: The commands.
        tests: Tests that hold it.
    """

    name: str
    problem: str
    before: str
    tries: tuple[Try, ...] = ()
    tests: tuple[str, ...] = ()


_LEVELS = """>>> from medsgssl.images import read_image
>>> for name in ("none", "65535", "signed", "range"):
...     image = read_image(f"padding/p0_{name}.dcm")
...     low, high = np.percentile(image[:, 12:], [1, 99])
...     print(f"{name:6} tissue spans {high - low:.0f} levels, padding is {image[:, :12].max()}")"""
_LUT = """>>> from medsgssl.images import read_image
>>> one, other = read_image("lut/plain.dcm"), read_image("lut/lut8.dcm")
>>> same = np.corrcoef(one.ravel(), other.ravel())[0, 1]
>>> print(f"correlation with the same curve applied by hand: {same:.3f}")"""
_SWIN = """>>> from medsgssl.config.schema import EncoderSettings
>>> from medsgssl.models.encoder import build_encoder
>>> for name in ("swin_tiny_patch4_window7_224", "mambaout_femto"):
...     encoder = build_encoder(EncoderSettings(name=name, pretrained=False), 224)
...     print(name, encoder.layout)"""

_FOCAL = """>>> import torch
>>> from medsgssl.losses.multilabel import FocalLoss
>>> logits = torch.tensor([[-17.0, -40.0]], requires_grad=True)
>>> FocalLoss(gamma=0.5)(logits, torch.zeros(1, 2)).backward()
>>> print(logits.grad)"""
_ROLLOUT = """>>> import torch
>>> from medsgssl.config.schema import EncoderSettings
>>> from medsgssl.inference.maps import attention_rollout
>>> from medsgssl.models.classifier import Classifier
>>> from medsgssl.models.encoder import build_encoder
>>> from medsgssl.transforms.batch import ViewBatch
>>> seed = torch.manual_seed(0)
>>> settings = EncoderSettings(name="eva02_tiny_patch14_224", pretrained=False)
>>> classifier = Classifier(build_encoder(settings, 224), classes=14).eval()
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
>>> print(f"off by {off:.2f} of the peak from the attention that timm computes")"""
_DISTANCE = """>>> from medsgssl.masks.agreement import surface_distance
>>> one, other = np.zeros((2, 60, 60), bool)
>>> one[5, 5] = other[26, 42] = True
>>> print(surface_distance(one, other), np.hypot(21, 37))"""

KINDS = (
    Kind(
        "One bad file",
        "A slip in the display header of one DICOM file (window of width 0 or below 1, decimal "
        "comma, empty VOI function) ends everything.",
        "a traceback that names no file, from `masks` and from `pretrain`",
        (Try("masks build headers --out m1 --quiet"),
         Try("catalog headers --split train --quiet", rf"{_COUNTS}|window")),
        ("tests/images/test_dicom.py", "tests/utils/test_worker_processes.py"),
    ),
    Kind(
        "Padding",
        "Padding of 65535, of -32768, of a range sets the gray range.",
        "tissue keeps 15 to 25 gray levels; masks fail",
        (Try("masks build padding --out m2 --quiet"), Try(_LEVELS)),
        ("tests/images/test_dicom.py",),
    ),
    Kind(
        "Lookup tables",
        "A library's VOI LUT of 8 bits on 12-bit pixels gives noise.",
        "noise, in silence",
        (Try(_LUT),),
        ("tests/images/test_dicom.py",),
    ),
    Kind(
        "Suffixes",
        "DICOM without a suffix, TIFF and BMP are neither read nor counted; `._` files of macOS "
        "take part in splits.",
        "of 20 such files 8 seen, with `0 unreadable, 0 not in the table`",
        (Try("catalog formats --split train --quiet", rf"{_COUNTS}|passed over|^Warning"),),
        ("tests/data/readers/test_scan.py",),
    ),
    Kind(
        "Folders",
        "Linked folders are skipped; images two folders down are missing.",
        "0 of 12 found; 20 missing, and a fix that leads in a circle",
        (Try("catalog linked --split train --quiet", rf"{_COUNTS}|loop"),
         Try("catalog nested --split random --quiet", _COUNTS)),
        ("tests/data/readers/test_scan.py",),
    ),
    Kind(
        "Patients",
        "Who the patient is, is guessed: MIMIC 1, PadChest 2, full-size CheXpert 3 patients.",
        "1, 2 and 3 patients; three download batches as train, val and test",
        (Try("catalog mimic --split train --quiet", _COUNTS),
         Try("catalog padchest --split train --quiet", _COUNTS),
         Try("catalog chexpert --split train --quiet", _COUNTS)),
        ("tests/data/readers/test_scan.py", "tests/data/readers/test_releases.py"),
    ),
    Kind(
        "Columns",
        "`Patient Sex` instead of `Patient Gender` leaves every sex empty.",
        "no word; subgroups vanish",
        (Try("catalog nested --split random --quiet", "^(Columns|No column)"),),
        ("tests/data/readers/test_scan.py", "tests/data/readers/test_table.py"),
    ),
    Kind(
        "Settings",
        "Commands drop the user's settings: the table named by `data.labels`.",
        "`catalog` shows another table; the masks get ids that `run` refuses",
        (Try("catalog kaggle --split random --set data.labels=sample_labels.csv --quiet",
             "^(Data set|Labels)|Effusion"),
         Try("masks build kaggle --set data.labels=sample_labels.csv --out m8 --quiet")),
        ("tests/data/readers/test_table.py", "tests/cli/test_masks.py"),
    ),
    Kind(
        "Own masks",
        "A user's own masks are read by a guess: 16-bit 0/1 and alpha-only masks are empty, label "
        "maps lose a lung, the background is taken for lung, names match nothing.",
        "exit 0 with half a lung, the heart, the background or nothing",
        (Try("masks build films --masks-dir deep --out m9a --quiet"),
         Try("masks build films --masks-dir alpha --out m9b --quiet"),
         Try("masks build films --masks-dir labels --out m9c --quiet"),
         Try("masks build films --masks-dir labels --labels 1=right,2=left --out m9d --quiet"),
         Try("masks build films --masks-dir inverted --out m9e --quiet"),
         Try("masks build films --masks-dir others --out m9f --quiet")),
        ("tests/masks/test_mask_files.py",),
    ),
    Kind(
        "Usable",
        "Files are called usable that nothing decodes; bytes after the end mark are called damage; "
        "rotation tags are ignored.",
        "usable; the run then ends, and its fix points back to the catalog",
        (Try("catalog nodecoder --split train --quiet", rf"{_COUNTS}|decode[ds]|^No image"),
         Try("catalog odd --split train --quiet", rf"{_COUNTS}|^Rotation|rotation")),
        ("tests/data/test_file_checks.py", "tests/images/test_formats.py"),
    ),
    Kind(
        "Channels last",
        "Swin, SwinV2, MambaOut, Sequencer: Grad-CAM of garbage, a map of 7 x 768.",
        "7 x 768 where 7 x 7 is right, with exit 0; crashes in two methods",
        (Try(_SWIN),),
        ("tests/models/test_timm_families.py", "tests/inference/test_maps.py"),
    ),
    Kind(
        "Rollout",
        "Recomputed attention is wrong for rotary and relative positions (EVA-02, DINOv3) and "
        "fails on BEiT, CaiT, MViTv2.",
        "maps off by up to 0.86 of the peak, in silence; raw errors",
        (Try(_ROLLOUT),),
        ("tests/inference/test_maps.py", "tests/models/test_timm_families.py"),
    ),
    Kind(
        "Any model",
        "Any timm model was promised: Mixer, ResMLP, LeViT, PiT, Twins, VOLO, CoaT and others "
        "cannot do everything.",
        "raw errors of torch, some only after the masks; the weights file is blamed",
        (Try(f"run anatomy-masked-attention {_RUN} --set encoder.name=mixer_s32_224 "
             "--set data.img_size=224"),
         Try(f"run multi-region {_RUN} --set encoder.name=pit_ti_224 --set data.img_size=224"),
         Try(f"run simclr {_RUN} --set encoder.name=densenet121 --set encoder.drop_path=0.1")),
        ("tests/models/test_timm_families.py",),
    ),
    Kind(
        "Ranges",
        "Allowed values break: `focal_gamma` between 0 and 1 has gradients that are no numbers, 0 "
        "epochs of fine-tuning are marked complete, one labeled image ends in BatchNorm.",
        "gradients that are no numbers from logits of -17 on; a complete stage without a "
        "classifier; a traceback",
        (Try(_FOCAL),
         Try(f"run direct {_TINY} --set finetune.epochs=0"),
         Try(f"run direct {_TINY.replace('nih', 'one')} --set data.labels=labels.csv "
             "--set data.split=own")),
        ("tests/losses/test_multilabel.py", "tests/training/test_trainer.py"),
    ),
    Kind(
        "The machine",
        "A GPU that is not there, more devices than processes: found out after pretraining.",
        "a traceback after all of pretraining, or silence",
        (Try(f"run simclr {_TINY} --set finetune.accelerator=gpu"),
         Try(f"run simclr {_TINY} --set finetune.num_nodes=2")),
        ("tests/training/test_processes.py", "tests/cli/test_torchrun.py"),
    ),
    Kind(
        "Two curves of one name",
        "TensorBoard mixes pretraining and fine-tuning.",
        "one curve for both stages",
        (Try(f"run simclr {_TINY} {_SHORT}".replace("--out run", "--out curves"), "^Report"),
         Try(CURVES.format(folder="curves/logs/tensorboard"))),
        ("tests/training/test_trainer.py",),
    ),
    Kind(
        "Ranks",
        "The size of a batch shifts scores by 1e-8, so that equal images rank apart.",
        "AUC 0.45 to 0.55 for blank images",
        (Try("run direct --data blank --out equal --set encoder.pretrained=false "
             "--set data.cache_dir=cache --set data.img_size=64 --set data.batch_size=13 "
             "--set finetune.epochs=1", "^(Mean|Warning)"),
         Try(SCORES.format(folder="equal"))),
        ("tests/inference/test_forward.py",),
    ),
    Kind(
        "Surface distance",
        "A 5 x 5 chamfer is off by up to 1.9 %.",
        "distances of a chamfer",
        (Try(_DISTANCE),),
        ("tests/masks/test_agreement.py",),
    ),
    Kind(
        "Lines and paths",
        "Line numbers in messages do not count blank lines; Python entry points take no text.",
        "the number of the line without the blank ones",
        (Try("catalog lines --set data.labels=labels.csv --set data.classes=[Tube]"),),
        ("tests/data/readers/test_table.py", "tests/test_public_names.py"),
    ),
)  # fmt: skip


#: What the first version printed, by kind; ``benchmarks/field_before.py`` wrote it.
PRINTED_BEFORE: dict[str, str] = json.loads(
    Path(__file__).with_name("field_before.json").read_text()
)


@contextlib.contextmanager
def place() -> Iterator[None]:
    """Work in a temporary folder with all inputs."""
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.chdir(folder),
        mock.patch.dict(os.environ, {"XDG_CACHE_HOME": folder, "COLUMNS": "200"}),
    ):
        write_all()
        yield


def answer(one: Try) -> str:
    """Return what a command prints that is shown, and its exit status where that is not 0."""
    said, status = io.StringIO(), 0
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        if one.words.startswith(">>>"):
            code = re.sub(r"^(>>> |\.\.\. )", "", one.words, flags=re.MULTILINE)
            exec(f"import numpy as np\n{code}", {})
        else:
            with mock.patch.object(sys, "argv", ["medsgssl", *one.words.split()]):
                try:
                    command_line()
                except SystemExit as end:
                    status = int(end.code or 0)
    text = said.getvalue().replace(f"{Path.cwd().resolve()}/", "")
    text = re.sub(r"(?m)^Matplotlib is building.*\n", "", text)
    lines = [line.rstrip() for line in text.splitlines() if re.search(one.keep, line)]
    return "\n".join([*filter(None, lines), *([f"[exit {status}]"] if status else [])])


def section(kind: Kind) -> str:
    """Return the section of a kind as Markdown."""
    parts = [f"### {kind.name}", kind.problem, f"Before: {kind.before}."]
    parts.append(f"```text\n{PRINTED_BEFORE[kind.name]}\n```\n\nNow:")
    for one in kind.tries:
        python = one.words.startswith(">>>")
        typed = one.words if python else f"$ medsgssl {one.words}"
        parts.append(f"```{'pycon' if python else 'console'}\n{typed}\n{answer(one)}\n```")
    parts.append(f"Tests: {', '.join(f'`{test}`' for test in kind.tests)}.")
    return "\n\n".join(parts)


def main() -> None:
    """Write the sections of the page."""
    page = Path(sys.argv[1]).absolute()
    wanted = sys.argv[2:] or [kind.name for kind in KINDS]
    top, _, rest = page.read_text().partition("<!-- kinds -->\n")
    middle, _, end = rest.partition("<!-- end of kinds -->\n")
    there = dict(re.findall(r"(?ms)^(### [^\n]+)\n(.*?)(?=^### |\Z)", middle))
    sections = {
        kind.name: f"### {kind.name}\n{there.get(f'### {kind.name}', '')}".strip() for kind in KINDS
    }
    with place():
        for kind in KINDS:
            if kind.name in wanted:
                sections[kind.name] = section(kind)
                body = "\n\n".join(sections.values())
                # After each, so that a run that was stopped has not run in vain.
                page.write_text(f"{top}<!-- kinds -->\n{body}\n\n<!-- end of kinds -->\n{end}")


if __name__ == "__main__":
    main()
