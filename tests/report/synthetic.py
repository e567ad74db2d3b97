"""A complete run folder without any training: random predictions, logs and pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from medsgssl.config.schema import Config, EvaluateSettings
from medsgssl.data.labels import DISEASES
from medsgssl.evaluation.evaluate import evaluate_predictions
from medsgssl.evaluation.predictions import Predictions
from medsgssl.images.intensity import INTENSITY
from medsgssl.runs.data_summary import DataSummary
from medsgssl.runs.folder import RunFolder
from medsgssl.utils.io import write_json, write_text

#: The disease without a positive test image, and the one whose few make a warning.
UNDEFINED, RARE = "Hernia", "Fibrosis"


def predictions(images: int, seed: int = 0) -> Predictions:
    rng = np.random.default_rng(seed)
    patients = np.sort(rng.integers(images // 2, size=images))
    table = pd.DataFrame(
        {
            "image_id": [f"{patient + 1:08d}_{n:03d}.png" for n, patient in enumerate(patients)],
            "patient_id": patients.astype(str),
            "split": np.where(patients % 3 == 0, "val", "test"),
            "view_position": rng.choice(["PA", "AP"], images, p=[0.6, 0.4]),
            "sex": rng.choice(["M", "F"], images),
            "age": pd.array(rng.integers(10, 90, images), dtype="Int16"),
        }
    )
    portable = (table["view_position"] == "AP").to_numpy()
    for d, name in enumerate(DISEASES):
        share = 0.04 + 0.25 * rng.random()
        labels = rng.random(images) < share * (1 + portable) / 1.4
        if name == UNDEFINED:
            labels[:] = False
        if name == RARE:
            labels[:] = False
            labels[np.flatnonzero(table["split"] == "test")[:3]] = True
            labels[np.flatnonzero(table["split"] == "val")[:3]] = True
        logits = rng.normal(size=images) + labels * (0.15 + 0.16 * d) - 2
        table[f"label_{name}"] = labels.astype(np.uint8)
        table[f"score_{name}"] = (1 / (1 + np.exp(-logits))).astype(np.float32)
    return Predictions(table)


def write_run(
    folder: Path, images: int = 600, epochs: int = 12, no_pretrain: bool = False
) -> RunFolder:
    run = RunFolder(folder)
    config = Config(
        method_name="simclr", no_pretrain=no_pretrain, evaluate=EvaluateSettings(bootstrap=60)
    )
    run.initialize(config)
    found = predictions(images)
    found.write(run.predictions)
    write_json(run.metrics, evaluate_predictions(found, config.evaluate, seed=0))
    split = found.table[["image_id", "patient_id", "split"]]
    train = split.assign(
        image_id="t" + split["image_id"], patient_id="t" + split["patient_id"], split="train"
    )
    pd.concat([split, train]).to_parquet(run.split, index=False)
    write_json(run.data, _data(images))
    write_logs(run, epochs, no_pretrain)
    np.savez_compressed(run.examples, **_examples(no_pretrain))
    for stage, seconds in (("data", 31.2), ("pretrain", 4210.0), ("finetune", 812.0)):
        if stage != "pretrain" or not no_pretrain:
            run.mark(stage, "key", seconds)  # type: ignore[arg-type]
    run.mark("predict", "key", 21.0)
    run.mark("evaluate", "key", 3.4)
    return run


def write_logs(run: RunFolder, epochs: int, no_pretrain: bool) -> None:
    epoch = np.arange(epochs)
    common = {"epoch": epoch, "lr": 1e-4 * np.cos(epoch / epochs * 1.5)}
    speed = {"images_per_second": 812.0, "data_wait": 0.03, "seconds": 33.1}
    fine = {"loss": 0.2 * np.exp(-epoch / 4) + 0.1}
    fine |= {"focal": fine["loss"], "embedding_std": 0.8, "embedding_rank": 90.0}
    auc = 0.5 + 0.3 * (1 - np.exp(-epoch / 3)) - 0.001 * epoch
    log = pd.DataFrame(common | fine | speed | {"val_mean_auc": auc})
    log.to_csv(run.finetune_log, index=False)
    if no_pretrain:
        return
    contrast, attention = 1.9 + 3 * np.exp(-epoch / 5), 0.8 * np.exp(-epoch / 9)
    terms = {"loss": contrast + 0.5 * attention, "contrast": contrast, "attention": attention}
    health = {"embedding_std": 0.9 - 0.4 / (1 + epoch), "embedding_rank": 20 + 6 * epoch}
    floors = {"contrast_floor": 1.72}
    log = pd.DataFrame(common | terms | floors | health | speed)
    log.to_csv(run.pretrain_log, index=False)
    write_json(run.pretrain_warnings, ["epoch 9: the term contrast sits at its floor"])
    write_text(run.pretrained, "weights")


def _data(images: int) -> DataSummary:
    return {
        "catalog": {
            "source": "nih",
            "labeled": True,
            "label_revision": "2020",
            "intensity": INTENSITY,
            "files_fingerprint": "f",
            "inputs_fingerprint": "i",
            "split": {"kind": "official", "seed": 0, "validation": "drawn"},
            "files": {
                "rows": 2 * images,
                "usable": 2 * images - 2,
                "missing": 0,
                "unreadable": 2,
                "lateral": 0,
                "not_in_table": 0,
                "not_in_table_first": [],
            },
            "labels": dict.fromkeys(DISEASES, 90),
            "splits": {
                split: {
                    "patients": 30,
                    "images": images,
                    "usable": images - 2,
                    "positives": dict.fromkeys(DISEASES, 29 + number),
                }
                for number, split in enumerate(("train", "val", "test"))
            },
            "duplicates": None,
            "warnings": ["2 of 60 images cannot be read: a.png"],
        },
        "masks": {
            "source": "rules",
            "identity": "m",
            "recipe": "anatomic",
            "counts": {"ok": images, "doubtful": 12, "failed": 88},
            "whole_image_instead": 88,
        },
        "warnings": [
            "2 images were set aside: a.png (truncated file)",
            f"88 of {images + 100} lung masks failed: these images are given the whole-image mask",
        ],
    }


def _examples(no_pretrain: bool, side: int = 64) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side] / side
    left = ((x - 0.3) / 0.15) ** 2 + ((y - 0.5) / 0.3) ** 2 < 1
    right = ((x - 0.7) / 0.15) ** 2 + ((y - 0.5) / 0.3) ** 2 < 1
    masks = np.stack([left | right, np.ones_like(left)])
    noise = rng.normal(0, 6, (2, side, side))
    images = np.clip(170 - 90 * masks[:1] + noise, 0, 255).astype(np.uint8)
    arrays = {
        "image_ids": np.array(["00000001_000.png", "00000002_000.png"]),
        "images": images,
        "masks": masks,
        "quality": np.array([0.91, 0.0]),
        "finetune_views": images[:, :, ::-1],
        "test_views": images,
    }
    if not no_pretrain:
        views = np.stack([images, images[:, :, ::-1]], axis=1)
        hidden = np.zeros((side, side), dtype=bool)
        hidden[20:36, 12:24] = True
        arrays["pretrain_views"] = views
        arrays["pretrain_masks"] = np.stack([masks, masks[:, :, ::-1]], axis=1)
        arrays["prepared"] = np.where(hidden, 0.9, views / 255).astype(np.float32)
    return arrays
