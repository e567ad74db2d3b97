"""What the trainer trains: a module whose forward pass returns named losses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from medsgssl.models.encoder import Encoder
from medsgssl.transforms.batch import ViewBatch


@dataclass
class TaskOutput:
    """What a task returns for one batch.

    Attributes:
        losses: Loss terms by name, scalars with gradient, before weighting.
        weights: The weight of each term in the loss; terms of weight 0 are not computed.
        embedding: (B, D) detached features of the encoder, watched for collapse. Not projections:
            the projector's BatchNorm would hide it.
        lower_bounds: The smallest value that each of some terms can take, by name.
        metrics: Scalars to log beside the loss, without gradient.
        chance: What each of some terms is for a network that has learned nothing, by name.
    """

    losses: dict[str, Tensor]
    weights: dict[str, float]
    embedding: Tensor
    lower_bounds: dict[str, float]
    metrics: dict[str, Tensor]
    chance: dict[str, float] = field(default_factory=dict)

    @property
    def loss(self) -> Tensor:
        """The weighted sum of the terms, a scalar."""
        return torch.stack([self.weights[name] * term for name, term in self.losses.items()]).sum()


class Task(nn.Module, ABC):
    """A pretext task: an encoder, the heads that only pretraining needs, and the loss terms.

    Args:
        encoder: The encoder that is kept after pretraining.
    """

    #: Name prefixes of parameters that no gradient trains, e.g. an EMA teacher's.
    frozen_prefixes: ClassVar[tuple[str, ...]] = ()

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    @abstractmethod
    def forward(self, batch: ViewBatch, progress: float) -> TaskOutput:
        """Compute the loss terms of one batch.

        Args:
            batch: Views on this device, images as floats in [0, 1].
            progress: Share of the training done, in [0, 1); for schedules of the method's own.
        """

    def encoder_input(self, batch: ViewBatch) -> Tensor:
        """Return the views as this task shows them to its encoder, (B, V, 1, S, S)."""
        return batch.images

    def attention_maps(self, batch: ViewBatch) -> dict[str, Tensor]:
        """Return what the report shows of the first views, by name; nothing by default.

        Maps (B, h, w), not negative, over the whole view: where the method looks, or what it has
        learned to see.
        """
        return {}

    def freezable_modules(self) -> list[nn.Module]:
        """Return the modules that rest during ``pretrain.freeze_epochs``: the backbone."""
        return [self.encoder.backbone]

    def trains_while_frozen(self) -> list[nn.Module]:
        """Return the parts of ``freezable_modules`` that train all the same; none by default."""
        return []

    def on_train_start(self, steps: int) -> None:
        """Take note of the number of optimizer steps of the whole run, resumed or not.

        Args:
            steps: At least 1.
        """

    def on_step_end(self, progress: float) -> None:
        """Do what follows an optimizer step, e.g. move a teacher; nothing by default."""
