"""Reads finished runs, of a study or made elsewhere, and refuses those that do not compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from medsgssl.errors import ConfigError, DataError
from medsgssl.evaluation.predictions import Predictions, Split, differing_rows, label_columns
from medsgssl.runs.data_summary import DataSummary, read_data_summary
from medsgssl.runs.folder import WITHOUT_EFFECT, RunFolder, flatten
from medsgssl.runs.metrics_file import Metrics, read_metrics
from medsgssl.study.plan import PLAN_FILE, StudyPlan
from medsgssl.study.runner import FAILURES_FILE
from medsgssl.utils.io import read_json

_FIX = "compare runs of the same images, split and labels: run them from one catalog"


@dataclass(frozen=True)
class FinishedRun:
    """One run, from the files of its folder alone.

    Attributes:
        name: Name of the folder.
        folder: The folder.
        settings: The configuration by dotted key.
        test: The test images in the order of their names.
        metrics: ``metrics.json``, None where it is not there.
        data: ``data.json``, likewise.
    """

    name: str
    folder: RunFolder
    settings: dict[str, Any]
    test: Split
    metrics: Metrics | None
    data: DataSummary | None

    @property
    def seed(self) -> int:
        """The seed of the run."""
        return int(self.settings.get("seed", 0))

    @property
    def masks(self) -> str:
        """Which masks the method looked at; empty for a method that looks at none."""
        asked = str(self.settings.get("masks.source", ""))
        seen = self.data["masks"]["source"] if self.data else asked
        return "" if seen == "none" and asked != "none" else asked

    def identity(self) -> dict[str, Any]:
        """Return the settings that make it what it is, the seed left out."""
        # Folders of one name may hold different images.
        extra = self.data.get("also", {}) if self.data else {}
        also = [found["fingerprint"] for found in extra.values()]
        kept = {
            key: value
            for key, value in self.settings.items()
            if key != "seed" and key not in WITHOUT_EFFECT and not key.startswith("evaluate.")
        }
        return kept | {"data.extra_roots": also}


@dataclass(frozen=True)
class Collected:
    """Everything that a comparison is made from.

    Attributes:
        runs: The finished runs; the same test images in the same order in all of them.
        warnings: Sentences with the file they come from, each once.
        missing: Names of planned runs that are not finished, with the reason where one is known.
    """

    runs: list[FinishedRun]
    warnings: list[tuple[str, str]]
    missing: dict[str, str]


def collect(folders: Sequence[Path]) -> Collected:
    """Read one study, or several run folders.

    Raises:
        ConfigError: A folder holds no run, or there is none.
        DataError: A file is damaged, a run occurs twice, or runs differ in their test images,
            splits or labels.
    """
    missing: dict[str, str] = {}
    beside: list[RunFolder] = []
    finished = run_folders(folders)
    if len(folders) == 1 and (folders[0] / PLAN_FILE).is_file():
        names = {run.path.name for run in finished}
        held = [path.parent for path in sorted((folders[0] / "runs").glob("*/config.yaml"))]
        beside = [RunFolder(path) for path in held if path.name not in names]
        missing = _missing(folders[0], names)
    runs = [_read(run) for run in finished]
    if not runs:
        raise ConfigError(
            f"no finished run is in {', '.join(map(str, folders))}",
            "run the study first, or name run folders that hold predictions.parquet",
        )
    for other in runs[1:]:
        _require_same_images(runs[0], other)
    _require_different_runs(runs)
    everything = [run.folder for run in runs] + beside
    return Collected(runs, _warnings(everything), missing)


def run_folders(folders: Sequence[Path]) -> list[RunFolder]:
    """Return the finished runs of one study, or the given run folders."""
    if len(folders) == 1 and (folders[0] / PLAN_FILE).is_file():
        found = sorted((folders[0] / "runs").glob("*/predictions.parquet"))
        return [RunFolder(path.parent) for path in found]
    return [RunFolder(path) for path in folders]


def _missing(study: Path, finished: set[str]) -> dict[str, str]:
    planned = [run.name for run in StudyPlan.load(study).runs if not run.pretrains]
    failures = read_json(study / FAILURES_FILE) if (study / FAILURES_FILE).is_file() else {}
    return {
        name: str(failures.get(name, {}).get("problem", "not done yet"))
        for name in planned
        if name not in finished
    }


def _read(folder: RunFolder) -> FinishedRun:
    settings = flatten(folder.read_config())
    predictions = Predictions.read(folder.predictions)
    table = predictions.split("test").table.sort_values("image_id").reset_index(drop=True)
    return FinishedRun(
        name=folder.path.absolute().name,
        folder=folder,
        settings=settings,
        test=Split.of(table),
        metrics=read_metrics(folder.metrics),
        data=read_data_summary(folder.data),
    )


def _require_same_images(a: FinishedRun, b: FinishedRun) -> None:
    left, right = a.test.table, b.test.table
    apart = set(left["image_id"]) ^ set(right["image_id"])
    both = f"{a.folder.path} and {b.folder.path}"
    if apart:
        raise DataError(f"{both} differ in {len(apart)} test images ({min(apart)})", _FIX)
    revisions = [run.data and run.data["catalog"]["label_revision"] for run in (a, b)]
    if None not in revisions and revisions[0] != revisions[1]:
        raise DataError(
            f"{both} were made from the label revisions {revisions[0]} and {revisions[1]}", _FIX
        )
    if a.test.names != b.test.names:
        raise DataError(
            f"{both} score other classes: {', '.join(a.test.names)} and {', '.join(b.test.names)}",
            _FIX,
        )
    for column in ("patient_id", *label_columns(a.test.names)):
        differing = differing_rows(left[column], right[column])
        if differing:
            raise DataError(f"{both} differ in {column} of {differing} test images", _FIX)
    splits = [_split(run) for run in (a, b)]
    if splits[0] is not None and splits[1] is not None and not splits[0].equals(splits[1]):
        raise DataError(f"{both} differ in split.parquet: other training images", _FIX)


def _split(run: FinishedRun) -> pd.Series | None:
    path = run.folder.split
    if not path.is_file():
        return None
    try:
        table = pd.read_parquet(path, columns=["image_id", "split"])
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}", "run its data stage again") from error
    return table.set_index("image_id")["split"].astype(str).sort_index()


def _require_different_runs(runs: Sequence[FinishedRun]) -> None:
    seen: dict[str, FinishedRun] = {}
    for run in runs:
        key = repr((run.seed, sorted((name, str(v)) for name, v in run.identity().items())))
        if key in seen:
            raise DataError(
                f"{seen[key].folder.path} and {run.folder.path} are the same configuration with "
                "the same seed",
                "name one of them: a repeated run is no further seed",
            )
        seen[key] = run


def _warnings(folders: Sequence[RunFolder]) -> list[tuple[str, str]]:
    """Gather the warnings of all runs; one that many runs share is given once, with a count."""
    found: dict[str, list[str]] = {}
    for folder in folders:
        name = folder.path.absolute().name
        for path in (folder.data, folder.metrics, folder.pretrain_warnings):
            if not path.is_file():
                continue
            content = read_json(path)
            texts = content if isinstance(content, list) else content.get("warnings", [])
            if path == folder.pretrain_warnings and len(texts) > 1:
                # One line per epoch as they come: the last one tells how it ended.
                texts = [f"{texts[-1]} ({len(texts)} warnings of this kind)"]
            for text in texts:
                found.setdefault(str(text), []).append(f"{name}/{path.name}")
    return [
        (text, files[0] if len(files) == 1 else f"{files[0]} and {len(files) - 1} more")
        for text, files in found.items()
    ]
