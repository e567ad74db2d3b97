"""A trained classifier with all that is needed to use it: configuration, classes, thresholds.

It is read from a run folder, from a folder that `medsgssl export --to hf` wrote, or from a lone
``classifier.safetensors``, which has no thresholds and temperatures.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

from medsgssl.config.schema import Config
from medsgssl.errors import CheckpointError
from medsgssl.masks.sources import FolderMaker
from medsgssl.methods.registry import configure, method_of
from medsgssl.models.classifier import Classifier, KNNClassifier
from medsgssl.models.hub import remember
from medsgssl.models.weights import (
    load_weights,
    read_header,
    weights_identity,
    without_initial_weights,
)
from medsgssl.runs.data_summary import MaskSummary
from medsgssl.runs.folder import RunFolder
from medsgssl.runs.metrics_file import read_metrics
from medsgssl.utils.io import read_json

#: The files of an exported folder.
MODEL_FILE = "model.safetensors"
SETTINGS_FILE = "medsgssl.json"


class BundleSettings(TypedDict, total=False):
    """``medsgssl.json`` of an exported folder; nothing of it is known of bare weights."""

    thresholds: dict[str, float]
    temperatures: dict[str, float]
    mask_recipe: str


@dataclass(frozen=True)
class Bundle:
    """A classifier that is ready to score images.

    Attributes:
        config: The configuration it was trained with.
        classes: Names of its classes, in the order of the scores.
        classifier: The network.
        thresholds: Validation threshold per class, on scores before calibration; absent where
            validation could give none.
        temperatures: Temperature per class; absent where validation could give none.
        mask_recipe: The recipe that makes its lung masks.
        origin: The file of the weights.
    """

    config: Config
    classes: tuple[str, ...]
    classifier: Classifier
    thresholds: dict[str, float] = field(default_factory=dict)
    temperatures: dict[str, float] = field(default_factory=dict)
    mask_recipe: str = "anatomic"
    origin: Path = Path()

    def settings(self) -> BundleSettings:
        """Return what an exported folder holds beside the weights."""
        return {
            "thresholds": self.thresholds,
            "temperatures": self.temperatures,
            "mask_recipe": self.mask_recipe,
        }


def read_bundle(path: Path) -> Bundle:
    """Read a trained classifier.

    Args:
        path: A run folder, an exported folder, or a ``classifier.safetensors``.

    Raises:
        CheckpointError: There is none, or its header does not say how it was made.
    """
    if (path / SETTINGS_FILE).is_file():
        settings: BundleSettings = read_json(path / SETTINGS_FILE)
        return _bundle(path / MODEL_FILE, settings)
    weights = RunFolder(path).classifier if path.is_dir() else path
    if not weights.is_file():
        raise CheckpointError(
            f"{path} holds no trained classifier",
            "give the folder of a run that has been fine-tuned, a folder written by "
            "`medsgssl export --to hf`, or a classifier.safetensors",
        )
    return _bundle(weights, _from_metrics(weights.parent))


def _bundle(weights: Path, settings: BundleSettings) -> Bundle:
    header = read_header(weights)
    stored = header["config"]
    if "backbone" in header:
        remember(header["encoder"], header["backbone"])
    config = configure(str(header["method"]), stored, no_pretrain=bool(stored.get("no_pretrain")))
    classifier = Classifier(
        method_of(without_initial_weights(config)).encoder(), len(header["diseases"])
    )
    if config.finetune.mode == "knn":
        images = header["bank"]
        classifier = KNNClassifier(
            classifier.encoder, len(header["diseases"]), images, config.finetune.neighbors
        )
    load_weights(weights, classifier, weights_identity(config))
    return Bundle(
        config=config,
        classes=tuple(header["diseases"]),
        classifier=classifier.eval(),
        thresholds=settings.get("thresholds", {}),
        temperatures=settings.get("temperatures", {}),
        mask_recipe=_mask_recipe(settings, header["masks"], config),
        origin=weights,
    )


def _mask_recipe(settings: BundleSettings, masks: MaskSummary, config: Config) -> str:
    """Name the recipe of the training masks; masks of a user's folder have none for new images."""
    name = settings.get("mask_recipe") or masks.get("recipe") or config.masks.recipe
    return config.masks.recipe if name == FolderMaker.name else str(name)


def _from_metrics(folder: Path) -> BundleSettings:
    metrics = read_metrics(RunFolder(folder).metrics)
    if metrics is None:
        return {}
    diseases = metrics["per_disease"].items()
    return {
        "thresholds": {n: d["threshold"] for n, d in diseases if d["threshold"] is not None},
        "temperatures": {n: d["temperature"] for n, d in diseases if d["temperature"] is not None},
    }
