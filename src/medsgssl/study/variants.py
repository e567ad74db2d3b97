"""Variants of a method that a study runs: whole, without pretraining, masks, or a component."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from medsgssl.config.loading import FlatSettings, Settings, dump, flatten
from medsgssl.config.schema import Config
from medsgssl.errors import ConfigError
from medsgssl.methods.base import Component
from medsgssl.methods.registry import find_method
from medsgssl.study.matching import PRETRAINING, TELLING, matched_settings, unlike
from medsgssl.utils.formatting import join_names

#: The method that others are compared with, unless another is named.
CONTROL = "simclr"


@dataclass(frozen=True)
class Variant:
    """One variant of a method.

    Attributes:
        method: Its name.
        no_pretrain: Whether it has no pretraining stage.
        masks: Mask source.
        without: Name of the component that is left out; empty for the whole method.
        overrides: Settings by dotted key that match it with what is judged against it.
    """

    method: str
    no_pretrain: bool
    masks: str
    without: str = ""
    overrides: Settings = field(default_factory=dict)

    def stem(self, main: str) -> str:
        """Return what its runs are called; ``main`` is the mask source that goes unsaid."""
        parts = [self.method]
        pretrains = find_method(self.method).pretrains
        parts += ["no-pretrain"] if self.no_pretrain and pretrains else []
        parts += [_short(key, self.overrides[key]) for key in TELLING if key in self.overrides]
        parts += [self.masks] if self.masks != main else []
        parts += ["without", self.without] if self.without else []
        return "-".join(parts)


def part_of(method: str, name: str) -> Component:
    """Return a part of a method.

    Raises:
        ConfigError: The method has no such part.
    """
    parts = find_method(method).components
    if name not in parts:
        raise ConfigError(
            f"{method} has no part {name!r}", f"choose among: {', '.join(parts) or 'none'}"
        )
    return parts[name]


def _short(key: str, value: Any) -> str:
    if key == "pretrain.epochs":
        return f"{value}-epochs"
    return f"{value}px" if key == "data.img_size" else str(value).replace("/", "-")


def without_controls(methods: Sequence[str], controls: Sequence[str]) -> str | None:
    """Say which methods have no mask controls, because they look at no mask.

    Args:
        methods: Names of the methods of a study.
        controls: Mask controls that were asked for.

    Returns:
        One sentence where controls were asked for and no method has any; else None.
    """
    plain = [name for name in dict.fromkeys(methods) if not find_method(name).uses_masks]
    if not controls or len(plain) < len(set(methods)):
        return None
    return (
        f"--controls {','.join(controls)} adds no run: {join_names(plain)} look at no mask; add a "
        "guided method (`medsgssl methods`)"
    )


def variants_of(name: str, main: str, controls: Sequence[str]) -> Iterator[Variant]:
    """Yield the method itself and its mask controls."""
    method = find_method(name)
    if not method.pretrains:
        yield Variant(name, True, main)
        return
    yield Variant(name, False, main)
    if method.uses_masks:
        for control in controls:
            if control != main:
                yield Variant(name, False, control)


def matched_control(config: Config, usual: Config, main: str) -> Variant:
    """Return the control that a method is judged against: same network, frame and budget.

    Args:
        config: Of the method.
        usual: Of the control as the study's settings leave it.
        main: The study's mask source.
    """
    return Variant(CONTROL, False, main, overrides=_overrides(config, usual))


def matched_baseline(config: Config, usual: Config, main: str) -> Variant:
    """Return the no-pretraining baseline of a method's own network.

    Methods that fine-tune the plain network share the plain `direct` arm, so that it is trained
    once.

    Args:
        config: Of the method.
        usual: Of `direct` as the study's settings leave it.
        main: The study's mask source.
    """
    if not find_method(config.method_name).plain_input():
        return Variant(config.method_name, True, main)
    return Variant("direct", True, main, overrides=_overrides(config, usual))


def _overrides(config: Config, usual: Config) -> FlatSettings:
    """Return what has to change in a usual configuration; empty where it is comparable as is."""
    wanted, given = matched_settings(config, usual.method_name), flatten(dump(usual))
    if not unlike(wanted | _identity(usual), given):
        return {}
    ignored = PRETRAINING if usual.no_pretrain else ()
    return {
        key: value
        for key, value in wanted.items()
        if given.get(key) != value and not key.startswith(ignored)
    }


def _identity(config: Config) -> FlatSettings:
    return {"method_name": config.method_name, "no_pretrain": config.no_pretrain}


def variants_without(config: Config, main: str) -> list[Variant]:
    """Return the method of ``config`` without each of its parts that the settings leave on.

    Raises:
        ConfigError: There is no such part.
    """
    settings = flatten(dump(config))
    parts = _acting_parts(config.method_name, settings)
    on = [name for name, part in parts.items() if not _is_off(part, settings)]
    if not on:
        able = "none of its parts is switched on" if parts else "it has no parts to leave out"
        raise ConfigError(
            f"{config.method_name} cannot be ablated: {able}",
            "choose a method with parts that can be left out, or take the settings back",
        )
    return [Variant(config.method_name, False, main, name) for name in on]


def left_out(settings: Settings) -> str:
    """Return the name of the one part that a run's settings leave out, else an empty string.

    Args:
        settings: The run's configuration by dotted key.
    """
    try:
        parts = _acting_parts(str(settings.get("method_name")), settings)
    except ConfigError:  # a method that is not installed here
        return ""
    off = [name for name, part in parts.items() if _is_off(part, settings)]
    return off[0] if len(off) == 1 else ""


def _acting_parts(name: str, settings: Settings) -> dict[str, Component]:
    several = bool(settings.get("data.extra_roots"))
    parts = find_method(name).components
    return {key: part for key, part in parts.items() if several or not part.several_sets}


def _is_off(part: Component, settings: Settings) -> bool:
    return all(settings.get(key) == value for key, value in part.settings().items())
