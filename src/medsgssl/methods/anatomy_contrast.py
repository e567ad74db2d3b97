"""``anatomy-contrast``: contrast of crops, of the lung box, and of lung zones in the last map."""

from __future__ import annotations

from itertools import combinations
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from medsgssl.config.loading import FlatSettings
from medsgssl.losses.nt_xent import nt_xent_chance, nt_xent_floor, nt_xent_loss
from medsgssl.losses.region_contrast import (
    cover_of_cells,
    mean_over_present,
    region_nt_xent,
    replace_absent,
    weighted_pool,
)
from medsgssl.methods.adaptive_pathology import image_weights
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
from medsgssl.ops.regions import ZONES, zones_of_images, zones_of_views
from medsgssl.transforms.batch import ViewBatch, views_first
from medsgssl.transforms.crops import WholeImage
from medsgssl.transforms.view_spec import ViewPlan


class AnatomyContrastSettings(ContrastiveSettings):
    """Settings of ``anatomy-contrast``."""

    required_weights: ClassVar[tuple[str, ...]] = (
        "lambda_crops",
        "lambda_global",
        "lambda_regions",
    )

    lambda_crops: float = Field(1.0, ge=0, description="weight of NT-Xent between the two crops")
    lambda_global: float = Field(
        0.5, ge=0, description="weight of the mean NT-Xent of each crop with the whole frame"
    )
    lambda_regions: float = Field(0.5, ge=0, description="weight of the mean NT-Xent of the zones")
    negatives: Literal["all", "same-zone"] = Field(
        "all",
        description="negatives of a zone: all zones of the batch, or the same zone of other images",
    )
    min_area: float = Field(
        0.02, gt=0, lt=1, description="share of a view below which a zone is left out"
    )
    min_quality: float = Field(
        0.3, ge=0, le=1, description="mask quality below which an image has no zones"
    )
    weighted: bool = Field(False, description="weigh each image by the saliency of its lungs")
    saliency_temperature: float = Field(
        4.0, ge=0.2, description="temperature of the softmax over saliency scores, where weighted"
    )


class AnatomyContrastTask(ContrastiveTask):
    """L = lambda_crops C(1, 2) + lambda_global (C(1, F) + C(2, F)) / 2 + lambda_regions Z.

    C is NT-Xent between two views, F the whole frame, Z the mean of C over pairs of views and
    over zones.

    Args:
        encoder: The encoder to pretrain.
        settings: The method's settings.
    """

    def __init__(self, encoder: Encoder, settings: AnatomyContrastSettings) -> None:
        super().__init__(encoder, settings)
        self._settings = settings
        # A projector that no term uses would wait for its gradient in distributed training.
        self.projector.requires_grad_(settings.lambda_crops + settings.lambda_global > 0)
        if settings.weighted:
            self.norms = LungNorms()
        if settings.lambda_regions:
            self.region_projector = build_projector(encoder.map_channels, settings)

    def forward(self, batch: ViewBatch, progress: float) -> TaskOutput:
        """Encode all views in one pass; contrast views pair by pair, then their zones."""
        settings = self._settings
        # The whole frame defines the zones; it is encoded only where a term compares it.
        count = 3 if settings.lambda_global else 2
        features = self.encoder(
            views_first(batch.images[:, :count]),
            views_first(batch.masks[:, :count]),
            batch.quality.repeat(count),
        )
        views, weights = self.projector(features.pooled).chunk(count), self.image_weights(batch)
        temperature = settings.temperature
        output = TaskOutput({}, {}, features.pooled.chunk(count)[0].detach(), {}, {})
        if settings.lambda_crops:
            output.losses["contrast"] = nt_xent_loss(views[0], views[1], temperature, weights)
            output.weights["contrast"] = settings.lambda_crops
        if settings.lambda_global:
            pairs = [nt_xent_loss(crop, views[2], temperature, weights) for crop in views[:2]]
            output.losses["global"] = torch.stack(pairs).mean()
            output.weights["global"] = settings.lambda_global
        output.lower_bounds.update(
            dict.fromkeys(output.losses, nt_xent_floor(global_batch(batch), temperature))
        )
        output.chance.update(dict.fromkeys(output.losses, nt_xent_chance(global_batch(batch))))
        if settings.lambda_regions:
            losses_R, present_BR = self.region_losses(batch, features.spatial)
            output.losses["regions"] = losses_R.mean()
            output.weights["regions"] = settings.lambda_regions
            output.metrics["regions_present"] = present_BR.float().mean()
        return output

    def image_weights(self, batch: ViewBatch) -> Tensor | None:
        """Return the weight of each image by the saliency of its whole frame, (B,), or None."""
        settings = self._settings
        if not settings.weighted:
            return None
        scores_B = self.norms(*batch.view(-1)).scores
        return image_weights(scores_B, batch.quality, settings.saliency_temperature)

    def region_losses(self, batch: ViewBatch, spatial: Tensor) -> tuple[Tensor, Tensor]:
        """Return the zones' loss of each pair of views, (P,), and which zones a view has.

        Args:
            batch: The views; the last one shows the whole frame.
            spatial: Last feature maps of V views, (V B, C, h, w), first views first.

        Returns:
            The losses, and (V B, R) bool: zones of trusted masks that are large enough.
        """
        settings, count = self._settings, spatial.shape[0] // batch.size
        maps = self.region_maps(batch, count)
        trusted = (batch.quality >= settings.min_quality).repeat(count)
        present = (maps.mean(dim=(2, 3)) >= settings.min_area) & trusted[:, None]
        height, width = spatial.shape[-2:]
        pooled = weighted_pool(spatial, cover_of_cells(maps, (height, width)))
        pooled = replace_absent(pooled, present)
        projected = self.region_projector(pooled.flatten(0, 1)).view(*pooled.shape[:2], -1)
        views = list(zip(projected.chunk(count), present.chunk(count), strict=True))
        losses = []
        for (z1_BRD, here_1), (z2_BRD, here_2) in combinations(views, 2):
            both_BR = here_1 & here_2
            losses_R = region_nt_xent(
                z1_BRD, z2_BRD, both_BR, settings.temperature, settings.negatives == "same-zone"
            )
            losses.append(mean_over_present(losses_R, both_BR))
        return torch.stack(losses), present

    def region_maps(self, batch: ViewBatch, count: int) -> Tensor:
        """Return the zones in the first ``count`` views, (V B, R, S, S) float of 0 and 1."""
        size = batch.images.shape[-1]
        return zones_of_views(
            batch.masks[:, -1].repeat(count, 1, 1),
            views_first(batch.affines[:, :count]),
            batch.affines[:, -1].repeat(count, 1, 1),
            size,
            size,
        )


