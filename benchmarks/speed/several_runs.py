"""Several runs at once on one machine, beside one after the other."""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.speed.commands import run
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
        generate_phantoms(root / "data", 60 if quick else 1000, 128)
        command: list[str | Path] = [
            "study",
            "run",
            "--data",
            root / "data",
            "--methods",
            "direct",
            "--seeds",
            "3",
        ]
        for item in (
            "data.img_size=64",
            "encoder.pretrained=false",
            "evaluate.bootstrap=100",
            f"finetune.epochs={1 if quick else 3}",
            "finetune.warmup_epochs=0",
            f"data.cache_dir={root / 'cache'}",
        ):
            command += ["--set", item]
        run(*command, "--out", root / "first", folder=root)
        one = run(*command, "--jobs", "1", "--out", root / "one", folder=root).seconds
        three = run(*command, "--jobs", "3", "--out", root / "three", folder=root).seconds
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
