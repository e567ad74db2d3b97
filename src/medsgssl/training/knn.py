"""k nearest neighbors on frozen features: a classifier, and a probe to watch pretraining by.

The probe reads labels of training and validation images, for a person to watch. Neither the
weights nor any choice depends on it: a run with probes ends with the same weights as one without.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor

from medsgssl.config.schema import Config
from medsgssl.data.dataset import ImageMaskDataset
from medsgssl.evaluation.metrics import mean_auc
from medsgssl.inference.forward import run_inference
from medsgssl.models.classifier import Classifier, KNNClassifier, vote
from medsgssl.models.task import Task
from medsgssl.training.linear_probe import frozen_features
from medsgssl.training.selection import validation_classes
from medsgssl.transforms.batch import ViewBatch
from medsgssl.utils.rng import generator


class KNNProbe:
    """Scores an encoder by its nearest neighbors, at the epochs that the settings ask for.

    Args:
        fabric: Device and processes; every process must probe at the same time.
        config: The run's configuration.
        source: Images, masks and labels.
    """

    def __init__(self, fabric: Fabric, config: Config, source: ImageMaskDataset) -> None:
        self._fabric, self._config, self._source = fabric, config, source
        train, self._val = source.rows("train"), np.flatnonzero(source.splits == "val")
        most = min(len(train), config.pretrain.probe_images)
        drawn = generator(config.seed, "probe").choice(train, size=most, replace=False)
        self._train = np.sort(drawn)

    def due(self, epoch: int) -> bool:
        """Return whether to probe after this epoch, counted from 0."""
        settings = self._config.pretrain
        if not settings.probe_every:
            return False
        return (epoch + 1) % settings.probe_every == 0 or epoch + 1 == settings.epochs

    def mean_auc(self, task: Task) -> float | None:
        """Return the mean AUC on validation; None where no disease has positives and negatives.

        The mean is over the diseases that fine-tuning's validation means are taken over.
        """
        if not len(self._val):
            return None

        def pooled(batch: ViewBatch) -> Tensor:
            return task.encoder(*batch.inputs(0)).pooled  # type: ignore[no-any-return]

        rows = np.concatenate([self._train, self._val])
        config = self._config
        features = torch.from_numpy(
            run_inference(self._fabric, task, pooled, config, self._source, rows)
        )
        train, val = features[: len(self._train)], features[len(self._train) :]
        labels = torch.from_numpy(self._source.labels[self._train])
        neighbors = min(config.finetune.neighbors, len(train))
        scores = vote(val, F.normalize(train, dim=1), labels, neighbors)
        val_labels = self._source.labels[self._val]
        auc = mean_auc(val_labels, scores.numpy(), validation_classes(self._source))
        return None if np.isnan(auc) else auc


def fit_knn(
    fabric: Fabric,
    config: Config,
    source: ImageMaskDataset,
    classifier: Classifier,
    rows: NDArray[np.int64],
) -> KNNClassifier:
    """Return a classifier that remembers the features of the labeled images.

    Args:
        fabric: Device.
        config: The run's configuration.
        source: Images, masks and labels.
        classifier: Holds the encoder, which stays as it is.
        rows: Training rows whose labels may be used, (N,).
    """
    (features,) = frozen_features(fabric, config, source, classifier, rows)
    fitted = KNNClassifier(
        classifier.encoder, len(source.label_set), len(rows), config.finetune.neighbors
    )
    fitted.bank.copy_(F.normalize(torch.from_numpy(features), dim=1))
    fitted.bank_labels.copy_(torch.from_numpy(source.labels[rows]))
    return fitted
