"""The contrastive pair that several methods start from: two views, one projector, NT-Xent.

The default temperature stands here; ``losses/nt_xent.py`` has the loss.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from medsgssl.config.method_settings import MethodSettings
from medsgssl.losses.collectives import world_size
from medsgssl.losses.nt_xent import nt_xent_chance, nt_xent_floor, nt_xent_loss
from medsgssl.models.encoder import Encoder, Features
from medsgssl.models.projector import Projector
from medsgssl.models.task import Task, TaskOutput
from medsgssl.transforms.batch import ViewBatch, views_first


class ContrastiveSettings(MethodSettings):
    """Settings of every method with an NT-Xent term."""

    temperature: float = Field(0.2, gt=0, description="T of NT-Xent")
    projector_hidden: int = Field(512, ge=1, description="width of the projector's hidden layers")
    projector_out: int = Field(128, ge=2, description="width of the projection")
    projector_layers: int = Field(2, ge=2, le=3, description="linear layers of the projector")


def build_projector(width: int, settings: ContrastiveSettings) -> Projector:
    """Return a new projector of features of that width, as the settings describe it."""
    return Projector(
        width, settings.projector_hidden, settings.projector_out, settings.projector_layers
    )


class ContrastiveTask(Task):
    """NT-Xent between the first two views of each image.

    Subclasses change what the encoder sees (``augment_views``), how much each image counts
    (``image_weights``) or add terms (``extra_losses``).

    Args:
        encoder: The encoder to pretrain.
        settings: Temperature and projector.
    """

    def __init__(self, encoder: Encoder, settings: ContrastiveSettings) -> None:
        super().__init__(encoder)
        self.temperature = settings.temperature
        self.projector = build_projector(encoder.num_features, settings)

    def forward(self, batch: ViewBatch, progress: float) -> TaskOutput:
        """Encode both views in one pass, as SimCLR does, and contrast them."""
        images, masks = self.augment_views(batch)
        features = self.encoder(images, masks, batch.quality.repeat(2))
        output = self.contrast(batch, features, self.image_weights(batch))
        self.extra_losses(output, batch, features)
        return output

    def contrast(self, batch: ViewBatch, features: Features, weights: Tensor | None) -> TaskOutput:
        """Return NT-Xent between the views' projections as the term ``contrast``.

        Args:
            batch: The views.
            features: Of the first views, then of the second views.
            weights: (B,) of images, (2B,) of anchors, or None for equal weights.
        """
        first, second = self.projector(features.pooled).chunk(2)
        contrast = nt_xent_loss(first, second, self.temperature, weights)
        return TaskOutput(
            losses={"contrast": contrast},
            weights={"contrast": 1.0},
            embedding=features.pooled.chunk(2)[0].detach(),
            lower_bounds={"contrast": nt_xent_floor(global_batch(batch), self.temperature)},
            metrics={},
            chance={"contrast": nt_xent_chance(global_batch(batch))},
        )

    def augment_views(self, batch: ViewBatch) -> tuple[Tensor, Tensor]:
        """Return images (2B, 1, S, S) and masks (2B, S, S): first views, then second views."""
        return stack_views(batch.images), stack_views(batch.masks)

    def encoder_input(self, batch: ViewBatch) -> Tensor:
        """Return the two views as ``augment_views`` leaves them, and further views as they are."""
        prepared = torch.stack(self.augment_views(batch)[0].chunk(2), dim=1)
        return torch.cat([prepared, batch.images[:, 2:]], dim=1)

    def image_weights(self, batch: ViewBatch) -> Tensor | None:
        """Return the weight of each image, (B,), or None for equal weights."""
        return None

    def extra_losses(self, output: TaskOutput, batch: ViewBatch, features: Features) -> None:
        """Add terms to ``output``; none by default."""


def stack_views(values: Tensor) -> Tensor:
    """Turn (B, V, ...) into (2B, ...): the first views of all images, then the second views."""
    return views_first(values[:, :2])


def global_batch(batch: ViewBatch) -> int:
    """Return the number of images over all ranks."""
    return batch.size * world_size()
