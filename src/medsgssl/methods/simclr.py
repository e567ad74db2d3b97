"""SimCLR, the control: two views, NT-Xent, no mask anywhere."""

from __future__ import annotations

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from medsgssl.methods.base import Method
from medsgssl.methods.contrastive import ContrastiveSettings, ContrastiveTask, stack_views
from medsgssl.methods.registry import register
from medsgssl.models.encoder import Encoder, Features
from medsgssl.models.task import TaskOutput
from medsgssl.transforms.batch import ViewBatch


class SimclrSettings(ContrastiveSettings):
    """Settings of ``simclr``."""

    lambda_reconstruction: float = Field(
        0.0, ge=0, description="weight of the pixel reconstruction; 0: none"
    )
    reconstruction_size: int = Field(32, ge=8, description="side of the reconstructed image")


class SimclrTask(ContrastiveTask):
    """NT-Xent, and on request the reconstruction of the shrunken view from its features.

    Args:
        encoder: The encoder to pretrain.
        settings: Temperature, projector, weight and size of the reconstruction.
    """

    def __init__(self, encoder: Encoder, settings: SimclrSettings) -> None:
        super().__init__(encoder, settings)
        self._weight, self._side = settings.lambda_reconstruction, settings.reconstruction_size
        if self._weight:
            self.decoder = nn.Sequential(
                nn.Linear(encoder.num_features, 512), nn.GELU(), nn.Linear(512, self._side**2)
            )

    def extra_losses(self, output: TaskOutput, batch: ViewBatch, features: Features) -> None:
        """Add the mean squared error of the reconstruction, where its weight is not 0."""
        if self._weight:
            output.losses["reconstruction"] = self._reconstruction(batch, features.pooled)
            output.weights["reconstruction"] = self._weight

    def _reconstruction(self, batch: ViewBatch, pooled: Tensor) -> Tensor:
        views = stack_views(batch.images)
        small = F.interpolate(views, size=self._side, mode="bilinear", antialias=True)
        return F.mse_loss(self.decoder(pooled).float(), small.flatten(1))


@register
class Simclr(Method[SimclrSettings]):
    """Plain SimCLR with the same backbone, views, batch, epochs and schedule as the options."""

    name = "simclr"
    summary = "Plain NT-Xent between two random views; no mask anywhere (the control)."
    citation = (
        "Chen et al., A simple framework for contrastive learning of visual representations, "
        "ICML 2020"
    )
    formula = (
        r"L = \frac{1}{2B} \sum_{i=1}^{2B} \text{nll}_i, \quad "
        r"\text{nll}_i = -\log \frac{\exp(z_i \cdot z_{j(i)} / T)}"
        r"{\sum_{k \neq i} \exp(z_i \cdot z_k / T)}"
    )
    symbols = (
        "z: unit projections of the 2B views of a batch; j(i): the other view of the image of "
        "i; T: temperature."
    )
    settings = SimclrSettings
    uses_masks = False

    def task(self, encoder: Encoder) -> SimclrTask:
        """Build the SimCLR task."""
        return SimclrTask(encoder, self.method_settings)
