"""NT-Xent (InfoNCE of SimCLR), the contrastive loss, with optional weights per image.

Source: Chen et al., "A simple framework for contrastive learning of visual representations",
ICML 2020, equation 1. The temperature is a setting, ``method.temperature``; its default stands in
``methods/contrastive.py``.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from medsgssl.losses.collectives import gather_views, mean_over_ranks


def nt_xent_loss(
    z1_BD: Tensor, z2_BD: Tensor, temperature: float, weights_B: Tensor | None = None
) -> Tensor:
    """Return the weighted mean of the negative log-likelihoods of 2B anchors.

    nll_i = -log( exp(z_i . z_j / T) / sum_{k != i} exp(z_i . z_k / T) ), where j is the other view
    of the image of i, and k runs over all other projections; in distributed training over those
    of all ranks, with gradient.

    Args:
        z1_BD: Unit projections of the first views, (B, D) float.
        z2_BD: Unit projections of the second views, (B, D) float.
        temperature: T > 0.
        weights_B: Weight of each image, (B,), or of each anchor, (2B,), first views first; not
            negative; None for equal weights. They are divided by their mean over the global batch,
            so that only their ratios matter.

    Returns:
        A scalar; its mean over the ranks is the loss of the global batch.
    """
    nll_2B = nt_xent_terms(z1_BD, z2_BD, temperature)
    if weights_B is None:
        return nll_2B.mean()
    weights = normalize_weights(weights_B)
    return ((weights if len(weights) == len(nll_2B) else weights.repeat(2)) * nll_2B).mean()


def nt_xent_terms(
    z1_BD: Tensor, z2_BD: Tensor, temperature: float, present_B: Tensor | None = None
) -> Tensor:
    """Return the negative log-likelihood of each anchor, (2B,): first views, then second views.

    Args:
        z1_BD: Unit projections of the first views, (B, D) float.
        z2_BD: Unit projections of the second views, (B, D) float.
        temperature: T > 0.
        present_B: (B,) bool; pairs that are not present are nobody's negatives. Their own terms
            stay finite but mean nothing: give them the weight 0. None: all are present.
    """
    local_2BD = torch.cat([z1_BD, z2_BD]).float()
    every_2GD, first = gather_views(local_2BD)
    # Half precision is too coarse for exp(1 / T), and autocast would choose it here.
    with torch.autocast(local_2BD.device.type, enabled=False):
        logits = local_2BD @ every_2GD.T / temperature
    count = z1_BD.shape[0]
    anchors = torch.arange(2 * count, device=logits.device)
    hidden = torch.zeros_like(logits, dtype=torch.bool)
    hidden[anchors, first + anchors] = True  # itself
    positives = first + (anchors + count) % (2 * count)
    if present_B is not None:
        absent = gather_views(1 - present_B.repeat(2).float())[0] > 0.5
        others = absent.repeat(2 * count, 1)
        others[anchors, positives] = False
        hidden = hidden | others
    return F.cross_entropy(logits.masked_fill(hidden, -torch.inf), positives, reduction="none")


def normalize_weights(weights: Tensor) -> Tensor:
    """Return weights divided by their mean over all ranks, without gradient; all zero become one.

    Args:
        weights: (B,) float, not negative.
    """
    weights = weights.detach().float()
    mean = mean_over_ranks(weights.mean())
    return torch.where(mean > 0, weights / mean.clamp_min(1e-12), torch.ones_like(weights))


def nt_xent_floor(batch: int, temperature: float) -> float:
    """Return the smallest value NT-Xent can take for ``batch`` images (over all ranks).

    The two views of each image coincide and the images form a regular simplex, so that
    negatives have the cosine -1 / (B - 1).
    """
    negatives = (2 * batch - 2) * math.exp((-1 / (batch - 1) - 1) / temperature)
    return math.log1p(negatives)


def nt_xent_chance(batch: int) -> float:
    """Return NT-Xent of projections that tell no image from another, log(2B - 1).

    Args:
        batch: Number of images B over all ranks.
    """
    return math.log(2 * batch - 1)
