"""`study localize`: scores where each run looks, and keeps the result in its folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console

from medsgssl.data.boxes import read_boxes
from medsgssl.data.dataset import ImageMaskDataset
from medsgssl.data.mask_cache import MaskArray, mask_array
from medsgssl.data.mask_choice import choose_masks
from medsgssl.data.paths import dataset_cache
from medsgssl.data.prepare import mask_store, prepare_data
from medsgssl.errors import DataError
from medsgssl.evaluation.effects import average
from medsgssl.evaluation.few_patients import MIN_PATIENTS
from medsgssl.evaluation.jackknife import mean_by_patient
from medsgssl.inference.maps import LocalizedBoxes, localize
from medsgssl.methods.registry import configure, method_of
from medsgssl.runs.folder import RunFolder
from medsgssl.runs.study_files import LOCALIZATION_FILE, Localization, Measure
from medsgssl.utils.io import atomic_path, write_json

#: One row per box.
BOXES_FILE = "localization.parquet"
EXAMPLES_FILE = "localization.npz"
_OLD_EXAMPLES_FILE = "looked.npz"  # in 0.1.0
BOX_FILE = "BBox_List_2017.csv"
#: What is averaged over the boxes, with its words.
MEASURES = {
    "pointing": "pointing game",
    "iou_25": "IoU at 25 %",
    "iou_50": "IoU at 50 %",
    "iou_75": "IoU at 75 %",
    "energy": "energy in box",
    "area": "by chance",
    "center_pointing": "pointing at the middle",
    "center_energy": "energy of the middle",
    "lung_energy": "energy in lungs",
    "lung_area": "by chance (lungs)",
}


def localize_run(run: RunFolder, boxes: Path | None = None, console: Console | None = None) -> Path:
    """Score one run's classifier against boxes and lungs; needs its data and weights.

    Writes ``localization.json``, ``localization.parquet`` (one row per box) and
    ``localization.npz`` (one example per disease) into its folder.

    Args:
        run: A complete run.
        boxes: The box list; that of the data folder by default.
        console: Shows progress.

    Returns:
        ``localization.json``.

    Raises:
        ConfigError: The folder holds no run.
        DataError: There are no boxes of test images, or no data.
        CheckpointError: The weights are unusable.
    """
    stored = run.read_config()
    config = configure(stored["method_name"], stored, no_pretrain=bool(stored["no_pretrain"]))
    console = console or Console()
    # Further data sets of its pretraining are not looked at.
    alone = config.data.model_copy(update={"extra_roots": ()})
    data = prepare_data(
        config.model_copy(update={"data": alone}),
        console,
        needs_masks=method_of(config).sees_masks,
    )
    path = boxes or data.catalog.root / BOX_FILE
    if not path.is_file():
        raise DataError(f"{path} does not exist", "name the box list with --boxes")
    # A control or a method without masks looks at lungs all the same, or away from them.
    rules = config.masks.model_copy(update={"source": "rules"})
    folder = dataset_cache(config.data)
    choice = choose_masks(rules, data.catalog, config.data.max_pixels)
    store = mask_store(choice, data.catalog, folder, console)
    size = config.data.cache_size or config.data.img_size
    lungs = mask_array(data.catalog, store, folder, size)
    ids = data.catalog.table["image_id"].tolist()
    localized = localize(config, data.source, ids, run.classifier, read_boxes(path), lungs)
    if localized.table.empty:
        raise DataError(
            f"{path} holds no box of a test image of {data.catalog.root}",
            "the boxes of NIH lie in the official test split: use data.split=official",
        )
    with atomic_path(run.path / BOXES_FILE) as temporary:
        localized.table.to_parquet(temporary, index=False)
    table = data.catalog.table.set_index("image_id")
    patients = table.loc[localized.table["image_id"], "patient_id"]
    summary = _summary(localized, patients)
    _write_examples(run.path / EXAMPLES_FILE, localized, data.source, lungs)
    write_json(run.path / LOCALIZATION_FILE, summary)
    return run.path / LOCALIZATION_FILE


def examples_file(run: RunFolder) -> Path:
    """Return where a run keeps its example per disease; the file need not exist."""
    current, old = run.path / EXAMPLES_FILE, run.path / _OLD_EXAMPLES_FILE
    return old if old.is_file() and not current.is_file() else current


def _write_examples(
    path: Path, localized: LocalizedBoxes, source: ImageMaskDataset, lungs: MaskArray
) -> None:
    """Write one image per disease with its box, its lungs and the map of the classifier."""
    chosen = localized.table.iloc[localized.examples]
    arrays: dict[str, NDArray[Any]] = {
        "image_ids": chosen["image_id"].to_numpy(dtype=str),
        "diseases": chosen["disease"].to_numpy(dtype=str),
        "images": np.stack([source.pair(int(row))[0] for row in localized.rows]),
        "lungs": np.stack([lungs.mask(int(row)) for row in localized.rows]).astype(bool),
        "boxes": localized.boxes,
        "maps": localized.maps.astype(np.float16),
    }
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]


def _summary(localized: LocalizedBoxes, patients: pd.Series) -> Localization:
    table = localized.table
    codes = pd.factorize(patients, sort=True)[0]
    measures = {name: _mean(table[name].to_numpy(float), codes) for name in MEASURES}
    return {
        "grid": list(localized.grid),
        "boxes": len(table),
        "images": int(table["image_id"].nunique()),
        "patients": int(codes.max()) + 1,
        "measures": measures,
        "per_disease": {
            str(name): {
                "boxes": len(part),
                **{
                    measure: _number(float(part[measure].astype(float).mean()))
                    for measure in MEASURES
                },
            }
            for name, part in table.groupby("disease")
        },
    }  # fmt: skip


def _mean(values: NDArray[np.float64], codes: NDArray[np.int64]) -> Measure:
    """Mean over the boxes, with its interval from 20 patients with boxes on."""
    count = int(codes.max()) + 1
    mean = mean_by_patient(values, codes, count)
    ends = None
    if count >= MIN_PATIENTS:
        ends = average([mean], difference=False).interval(0.05)
    return {"value": _number(mean.value), "interval": None if ends is None else [*ends]}


def _number(value: float) -> float | None:
    return value if np.isfinite(value) else None


def localize_runs(
    runs: Sequence[RunFolder], boxes: Path | None = None, console: Console | None = None
) -> list[Path]:
    """Score every run that has a classifier and has not been scored."""
    return [
        localize_run(run, boxes, console)
        for run in runs
        if run.classifier.is_file() and not (run.path / LOCALIZATION_FILE).is_file()
    ]
