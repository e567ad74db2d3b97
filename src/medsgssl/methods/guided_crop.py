"""``guided-crop``: two crops that must show lung, and the box of both lungs, also at test time."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import AfterValidator, Field
from torch import Tensor

from medsgssl.config.loading import FlatSettings
from medsgssl.config.method_settings import ordered
from medsgssl.config.schema import ViewSettings
from medsgssl.errors import ConfigError
from medsgssl.losses.nt_xent import nt_xent_chance, nt_xent_floor, nt_xent_loss
from medsgssl.methods.base import Component, Method
from medsgssl.methods.contrastive import ContrastiveSettings, build_projector, global_batch
from medsgssl.methods.registry import register
from medsgssl.models.encoder import Encoder
from medsgssl.models.task import Task, TaskOutput
from medsgssl.transforms.batch import ViewBatch, views_first
from medsgssl.transforms.lung_crops import AroundLungBox, LungBox, LungCrop
from medsgssl.transforms.view_spec import ViewPlan, ViewSpec


class GuidedCropSettings(ContrastiveSettings):
    """Settings of ``guided-crop``."""

    required_weights: ClassVar[tuple[str, ...]] = ("lambda_crops", "lambda_global")

    min_lung_fraction: float = Field(0.4, gt=0, le=0.9, description="smallest lung share of a crop")
    cover_of: Literal["crop", "lungs"] = Field(
        "crop", description="the lung share is one of the crop's area or of the lungs' area"
    )
    context: Annotated[
        tuple[Annotated[float, Field(ge=0, le=0.5)], Annotated[float, Field(ge=0, le=0.5)]],
        AfterValidator(ordered),
    ] = Field((0.05, 0.10), description="context on every side of a crop, as shares of its side")
    box_margin: float = Field(0.08, ge=0, le=0.5, description="margin on every side of the box")
    min_quality: float = Field(
        0.3, ge=0, le=1, description="mask quality below which the full image is used"
    )
    lambda_crops: float = Field(1.0, ge=0, description="weight of NT-Xent between the two crops")
    lambda_global: float = Field(
        0.5, ge=0, description="weight of the mean NT-Xent of each crop with the lung box"
    )


class GuidedCropTask(Task):
    """L = lambda_crops NT-Xent(1, 2) + lambda_global (NT-Xent(1, box) + NT-Xent(2, box)) / 2.

    Args:
        encoder: The encoder to pretrain.
        settings: The method's settings.
    """

    def __init__(self, encoder: Encoder, settings: GuidedCropSettings) -> None:
        super().__init__(encoder)
        self._settings = settings
        self.projector = build_projector(encoder.num_features, settings)

    def forward(self, batch: ViewBatch, progress: float) -> TaskOutput:
        """Encode all views in one pass and contrast them pair by pair."""
        settings, count = self._settings, batch.images.shape[1]
        images, masks = views_first(batch.images), views_first(batch.masks)
        pooled = self.encoder(images, masks, batch.quality.repeat(count)).pooled
        views = self.projector(pooled).chunk(count)
        terms: dict[str, Tensor] = {}
        weights: dict[str, float] = {}
        if settings.lambda_crops:
            terms["crops"] = nt_xent_loss(views[0], views[1], settings.temperature)
            weights["crops"] = settings.lambda_crops
        if settings.lambda_global:
            pairs = [nt_xent_loss(crop, views[2], settings.temperature) for crop in views[:2]]
            terms["global"] = torch.stack(pairs).mean()
            weights["global"] = settings.lambda_global
        floor = nt_xent_floor(global_batch(batch), settings.temperature)
        return TaskOutput(
            losses=terms,
            weights=weights,
            embedding=pooled.chunk(count)[0].detach(),
            lower_bounds=dict.fromkeys(terms, floor),
            chance=dict.fromkeys(terms, nt_xent_chance(global_batch(batch))),
            metrics={"lung_fraction": batch.masks[:, :2].float().mean()},
        )


@register
class GuidedCrop(Method[GuidedCropSettings]):
    """Contrastive learning between crops of the lungs and their common box."""

    name = "guided-crop"
    summary = (
        "Contrasts two lung-containing crops with each other and with the bounding box of both "
        "lungs, which is also the input at fine-tuning and test."
    )
    citation = (
        "Multi-crop: Caron et al., Unsupervised learning of visual features by contrasting cluster "
        "assignments (SwAV), NeurIPS 2020, and Emerging properties in self-supervised vision "
        "transformers (DINO), ICCV 2021; NT-Xent: Chen et al., ICML 2020"
    )
    formula = (
        r"L = \lambda_{\text{crops}} \text{NT-Xent}(z_1, z_2) + \frac{\lambda_{\text{global}}}{2} "
        r"\left( \text{NT-Xent}(z_1, z_{\text{box}}) + \text{NT-Xent}(z_2, z_{\text{box}}) \right)"
    )
    symbols = (
        "z_1, z_2: projections of the two lung-containing crops; z_box: projection of the lung box."
    )
    settings = GuidedCropSettings
    defaults: ClassVar[FlatSettings] = {"views.frame": "lung-box"}
    components: ClassVar[dict[str, Component]] = {
        "crops": Component("contrast between the two crops", {"lambda_crops": 0.0}),
        "global": Component("contrast of each crop with the lung box", {"lambda_global": 0.0}),
    }

    def pretrain_views(self) -> ViewPlan:
        """Return two crops with enough lung, and the lung box where a term needs it."""
        settings, augment = self.method_settings, self.config.views.pretrain
        crop = LungCrop(
            augment,
            settings.min_lung_fraction,
            settings.cover_of,
            settings.context,
            self._box(),
            self.config.data.img_size,
        )
        crops = (ViewSpec(crop, augment),) * 2
        return (*crops, ViewSpec(self._box(), augment)) if settings.lambda_global else crops

    def check(self) -> list[str]:
        """Refuse another frame than the lung box, and warn of a box that its controls lack."""
        if self.config.views.frame != "lung-box":
            raise ConfigError(
                "guided-crop works in the lung box by definition, views.frame=image contradicts it",
                "leave views.frame out, or choose simclr, which takes both frames",
            )
        warnings = super().check()
        if self._box() != LungBox():
            warnings.append(
                "method.box_margin or method.min_quality makes another lung box than "
                "views.frame=lung-box gives other methods: part of a difference to them would "
                "be the window's"
            )
        return warnings

    def ignored_settings(self) -> list[str]:
        """Return a warning where the aspect of crops was changed: these windows are squares."""
        views, unchanged = self.config.views, ViewSettings()
        ignored = super().ignored_settings()
        for name in ("pretrain", "finetune"):
            if getattr(views, name).ratio != getattr(unchanged, name).ratio:
                ignored.append(f"views.{name}.ratio has no effect: guided-crop's views are squares")
        return ignored

    def finetune_views(self) -> ViewPlan:
        """Return a mild random crop inside the lung box."""
        augment = self.config.views.finetune
        return (ViewSpec(AroundLungBox(augment, self._box()), augment),)

    def test_views(self) -> ViewPlan:
        """Return the lung box."""
        return (ViewSpec(self._box()),)

    def task(self, encoder: Encoder) -> GuidedCropTask:
        """Build the task of the crops and the box."""
        return GuidedCropTask(encoder, self.method_settings)

    def _box(self) -> LungBox:
        return LungBox(self.method_settings.box_margin, self.method_settings.min_quality)
