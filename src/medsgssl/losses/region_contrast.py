"""Embeddings of regions: weighted pooling of a feature map, and NT-Xent between regions.

Sources: Henaff et al., "Efficient visual pretraining with contrastive detection" (DetCon), ICCV
2021, equations 1 and 2 (mask pooling; negatives from all regions of the batch).
"""

from __future__ import annotations

import torch
from torch import Tensor

from medsgssl.losses.collectives import mean_over_ranks
from medsgssl.losses.nt_xent import nt_xent_terms
from medsgssl.ops.patch_grid import cell_means


def cover_of_cells(regions_NRSS: Tensor, cells: tuple[int, int]) -> Tensor:
    """Return the share of each cell of a feature map that each region covers, (N, R, h, w).

    Args:
        regions_NRSS: Region maps, (N, R, S, S) float in [0, 1].
        cells: Height and width of the feature map.
    """
    return cell_means(regions_NRSS, cells)


def weighted_pool(spatial_NCHW: Tensor, weights_NRHW: Tensor) -> Tensor:
    """Return weighted means of a feature map, (N, R, C); zeros where all weights are zero.

    Args:
        spatial_NCHW: Feature maps, (N, C, h, w) float.
        weights_NRHW: R sets of weights per map, (N, R, h, w) float, not negative.
    """
    flat = weights_NRHW.flatten(2)
    total = flat.sum(dim=2, keepdim=True)
    share = torch.where(total > 0, flat / total.clamp_min(1e-12), 0.0)
    return share.to(spatial_NCHW.dtype) @ spatial_NCHW.flatten(2).transpose(1, 2)


def replace_absent(pooled_NRC: Tensor, present_NR: Tensor) -> Tensor:
    """Put the mean of an image's present regions in the place of its absent ones.

    The projector's BatchNorm sees every row; so absent regions must bring neither features nor a
    gradient of their own. An image without any present region gives its mean, without gradient.

    Args:
        pooled_NRC: Region embeddings, (N, R, C) float.
        present_NR: (N, R) bool.
    """
    here = present_NR[:, :, None].to(pooled_NRC.dtype)
    count = here.sum(dim=1, keepdim=True)
    mean = (here * pooled_NRC).sum(dim=1, keepdim=True) / count.clamp_min(1)
    stand_in = torch.where(count > 0, mean, pooled_NRC.detach().mean(dim=1, keepdim=True))
    return torch.where(here > 0, pooled_NRC, stand_in)


def region_nt_xent(
    z1_BRD: Tensor,
    z2_BRD: Tensor,
    present_BR: Tensor,
    temperature: float,
    within_region: bool = False,
) -> Tensor:
    """Return NT-Xent of each region, (R,).

    The positive of (image, region) is the same region of the same image in the other view; its
    negatives are all other present (image, region) pairs of both views, over all ranks. A region's
    loss is the mean over its present anchors; without any it is 0, without gradient.

    Args:
        z1_BRD: Unit projections in the first views, (B, R, D) float.
        z2_BRD: Unit projections in the second views, (B, R, D) float.
        present_BR: (B, R) bool, whether the region is large enough in both views.
        temperature: T > 0.
        within_region: Take as negatives the same region of other images alone.

    Returns:
        (R,) float; the mean over the ranks is the loss of the global batch.
    """
    if within_region:
        each = (z1_BRD.unbind(dim=1), z2_BRD.unbind(dim=1), present_BR.unbind(dim=1))
        terms = [
            nt_xent_terms(z1, z2, temperature, here) for z1, z2, here in zip(*each, strict=True)
        ]
        nll = torch.stack(terms, dim=1)
    else:
        nll = nt_xent_terms(
            z1_BRD.flatten(0, 1), z2_BRD.flatten(0, 1), temperature, present_BR.flatten()
        )
    weights = present_BR.float()
    count = mean_over_ranks(weights.sum(dim=0))
    nll_BR = nll.view(2, *present_BR.shape).mean(dim=0)
    return torch.where(present_BR, nll_BR, 0.0).sum(dim=0) / count.clamp_min(1e-12)


def mean_over_present(losses_R: Tensor, present_BR: Tensor) -> Tensor:
    """Return the mean of the losses of those regions that occur on any rank; a scalar.

    Args:
        losses_R: From ``region_nt_xent``.
        present_BR: As given to it.
    """
    occurs = mean_over_ranks(present_BR.float().sum(dim=0)) > 0
    return losses_R.sum() / occurs.sum().clamp_min(1)
