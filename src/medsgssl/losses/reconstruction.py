"""Rebuilding hidden patches in the space of a teacher's tokens.

Source: Baevski et al., "data2vec: a general framework for self-supervised learning in speech,
vision and language", ICML 2022, section 3.3.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def reconstruction_loss(predicted: Tensor, taught: Tensor, hidden: Tensor) -> Tensor:
    """Return the mean smooth-L1 distance to the layer-normalized teacher tokens where hidden.

    Args:
        predicted: The predictor's output, (B, N, D) float.
        taught: The teacher's patch tokens, (B, N, D) float.
        hidden: (B, N) bool.

    Returns:
        A scalar with gradient to ``predicted``; 0 where nothing is hidden.
    """
    target = F.layer_norm(taught.detach().float(), taught.shape[-1:])
    distance = F.smooth_l1_loss(predicted.float(), target, reduction="none").mean(dim=2)
    return (distance * hidden).sum() / hidden.sum().clamp_min(1)
