"""Does a better lung mask help? One method with masks of several recipes, all else equal.

    python benchmarks/mask_downstream.py run DATA WEIGHTS OUT --jobs 12
    python benchmarks/mask_downstream.py run DATA WEIGHTS OUT --set data.img_size=64 --seconds 600
    python benchmarks/mask_downstream.py page OUT PAGE.md

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
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from rich.console import Console

from medsgssl.config.loading import dump, parse_overrides
from medsgssl.config.schema import Config
from medsgssl.data.labels import NO_FINDING
from medsgssl.data.official import nih_test_patients, nih_val_patients
from medsgssl.data.prepare import prepare_data
from medsgssl.evaluation.effects import Effect
from medsgssl.evaluation.jackknife import Statistic
from medsgssl.evaluation.metrics import auc_per_class
from medsgssl.evaluation.predictions import IMAGE_COLUMNS, Predictions, Split
from medsgssl.evaluation.spread import pooled_spread
from medsgssl.methods.guided_crop import GuidedCropSettings
from medsgssl.methods.registry import configure
from medsgssl.pipeline.runner import run_method
from medsgssl.runs.folder import RunFolder, deciding_settings
from medsgssl.study.statistics import ResampledTestSet, paired
from medsgssl.utils.formatting import count, format_interval, number, signed, words
from medsgssl.utils.io import atomic_path, read_json, write_json, write_text

QUIET = Console(quiet=True)
#: Masks by name: the recipe, and where the masks come from. The blobs have the student's areas.
MASKS = {
    "classic": ("classic", "rules"),
    "anatomic": ("anatomic", "rules"),
    "distilled": ("distilled", "rules"),
    "random-blob": ("distilled", "random-blob"),
}
SEEDS = 3
#: What every run shares; docs/results/plan.md gives the reasons.
SETTINGS = (
    "data.img_size=96",
    "data.cache_size=112",
    "data.num_workers=0",
    "data.render=device",
    "data.split=own",
    "encoder.name=tf_efficientnet_lite0",
    "encoder.output_stride=16",
    "pretrain.epochs=10",
    "pretrain.warmup_epochs=1",
    "pretrain.probe_every=0",
    "finetune.epochs=8",
    "finetune.lr=5e-4",
    "finetune.warmup_epochs=1",
    "evaluate.bootstrap=0",
)
TABLE, TRAINVAL, TEST = "Data_Entry_2017.csv", "train_val_list.txt", "test_list.txt"
_COLUMNS = ("Patient ID", "Follow-up #", "Patient Age", "Patient Gender", "View Position")
#: ``guided-crop`` looks at the whole image below this quality.
TRUSTED = GuidedCropSettings().min_quality


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
            dices = [_dice(masks.mask(row), reference.masks.mask(row)) for row in rows.tolist()]
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


def _dice(mask: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    both = int(np.count_nonzero(mask & other))
    return 2 * both / max(int(mask.sum()) + int(other.sum()), 1)


def run_name(method: str, masks: str, seed: int) -> str:
    """Return the name of a run."""
    return f"{method}-{masks}-s{seed}"


class Results:
    """``runs.json`` and ``predictions.parquet`` of a folder.

    Attributes:
        record: What all runs share, and each run with its AUCs.
        scores: Test images with labels, and a column ``RUN/DISEASE`` per score.
    """

    def __init__(self, out: Path) -> None:
        self._files = out / "runs.json", out / "predictions.parquet"
        there = all(path.is_file() for path in self._files)
        self.record: dict[str, Any] = read_json(self._files[0]) if there else {"runs": {}}
        self.scores = pd.read_parquet(self._files[1]) if there else None

    def check(self, settings: dict[str, dict[str, Any]], split: dict[str, dict[str, int]]) -> None:
        """Keep what all runs share.

        Raises:
            SystemExit: The folder holds runs of other settings or images.
        """
        known = self.record.get("settings", {})
        for method, own in settings.items():
            if (known.get(method, own), self.record.get("split", split)) != (own, split):
                raise SystemExit(
                    f"{self._files[0]} holds runs of other settings or images: choose another OUT"
                )
        self.record |= {"settings": known | settings, "split": split}

    def add(self, name: str, predictions: Path, more: dict[str, Any]) -> None:
        """Add a finished run, and write both files."""
        test = Predictions.read(predictions).split("test")
        table = test.table.sort_values("image_id").reset_index(drop=True)
        labels = [column for column in table if str(column).startswith("label_")]
        if self.scores is None:
            self.scores = table[[*IMAGE_COLUMNS, *labels]]
        if not self.scores["image_id"].equals(table["image_id"]):
            raise SystemExit(f"{name} was tested on other images than the runs before it")
        own = {f"{name}/{disease}": table[f"score_{disease}"] for disease in test.names}
        # A call that was killed between the two files left these columns already.
        kept = self.scores.drop(columns=[column for column in own if column in self.scores])
        self.scores = pd.concat([kept, pd.DataFrame(own)], axis=1)
        aucs = auc_per_class(test.labels, test.scores).tolist()
        per_disease = {d: None if np.isnan(a) else a for d, a in zip(test.names, aucs, strict=True)}
        self.record["runs"][name] = more | {"auc": per_disease}
        # The table first: a run counts as finished when both files hold it.
        with atomic_path(self._files[1]) as temporary:
            self.scores.to_parquet(temporary, compression="zstd", index=False)
        write_json(self._files[0], self.record)

    def finished(self, name: str) -> bool:
        """Tell whether both files hold a run."""
        return name in self.record["runs"]

    def split(self) -> Split:
        """Return the test images; their scores are those of the first run."""
        assert self.scores is not None
        first = next(iter(self.record["runs"]))
        columns = [c for c in self.scores if "/" not in str(c) or str(c).startswith(f"{first}/")]
        table = self.scores[columns].rename(columns=lambda c: str(c).replace(f"{first}/", "score_"))
        return Predictions(table).split("test")

    def of(self, name: str, diseases: Sequence[str]) -> NDArray[np.float64]:
        """Return the scores of a run, (N, D)."""
        assert self.scores is not None
        return self.scores[[f"{name}/{d}" for d in diseases]].to_numpy(np.float64)


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


def page(results: Results) -> str:
    """Return the page as Markdown.

    Raises:
        SystemExit: No run is finished.
    """
    record = results.record
    if not record["runs"]:
        raise SystemExit("no run is finished: run them first")
    methods = dict.fromkeys(run["method"] for run in record["runs"].values())
    test = results.split()
    bench = ResampledTestSet([test])
    lines = [*_introduction(record, bench), *_mask_table(record, len(test))]
    for method in methods:
        lines += _method(method, results, bench)
    return "\n".join(lines) + "\n"


def _introduction(record: dict[str, Any], bench: ResampledTestSet) -> list[str]:
    split = record["split"]
    parts = "; ".join(
        f"{name} {count(split[key]['images'])} images of {count(split[key]['patients'])} patients"
        for key, name in (("train", "training"), ("val", "validation"), ("test", "test"))
    )
    first = next(iter(record["settings"].values()))
    devices = sorted({run["device"] for run in record["runs"].values()})
    judged = [words(n) for n, one in zip(bench.names, bench.judged_on, strict=True) if one]
    enough = " with enough test patients" if bench.primary.any() else ""
    return [
        "# Does a better lung mask help?",
        "",
        "Written by `python benchmarks/mask_downstream.py page` from the committed scores. The "
        "same method is pretrained, fine-tuned and tested with the masks of each recipe; all else "
        "is equal. `random-blob` masks are random shapes of the student's areas: without anatomy.",
        "",
        f"NIH ChestX-ray14: {parts}. The shipped student of `distilled` saw no validation and no "
        f"test patient; each run with its masks checked that. Backbone "
        f"{first['encoder.name']} from ImageNet weights, {first['data.img_size']} pixels, "
        f"{first['pretrain.epochs']} epochs of pretraining and "
        f"{first['finetune.epochs']} of fine-tuning, on {' and '.join(devices)}.",
        "",
        f"The mean AUC is that of {len(judged)} diseases{enough}: "
        f"{', '.join(judged)}. Intervals of 95 % leave each patient out in turn and hold the "
        "spread between seeds.",
        "",
    ]


def _mask_table(record: dict[str, Any], images: int) -> list[str]:
    lines = [
        f"## The masks of the {count(images)} test images",
        "",
        "| masks | Dice with `distilled`, mean | quality below "
        f"{TRUSTED:g} | failed: whole image instead |",
        "| --- | --: | --: | --: |",
    ]
    for name, one in record["masks"].items():
        lines.append(
            f"| {name} | {one['dice with distilled']:.3f} | {count(one['below quality'])} "
            f"| {count(one['whole image'])} |"
        )
    return [*lines, ""]


def _method(method: str, results: Results, bench: ResampledTestSet) -> list[str]:
    arms = _arms(method, results, bench)
    spread = pooled_spread(list(arms.values()), folds=False)
    lines = [
        f"## {method}",
        "",
        "| masks | seeds | mean AUC | 95 % interval | each seed |",
        "| --- | --: | --: | --- | --- |",
    ]
    for name, arm in arms.items():
        estimate = bench.estimate(arm)
        each = ", ".join(number(one.value) for one in arm.values())
        lines.append(
            f"| {name} | {len(arm)} | {number(estimate.value)} "
            f"| {format_interval(estimate.interval)} | {each} |"
        )
    lines += [
        "",
        "| difference in mean AUC | mean | 95 % interval | p | each seed | detectable |",
        "| --- | --: | --- | --: | --- | --: |",
    ]
    found: dict[str, Effect] = {}
    for worse, better in combinations(sorted(arms, key=_rank), 2):
        pairs = paired(arms[better], arms[worse])
        if not pairs:
            continue
        effect = bench.effect(pairs, pooled=spread)
        found[f"{better} minus {worse}"] = effect
        point = bench.point(effect, test=True)
        each = ", ".join(signed(one.value) for one in pairs)
        lines.append(
            f"| {better} minus {worse} | {signed(point.value)} | {format_interval(point.interval)} "
            f"| {number(point.p, 2)} | {each} | {number(effect.detectable(bench.level))} |"
        )
    return [*lines, "", *_words(method, found, bench), *_diseases(arms, results, method, bench)]


def _rank(name: str) -> int:
    """Order masks from those without anatomy to the best ones."""
    return ["random-blob", "classic", "anatomic", "distilled"].index(name)


def _arms(
    method: str, results: Results, bench: ResampledTestSet
) -> dict[str, dict[int, Statistic]]:
    """Return the mean AUC of each run of a method by masks and seed."""
    arms: dict[str, dict[int, Statistic]] = {}
    for masks in MASKS:
        for name, run in sorted(results.record["runs"].items()):
            if (run["method"], run["masks"]) == (method, masks):
                scores = bench.jackknife(results.of(name, bench.names))
                arms.setdefault(masks, {})[run["seed"]] = scores.mean_auc(bench.judged_on)
    return arms


def _words(method: str, found: dict[str, Effect], bench: ResampledTestSet) -> list[str]:
    """Say what the differences bear and what they do not."""
    apart: list[str] = []
    within: list[str] = []
    for name, effect in found.items():
        interval = bench.point(effect, test=True).interval
        if interval is None:
            continue
        clear = interval[0] > 0 or interval[1] < 0
        (apart if clear else within).append(name)
    if not apart and not within:
        return ["Fewer than three common seeds: no difference is judged.", ""]
    lines = []
    if apart:
        lines.append(f"Zero lies outside of the interval of {'; '.join(apart)}.")
    if within:
        lines.append(f"Zero lies within the interval of {'; '.join(within)}.")
    lines.append(
        f"These are {len(found)} intervals of one method, one backbone, one data set and few "
        "seeds, each with 95 % for itself: a difference smaller than the last column would "
        "mostly be missed, and one just outside of its interval may be chance."
    )
    if "distilled minus random-blob" in within:
        lines.append(
            f"{method} gained nothing measurable by the best lung masks over random shapes here, "
            "so this comparison cannot tell a good mask from a better one."
        )
    return [" ".join(lines), ""]


def _diseases(
    arms: dict[str, dict[int, Statistic]], results: Results, method: str, bench: ResampledTestSet
) -> list[str]:
    runs = [run for run in results.record["runs"].values() if run["method"] == method]
    lines = [
        "Mean AUC over the seeds by disease; in brackets those that are no part of the mean:",
        "",
        "| disease | " + " | ".join(arms) + " |",
        "| --- |" + " --: |" * len(arms),
    ]
    for disease, judged in zip(bench.names, bench.judged_on, strict=True):
        cells = []
        for masks in arms:
            values = [run["auc"][disease] for run in runs if run["masks"] == masks]
            cells.append(number(None if None in values else float(np.mean(values))))
        name = words(disease) if judged else f"({words(disease)})"
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return [*lines, ""]


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
