"""The cheaper read-outs: a linear probe and k nearest neighbors on frozen features.

Each image is encoded once, in its test view. Both end in the same kind of file as fine-tuning, so
that scoring, evaluation and report need not know the difference.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from lightning.fabric import Fabric
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from medsgssl.config.schema import Config
from medsgssl.data.dataset import ImageMaskDataset
from medsgssl.evaluation.metrics import mean_auc
from medsgssl.inference.forward import Floats, run_inference
from medsgssl.models.classifier import Classifier, KNNClassifier
from medsgssl.models.weights import save_weights
from medsgssl.runs.weights_header import WeightsHeader
from medsgssl.transforms.batch import ViewBatch

# Inverse strengths of the L2 penalty that validation chooses from.
_PENALTIES = (0.001, 0.01, 0.1, 1.0)


def fit_linear_or_knn(
    fabric: Fabric,
    config: Config,
    source: ImageMaskDataset,
    classifier: Classifier,
    rows: NDArray[np.int64],
    path: Path,
    header: WeightsHeader,
) -> None:
    """Fit the read-out that ``config.finetune.mode`` names and write its classifier.

    Args:
        fabric: Device.
        config: The run's configuration.
        source: Images, masks and labels.
        classifier: Holds the encoder, which stays as it is.
        rows: Training rows whose labels may be used.
        path: The ``.safetensors`` file to write.
        header: What travels with the weights.
    """
    fabric.to_device(classifier)
    every = np.concatenate([rows, source.rows("val")])

    def features(batch: ViewBatch) -> Tensor:
        return classifier.features(batch).pooled

    found = run_inference(fabric, classifier, features, config, config.finetune, source, every)
    train, val = found[: len(rows)], found[len(rows) :]
    if config.finetune.mode == "knn":
        fitted: Classifier = KNNClassifier(
            classifier.encoder, len(source.label_set), len(rows), config.finetune.neighbors
        )
        assert isinstance(fitted, KNNClassifier)
        fitted.bank.copy_(F.normalize(torch.from_numpy(train), dim=1))
        fitted.bank_labels.copy_(torch.from_numpy(source.labels[rows]))
    else:
        fitted = classifier
        _fit_linear(fitted, train, source.labels[rows], val, source.labels[source.rows("val")])
    save_weights(path, fitted, {**header, "bank": len(rows)})


def _fit_linear(
    classifier: Classifier, train: Floats, labels: Floats, val: Floats, val_labels: Floats
) -> None:
    mean, scale = train.mean(axis=0), train.std(axis=0) + 1e-6
    train, val = (train - mean) / scale, (val - mean) / scale
    best, chosen = -1.0, None
    for penalty in _PENALTIES:
        weights, biases = _logistic(train, labels, penalty)
        auc = float(np.nan_to_num(mean_auc(val_labels, val @ weights.T + biases)))
        if auc > best:
            best, chosen = auc, (weights, biases)
    assert chosen is not None
    weights, biases = chosen
    # The standardization is folded in: the head takes the encoder's own features.
    with torch.no_grad():
        classifier.head.weight.copy_(torch.from_numpy(weights / scale))
        classifier.head.bias.copy_(torch.from_numpy(biases - weights @ (mean / scale)))


def _logistic(train: Floats, labels: Floats, penalty: float) -> tuple[Floats, Floats]:
    weights = np.zeros((labels.shape[1], train.shape[1]), np.float32)
    biases = np.full(labels.shape[1], -3.0, np.float32)
    for disease in range(labels.shape[1]):
        truth = labels[:, disease]
        known = np.isfinite(truth)
        if not ((truth == 0).any() and (truth == 1).any()):
            continue
        model = LogisticRegression(C=penalty, max_iter=300)
        with warnings.catch_warnings():
            # The ranking has long settled when the last digits of a weight have not.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(train[known], truth[known])
        weights[disease], biases[disease] = model.coef_[0], model.intercept_[0]
    return weights, biases
