"""Distances between the feature distributions of data sets (domains).

Sources: Sun and Saenko, "Deep CORAL", ECCV 2016 workshops, equation 1; Gretton et al., "A kernel
two-sample test", JMLR 2012, equation 5 (the biased estimate, with Gaussian kernels).
"""

from __future__ import annotations

import itertools
from typing import Literal

import torch
from torch import Tensor

DomainDistance = Literal["coral", "mmd"]

# Widths of the Gaussian kernels relative to the mean squared distance.
_WIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)


def coral(first_ND: Tensor, second_MD: Tensor) -> Tensor:
    """Return the squared distance of the two covariance matrices, over 4 D^2, a scalar.

    Args:
        first_ND: Features of one domain, (N, D).
        second_MD: Features of another, (M, D).
    """
    difference = _covariance(first_ND.float()) - _covariance(second_MD.float())
    return difference.square().sum() / (4 * first_ND.shape[1] ** 2)


def _covariance(features: Tensor) -> Tensor:
    centered = features - features.mean(dim=0)
    return centered.T @ centered / max(len(features) - 1, 1)


def mmd(first_ND: Tensor, second_MD: Tensor) -> Tensor:
    """Return the squared maximum mean discrepancy under a mean of Gaussian kernels, a scalar.

    Args:
        first_ND: Features of one domain, (N, D).
        second_MD: Features of another, (M, D).
    """
    every = torch.cat([first_ND, second_MD]).float()
    # From inner products: the root inside torch.cdist has no gradient at distance 0.
    products = every @ every.T
    norms = products.diagonal()
    squared = (norms[:, None] + norms[None, :] - 2 * products).clamp_min(0)
    scale = squared.detach().mean().clamp_min(1e-12)
    kernel = torch.stack([torch.exp(-squared / (width * scale)) for width in _WIDTHS]).mean(dim=0)
    n = len(first_ND)
    return kernel[:n, :n].mean() + kernel[n:, n:].mean() - 2 * kernel[:n, n:].mean()


def domain_distance(features_BD: Tensor, domains_B: Tensor, kind: DomainDistance) -> Tensor | None:
    """Return the mean distance over all pairs of domains in the batch, or None for a single one.

    Args:
        features_BD: (B, D) float, with gradient.
        domains_B: (B,) int64.
        kind: ``coral`` or ``mmd``.
    """
    numbers: Tensor = torch.unique(domains_B)
    if len(numbers) < 2:
        return None
    distance = coral if kind == "coral" else mmd
    # Differences of second moments drown in half precision.
    with torch.autocast(features_BD.device.type, enabled=False):
        parts = [features_BD[domains_B == number] for number in numbers]
        pairs = [distance(one, other) for one, other in itertools.combinations(parts, 2)]
        return torch.stack(pairs).mean()
