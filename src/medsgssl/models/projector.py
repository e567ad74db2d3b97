"""The projector: the head between features and a contrastive loss.

Source: Chen et al., "A simple framework for contrastive learning of visual representations",
ICML 2020, section 4.2.
"""

from __future__ import annotations

import itertools

import torch.nn.functional as F
from torch import Tensor, nn


class Projector(nn.Module):
    """An MLP with BatchNorm between its layers, whose output is L2-normalized.

    No BatchNorm follows the last layer, as in the paper's formula. It would take away what the
    projections of a fresh encoder share, which is most of them, and blow up the rest, which is
    noise: a MobileNetV2 from scratch then stays at chance for hundreds of steps.

    Args:
        width: Features per image, D.
        hidden: Width of the hidden layers.
        out: Width of the projection.
        layers: Number of linear layers, 2 or 3.
    """

    def __init__(self, width: int, hidden: int, out: int, layers: int) -> None:
        super().__init__()
        widths = [width, *[hidden] * (layers - 1)]
        parts: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            parts += [nn.Linear(before, after, bias=False), nn.BatchNorm1d(after), nn.ReLU()]
        self.layers = nn.Sequential(*parts, nn.Linear(widths[-1], out, bias=False))

    def forward(self, features: Tensor) -> Tensor:
        """Project features (B, D) to unit vectors (B, out)."""
        return F.normalize(self.layers(features), dim=1)
