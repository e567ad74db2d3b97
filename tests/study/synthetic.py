"""Run folders without any training: predictions whose differences are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medsgssl.config.loading import merge
from medsgssl.data.labels import DISEASES
from medsgssl.data.mask_cache import mask_identity
from medsgssl.evaluation.evaluate import evaluate_predictions
from medsgssl.evaluation.predictions import Predictions
from medsgssl.images.intensity import INTENSITY
from medsgssl.masks.store import MaskStore
from medsgssl.methods.registry import configure
from medsgssl.runs.data_summary import DataSummary, SplitCounts
from medsgssl.runs.folder import RunFolder
from medsgssl.utils.io import write_json

#: Too rare for an interval where `rare` is asked for.
RARE = "Hernia"


def cohort(patients: int = 240, rare: bool = False) -> pd.DataFrame:
    """Two images per patient; labels with 20 % positives."""
    rng = np.random.default_rng(7)
    owner = np.repeat(np.arange(patients), 2)
    count = len(owner)
    table = pd.DataFrame(
        {
            "image_id": [f"{p:08d}_{n % 2:03d}.png" for n, p in enumerate(owner)],
            "patient_id": owner.astype(str),
            "split": np.where(owner % 4 == 0, "val", "test"),
            "view_position": rng.choice(["PA", "AP"], count),
            "sex": np.where(owner % 2, "F", "M"),
            "age": pd.array(rng.integers(18, 90, count), dtype="Int16"),
        }
    )
    for name in DISEASES:
        labels = rng.random(count) < 0.2
        if rare and name == RARE:
            labels[:] = False
            labels[[0, 2]] = True
        table[f"label_{name}"] = labels.astype(np.uint8)
    return table


def scored(
    table: pd.DataFrame, skill: float | np.ndarray, seed: int, noise: str = ""
) -> pd.DataFrame:
    """Add scores: noise that all methods share, own noise, and the label times ``skill``."""
    shared = np.random.default_rng(1)
    own = np.random.default_rng([100 + seed, *noise.encode()] if noise else 100 + seed)
    table = table.copy()
    for name in DISEASES:
        noise = shared.normal(size=len(table)) + 0.3 * own.normal(size=len(table))
        logits = noise + skill * table[f"label_{name}"].to_numpy() - 1.5
        table[f"score_{name}"] = (1 / (1 + np.exp(-logits))).astype(np.float32)
    return table


def write_run(
    folder: Path,
    method: str,
    skill: float | np.ndarray,
    seed: int = 0,
    *,
    table: pd.DataFrame | None = None,
    no_pretrain: bool = False,
    fraction: float = 1.0,
    masks: str = "rules",
    settings: dict[str, Any] | None = None,
    revision: str = "2017",
    identity: str = "none",
    noise: str = "",
) -> RunFolder:
    run = RunFolder(folder)
    tree: dict[str, Any] = {
        "seed": seed,
        "data": {"root": str(folder.parent / "data"), "cache_dir": str(folder.parent / "cache"),
                 "label_fraction": fraction},
        "masks": {"source": masks},
        "evaluate": {"bootstrap": 0},
    }  # fmt: skip
    config = configure(method, merge(tree, settings or {}), no_pretrain=no_pretrain)
    run.initialize(config)
    found = Predictions(scored(cohort() if table is None else table, skill, seed, noise))
    found.write(run.predictions)
    write_json(run.metrics, evaluate_predictions(found, config.evaluate, seed))
    found.table[["image_id", "patient_id", "split"]].to_parquet(run.split, index=False)
    seen = masks if method not in ("simclr", "direct") else "none"
    write_json(run.data, data_summary(found.table, revision, seen, identity))
    run.mark("evaluate", "key", 1.0)
    return run


def data_summary(
    table: pd.DataFrame, revision: str = "2017", masks: str = "rules", identity: str = "none"
) -> DataSummary:
    """What a run writes of its data, as far as the predictions tell it."""
    rows = len(table)
    splits: dict[str, SplitCounts] = {
        name: {
            "patients": int(part["patient_id"].nunique()),
            "images": len(part),
            "usable": len(part),
            "positives": {disease: int(part[f"label_{disease}"].sum()) for disease in DISEASES},
        }
        for name in ("train", "val", "test")
        for part in [table[table["split"] == name]]
    }
    return {
        "catalog": {
            "source": "nih",
            "labeled": True,
            "label_revision": revision,
            "intensity": INTENSITY,
            "split": {"kind": "random", "seed": 0, "validation": "drawn"},
            "files_fingerprint": "f",
            "inputs_fingerprint": "i",
            "files": {
                "rows": rows,
                "usable": rows,
                "missing": 0,
                "unreadable": 0,
                "lateral": 0,
                "not_in_table": 0,
                "not_in_table_first": [],
            },
            "labels": {},
            "splits": splits,
            "duplicates": None,
            "warnings": [],
        },
        "masks": {"source": masks, "identity": identity},
        "warnings": ["2 images were set aside: a.png"],
    }


def store_identity(store: MaskStore) -> str:
    """What ``data.json`` keeps of rule-based masks from this store."""
    return mask_identity(store)
