"""The linear probe: logistic regression on frozen features, each image encoded once.

It ends in the same kind of file as fine-tuning, so that scoring, evaluation and report need not
know the difference.
"""

from __future__ import annotations

import warnings

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from medsgssl.config.schema import Config
from medsgssl.data.dataset import ImageMaskDataset
from medsgssl.evaluation.metrics import mean_auc
from medsgssl.inference.forward import Floats, run_inference
from medsgssl.models.classifier import Classifier
from medsgssl.training.selection import validation_classes
from medsgssl.transforms.batch import ViewBatch

# Inverse strengths of the L2 penalty that validation chooses from.
_PENALTIES = (0.001, 0.01, 0.1, 1.0)


def fit_linear_probe(
    fabric: Fabric,
    config: Config,
    source: ImageMaskDataset,
    classifier: Classifier,
    rows: NDArray[np.int64],
) -> Classifier:
    """Fit the linear layer of a classifier on frozen features, and return the classifier.

    The strength of the penalty is chosen by the validation mean AUC.

    Args:
        fabric: Device.
        config: The run's configuration.
        source: Images, masks and labels.
        classifier: Holds the encoder, which stays as it is.
        rows: Training rows whose labels may be used, (N,).
    """
    val_rows = np.flatnonzero(source.splits == "val")
    train, val = frozen_features(fabric, config, source, classifier, rows, val_rows)
    mean, scale = train.mean(axis=0), train.std(axis=0) + 1e-6
    train, val = (train - mean) / scale, (val - mean) / scale
    labels, val_labels = source.labels[rows], source.labels[val_rows]
    classes = validation_classes(source)
    best = -1.0
    weights, biases = _logistic(train, labels, _PENALTIES[0])
    for penalty in _PENALTIES:
        tried = _logistic(train, labels, penalty)
        auc = mean_auc(val_labels, val @ tried[0].T + tried[1], classes)
        if auc > best:
            best, (weights, biases) = auc, tried
    # The standardization is folded in: the head takes the encoder's own features.
    with torch.no_grad():
        classifier.head.weight.copy_(torch.from_numpy(weights / scale))
        classifier.head.bias.copy_(torch.from_numpy(biases - weights @ (mean / scale)))
    return classifier


def frozen_features(
    fabric: Fabric,
    config: Config,
    source: ImageMaskDataset,
    classifier: Classifier,
    *row_groups: NDArray[np.int64],
) -> list[Floats]:
    """Return the pooled features of the test views of each group of rows, (N, D) each."""
    fabric.to_device(classifier)

    def features(batch: ViewBatch) -> Tensor:
        return classifier.features(batch).pooled

    values = run_inference(fabric, classifier, features, config, source, np.concatenate(row_groups))
    return np.split(values, np.cumsum([len(rows) for rows in row_groups])[:-1])


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