@register
class AnatomyContrast(Method[AnatomyContrastSettings]):
    """Contrastive learning in the lung box, of crops, of the box and of lung zones."""

    name = "anatomy-contrast"
    summary = (
        "Contrasts two random crops of the lung box with each other and with the box, and each of "
        "seven chest zones, pooled from the last feature map, with the same zone of other views."
    )
    citation = (
        "Multi-crop: Caron et al. (SwAV), NeurIPS 2020; regions: Henaff et al., Efficient visual "
        "pretraining with contrastive detection (DetCon), ICCV 2021; NT-Xent: Chen et al., ICML "
        "2020; the combination is this package's own"
    )
    formula = (
        r"L = \lambda_{\text{crops}} C(z_1, z_2) + \frac{\lambda_{\text{global}}}{2} "
        r"\left( C(z_1, z_F) + C(z_2, z_F) \right) + "
        r"\lambda_{\text{regions}} \frac{1}{R} \sum_{r=1}^{R} \bar{C}(z^{(r)})"
    )
    symbols = (
        "C: NT-Xent between two views; z_1, z_2: projections of the crops; z_F: of the whole "
        "frame; z^(r): projection of zone r, pooled from the last feature map; C with a bar: its "
        "mean over pairs of views; R: zones that are present."
    )
    settings = AnatomyContrastSettings
    uses_feature_map = True
    defaults: ClassVar[FlatSettings] = {"views.frame": "lung-box"}
    components: ClassVar[dict[str, Component]] = {
        "crops": Component("contrast between the two crops", {"lambda_crops": 0.0}),
        "global": Component("contrast of each crop with the whole frame", {"lambda_global": 0.0}),
        "regions": Component("contrast of zones", {"lambda_regions": 0.0}),
    }

    def pretrain_views(self) -> ViewPlan:
        """Return two random crops of the frame, and the whole frame, in which zones are defined."""
        return (*super().pretrain_views(), self.view(WholeImage(), self.config.views.pretrain))

    def test_regions(self, masks: Tensor) -> tuple[tuple[str, ...], Tensor]:
        """Return the zones of pretraining in test views."""
        return ZONES, zones_of_images(masks)

    def map_warnings(self, encoder: Encoder) -> list[str]:
        """Return a warning where zones are pooled from a map of fewer than 4 x 4 cells."""
        return super().map_warnings(encoder) if self.method_settings.lambda_regions else []

    def task(self, encoder: Encoder) -> AnatomyContrastTask:
        """Build the task of crops, frame and zones."""
        return AnatomyContrastTask(encoder, self.method_settings)
