"""The demonstration: synthetic X-rays through ``masked-contrastive`` and ``direct``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from rich.table import Table

from medsgssl.data.synthetic.dataset import generate_phantoms
from medsgssl.methods.registry import configure
from medsgssl.pipeline.runner import run_method
from medsgssl.runs.folder import RunFolder
from medsgssl.runs.metrics_file import read_metrics
from medsgssl.utils.formatting import number
from medsgssl.utils.progress import new_console

# Small and from scratch, so that it ends within minutes on two cores and needs no download.
_SETTINGS: dict[str, Any] = {
    "data": {"img_size": 64, "batch_size": 64, "num_workers": 0},
    "encoder": {"pretrained": False},
    "pretrain": {"epochs": 8, "lr": 3e-3},
    "finetune": {"epochs": 12, "lr": 1e-3},
}


def run_demo(out: Path, count: int) -> dict[str, RunFolder]:
    """Make synthetic X-rays below ``out``, and run two methods.

    Args:
        out: Folder for data, cache and runs; what is complete in it is not done again.
        count: Number of images.

    Returns:
        The run folders by method.
    """
    console = new_console()
    started = time.monotonic()
    console.print(f"Drawing {count} synthetic chest X-rays in {out / 'data'}")
    generate_phantoms(out / "data", count, size=128)
    table = Table("method", "mean AUC on test", "95 % interval")
    runs = {}
    for name in ("masked-contrastive", "direct"):
        console.rule(name)
        data = {
            "root": str((out / "data").absolute()),
            "cache_dir": str((out / "cache").absolute()),
        }
        config = configure(name, _SETTINGS, {"data": data})
        runs[name] = run_method(config, out / name, console=console)
        metrics = read_metrics(runs[name].metrics)
        assert metrics is not None  # the run has just written it
        interval = metrics["mean_auc_interval"]
        spread = "{:.3f} to {:.3f}".format(*interval) if interval else "not defined"
        table.add_row(name, number(metrics["mean_auc"]), spread)
    console.rule("demo")
    new_console(always=True).print(table)
    console.print(
        f"Done in {time.monotonic() - started:.0f} s. These are synthetic images and a few epochs: "
        "the numbers show that the parts work together, not that a method helps."
    )
    return runs
