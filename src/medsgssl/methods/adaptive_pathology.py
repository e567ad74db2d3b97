"""``adaptive-pathology``: images with salient lungs count more, salient places are contrasted."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from medsgssl.losses.nt_xent import normalize_weights, nt_xent_chance, nt_xent_floor, nt_xent_loss
from medsgssl.losses.region_contrast import cover_of_cells, weighted_pool
from medsgssl.methods.base import Component, Method
from medsgssl.methods.contrastive import (
    ContrastiveSettings,
    ContrastiveTask,
    build_projector,
    global_batch,
)
from medsgssl.methods.registry import register
from medsgssl.models.encoder import Encoder
from medsgssl.models.lung_norms import LungNorms
from medsgssl.models.task import TaskOutput
from medsgssl.transforms.batch import ViewBatch
from medsgssl.transforms.crops import WholeImage
from medsgssl.transforms.view_spec import ViewPlan

# Keeps the pooling defined where nothing is salient: then every cell counts the same.
_EVERYWHERE = 1e-3


class AdaptivePathologySettings(ContrastiveSettings):
    """Settings of ``adaptive-pathology``."""

    weighted: bool = Field(True, description="weigh each image by its saliency")
    saliency_temperature: float = Field(
        4.0, ge=0.2, description="temperature of the softmax over saliency scores"
    )
    lambda_salient: float = Field(
        0.5, ge=0, description="weight of NT-Xent on saliency-weighted pooling"
    )


def image_weights(scores_B: Tensor, quality_B: Tensor, saliency_temperature: float) -> Tensor:
    """Return the weight of each image, (B,), with mean 1 over all ranks and without gradient.

    w = B softmax(q score / saliency_temperature): a score from a mask that is not trusted counts as
    none, so with q = 0 throughout all weights are 1.

    Args:
        scores_B: Saliency scores.
        quality_B: q of each image, in [0, 1].
        saliency_temperature: Temperature of the softmax.
    """
    # Without a shift: a global maximum would have to be gathered. Scores are sums of three measures
    # in standard deviations, far from what overflows.
    return normalize_weights(torch.exp(quality_B * scores_B / saliency_temperature))


def pooling_weights(maps_2BWW: Tensor, quality_B: Tensor, cells: tuple[int, int]) -> Tensor:
    """Return the weight of each cell of a feature map, (2B, 1, h, w): q saliency + (1 - q).

    Args:
        maps_2BWW: Saliency maps, first views first.
        quality_B: q of each image, in [0, 1].
        cells: Height and width of the feature map.
    """
    salient = cover_of_cells(maps_2BWW[:, None], cells)
    mean = salient.mean(dim=(2, 3), keepdim=True)
    salient = torch.where(mean > 0, salient / mean.clamp_min(1e-6), 0.0)
    quality = quality_B.repeat(2)[:, None, None, None]
    return quality * salient + (1 - quality) + _EVERYWHERE


class AdaptivePathologyTask(ContrastiveTask):
    """L = sum_a w_a nll_a / 2B + lambda NT-Xent(saliency-weighted pooling), a over the views.

    What is normal is learned from the images that the task sees (``LungNorms``).

    Args:
        encoder: The encoder to pretrain.
        settings: The method's settings.
    """

    def __init__(self, encoder: Encoder, settings: AdaptivePathologySettings) -> None:
        super().__init__(encoder, settings)
        self._settings = settings
        self.norms = LungNorms()
        if settings.lambda_salient:
            self.salient_projector = build_projector(encoder.map_channels, settings)

    def forward(self, batch: ViewBatch, progress: float) -> TaskOutput:
        """Weigh NT-Xent by each image's saliency, and contrast what is salient."""
        images, masks = self.augment_views(batch)
        features = self.encoder(images, masks, batch.quality.repeat(2))
        settings, saliency = self._settings, self.norms(*batch.view(-1))
        weights = image_weights(saliency.scores, batch.quality, settings.saliency_temperature)
        output = self.contrast(batch, features, weights if settings.weighted else None)
        if settings.lambda_salient:
            height, width = features.spatial.shape[-2:]
            cells = pooling_weights(saliency.in_views(batch, 2), batch.quality, (height, width))
            pooled = weighted_pool(features.spatial, cells)[:, 0]
            first, second = self.salient_projector(pooled).chunk(2)
            output.losses["salient"] = nt_xent_loss(first, second, self.temperature)
            output.weights["salient"] = settings.lambda_salient
            output.lower_bounds["salient"] = nt_xent_floor(global_batch(batch), self.temperature)
            output.chance["salient"] = nt_xent_chance(global_batch(batch))
        output.metrics["largest_weight"] = weights.max()
        output.metrics["saliency_score"] = saliency.scores.mean()
        return output

    def attention_maps(self, batch: ViewBatch) -> dict[str, Tensor]:
        """Return the saliency of the first views."""
        learning = self.norms.training
        saliency = self.norms.eval()(*batch.view(-1))
        self.norms.train(learning)
        return {"saliency": saliency.in_views(batch, 1)}


@register
class AdaptivePathology(Method[AdaptivePathologySettings]):
    """Contrastive learning that attends to what looks abnormal inside the lungs."""

    name = "adaptive-pathology"
    summary = (
        "Weighs each image by how far its lungs are from normal (density at each place, outline, "
        "size), and contrasts embeddings pooled where they are denser than normal."
    )
    citation = (
        "Comparison with the same place in other patients: van Ginneken et al., Automatic "
        "detection of abnormalities in chest radiographs using local texture analysis, IEEE TMI "
        "2002; NT-Xent: Chen et al., ICML 2020"
    )
    formula = (
        r"L = \frac{1}{2B} \sum_{i=1}^{2B} w_i \text{nll}_i + "
        r"\lambda_{\text{salient}} \text{NT-Xent}(z^{(s)}), \quad "
        r"w_i = 2B \frac{\exp(q_i s_i / \tau)}{\sum_{k} \exp(q_k s_k / \tau)}"
    )
    symbols = (
        "nll: as in simclr; s: saliency score of the view's image; q: mask quality; tau: "
        "saliency_temperature; z^(s): projections of saliency-weighted pooling."
    )
    settings = AdaptivePathologySettings
    uses_feature_map = True
    components: ClassVar[dict[str, Component]] = {
        "weighting": Component("images weighted by saliency", {"weighted": False}),
        "pooling": Component("contrast of salient pooling", {"lambda_salient": 0.0}),
    }

    def pretrain_views(self) -> ViewPlan:
        """Return two random crops, and the whole frame, whose lungs are compared with others."""
        return (*super().pretrain_views(), self.view(WholeImage()))

    def task(self, encoder: Encoder) -> AdaptivePathologyTask:
        """Build the saliency-weighted task."""
        return AdaptivePathologyTask(encoder, self.method_settings)
