"""One epoch of every method with the package's own defaults."""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.speed.commands import run, sets
from benchmarks.speed.figures import Figure
from medsgssl.data.synthetic.dataset import generate_phantoms
from medsgssl.methods.registry import all_methods

NOTE = (
    "`medsgssl pretrain METHOD` on 200 phantoms with every default (224 pixels, batch 64, the "
    "method's backbone) but one epoch and no ImageNet weights, everything prepared before: the "
    "whole command, start-up included. Memory: the largest sum over its processes, shared pages "
    "counted once."
)


def measure(quick: bool) -> list[Figure]:
    """Return seconds and memory of an epoch."""
    names = [name for name, method in all_methods().items() if method.pretrains]
    figures = []
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        generate_phantoms(root / "data", 160 if quick else 200)
        for name in names[:1] if quick else names:
            items = ("encoder.pretrained=false", f"data.cache_dir={root / 'cache'}")
            words = f"pretrain {name} --data"
            rest: list[str | Path] = [root / "data", *sets(*items)]
            nothing, one = sets("pretrain.epochs=0"), sets("pretrain.epochs=1")
            run(words, *rest, *nothing, "--out", root / f"{name}-0", folder=root)
            taken = run(words, *rest, *one, "--out", root / name, folder=root)
            figures.append(Figure(f"epoch of {name}", taken.seconds, "s"))
            figures.append(Figure(f"memory of {name}", taken.memory, "MB"))
    return figures
