"""Several runs at once on one machine, beside one after the other."""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.speed.commands import run, sets
from benchmarks.speed.figures import Figure
from medsgssl.data.synthetic.dataset import generate_phantoms

NOTE = (
    "A study of three runs (`direct`, three seeds, 64 pixels, 3 epochs of 1,000 phantoms) with "
    "`--jobs 1` and with `--jobs 3`, which divides the cores among the runs. Wall time of the "
    "whole command, start-up included, everything prepared before."
)


def measure(quick: bool) -> list[Figure]:
    """Return seconds of the study both ways."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        generate_phantoms(root / "data", 160 if quick else 1000, 128)
        items = (
            "data.img_size=64",
            "encoder.pretrained=false",
            "evaluate.bootstrap=100",
            f"finetune.epochs={1 if quick else 3}",
            "finetune.warmup_epochs=0",
            f"data.cache_dir={root / 'cache'}",
        )
        words = "study run --methods direct --seeds 3 --data"
        rest: list[str | Path] = [root / "data", *sets(*items)]
        run(words, *rest, "--out", root / "first", folder=root)
        one = run(words, *rest, "--jobs", "1", "--out", root / "one", folder=root).seconds
        three = run(words, *rest, "--jobs", "3", "--out", root / "three", folder=root).seconds
    return [
        Figure(
            name="three runs at once",
            value=three,
            unit="s",
            beside="one after the other",
            other=one,
            ratio=three / one,
            wanted="at most 1.2",
        )
    ]
