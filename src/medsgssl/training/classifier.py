"""The classifier of the fourteen diseases: an encoder and one linear layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medsgssl.methods import Task, TaskOutput
from medsgssl.models import Encoder, Features
from medsgssl.sources import DISEASES
from medsgssl.views import ViewBatch


class Classifier(Task):
    """Logits of the diseases from the pooled features; also the task of fine-tuning.

    Args:
        encoder: The encoder, pretrained or not.
        loss: Maps logits and labels, both (B, 14), to a scalar; None where only scores are wanted.
        dropout: Probability of dropping a feature in training.
    """

    def __init__(
        self, encoder: Encoder, loss: nn.Module | None = None, dropout: float = 0.0
    ) -> None:
        super().__init__(encoder)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(encoder.num_features, len(DISEASES))
        # A prior of 5 % positives: with 0 the first steps would only lower all scores.
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.constant_(self.head.bias, -3.0)
        self.loss = loss

    def features(self, batch: ViewBatch) -> Features:
        """Return the encoder's features of the first view."""
        return self.encoder(*batch.view(0))  # type: ignore[no-any-return]

    def scores(self, batch: ViewBatch) -> Tensor:
        """Return the probability of each disease, (B, 14)."""
        return torch.sigmoid(self.head(self.features(batch).pooled).float())

    def forward(self, batch: ViewBatch, progress: float) -> TaskOutput:
        """Compute the supervised loss of one batch."""
        assert self.loss is not None
        pooled = self.features(batch).pooled
        logits = self.head(self.dropout(pooled)).float()
        return TaskOutput(
            terms={"supervised": self.loss(logits, batch.labels)},
            weights={"supervised": 1.0},
            embedding=pooled.detach(),
            floor={},
            figures={},
        )
