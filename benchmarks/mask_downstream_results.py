"""Keeps the scores of the comparison of masks, and writes its page (see ``mask_downstream.py``)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medsgssl.evaluation.effects import Effect
from medsgssl.evaluation.jackknife import Statistic
from medsgssl.evaluation.metrics import auc_per_class
from medsgssl.evaluation.predictions import IMAGE_COLUMNS, Predictions, Split
from medsgssl.evaluation.spread import pooled_spread
from medsgssl.methods.guided_crop import GuidedCropSettings
from medsgssl.study.statistics import ResampledTestSet, paired
from medsgssl.utils.formatting import count, format_interval, number, signed, words
from medsgssl.utils.io import atomic_path, read_json, write_json

#: Masks by name: the recipe, and where the masks come from. The blobs have the student's areas.
MASKS = {
    "classic": ("classic", "rules"),
    "anatomic": ("anatomic", "rules"),
    "distilled": ("distilled", "rules"),
    "random-blob": ("distilled", "random-blob"),
}
#: ``guided-crop`` looks at the whole image below this quality.
TRUSTED = GuidedCropSettings().min_quality


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
        scored = [column for column in self.scores if "/" in str(column)]
        with atomic_path(self._files[1]) as temporary:
            # Bytes of scores by their rank: a third smaller.
            self.scores.to_parquet(
                temporary,
                compression="zstd",
                compression_level=9,
                use_dictionary=[column for column in self.scores if column not in scored],
                column_encoding=dict.fromkeys(scored, "BYTE_STREAM_SPLIT"),
                index=False,
            )
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
        "Written by `python -m benchmarks.mask_downstream page` from the committed scores. The "
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
