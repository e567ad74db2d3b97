"""``multi-region``: contrast regions of the chest, each pooled from the last feature map."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

from medsgssl.losses.region_contrast import (
    cover_of_cells,
    mean_over_present,
    region_nt_xent,
    replace_absent,
    weighted_pool,
)
from medsgssl.methods.base import Component, Method
from medsgssl.methods.contrastive import (
    ContrastiveSettings,
    ContrastiveTask,
    build_projector,
    stack_views,
)
from medsgssl.methods.registry import register
from medsgssl.models.encoder import Encoder, Features
from medsgssl.models.task import TaskOutput
from medsgssl.ops.regions import LUNG_REGIONS, ZONES, lung_and_rest, zones_of_images, zones_of_views
from medsgssl.transforms.batch import ViewBatch
from medsgssl.transforms.crops import WholeImage
from medsgssl.transforms.view_spec import ViewPlan


class MultiRegionSettings(ContrastiveSettings):
    """Settings of ``multi-region``."""

    required_weights: ClassVar[tuple[str, ...]] = ("lambda_global", "lambda_regions")

    regions: Literal["lung", "zones"] = Field(
        "lung", description="lung: lung and non-lung; zones: six lung zones and the mediastinum"
    )
    lambda_global: float = Field(1.0, ge=0, description="weight of NT-Xent on the whole view")
    lambda_regions: float = Field(
        1.0, ge=0, description="weight of the mean NT-Xent of the regions"
    )
    min_area: float = Field(
        0.01, gt=0, lt=1, description="share of a view below which a region is left out"
    )


class MultiRegionTask(ContrastiveTask):
    """L = lambda_global NT-Xent(view) + lambda_regions mean_r NT-Xent(region r).

    Args:
        encoder: The encoder to pretrain.
        settings: The method's settings.
    """

    def __init__(self, encoder: Encoder, settings: MultiRegionSettings) -> None:
        super().__init__(encoder, settings)
        self._settings = settings
        self.names = ZONES if settings.regions == "zones" else LUNG_REGIONS
        # A projector that no term uses would wait for its gradient in distributed training.
        self.projector.requires_grad_(settings.lambda_global > 0)
        if settings.lambda_regions:
            self.region_projector = build_projector(encoder.map_channels, settings)

    def extra_losses(self, output: TaskOutput, batch: ViewBatch, features: Features) -> None:
        """Weigh the term of the views, and add that of the regions."""
        output.weights["contrast"] = self._settings.lambda_global
        if not self._settings.lambda_global:
            del (
                output.losses["contrast"],
                output.weights["contrast"],
                output.lower_bounds["contrast"],
                output.chance["contrast"],
            )
        if self._settings.lambda_regions:
            losses_R, present_BR = self.region_losses(batch, features.spatial)
            output.losses["regions"] = mean_over_present(losses_R, present_BR)
            output.weights["regions"] = self._settings.lambda_regions
            output.metrics["regions_present"] = present_BR.float().mean()

    def region_losses(self, batch: ViewBatch, spatial: Tensor) -> tuple[Tensor, Tensor]:
        """Return NT-Xent of each region, (R,), and which regions take part, (B, R) bool.

        Args:
            batch: The views; for zones the last one shows the whole image.
            spatial: Last feature maps, (2B, C, h, w), first views first.
        """
        maps = self.region_maps(batch)
        area_1, area_2 = maps.mean(dim=(2, 3)).chunk(2)
        smallest = self._settings.min_area
        present_BR = (area_1 >= smallest) & (area_2 >= smallest)
        height, width = spatial.shape[-2:]
        pooled = weighted_pool(spatial, cover_of_cells(maps, (height, width)))
        pooled = replace_absent(pooled, present_BR.repeat(2, 1))
        projected = self.region_projector(pooled.flatten(0, 1))
        z1_BRD, z2_BRD = projected.view(*pooled.shape[:2], -1).chunk(2)
        return region_nt_xent(z1_BRD, z2_BRD, present_BR, self.temperature), present_BR

    def region_maps(self, batch: ViewBatch) -> Tensor:
        """Return the regions in both views, (2B, R, P, P) float of 0 and 1, first views first."""
        if self._settings.regions == "lung":
            return lung_and_rest(stack_views(batch.masks))
        size = batch.images.shape[-1]
        return zones_of_views(
            batch.masks[:, -1].repeat(2, 1, 1),
            stack_views(batch.affines),
            batch.affines[:, -1].repeat(2, 1, 1),
            size,
            size,
        )


@register
class MultiRegion(Method[MultiRegionSettings]):
    """Contrastive learning of whole views and of anatomical regions at once."""

    name = "multi-region"
    summary = (
        "Contrasts embeddings of lung and non-lung, or of seven zones, pooled from the last "
        "feature map, beside those of the whole views."
    )
    citation = (
        "Henaff et al., Efficient visual pretraining with contrastive detection (DetCon), ICCV "
        "2021; NT-Xent: Chen et al., ICML 2020"
    )
    formula = (
        r"L = \lambda_{\text{global}} \text{NT-Xent}(z) + "
        r"\lambda_{\text{regions}} \frac{1}{R} \sum_{r=1}^{R} \text{NT-Xent}(z^{(r)})"
    )
    symbols = (
        "z: projections of the whole views; z^(r): projections of region r, pooled from the last "
        "feature map; R: regions that are present in both views."
    )
    settings = MultiRegionSettings
    uses_feature_map = True
    components: ClassVar[dict[str, Component]] = {
        "regions": Component("contrast of regions", {"lambda_regions": 0.0}),
        "whole-view": Component("contrast of whole views", {"lambda_global": 0.0}),
    }

    def pretrain_views(self) -> ViewPlan:
        """Return two random crops; for zones also the whole image, in which they are defined."""
        views = super().pretrain_views()
        zones = self.method_settings.regions == "zones"
        return (*views, self.view(WholeImage())) if zones else views

    def test_regions(self, masks: Tensor) -> tuple[tuple[str, ...], Tensor]:
        """Return the regions of pretraining in test views."""
        if self.method_settings.regions == "lung":
            return LUNG_REGIONS, lung_and_rest(masks)
        return ZONES, zones_of_images(masks)

    def task(self, encoder: Encoder) -> MultiRegionTask:
        """Build the task of views and regions."""
        return MultiRegionTask(encoder, self.method_settings)
