"""Does a better lung mask help? One method with masks of several recipes, all else equal.

    python -m benchmarks.mask_downstream run DATA WEIGHTS OUT --jobs 12
    python -m benchmarks.mask_downstream run DATA WEIGHTS OUT --set data.img_size=64 --seconds 600
    python -m benchmarks.mask_downstream page OUT PAGE.md

``DATA`` is NIH's layout in one folder: images, ``Data_Entry_2017.csv``, ``train_val_list.txt`` and
``test_list.txt``. ``WEIGHTS`` are ImageNet weights of the backbone. The split keeps the shipped
student apart from what is scored: it was taught on the images of ``train_val_list.txt`` without the
patients of the official test list and of the common validation list. Those images train here too;
the common validation patients of that list validate, ``test_list.txt`` tests, and the rest of
``train_val_list.txt`` is left out.

What is finished in ``OUT/runs.json`` and ``OUT/predictions.parquet`` is not done again, and a run
that was killed continues from its folder below ``--work`` (``OUT/work`` when not given). The page
is made from the two files alone.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from rich.console import Console

from benchmarks.answer import CNN, SHARED
from benchmarks.mask_downstream_results import MASKS, TRUSTED, Results, page, run_name
from medsgssl.config.loading import dump, parse_overrides
from medsgssl.config.schema import Config
from medsgssl.data.labels import NO_FINDING
from medsgssl.data.official import nih_test_patients, nih_val_patients
from medsgssl.data.prepare import prepare_data
from medsgssl.masks.agreement import dice
from medsgssl.methods.registry import configure
from medsgssl.pipeline.runner import run_method
from medsgssl.runs.folder import RunFolder, deciding_settings
from medsgssl.utils.io import write_text

QUIET = Console(quiet=True)
SEEDS = 3
#: What every run shares: the settings of the study on real X-rays, without loader processes.
SETTINGS = (*SHARED, *CNN, "data.num_workers=0", "data.render=device", "data.split=own")
TABLE, TRAINVAL, TEST = "Data_Entry_2017.csv", "train_val_list.txt", "test_list.txt"
_COLUMNS = ("Patient ID", "Follow-up #", "Patient Age", "Patient Gender", "View Position")


def write_split(data: Path, out: Path) -> dict[str, dict[str, int]]:
    """Write a table with a split of its own, and links to its images; return its counts.

    Raises:
        SystemExit: A file of the data set is missing, or a part of the split would be empty.
    """
    for name in (TABLE, TRAINVAL, TEST, "images"):
        if not (data / name).exists():
            raise SystemExit(f"{data / name} is missing")
    table = pd.read_csv(data / TABLE)
    files = table["Image Index"]
    patients = table["Patient ID"].astype(int).astype(str).str.zfill(8)
    official, common = ({one.zfill(8) for one in people()}
                        for people in (nih_test_patients, nih_val_patients))  # fmt: skip
    trainval, test = ((data / name).read_text().split() for name in (TRAINVAL, TEST))
    listed = files.isin(trainval) & ~patients.isin(official)
    split = pd.Series("", index=table.index)
    split[listed & ~patients.isin(common)] = "train"
    split[listed & patients.isin(common)] = "val"
    split[files.isin(test)] = "test"
    findings = (
        table["Finding Labels"].str.get_dummies("|").drop(columns=NO_FINDING, errors="ignore")
    )
    known = [name for name in _COLUMNS if name in table]
    made = pd.concat([files, table[known], findings], axis=1).assign(split=split)[split != ""]
    counts = {
        part: {
            "images": int((made["split"] == part).sum()),
            "patients": int(patients[made.index[made["split"] == part]].nunique()),
        }
        for part in ("train", "val", "test")
    }
    if not all(one["images"] for one in counts.values()):
        raise SystemExit(f"the split of {data} has an empty part: {counts}")
    (out / "images").mkdir(parents=True, exist_ok=True)
    for file in made["Image Index"]:
        link = out / "images" / file
        target = (data / "images" / file).absolute()
        if link.is_symlink() and link.readlink() != target:
            link.unlink()
        if not link.is_symlink():
            link.symlink_to(target)
    text = made.to_csv(index=False)
    if not (out / "labels.csv").is_file() or (out / "labels.csv").read_text() != text:
        write_text(out / "labels.csv", text)
    return counts


class Comparison:
    """One place of work.

    Args:
        weights: ImageNet weights of the backbone; none where the backbone has none.
        folder: Where split, masks and run folders lie.
        extra: Further settings, which win over those of ``SETTINGS``.
    """

    def __init__(self, weights: Path | None, folder: Path, extra: Sequence[str]) -> None:
        self.weights, self.folder, self.extra = weights, folder.absolute(), tuple(extra)
        self.data = self.folder / "data"

    def config(self, method: str, masks: str, seed: int) -> Config:
        """Return the configuration of one run."""
        recipe, source = MASKS[masks]
        items = [*SETTINGS, f"data.root={self.data}", "data.labels=labels.csv"]
        items += [f"data.cache_dir={self.folder / 'cache'}", f"seed={seed}"]
        items += [f"masks.recipe={recipe}", f"masks.source={source}"]
        if self.weights is not None:
            items.append(f"encoder.weights={self.weights.absolute()}")
        return configure(method, parse_overrides([*items, *self.extra]))

    def settings(self, method: str) -> dict[str, Any]:
        """Return what all runs of a method share, without places on this machine."""
        flat = deciding_settings(dump(self.config(method, "distilled", 0)))
        own = {"seed", "masks.recipe", "masks.source", "encoder.weights"}
        return {key: value for key, value in sorted(flat.items()) if key not in own}

    def masks(self) -> dict[str, dict[str, Any]]:
        """Draw the masks of all recipes once, and describe those of the test images."""
        known = {}
        for name in MASKS:
            started = time.perf_counter()
            prepared = prepare_data(self.config("guided-crop", name, 0), QUIET, needs_masks=True)
            known[name] = prepared
            took = time.perf_counter() - started
            print(f"masks {name}: {took:.1f} s", flush=True)
        reference = known["distilled"].source
        rows = reference.rows("test")
        described = {}
        for name, prepared in known.items():
            masks = prepared.source.masks
            dices = [
                dice(masks.mask(row) > 0, reference.masks.mask(row) > 0) for row in rows.tolist()
            ]
            described[name] = {
                "counts": prepared.summary["masks"].get("counts", {}),
                "whole image": int((~masks.usable[rows]).sum()),
                "below quality": int((masks.quality[rows] < TRUSTED).sum()),
                "dice with distilled": float(np.mean(dices)),
            }
        return described

    def run_folder(self, name: str) -> Path:
        """Return the folder of a run."""
        return self.folder / "runs" / name

    def run(self, method: str, masks: str, seed: int) -> dict[str, Any]:
        """Do one run, or continue it; return what is known of it besides its scores."""
        started, folder = time.perf_counter(), self.run_folder(run_name(method, masks, seed))
        run_method(self.config(method, masks, seed), folder, console=QUIET)
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
        seconds = round(time.perf_counter() - started, 1)
        known = {"method": method, "masks": masks, "seed": seed}
        return known | {"device": device, "seconds": seconds}


def run_all(
    data: Path,
    out: Path,
    work: Comparison,
    methods: Sequence[str],
    seeds: int,
    jobs: int,
    seconds: float,
) -> None:
    """Do all runs that are missing, ``jobs`` at a time, seed by seed; stop after ``seconds``."""
    ends = time.monotonic() + seconds
    results = Results(out)
    split = write_split(data, work.data)
    settings = {method: work.settings(method) for method in methods}
    results.check(settings, split)
    todo = [
        (method, masks, seed)
        for seed in range(seeds)
        for method in methods
        for masks in MASKS
        if not results.finished(run_name(method, masks, seed))
    ]
    if not todo:
        print("all runs are finished")
        return
    results.record |= {"masks": work.masks()}
    failed: list[str] = []
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=spawn) as pool:
        tasks = {pool.submit(work.run, *one): one for one in todo}
        try:
            for task in as_completed(tasks, timeout=max(ends - time.monotonic(), 0.1)):
                name = run_name(*tasks[task])
                if error := task.exception():
                    print(f"{name} failed: {error}", flush=True)
                    failed.append(name)
                    continue
                run = task.result()
                results.add(name, RunFolder(work.run_folder(name)).predictions, run)
                aucs = [a for a in results.record["runs"][name]["auc"].values() if a is not None]
                print(f"{name}: mean AUC {np.mean(aucs):.4f}, {run['seconds']} s", flush=True)
        except TimeoutError:
            print("the time is over: the same command goes on", flush=True)
            for task in tasks:
                task.cancel()
            for process in pool._processes.values():
                process.kill()
    if failed:
        raise SystemExit(f"{len(failed)} runs failed: the same command does them again")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("run")
    one.add_argument("data", type=Path)
    one.add_argument("weights", help="ImageNet weights of the backbone, or none")
    one.add_argument("out", type=Path)
    one.add_argument("--methods", nargs="+", default=["guided-crop"])
    one.add_argument("--seeds", type=int, default=SEEDS)
    one.add_argument("--jobs", type=int, default=1)
    one.add_argument("--seconds", type=float, default=1e9, help="stop after so long")
    one.add_argument("--work", type=Path, help="folder of split, masks and runs")
    one.add_argument("--set", action="append", default=[])
    one = commands.add_parser("page")
    one.add_argument("out", type=Path)
    one.add_argument("page", type=Path)
    asked = parser.parse_args()
    if asked.command == "page":
        write_text(asked.page, page(Results(asked.out)))
        return
    weights = None if asked.weights == "none" else Path(asked.weights)
    work = Comparison(weights, asked.work or asked.out / "work", asked.set)
    run_all(asked.data, asked.out, work, asked.methods, asked.seeds, asked.jobs, asked.seconds)


if __name__ == "__main__":
    main()
