"""``attention-prior``: the encoder predicts where the lungs are and gates its features with it."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from medsgssl.losses.equivariance import equivariance_loss
from medsgssl.losses.nt_xent import normalize_weights
from medsgssl.losses.segmentation import cross_entropy_per_image, dice_per_image, iou_per_image
from medsgssl.methods.base import Component, Method, small_map_warning
from medsgssl.methods.contrastive import ContrastiveSettings, ContrastiveTask, stack_views
from medsgssl.methods.registry import register
from medsgssl.models.encoder import Encoder, Features
from medsgssl.models.gate import GatedEncoder, build_gated_encoder
from medsgssl.models.task import TaskOutput
from medsgssl.ops.patch_grid import cell_cover
from medsgssl.transforms.batch import ViewBatch


class AttentionPriorSettings(ContrastiveSettings):
    """Settings of ``attention-prior``."""

    lambda_seg: float = Field(1.0, ge=0, description="weight of BCE + Dice of the lung map")
    lambda_eq: float = Field(10.0, ge=0, description="weight of the maps' equivariance")
    stage_stride: int = Field(
        16, ge=2, le=32, description="pixels per cell of the gated stage (CNNs; ViTs: middle block)"
    )
    map_hidden: int = Field(64, ge=1, description="width of the head that predicts the lung map")


class AttentionPriorTask(ContrastiveTask):
    """NT-Xent on gated features, with a supervised and an equivariant lung map.

    Args:
        encoder: The gated encoder to pretrain.
        settings: The method's settings.
    """

    def __init__(self, encoder: GatedEncoder, settings: AttentionPriorSettings) -> None:
        super().__init__(encoder, settings)
        self._lambda_seg, self._lambda_eq = settings.lambda_seg, settings.lambda_eq

    def attention_maps(self, batch: ViewBatch) -> dict[str, Tensor]:
        """Return the lung map that the encoder predicts for the first views."""
        return {"predicted_lungs": self.encoder(*batch.inputs(0)).extra["lung_map"]}

    def extra_losses(self, output: TaskOutput, batch: ViewBatch, features: Features) -> None:
        """Add the terms of the lung map whose weight is not 0, and its overlap with the mask."""
        lung_map = features.extra["lung_map"]
        target = cell_cover(stack_views(batch.masks), lung_map.shape[-1])
        quality = batch.quality.repeat(2)
        if self._lambda_seg:
            logits = features.extra["lung_logits"]
            output.losses["segmentation"] = segmentation_loss(logits, target, quality)
            output.weights["segmentation"] = self._lambda_seg
        if self._lambda_eq:
            first, second = lung_map.chunk(2)
            output.losses["equivariance"] = equivariance_loss(
                first, second, batch.affines[:, 0], batch.affines[:, 1], batch.images.shape[-1]
            )
            output.weights["equivariance"] = self._lambda_eq
        overlap = iou_per_image(lung_map.detach(), target)
        output.metrics["lung_map_iou"] = (normalize_weights(quality) * overlap).mean()


def segmentation_loss(logits: Tensor, target: Tensor, quality: Tensor) -> Tensor:
    """Return mean_b q_b (BCE_b + Dice_b), a scalar.

    Args:
        logits: Of the predicted lung map, (B, h, w) float.
        target: Lung share of each cell of this very view, (B, h, w) in [0, 1].
        quality: q in [0, 1], (B,); masks that are not trusted teach nothing.
    """
    dice = dice_per_image(torch.sigmoid(logits), target)
    return (quality * (cross_entropy_per_image(logits, target) + dice)).mean()


@register
class AttentionPrior(Method[AttentionPriorSettings]):
    """Contrastive learning of an encoder that learns to look at the lungs."""

    name = "attention-prior"
    summary = (
        "Predicts a lung map from a middle stage and gates the features with it, at test as well."
    )
    citation = (
        "Wang et al., Residual attention network for image classification, CVPR 2017; "
        "equivariance: Wang et al., Self-supervised equivariant attention mechanism (SEAM), "
        "CVPR 2020"
    )
    formula = (
        r"L = \text{NT-Xent}(z) + \lambda_{\text{seg}} \frac{1}{2B} \sum_{i=1}^{2B} "
        r"q_i (\text{BCE}_i + \text{Dice}_i) + "
        r"\lambda_{\text{eq}} \text{mean} |a_1^{-1} M_1 - a_2^{-1} M_2|"
    )
    symbols = (
        "z: projections of gated features, f (1 + M); M: predicted lung map; BCE, Dice: of M "
        "against the mask of its view; a: affine map from image to view; q: mask quality."
    )
    settings = AttentionPriorSettings
    components: ClassVar[dict[str, Component]] = {
        "segmentation": Component("loss of the predicted lung map", {"lambda_seg": 0.0}),
        "equivariance": Component("equivariance of the maps", {"lambda_eq": 0.0}),
    }

    def encoder(self) -> GatedEncoder:
        """Build the gated encoder."""
        settings = self.method_settings
        return build_gated_encoder(
            self.config.encoder,
            self.config.data.img_size,
            settings.stage_stride,
            settings.map_hidden,
        )

    def map_warnings(self, encoder: Encoder) -> list[str]:
        """Return a warning where the gated stage has fewer than 4 x 4 cells."""
        assert isinstance(encoder, GatedEncoder)
        return small_map_warning(encoder.stage_layout.grid, self.config)

    def task(self, encoder: Encoder) -> AttentionPriorTask:
        """Build the task around a gated encoder."""
        assert isinstance(encoder, GatedEncoder)
        return AttentionPriorTask(encoder, self.method_settings)
