"""A learnable bias that makes lung patches attend to lung patches.

Source: an additive bias on attention logits as in Shaw et al., "Self-attention with relative
position representations", NAACL 2018; here from the lung mask.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class AnatomyBias(nn.Module):
    """log(gamma m_i m_j + 1 - gamma) for patches i and j, with gamma = sigmoid(u) per layer.

    Prefix tokens (CLS, registers) attend and are attended freely: their bias is 0. A whole-image
    mask gives 0 everywhere.

    Args:
        layers: Number of layers.
        gamma: First value of gamma, in (0, 1).
    """

    def __init__(self, layers: int, gamma: float = 0.6) -> None:
        super().__init__()
        self.u = nn.Parameter(torch.full((layers,), math.log(gamma / (1 - gamma))))

    @property
    def gamma(self) -> Tensor:
        """The strength of each layer, (layers,) in (0, 1)."""
        return torch.sigmoid(self.u.float())

    def forward(self, cover_BN: Tensor, prefix: int) -> list[Tensor]:
        """Return the bias of each layer, (B, 1, P + N, P + N) float32.

        Args:
            cover_BN: m, the lung share of each patch, (B, N) in [0, 1].
            prefix: Number P of prefix tokens.
        """
        missing = 1 - cover_BN[:, :, None] * cover_BN[:, None, :]
        missing = F.pad(missing, (prefix, 0, prefix, 0))[:, None]
        return [torch.log1p(-gamma * missing) for gamma in self.gamma]
