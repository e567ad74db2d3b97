"""What ``study run --dry-run`` predicts, beside what then happens."""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.speed.commands import run, sets
from benchmarks.speed.figures import Figure
from medsgssl.data.synthetic.dataset import generate_phantoms
from medsgssl.study.cost import estimate
from medsgssl.study.plan_builder import make_plan

NOTE = (
    "Three studies of one seed each on 400 phantoms: the seconds that the plan predicts from a "
    "calibration on this machine, everything from an empty folder, beside the seconds that "
    "`medsgssl study run` then takes as a whole; the memory of its processes; what it leaves on "
    "the disk, its cache included."
)
#: Methods, settings.
STUDIES: dict[str, tuple[list[str], list[str]]] = {
    "direct and simclr, 64 px": (["direct", "simclr"], ["data.img_size=64", "pretrain.epochs=3"]),
    "guided-crop, 96 px": (["guided-crop"], ["data.img_size=96", "pretrain.epochs=2"]),
    "ViT option, 64 px": (
        ["anatomy-masked-attention"],
        [
            "data.img_size=64",
            "pretrain.epochs=2",
            "encoder.name=vit_tiny_patch16_224",
            "encoder.patch_size=8",
        ],
    ),
}


def measure(quick: bool) -> list[Figure]:
    """Return predicted and true seconds, memory and disk of each study."""
    figures = []
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        generate_phantoms(root / "data", 160 if quick else 400, 128)
        for number, (name, (methods, own)) in enumerate(STUDIES.items()):
            items = [
                *own,
                "encoder.pretrained=false",
                "finetune.epochs=3",
                "pretrain.warmup_epochs=1",
                "finetune.warmup_epochs=1",
                f"data.cache_dir={root / f'cache{number}'}",
            ]
            out = root / f"study{number}"
            plan = make_plan(root / "data", methods, seeds=1, items=items)
            predicted = estimate(plan, out)
            command = f"study run --methods {','.join(methods)} --seeds 1 --data"
            taken = run(command, root / "data", "--out", out, *sets(*items), folder=root)
            left = _bytes(out) + _bytes(root / f"cache{number}")
            figures += [
                _figure(f"time of {name}", predicted.seconds, taken.seconds, "s"),
                _figure(f"memory of {name}", predicted.memory_bytes / 1e6, taken.memory, "MB"),
                _figure(f"disk of {name}", predicted.num_bytes / 1e6, left / 1e6, "MB"),
            ]
            if quick:
                break
    return figures


def _figure(name: str, predicted: float, true: float, unit: str) -> Figure:
    return Figure(name, predicted, unit, "what happened", true, predicted / true, "0.75 to 1.25")


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
