"""The interface between a method and everything else.

A method is one file in this package: a settings class, a ``Task`` that turns a batch of views into
loss terms, and a ``Method`` that says which views it wants, which encoder it needs and which task
pretrains it. The training loop knows nothing about any of them.

To add one: a file here whose class has ``@register`` (``simclr.py`` is the shortest), or the entry
point ``medsgssl.methods`` of another package. ``python -m medsgssl.methods.index`` then updates the
index from which look-ups answer without importing torch; until then the class itself is imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Generic, cast

from torch import Tensor
from typing_extensions import TypeVar  # with a default: typing has it from Python 3.13 on

from medsgssl.config.loading import FlatSettings
from medsgssl.config.method_settings import MethodSettings
from medsgssl.config.schema import AugmentSettings, Config, MaskSettings
from medsgssl.models.backbone import weights_notes
from medsgssl.models.encoder import SMALLEST_GRID, Encoder, build_encoder, required_map
from medsgssl.models.task import Task
from medsgssl.transforms.crops import CropRule, RandomCrop, WholeImage
from medsgssl.transforms.lung_crops import InLungBox
from medsgssl.transforms.view_spec import ViewPlan, ViewSpec
from medsgssl.utils.formatting import counted

SettingsT_co = TypeVar("SettingsT_co", bound=MethodSettings, default=MethodSettings, covariant=True)


@dataclass(frozen=True)
class Component:
    """A part of a method that can be left out, for its leave-one-out table.

    Attributes:
        what: One phrase: what is left out.
        off: The settings that leave it out, by key below ``method.``.
        several_sets: Whether it acts only where several data sets are pretrained on.
    """

    what: str
    off: Mapping[str, object]
    several_sets: bool = False

    def settings(self) -> FlatSettings:
        """Return the settings that leave it out, by dotted key."""
        return {f"method.{key}": value for key, value in self.off.items()}


class Method(Generic[SettingsT_co]):
    """One method: its name, its views, its input path and its pretext task.

    ``Method[MySettings]`` with ``settings = MySettings`` gives ``method_settings`` that type.

    Args:
        config: The resolved configuration; ``config.method`` is of ``settings``' type.
    """

    #: What users type.
    name: ClassVar[str]
    #: One sentence: what it computes.
    summary: ClassVar[str]
    #: Where the idea comes from.
    citation: ClassVar[str]
    #: The loss in LaTeX, and what its letters mean; for the page of the method.
    formula: ClassVar[str] = ""
    symbols: ClassVar[str] = ""
    #: The type of ``config.method``.
    settings: ClassVar[type[MethodSettings]] = MethodSettings
    #: Defaults of other settings that differ for this method, by dotted key.
    defaults: ClassVar[FlatSettings] = {}
    #: What `medsgssl study ablate` leaves out one by one, by name.
    components: ClassVar[dict[str, Component]] = {}
    #: False where neither views, input path nor loss look at a mask.
    uses_masks: ClassVar[bool] = True
    #: Whether the task reads the last map of features cell by cell.
    uses_feature_map: ClassVar[bool] = False
    #: Whether the method defines a pretext task; set by the class itself. Without one, every run
    #: of the method has ``config.no_pretrain``, which is all that the stages ask for.
    pretrains: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.pretrains = cls.task is not Method.task

    def __init__(self, config: Config) -> None:
        self.config = config

    @property
    def method_settings(self) -> SettingsT_co:
        """The method's own settings, ``config.method``, as the type that ``settings`` names."""
        given = self.config.method
        assert isinstance(given, self.settings)
        return cast("SettingsT_co", given)

    @classmethod
    def plain_input(cls) -> bool:
        """Whether fine-tuning sees what ``direct`` sees: then both have the same baseline."""
        hooks = (cls.encoder, cls.finetune_views, cls.test_views)
        return hooks == (Method.encoder, Method.finetune_views, Method.test_views)

    @property
    def sees_masks(self) -> bool:
        """Whether this run looks at masks: by its method, or to find the lung box."""
        return self.uses_masks or self.config.views.frame == "lung-box"

    def view(self, rule: CropRule, augment: AugmentSettings | None = None) -> ViewSpec:
        """Return a view in the frame of ``views.frame``: of the image, or of its lung box.

        Args:
            rule: Where the view looks in that frame.
            augment: Its photometric noise; None for none.
        """
        boxed = self.config.views.frame == "lung-box"
        return ViewSpec(InLungBox(rule) if boxed else rule, augment)

    def pretrain_views(self) -> ViewPlan:
        """Return the views of pretraining: two random crops."""
        augment = self.config.views.pretrain
        return (self.view(RandomCrop(augment), augment),) * 2

    def finetune_views(self) -> ViewPlan:
        """Return the single view of supervised training: a mild random crop."""
        augment = self.config.views.finetune
        return (self.view(RandomCrop(augment), augment),)

    def test_views(self) -> ViewPlan:
        """Return the single view of validation and test: the whole frame."""
        return (self.view(WholeImage()),)

    def test_regions(self, masks: Tensor) -> tuple[tuple[str, ...], Tensor] | None:
        """Return regions whose features `embed` writes beside the pooled ones; None without.

        Args:
            masks: Lung masks of test views, (B, S, S) bool.

        Returns:
            Names of R regions, and their maps (B, R, h, w) float of 0 and 1.
        """
        return None

    def encoder(self) -> Encoder:
        """Build the encoder with the method's input path, which its baseline shares."""
        return build_encoder(self.config.encoder, self.config.data.img_size)

    def check(self) -> list[str]:
        """Build the encoder and the task, so that what cannot work fails before any work.

        Returns:
            Warnings: what works, but not well.

        Raises:
            ConfigError: The backbone cannot do what the method needs.
            CheckpointError: Its initial weights cannot be used.
        """
        encoder, warnings = self.encoder(), self.ignored_settings()
        warnings += weights_notes(encoder.backbone)
        if isinstance(encoder.layout, str):
            warnings.append(
                f"{self.config.encoder.name} has no map of features ({encoder.layout}): there will "
                "be no Grad-CAM, and `medsgssl study localize` will refuse its runs"
            )
        if self.config.no_pretrain:
            return warnings
        self.task(encoder)
        frozen = self.config.pretrain.frozen_epochs
        if frozen and not self.config.encoder.pretrained:
            warnings.append(
                f"the backbone starts from scratch and is frozen for {counted(frozen, 'epoch')}: "
                "it has nothing worth keeping; set pretrain.freeze_epochs=0"
            )
        return warnings + self.map_warnings(encoder)

    def ignored_settings(self) -> list[str]:
        """Return a warning for each setting that was changed and has no effect here."""
        source = self.config.masks.source
        if self.sees_masks or source == MaskSettings().source:
            return []
        return [f"masks.source={source} has no effect: {self.name} looks at no mask"]

    def map_warnings(self, encoder: Encoder) -> list[str]:
        """Return a warning where the method reads a map of fewer than 4 x 4 cells."""
        if not self.uses_feature_map:
            return []
        return small_map_warning(required_map(encoder.layout).grid, self.config)

    def task(self, encoder: Encoder) -> Task:
        """Build the pretext task around an encoder; a method that defines none never pretrains."""
        raise NotImplementedError


def small_map_warning(grid: tuple[int, int], config: Config) -> list[str]:
    """Return a warning where a map that the method reads has fewer than 4 x 4 cells.

    Args:
        grid: Height and width of the map.
        config: The method's configuration.
    """
    if min(grid) >= SMALLEST_GRID:
        return []
    return [
        f"{config.method_name} reads a feature map of {grid[0]} x {grid[1]} cells "
        f"({config.encoder.name} at {config.data.img_size} pixels): too few to tell regions apart; "
        "set encoder.output_stride (8 or 16, where timm's model has it), encoder.patch_size (a "
        "transformer) or a larger data.img_size"
    ]
