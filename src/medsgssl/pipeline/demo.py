"""The demonstration: synthetic X-rays through a guided method, the control and the baseline."""

from __future__ import annotations

import time
from pathlib import Path

from rich.table import Table

from medsgssl.config.loading import SettingsTree
from medsgssl.data.synthetic.dataset import generate_phantoms
from medsgssl.methods.registry import configure
from medsgssl.pipeline.runner import run_method
from medsgssl.runs.folder import RunFolder
from medsgssl.runs.metrics_file import read_metrics
from medsgssl.utils.formatting import counted, number
from medsgssl.utils.progress import new_console

#: A guided method, the same pretraining without guidance, and no pretraining at all.
METHODS = ("masked-contrastive", "simclr", "direct")

# Small and from scratch, so that it ends within minutes on two cores and needs no download.
# Phantoms differ less in tone than X-rays: with the default noise a hundred steps end where they
# began. Small batches make more steps of the same few images.
_SETTINGS: SettingsTree = {
    "data": {"img_size": 64, "batch_size": 32, "num_workers": 0},
    "encoder": {"pretrained": False},
    "views": {"pretrain": {"scale": (0.5, 1.0), "brightness": 0.05, "contrast": 0.1, "gamma": 0.1}},
    "pretrain": {"epochs": 8, "warmup_epochs": 1},
    "finetune": {"epochs": 12, "lr": 1e-3},
}

#: What a table of one run each is good for.
CAVEAT = (
    "The table shows that every stage works, from images to intervals; it cannot show whether "
    "pretraining or anatomical guidance helps: the images are synthetic, each row is a single "
    "training run, and its patients are few. `medsgssl study` compares methods with several "
    "seeds and with controls."
)


def run_demo(out: Path, count: int) -> dict[str, RunFolder]:
    """Make synthetic X-rays below ``out``, and run ``METHODS`` on them.

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
    table = Table("method", "pretraining", "mean AUC on test", "95 % interval")
    runs = {}
    for name in METHODS:
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
        spread = "{:.3f} to {:.3f}".format(*interval) if interval else "too few patients"
        epochs = "none" if config.no_pretrain else counted(config.pretrain.epochs, "epoch")
        table.add_row(name, epochs, number(metrics["mean_auc"]), spread)
    console.rule("demo")
    screen = new_console(always=True)
    screen.print(table)
    screen.print(f"Done in {time.monotonic() - started:.0f} s. {CAVEAT}", highlight=False)
    return runs
