"""Losses of the classifier: focal, binary cross-entropy and asymmetric, (B, C) labels.

Labels are 0 or 1, or NaN where they are unknown. Every loss is the mean over the known ones, and 0
where a batch has none.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medsgssl.config.training_settings import FinetuneSettings
from medsgssl.losses.collectives import mean_over_ranks


class FocalLoss(nn.Module):
    """Mean of (1 - p_t)^gamma (-log p_t); gamma 0 is binary cross-entropy.

    Source: Lin et al., "Focal loss for dense object detection", ICCV 2017, equation 4.

    Args:
        gamma: Focusing exponent, >= 0.
    """

    def __init__(self, gamma: float) -> None:
        super().__init__()
        self.gamma = gamma

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss, a scalar."""
        known = labels.nan_to_num(0)
        nll = F.binary_cross_entropy_with_logits(logits, known, reduction="none")
        # (1 - p)^gamma through the logarithm: the power itself has an infinite slope where p
        # rounds to 1 and gamma lies below 1. A label between 0 and 1 mixes the two sides.
        positive = torch.exp(self.gamma * F.logsigmoid(-logits))
        negative = torch.exp(self.gamma * F.logsigmoid(logits))
        return mean_of_known((known * positive + (1 - known) * negative) * nll, labels)


class AsymmetricLoss(nn.Module):
    """Focal loss with its own exponent for negatives, whose easy ones are left out.

    Source: Ridnik et al., "Asymmetric loss for multi-label classification", ICCV 2021, equation 7.

    Args:
        gamma_positive: Exponent for positives.
        gamma_negative: Exponent for negatives.
        margin: Probability below which a negative counts nothing, in (0, 1): it also keeps the
            logarithm finite.
    """

    def __init__(
        self, gamma_positive: float = 0.0, gamma_negative: float = 4.0, margin: float = 0.05
    ) -> None:
        super().__init__()
        self.gamma_positive, self.gamma_negative = gamma_positive, gamma_negative
        self.margin = margin

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss, a scalar."""
        p = torch.sigmoid(logits)
        shifted = (p - self.margin).clamp_min(0)
        truth = labels.nan_to_num(0)
        positive = truth * (1 - p) ** self.gamma_positive * F.logsigmoid(logits)
        negative = (1 - truth) * shifted**self.gamma_negative * torch.log1p(-shifted)
        return mean_of_known(-(positive + negative), labels)


class WeightedBCE(nn.Module):
    """Binary cross-entropy whose positives weigh as much as the negatives of their disease.

    Args:
        labels: (N, C) training labels of 0 and 1, NaN where unknown.
    """

    pos_weight: Tensor

    def __init__(self, labels: Tensor) -> None:
        super().__init__()
        positives = (labels == 1).sum(dim=0)
        weight = (labels == 0).sum(dim=0) / positives.clamp_min(1)
        # Beyond this a handful of positives would drown all else.
        self.register_buffer("pos_weight", weight.clamp(1, 100), persistent=False)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss, a scalar."""
        nll = F.binary_cross_entropy_with_logits(
            logits, labels.nan_to_num(0), pos_weight=self.pos_weight, reduction="none"
        )
        return mean_of_known(nll, labels)


def mean_of_known(values: Tensor, labels: Tensor) -> Tensor:
    """Return the mean of ``values`` (B, C) where ``labels`` are known, a scalar.

    Its mean over the ranks is that of the global batch: all divide by the same count.
    """
    known = ~labels.isnan()
    count = mean_over_ranks(known.sum().float())
    return values.where(known, 0).sum() / torch.where(count > 0, count, 1.0)


def build_loss(settings: FinetuneSettings, train_labels: Tensor) -> nn.Module:
    """Return the loss of the settings.

    Args:
        settings: Names the loss.
        train_labels: (N, C) labels of the training images in use.
    """
    if settings.loss == "focal":
        return FocalLoss(settings.focal_gamma)
    if settings.loss == "asymmetric":
        return AsymmetricLoss()
    return WeightedBCE(train_labels)
