"""What ``study run --dry-run`` predicts, beside what then happens."""

from __future__ import annotations

import multiprocessing
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

from benchmarks.speed.commands import run, sets
from benchmarks.speed.figures import Figure
from medsgssl.data.synthetic.dataset import generate_phantoms
from medsgssl.study.cost import Estimate, estimate
from medsgssl.study.plan_builder import make_plan

NOTE = (
    "Three studies of one seed each on phantoms: the seconds that the plan predicts from a "
    "calibration on this machine, everything from an empty folder, beside the seconds that "
    "`medsgssl study run` then takes as a whole, its start and its reports included; the memory of "
    "its processes; what it leaves on the disk, its cache included."
)


class Study(NamedTuple):
    """Methods, number of phantoms, and settings of a study."""

    methods: str
    images: int
    settings: tuple[str, ...]


STUDIES = {
    "direct and simclr, 64 px": Study(
        "direct,simclr",
        2000,
        ("data.img_size=64", "pretrain.epochs=5", "finetune.epochs=5"),
    ),
    "guided-crop, 96 px": Study(
        "guided-crop",
        1000,
        ("data.img_size=96", "pretrain.epochs=2", "finetune.epochs=3"),
    ),
    "ViT option, 64 px": Study(
        "anatomy-masked-attention",
        600,
        (
            "data.img_size=64",
            "pretrain.epochs=2",
            "finetune.epochs=3",
            "encoder.name=vit_tiny_patch16_224",
            "encoder.patch_size=8",
        ),
    ),
}


def measure(quick: bool) -> list[Figure]:
    """Return predicted and true seconds, memory and disk of each study."""
    figures = []
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        for number, (name, study) in enumerate(STUDIES.items()):
            data, cache = root / f"data{number}", root / f"cache{number}"
            generate_phantoms(data, 160 if quick else study.images, 128)
            items = [
                *study.settings,
                "encoder.pretrained=false",
                "pretrain.warmup_epochs=1",
                "finetune.warmup_epochs=1",
                f"data.cache_dir={cache}",
            ]
            out = root / f"study{number}"
            # As the command does, in a process of its own: memory is that of the calibration.
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
                predicted = process.submit(predict, data, study.methods, items, out).result()
            command = f"study run --methods {study.methods} --seeds 1 --data"
            taken = run(command, data, "--out", out, *sets(*items), folder=root)
            left = _bytes(out) + _bytes(cache)
            figures += [
                _figure(f"time of {name}", predicted.seconds, taken.seconds, "s"),
                _figure(f"memory of {name}", predicted.memory_bytes / 1e6, taken.memory, "MB"),
                _figure(f"disk of {name}", predicted.num_bytes / 1e6, left / 1e6, "MB"),
            ]
            if quick:
                break
    return figures


def predict(data: Path, methods: str, items: list[str], out: Path) -> Estimate:
    """Return what ``study run --dry-run`` predicts."""
    return estimate(make_plan(data, methods.split(","), seeds=1, items=items), out)


def _figure(name: str, predicted: float, true: float, unit: str) -> Figure:
    return Figure(name, predicted, unit, "what happened", true, predicted / true, "0.75 to 1.25")


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
