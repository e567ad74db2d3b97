"""Scores of the best classifier for the validation and test images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from lightning_fabric import Fabric
from numpy.typing import NDArray

from medsgssl.config.schema import Config
from medsgssl.data.dataset import ImageMaskDataset
from medsgssl.errors import CheckpointError
from medsgssl.inference.forward import Floats, run_inference
from medsgssl.methods.registry import method_of
from medsgssl.models.classifier import Classifier, KNNClassifier
from medsgssl.models.weights import load_weights, read_header, weights_identity
from medsgssl.runs.weights_header import ClassifierIdentity

#: Significant digits of a score in ``predictions.parquet``.
SCORE_DIGITS = 5


def predict(
    config: Config,
    source: ImageMaskDataset,
    weights: Path,
    splits: tuple[str, ...] = ("val", "test"),
) -> tuple[NDArray[np.int64], Floats]:
    """Score every usable image of the splits with a classifier.

    Args:
        config: The configuration the classifier was made with.
        source: Images and masks.
        weights: ``classifier.safetensors``.
        splits: Which splits.

    Returns:
        The rows (N,) and their scores (N, D), probabilities rounded by ``round_scores``.

    Raises:
        CheckpointError: The weights are unusable or of another method.
    """
    classifier = Classifier(method_of(config).encoder(), len(source.label_set))
    if config.finetune.mode == "knn":
        images = read_header(weights).get("bank")
        if images is None:
            raise CheckpointError(
                f"{weights} holds no k-NN classifier",
                "fine-tune with finetune.mode=knn",
            )
        classifier = KNNClassifier(
            classifier.encoder, len(source.label_set), images, config.finetune.neighbors
        )
    must_match: ClassifierIdentity = {
        **weights_identity(config),
        "diseases": list(source.label_set.names),
    }
    load_weights(weights, classifier, must_match)
    fabric = Fabric(accelerator=config.finetune.accelerator, devices=1)
    classifier.to(fabric.device)
    rows = np.concatenate([source.rows(split) for split in splits])
    scores = run_inference(
        fabric, classifier, classifier.scores, config, config.finetune, source, rows
    )
    return rows, round_scores(scores)


def round_scores(scores: Floats) -> Floats:
    """Round scores to the digits that they hold, so that equal images rank equal.

    Sums in single precision depend on their order: a score is the same from one computation to
    the next to about six digits. Exact ranks of the seventh are noise.

    Args:
        scores: Numbers of any shape.

    Returns:
        float32 of the same shape, with ``SCORE_DIGITS`` significant digits.
    """
    values = scores.astype(np.float64)
    exponents = np.floor(np.log10(np.abs(values), where=values != 0, out=np.zeros_like(values)))
    unit = 10.0 ** (exponents - SCORE_DIGITS + 1)
    return (np.rint(values / unit) * unit).astype(np.float32)
