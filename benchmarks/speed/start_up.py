"""What a run costs before, between and after its stages, and what light commands cost."""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.speed.commands import run, sets
from benchmarks.speed.figures import Figure
from medsgssl.data.synthetic.dataset import generate_phantoms
from medsgssl.runs.stage_files import read_stage_records

NOTE = (
    "A complete run of SimCLR on 200 phantoms at 64 pixels, 1 + 1 epochs, everything prepared "
    "before. Outside its stages lie the start of Python and of the libraries, the checks and the "
    "report. Light commands: the whole process. An environment of the package and what it needs, "
    "without trackers, whose modules timm would load, or peers. Wall time, the least of three."
)
SETTINGS = (
    "data.img_size=64",
    "pretrain.epochs=1",
    "finetune.epochs=1",
    "pretrain.warmup_epochs=0",
    "finetune.warmup_epochs=0",
    "encoder.pretrained=false",
)


def measure(quick: bool) -> list[Figure]:
    """Return seconds of a small run and of light commands."""
    rounds = 1 if quick else 3
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        generate_phantoms(root / "data", 160 if quick else 200)
        given = sets(*SETTINGS, f"data.cache_dir={root / 'cache'}")
        whole, outside = [], []
        for number in range(rounds + 1):
            out = root / f"run{number}"
            rest: list[str | Path] = [root / "data", "--out", out, *given]
            taken = run("run simclr --data", *rest, folder=root / "logs", memory=False).seconds
            stages = sum(
                each["seconds"] for each in read_stage_records(out / "stages.json").values()
            )
            if number:
                whole.append(taken)
                outside.append(taken - stages)
        figures = [
            Figure("complete run of 200 images", min(whole), "s"),
            Figure("of it outside its stages", min(outside), "s", wanted="at most 4.9"),
        ]
        light = {"methods": [], "config simclr": [], "catalog": [str(root / "data")]}
        for name, more in light.items():
            times = [
                run(name, *more, folder=root / "logs", memory=False).seconds for _ in range(rounds)
            ]
            figures.append(Figure(f"medsgssl {name}", min(times), "s", wanted="below 1"))
    return figures
