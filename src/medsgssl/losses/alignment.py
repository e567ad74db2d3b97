"""Attention drawn toward the lungs: the prior over patches and the loss that compares with it.

Source: Li et al., "Tell me where to look: guided attention inference network", CVPR 2018, for
supervising attention; here as a cross-entropy between two distributions over patches.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Softens the layers' weights exp(l / 2.0): later layers count more, early ones still count.
_LAYER_TEMPERATURE = 2.0


def lung_prior(cover_BN: Tensor, floor: float) -> Tensor:
    """Return p = ((1 - floor) m + floor), normalized over the patches, (B, N).

    Args:
        cover_BN: m, the lung share of each patch, (B, N) in [0, 1].
        floor: What a patch without lung keeps, in (0, 1].
    """
    prior = (1 - floor) * cover_BN + floor
    return prior / prior.sum(dim=1, keepdim=True)


def layer_weights(layers: int, device: torch.device | None = None) -> Tensor:
    """Return w_l = softmax(l / 2.0) over ``layers`` consecutive layers, (layers,)."""
    return torch.softmax(torch.arange(layers, device=device) / _LAYER_TEMPERATURE, dim=0)


def attention_alignment_loss(attention_BLN: Tensor, prior_BN: Tensor, quality_B: Tensor) -> Tensor:
    """Return mean_b q_b sum_l w_l CE(p_b, a_bl), a scalar.

    Args:
        attention_BLN: CLS-to-patch attention of each layer, a distribution over patches, (B, L, N).
        prior_BN: p, (B, N), from the masks of these very views.
        quality_B: q in [0, 1], (B,); a mask that is not trusted pulls nowhere.
    """
    entropy_BL = -(prior_BN[:, None] * attention_BLN.clamp_min(1e-9).log()).sum(dim=2)
    weights_L = layer_weights(attention_BLN.shape[1], attention_BLN.device)
    return (quality_B * (entropy_BL @ weights_L)).mean()


def attention_on_lung(attention_BLN: Tensor, cover_BN: Tensor) -> Tensor:
    """Return the share of CLS attention that falls on lung, layers weighted alike, (B,).

    Args:
        attention_BLN: As in ``attention_alignment_loss``.
        cover_BN: Lung share of each patch, (B, N) in [0, 1].
    """
    share_BL = (attention_BLN.detach() * cover_BN[:, None]).sum(dim=2)
    return share_BL @ layer_weights(attention_BLN.shape[1], attention_BLN.device)
