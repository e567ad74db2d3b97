"""The seam between a method and everything else.

A method is one file in this package: a settings class, a ``Task`` that turns a batch of views into
loss terms, and a ``Method`` that says which views it wants, which encoder it needs and which task
pretrains it. The training loop knows nothing about any of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from medsgssl.config import Config, MethodSettings
from medsgssl.models import Encoder, build_encoder
from medsgssl.views import RandomCrop, ViewBatch, ViewPlan, ViewSpec, WholeImage


@dataclass
class TaskOutput:
    """What a task returns for one batch.

    Attributes:
        terms: Loss terms by name, scalars with gradient, before weighting.
        weights: The weight of each term in the loss; terms of weight 0 are not computed.
        embedding: (B, D) detached features of the encoder, watched for collapse. Not projections:
            the projector's BatchNorm would hide it.
        floor: The smallest value that each of some terms can take, by name.
        figures: Scalars to log beside the loss, without gradient.
    """

    terms: dict[str, Tensor]
    weights: dict[str, float]
    embedding: Tensor
    floor: dict[str, float]
    figures: dict[str, Tensor]

    @property
    def loss(self) -> Tensor:
        """The weighted sum of the terms, a scalar."""
        return torch.stack([self.weights[name] * term for name, term in self.terms.items()]).sum()


class Task(nn.Module, ABC):
    """A pretext task: an encoder, the heads that only pretraining needs, and the loss terms.

    Args:
        encoder: The encoder that is kept after pretraining.
    """

    #: Name prefixes of parameters that no gradient trains, e.g. an EMA teacher's.
    fixed: ClassVar[tuple[str, ...]] = ()

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

    def seen(self, batch: ViewBatch) -> Tensor:
        """Return the views as this task shows them to its encoder, (B, V, 1, S, S)."""
        return batch.images

    def maps(self, batch: ViewBatch) -> dict[str, Tensor]:
        """Return what the report shows of the first views, by name; nothing by default.

        Maps (B, h, w), not negative, over the whole view: where the method looks, or what it has
        learned to see.
        """
        return {}

    def frozen(self) -> list[nn.Module]:
        """Return the modules that rest during ``pretrain.freeze_epochs``: the backbone."""
        return [self.encoder.backbone]

    def after_step(self, progress: float) -> None:
        """Do what follows an optimiser step, e.g. move a teacher; nothing by default."""


@dataclass(frozen=True)
class Part:
    """A part of a method that can be left out, for its leave-one-out table.

    Attributes:
        what: One phrase: what is left out.
        off: The settings that leave it out, by key below ``method.``.
        several_sets: Whether it acts only where several data sets are pretrained on.
    """

    what: str
    off: dict[str, Any]
    several_sets: bool = False

    def settings(self) -> dict[str, Any]:
        """Return the settings that leave it out, by dotted key."""
        return {f"method.{key}": value for key, value in self.off.items()}


class Method(ABC):
    """One option: its name, its views, its input path and its pretext task.

    Args:
        config: The resolved configuration; ``config.method`` is of ``settings``' type.
    """

    #: What users type.
    name: ClassVar[str]
    #: One sentence: what it computes.
    sentence: ClassVar[str]
    #: Where the idea comes from.
    citation: ClassVar[str]
    #: The type of ``config.method``.
    settings: ClassVar[type[MethodSettings]] = MethodSettings
    #: Defaults of other settings that differ for this method, by dotted key.
    defaults: ClassVar[dict[str, Any]] = {}
    #: What `medsgssl ablate` leaves out one by one, by name.
    parts: ClassVar[dict[str, Part]] = {}
    #: False where neither views, input path nor loss look at a mask.
    uses_masks: ClassVar[bool] = True
    #: False for a method without a pretext task.
    pretrains: ClassVar[bool] = True

    def __init__(self, config: Config) -> None:
        self.config = config

    @classmethod
    def plain_input(cls) -> bool:
        """Tell whether fine-tuning sees what ``direct`` sees: then ``direct`` is also its twin."""
        own = (cls.encoder, cls.finetune_views, cls.test_views)
        return own == (Method.encoder, Method.finetune_views, Method.test_views)

    def pretrain_views(self) -> ViewPlan:
        """Return the views of pretraining: two random crops."""
        augment = self.config.views.pretrain
        return (ViewSpec(RandomCrop(augment), augment),) * 2

    def finetune_views(self) -> ViewPlan:
        """Return the single view of supervised training: a mild random crop."""
        augment = self.config.views.finetune
        return (ViewSpec(RandomCrop(augment), augment),)

    def test_views(self) -> ViewPlan:
        """Return the single view of validation and test: the whole image."""
        return (ViewSpec(WholeImage()),)

    def encoder(self) -> Encoder:
        """Build the encoder with the method's input path; the direct twin has the same."""
        return build_encoder(self.config.encoder, self.config.data.img_size)

    @abstractmethod
    def task(self, encoder: Encoder) -> Task:
        """Build the pretext task around an encoder."""
