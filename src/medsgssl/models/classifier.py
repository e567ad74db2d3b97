"""The classifier: an encoder and one linear layer with an output for each class."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medsgssl.models.encoder import Encoder, Features
from medsgssl.models.task import Task, TaskOutput
from medsgssl.transforms.batch import ViewBatch

# Temperature of the neighbors' votes, as in Wu et al., "Unsupervised feature learning via
# non-parametric instance discrimination", CVPR 2018.
_VOTE_TEMPERATURE = 0.07


class Classifier(Task):
    """Logits of the diseases from the pooled features; also the task of fine-tuning.

    Args:
        encoder: The encoder, pretrained or not.
        classes: How many classes there are, D.
        loss: Maps logits and labels, both (B, D), to a scalar; None where only scores are wanted.
        dropout: Probability of dropping a feature in training.
    """

    def __init__(
        self, encoder: Encoder, classes: int, loss: nn.Module | None = None, dropout: float = 0.0
    ) -> None:
        super().__init__(encoder)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(encoder.num_features, classes)
        # A prior of 5 % positives: with 0 the first steps would only lower all scores.
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.constant_(self.head.bias, -3.0)
        self.loss = loss

    def features(self, batch: ViewBatch) -> Features:
        """Return the encoder's features of the first view."""
        return self.encoder(*batch.inputs(0))  # type: ignore[no-any-return]

    def scores(self, batch: ViewBatch) -> Tensor:
        """Return the probability of each class, (B, D)."""
        return torch.sigmoid(self.head(self.features(batch).pooled).float())

    def forward(self, batch: ViewBatch, progress: float) -> TaskOutput:
        """Compute the supervised loss of one batch."""
        assert self.loss is not None
        pooled = self.features(batch).pooled
        logits = self.head(self.dropout(pooled)).float()
        return TaskOutput(
            losses={"supervised": self.loss(logits, batch.labels)},
            weights={"supervised": 1.0},
            embedding=pooled.detach(),
            lower_bounds={},
            metrics={},
        )


class KNNClassifier(Classifier):
    """Scores an image by the labels of its nearest training images in cosine similarity.

    Source: Wu et al., CVPR 2018, section 3.4, with a vote per disease.

    Args:
        encoder: The frozen encoder.
        classes: How many classes there are, D.
        count: Number of training images N.
        neighbors: Images that vote, k; at most N.
    """

    bank: Tensor
    bank_labels: Tensor

    def __init__(self, encoder: Encoder, classes: int, count: int, neighbors: int) -> None:
        super().__init__(encoder, classes)
        self.neighbors = min(neighbors, count)
        self.register_buffer("bank", torch.zeros(count, encoder.num_features))
        self.register_buffer("bank_labels", torch.zeros(count, classes))

    def scores(self, batch: ViewBatch) -> Tensor:
        """Return the share of the weighted votes for each class, (B, D) in [0, 1]."""
        pooled = self.features(batch).pooled.float()
        return vote(pooled, self.bank, self.bank_labels, self.neighbors)


def vote(features: Tensor, bank: Tensor, labels: Tensor, neighbors: int) -> Tensor:
    """Return the share of the nearest images' weighted votes for each class.

    Args:
        features: (B, D) of the images to score.
        bank: (N, D) of the images that vote, of length 1 each.
        labels: (N, D) of 0 and 1; NaN where a label is unknown: that image has no vote on it.
        neighbors: Images that vote, k <= N.

    Returns:
        (B, D) in [0, 1]; 0.5 where no neighbor has a vote.
    """
    similarity, nearest = (F.normalize(features, dim=1) @ bank.T).topk(neighbors, dim=1)
    votes = F.softmax(similarity / _VOTE_TEMPERATURE, dim=1)
    near = labels[nearest]
    won = (votes[..., None] * near.nan_to_num(0)).sum(dim=1)
    if near.isnan().any():
        cast = (votes[..., None] * (~near.isnan())).sum(dim=1)
        won = torch.where(cast > 0, won / cast.clamp_min(1e-12), 0.5)
    return won.clamp(0, 1)
