"""``masked-contrastive``: hide random lung blocks in each view; mask quality weights the loss."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from medsgssl.config.method_settings import ShareRange
from medsgssl.methods.base import Component, Method
from medsgssl.methods.contrastive import ContrastiveSettings, ContrastiveTask, stack_views
from medsgssl.methods.registry import register
from medsgssl.models.encoder import Encoder
from medsgssl.ops.patch_grid import cell_cover, choose_cells, paint_cells
from medsgssl.transforms.batch import ViewBatch


class MaskedContrastiveSettings(ContrastiveSettings):
    """Settings of ``masked-contrastive``."""

    mask_ratio: ShareRange = Field(
        (0.2, 0.5), description="smallest and largest share of the lung blocks that is hidden"
    )
    cells: int = Field(14, ge=2, description="grid cells per side of a view")
    min_lung_fraction: float = Field(
        0.3, gt=0, le=1, description="lung share that makes a lung block"
    )
    fill_noise: float = Field(0.05, ge=0, description="sd of the noise in hidden blocks")
    quality_floor: float = Field(
        0.1, ge=0, le=1, description="quality below which an image counts no less"
    )


def hide_lung_blocks(
    images: Tensor, masks: Tensor, settings: MaskedContrastiveSettings
) -> tuple[Tensor, Tensor]:
    """Fill a random share of each view's lung blocks with the view's lung mean plus noise.

    Args:
        images: (B, 1, S, S) float in [0, 1].
        masks: (B, S, S) bool, each view's own mask.
        settings: Shares, grid and noise.

    Returns:
        The images with hidden blocks, and the hidden pixels (B, S, S) bool. A view without a lung
        block comes back unchanged.
    """
    lung_cells = cell_cover(masks, settings.cells) >= settings.min_lung_fraction
    low, high = settings.mask_ratio
    share = low + (high - low) * torch.rand(images.shape[0], device=images.device)
    hidden = paint_cells(choose_cells(lung_cells, share), images.shape[-1])
    lung = masks[:, None].to(images.dtype)
    mean = (images * lung).sum((1, 2, 3)) / lung.sum((1, 2, 3)).clamp_min(1)
    noise = settings.fill_noise * torch.randn_like(images)
    fill = (mean[:, None, None, None] + noise).clamp(0, 1)
    return torch.where(hidden[:, None], fill, images), hidden


class MaskedContrastiveTask(ContrastiveTask):
    """NT-Xent between views with hidden lung blocks, weighted by mask quality.

    Args:
        encoder: The encoder to pretrain.
        settings: The method's settings.
    """

    def __init__(self, encoder: Encoder, settings: MaskedContrastiveSettings) -> None:
        super().__init__(encoder, settings)
        self._settings = settings

    def augment_views(self, batch: ViewBatch) -> tuple[Tensor, Tensor]:
        """Hide blocks in each view, independently."""
        masks = stack_views(batch.masks)
        images, _ = hide_lung_blocks(stack_views(batch.images), masks, self._settings)
        return images, masks

    def image_weights(self, batch: ViewBatch) -> Tensor:
        """Return w = max(q, floor); NT-Xent divides by the batch mean."""
        return batch.quality.clamp_min(self._settings.quality_floor)


@register
class MaskedContrastive(Method[MaskedContrastiveSettings]):
    """Contrastive learning from the lung context of hidden lung blocks."""

    name = "masked-contrastive"
    summary = (
        "Hides a random share of the lung blocks in each view and weights each image's loss by its "
        "mask quality."
    )
    citation = (
        "NT-Xent: Chen et al., ICML 2020; masked views: Jing et al., Masked siamese convnets, "
        "arXiv 2206.07700, 2022"
    )
    formula = (
        r"L = \frac{1}{2B} \sum_{i=1}^{2B} \frac{w_i}{\bar{w}} \text{nll}_i, \quad "
        r"w_i = \max(q_i, q_{\min})"
    )
    symbols = (
        "nll: as in simclr, on views with hidden lung blocks; q: mask quality; q_min: "
        "quality_floor."
    )
    settings = MaskedContrastiveSettings
    components: ClassVar[dict[str, Component]] = {
        "hiding": Component("hidden lung blocks", {"mask_ratio": [0.0, 0.0]}),
        "weighting": Component("images weighted by mask quality", {"quality_floor": 1.0}),
    }

    def task(self, encoder: Encoder) -> MaskedContrastiveTask:
        """Build the masked contrastive task."""
        return MaskedContrastiveTask(encoder, self.method_settings)
