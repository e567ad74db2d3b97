"""Measure what the defaults of training rest on: views, learning rates, and which epoch is kept.

The test split of the data is never read. Its other patients are dealt into two halves: pretraining
and fine-tuning see the first, everything is scored on the second.

    python benchmarks/defaults.py DATA WEIGHTS docs/results/defaults/results.jsonl PHASE ...

WEIGHTS are ImageNet weights of ``tf_efficientnet_lite0``. Jobs that have a result are not run
again. Several processes may share the jobs: WORKER and WORKERS in the environment.
`benchmarks/defaults_page.py` writes docs/defaults.md from the results.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from rich.console import Console

from medsgssl.config.schema import Config
from medsgssl.data.labels import DISEASES
from medsgssl.data.loader import BatchDataset
from medsgssl.data.prepare import prepare_data
from medsgssl.evaluation.metrics import auc_per_class, classes_to_select_by, mean_auc
from medsgssl.inference.forward import run_inference
from medsgssl.losses.multilabel import build_loss
from medsgssl.methods.registry import configure, method_of
from medsgssl.models.classifier import Classifier, vote
from medsgssl.models.weights import load_weights, weights_identity
from medsgssl.training.checkpoint import WeightAverage
from medsgssl.training.csv_logger import Row
from medsgssl.training.finetuning import finetune_order, labeled_rows
from medsgssl.training.pretraining import pretrain
from medsgssl.training.stage import StageSpec
from medsgssl.training.trainer import Trainer
from medsgssl.utils.rng import generator, seed_step

Job = dict[str, Any]

VIEWS: dict[str, dict[str, Any]] = {
    "default": {},
    "mild": {"scale": (0.5, 1.0), "brightness": 0.1, "contrast": 0.25, "gamma": 0.2},
    "mild tone": {"scale": (0.3, 1.0), "brightness": 0.1, "contrast": 0.25, "gamma": 0.2},
    "crop only": {
        "scale": (0.4, 1.0), "brightness": 0.05, "contrast": 0.1, "gamma": 0.1, "blur": 0.0,
        "noise": 0.01,
    },
}  # fmt: skip

JOBS: dict[str, list[Job]] = {
    "probe-start": [{"encoder": "imagenet"}, {"encoder": "scratch"}],
    "probe-views": [{"views": name, "lr": 1e-3} for name in VIEWS],
    "probe-lr": [{"views": "mild", "lr": lr} for lr in (3e-3, 3e-4)],
    "probe-scratch": [{"views": "mild", "lr": lr, "encoder": "scratch"} for lr in (1e-3, 3e-3)],
    "finetune-views": [
        {**views, "seed": seed, "finetune_epochs": 6, **({"lr": 1e-3} if views else {})}
        for seed in range(3)
        for views in ({"views": "mild"}, {"views": "default"}, {})
    ],
}
FOLDS = 5
RIDGES = (0.03, 0.3, 3.0)


class Bench:
    """Runs jobs on one data set and appends their results as JSON lines."""

    def __init__(self, data: Path, weights: Path, out: Path, phase: str) -> None:
        self.data, self.weights, self.out = data, weights, out
        source = prepare_data(self.config({}), Console(), needs_masks=False).source
        usable = np.isin(source.splits, ["train", "val"])
        patients = generator(0, "halves").permutation(np.unique(source.patients[usable]))
        half = len(patients) // 2
        # Fine-tuning needs a validation split of the usual size; the probes can do with less.
        fit = round((0.73 if phase == "finetune" else 0.85) * half)
        splits = np.full(len(source.image_seeds), "", dtype="<U5")
        for name, part in (("train", patients[:fit]), ("val", patients[fit:half])):
            splits[usable & np.isin(source.patients, part)] = name
        self.source = dataclasses.replace(source, splits=splits)
        scored = np.flatnonzero(usable & np.isin(source.patients, patients[half:]))
        self.scored = scored[::2] if phase == "finetune" else scored
        fold = {patient: number % FOLDS for number, patient in enumerate(patients[half:])}
        self.folds = np.array([fold[patient] for patient in source.patients[self.scored]])
        self.classes = classes_to_select_by(source.labels[scored], source.patients[scored])

    def config(self, job: Job) -> Config:
        """Return the configuration of one job."""
        imagenet = job.get("encoder", "imagenet") == "imagenet"
        first: dict[str, Any] = {"weights": str(self.weights)} if imagenet else {}
        tree: dict[str, Any] = {
            "seed": job.get("seed", 0),
            "data": {
                "root": str(self.data), "img_size": 64, "num_workers": 0,
                "cache_dir": str(self.out.parent / "cache"),
            },
            "encoder": {"name": "tf_efficientnet_lite0", "pretrained": imagenet, **first},
            "views": {"pretrain": VIEWS[job.get("views", "default")]},
            "pretrain": {
                "epochs": 5, "lr": job.get("lr", 1e-3), "warmup_epochs": 1, "probe_every": 0,
            },
            "finetune": {
                "epochs": job.get("finetune_epochs", 6), "lr": 5e-4, "warmup_epochs": 1,
                "keep": "last",
            },
        }  # fmt: skip
        return configure("simclr", tree, no_pretrain="views" not in job)

    def run(self, job: Job) -> None:
        """Run one job, unless its result is there already."""
        lines = self.out.read_text().splitlines() if self.out.exists() else []
        if any(json.loads(line)["job"] == job for line in lines):
            return
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            result: dict[str, Any] = {"job": job}
            config = self.config(job)
            if "views" in job:
                header: Any = {"key": "", **weights_identity(config)}
                pretrain(config, self.source, Path(folder), header)
                log = (Path(folder) / "pretrain_log.csv").read_text().splitlines()
                column = log[0].split(",").index("contrast")
                result["contrast"] = [round(float(row.split(",")[column]), 4) for row in log[1:]]
            phase = self._probe if job["phase"].startswith("probe") else self._finetune
            result |= phase(config, Path(folder))
        result["minutes"] = round((time.monotonic() - started) / 60, 2)
        with self.out.open("a") as stream:
            stream.write(json.dumps(result) + "\n")

    def _classifier(self, config: Config, folder: Path, labels: torch.Tensor) -> Classifier:
        seed_step(config.seed, "initial weights", 0, 0)
        encoder = method_of(config).encoder()
        if not config.no_pretrain:
            load_weights(folder / "pretrained.safetensors", encoder, weights_identity(config))
        return Classifier(encoder, labels.shape[1], build_loss(config.finetune, labels))

    def _probe(self, config: Config, folder: Path) -> dict[str, Any]:
        """Score frozen features of the second half out of fold: k-NN, and ridge regression."""
        task = self._classifier(config, folder, torch.zeros(1, len(DISEASES)))
        fabric = Fabric(accelerator="cpu", devices=1)
        values = run_inference(
            fabric,
            task,
            lambda batch: task.features(batch).pooled,
            config,
            self.source,
            self.scored,
        )
        features, labels = torch.from_numpy(values), self.source.labels[self.scored]
        scores = defaultdict[str, NDArray[np.float64]](lambda: np.zeros(labels.shape))
        for fold in range(FOLDS):
            test, train = self.folds == fold, self.folds != fold
            known = torch.from_numpy(labels[train])
            bank = torch.nn.functional.normalize(features[train], dim=1)
            scores["knn"][test] = vote(features[test], bank, known, 50).numpy()
            mean, sd = features[train].mean(0), features[train].std(0) + 1e-6
            a, b = (((features[rows] - mean) / sd).double() for rows in (train, test))
            gram, right = a.T @ a / len(a), a.T @ (known - known.mean(0)).double() / len(a)
            for ridge in RIDGES:
                penalty = ridge * torch.eye(len(gram), dtype=torch.double)
                weights = torch.linalg.solve(gram + penalty, right)
                scores[f"ridge {ridge:g}"][test] = (b @ weights).numpy()
        # Folds are compared within themselves: the scores of two models have two scales.
        return {
            "auc": {
                name: round(
                    float(
                        np.mean([
                            np.nanmean(
                                auc_per_class(labels[self.folds == f], value[self.folds == f])[
                                    self.classes
                                ]
                            )
                            for f in range(FOLDS)
                        ])
                    ),
                    4,
                )
                for name, value in scores.items()
            }
        }  # fmt: skip

    def _finetune(self, config: Config, folder: Path) -> dict[str, Any]:
        """Fine-tune, and score weights and averaged weights after every epoch."""
        rows = labeled_rows(config, self.source)
        task = self._classifier(config, folder, torch.from_numpy(self.source.labels[rows]))
        order = finetune_order(config, self.source, rows)
        views = method_of(config).finetune_views()
        steps = BatchDataset(self.source, views, order, config.data.img_size, config.seed)
        fabric = Fabric(accelerator="cpu", devices=1)
        every_epoch = EveryEpoch(self, fabric, config, len(steps))
        stage = StageSpec.of(config, "finetune", folder, "", config.finetune.lr)
        Trainer(fabric, stage, task, steps, every_epoch).run()
        return {"epochs": every_epoch.rows, "steps": len(steps), "images": len(rows)}


class EveryEpoch:
    """Scores the weights and their average after each epoch; the callback of the trainer."""

    def __init__(self, bench: Bench, fabric: Fabric, config: Config, steps: int) -> None:
        self._bench, self._fabric, self._config = bench, fabric, config
        self._average = WeightAverage(1 - 1 / steps)
        self.rows: list[dict[str, Any]] = []

    def on_step_end(self, task: Classifier) -> None:
        """Follow the weights."""
        self._average.update(task)

    def __call__(self, task: Classifier, row: Row) -> bool:
        """Score both on validation and on the second half."""
        bench, source = self._bench, self._bench.source
        val = np.flatnonzero(source.splits == "val")
        listed = classes_to_select_by(source.labels[val], source.patients[val])
        rows = np.concatenate([val, bench.scored])
        entry: dict[str, Any] = {"loss": round(row["loss"], 5)}
        for name, model in (("raw", task), ("ema", self._average.model)):
            scores = run_inference(self._fabric, model, model.scores, self._config, source, rows)
            val_scores, scored = scores[: len(val)], scores[len(val) :]
            entry[name] = {
                "val_all": round(mean_auc(source.labels[val], val_scores), 4),
                "val_listed": round(mean_auc(source.labels[val], val_scores, listed), 4),
                "score": round(mean_auc(source.labels[bench.scored], scored, bench.classes), 4),
            }
        self.rows.append(entry)
        return False

    def state(self) -> dict[str, Any]:
        """Keep nothing: jobs are short."""
        return {}

    def load(self, state: dict[str, Any]) -> None:
        """Take up nothing."""


def run(data: Path, weights: Path, out: Path, phases: list[str]) -> None:
    """Run the jobs of some phases that have no result yet."""
    worker, workers = (int(os.environ.get(name, "1")) for name in ("WORKER", "WORKERS"))
    for kind in ("probe", "finetune"):
        chosen = [phase for phase in phases if phase.startswith(kind)]
        jobs = [{"phase": phase, **job} for phase in chosen for job in JOBS[phase]]
        if jobs:
            bench = Bench(data, weights, out, kind)
            for job in jobs[worker - 1 :: workers]:
                bench.run(job)


if __name__ == "__main__":
    run(Path(sys.argv[1]), Path(sys.argv[2]).absolute(), Path(sys.argv[3]), sys.argv[4:])
