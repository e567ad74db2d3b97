"""Reads finished runs, of a study or made elsewhere, and refuses those that do not compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from medsgssl.config.loading import FlatSettings, flatten
from medsgssl.errors import ConfigError, DataError
from medsgssl.evaluation.predictions import Predictions, Split, differing_rows, label_columns
from medsgssl.runs.data_summary import DataSummary, read_data_summary
from medsgssl.runs.folder import WITHOUT_EFFECT, RunFolder
from medsgssl.runs.metrics_file import Metrics, read_metrics
from medsgssl.runs.study_files import read_failures
from medsgssl.study.plan import PLAN_FILE, StudyPlan
from medsgssl.utils.formatting import join_names
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
        arm: Name of its arm in the plan of the study; empty outside of a study.
    """

    name: str
    folder: RunFolder
    settings: FlatSettings
    test: Split
    metrics: Metrics | None
    data: DataSummary | None
    arm: str = ""

    @property
    def seed(self) -> int:
        """The seed of the run."""
        return int(self.settings.get("seed", 0))

    @property
    def fold(self) -> int | None:
        """The fold whose patients it was tested on; None outside of cross-validation."""
        fold = self.settings.get("data.fold")
        return fold if isinstance(fold, int) else None

    @property
    def repeat(self) -> int:
        """The fold, or else the seed: what runs of different arms are paired by."""
        return self.seed if self.fold is None else self.fold

    @property
    def masks(self) -> str:
        """Which masks the method looked at; empty for a method that looks at none."""
        asked = str(self.settings.get("masks.source", ""))
        seen = self.data["masks"]["source"] if self.data else asked
        return "" if seen == "none" and asked != "none" else asked

    def identity(self) -> FlatSettings:
        """Return the settings that make it what it is, seed and fold left out."""
        # Folders of one name may hold different images.
        extra = self.data.get("also", {}) if self.data else {}
        also = [one["fingerprint"] for one in extra.values()]
        kept = {
            key: value
            for key, value in self.settings.items()
            if key not in ("seed", "data.fold", *WITHOUT_EFFECT)
            and not key.startswith(("evaluate.", "study."))
        }
        return kept | {"data.extra_roots": also}


@dataclass(frozen=True)
class Collected:
    """Everything that a comparison is made from.

    Attributes:
        runs: The finished runs; the same test images in the same order in all of them.
        warnings: Sentences with the file they come from, each once.
        missing: Names of planned runs that are not finished, with the reason where one is known.
        plan: The plan of the study; None for run folders made elsewhere.
    """

    runs: list[FinishedRun]
    warnings: list[tuple[str, str]]
    missing: dict[str, str]
    plan: StudyPlan | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The diseases, in the order of the labels."""
        return self.runs[0].test.names


def collect_runs(folders: Sequence[Path]) -> Collected:
    """Read one study, or several run folders.

    Raises:
        ConfigError: A folder holds no run, or there is none.
        DataError: A file is damaged, a run occurs twice, or runs differ in their test images,
            splits or labels.
    """
    plan: StudyPlan | None = None
    missing: dict[str, str] = {}
    beside: list[RunFolder] = []
    finished = run_folders(folders)
    if len(folders) == 1 and (folders[0] / PLAN_FILE).is_file():
        plan = StudyPlan.load(folders[0])
        names = {run.path.name for run in finished}
        held = [path.parent for path in sorted((folders[0] / "runs").glob("*/config.yaml"))]
        beside = [RunFolder(path) for path in held if path.name not in names]
        missing = _missing(folders[0], plan, names)
    arms = {} if plan is None else {run.name: run.arm for run in plan.runs}
    runs = [_read(run, arms.get(run.path.absolute().name, "")) for run in finished]
    if not runs:
        raise ConfigError(
            f"no finished run is in {', '.join(map(str, folders))}",
            "run the study first, or name run folders that hold predictions.parquet",
        )
    _require_comparable_tests(runs)
    _require_different_runs(runs)
    everything = [run.folder for run in runs] + beside
    return Collected(runs, _warnings(everything), missing, plan)


def run_folders(folders: Sequence[Path]) -> list[RunFolder]:
    """Return the finished runs of one study, or the given run folders."""
    if len(folders) == 1 and (folders[0] / PLAN_FILE).is_file():
        paths = sorted((folders[0] / "runs").glob("*/predictions.parquet"))
        return [RunFolder(path.parent) for path in paths]
    return [RunFolder(path) for path in folders]


def _missing(study: Path, plan: StudyPlan, finished: set[str]) -> dict[str, str]:
    planned = [run.name for run in plan.runs if not run.pretrains]
    failures = read_failures(study)
    return {
        name: failures[name]["problem"] if name in failures else "not done yet"
        for name in planned
        if name not in finished
    }


def _read(folder: RunFolder, arm: str) -> FinishedRun:
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
        arm=arm,
    )


def _require_comparable_tests(runs: Sequence[FinishedRun]) -> None:
    """Check that all runs are tested on the same images, or each fold on its own patients."""
    first: dict[int | None, FinishedRun] = {}
    for run in runs:
        _require_same_images(first.setdefault(run.fold, run), run)
    if len(first) > 1 and None in first:
        raise DataError(
            f"{first[None].folder.path} is not a fold of a cross-validation, other runs are", _FIX
        )
    owners: dict[str, FinishedRun] = {}
    for run in first.values():
        for patient in run.test.table["patient_id"].unique():
            other = owners.setdefault(str(patient), run)
            if other is not run:
                raise DataError(
                    f"{other.folder.path} and {run.folder.path} are different folds, but both "
                    f"tested the patient {patient}",
                    _FIX,
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
            f"{both} score other classes: {join_names(a.test.names)}, and "
            f"{join_names(b.test.names)}",
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
        unit = "seed" if run.fold is None else "fold"
        if key in seen:
            raise DataError(
                f"{seen[key].folder.path} and {run.folder.path} are the same configuration with "
                f"the same {unit}",
                f"name one of them: a repeated run does not count as another {unit}",
            )
        seen[key] = run


def _warnings(folders: Sequence[RunFolder]) -> list[tuple[str, str]]:
    """Gather the warnings of all runs; one that many runs share is given once, with a count."""
    files_of: dict[str, list[str]] = {}
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
                files_of.setdefault(str(text), []).append(f"{name}/{path.name}")
    return [
        (text, files[0] if len(files) == 1 else f"{files[0]} and {len(files) - 1} more")
        for text, files in files_of.items()
    ]
