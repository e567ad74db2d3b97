"""The seam between a method and everything else.

A method is one file in this package: a settings class, a ``Task`` that turns a batch of views into
loss terms, and a ``Method`` that says which views it wants, which encoder it needs and which task
pretrains it. The training loop knows nothing about any of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from medsgssl.config.schema import Config, MethodSettings
from medsgssl.models.encoder import Encoder, build_encoder
from medsgssl.models.task import Task
from medsgssl.transforms.crops import RandomCrop, WholeImage
from medsgssl.transforms.view_spec import ViewPlan, ViewSpec


@dataclass(frozen=True)
class Component:
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
    summary: ClassVar[str]
    #: Where the idea comes from.
    citation: ClassVar[str]
    #: The type of ``config.method``.
    settings: ClassVar[type[MethodSettings]] = MethodSettings
    #: Defaults of other settings that differ for this method, by dotted key.
    defaults: ClassVar[dict[str, Any]] = {}
    #: What `medsgssl study ablate` leaves out one by one, by name.
    components: ClassVar[dict[str, Component]] = {}
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

    def test_regions(self, masks: Tensor) -> tuple[tuple[str, ...], Tensor] | None:
        """Return regions whose features `embed` writes beside the pooled ones; None without.

        Args:
            masks: Lung masks of test views, (B, S, S) bool.

        Returns:
            Names of R regions, and their maps (B, R, h, w) float of 0 and 1.
        """
        return None

    def encoder(self) -> Encoder:
        """Build the encoder with the method's input path; the direct twin has the same."""
        return build_encoder(self.config.encoder, self.config.data.img_size)

    @abstractmethod
    def task(self, encoder: Encoder) -> Task:
        """Build the pretext task around an encoder."""
