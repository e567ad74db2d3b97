"""Variants of a method that a study runs: the method, its twin, mask controls, parts left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medsgssl.config.loading import dump
from medsgssl.config.schema import Config
from medsgssl.errors import ConfigError
from medsgssl.methods.base import Component
from medsgssl.methods.registry import find_method
from medsgssl.runs.folder import flatten

#: The method that others are compared with, unless another is named.
CONTROL = "simclr"


@dataclass(frozen=True)
class Variant:
    """One variant of a method.

    Attributes:
        method: Its name.
        no_pretrain: Whether it has no pretraining stage.
        masks: Mask source.
        without: Name of the part that is left out; empty for the whole method.
    """

    method: str
    no_pretrain: bool
    masks: str
    without: str = ""

    def stem(self, main: str) -> str:
        """Return what its runs are called; ``main`` is the mask source that goes unsaid."""
        parts = [self.method]
        parts += ["direct"] if self.no_pretrain and find_method(self.method).pretrains else []
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


def variants_of(name: str, main: str, controls: Sequence[str], twins: bool) -> Iterator[Variant]:
    """Yield the method itself, its mask controls, and its twin where that is wanted."""
    method = find_method(name)
    if not method.pretrains:
        yield Variant(name, True, main)
        return
    yield Variant(name, False, main)
    if method.uses_masks:
        for control in controls:
            if control != main:
                yield Variant(name, False, control)
    if twins:
        yield Variant(name, True, main)


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


def left_out(settings: Mapping[str, Any]) -> str:
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


def _acting_parts(name: str, settings: Mapping[str, Any]) -> dict[str, Component]:
    several = bool(settings.get("data.extra_roots"))
    parts = find_method(name).components
    return {key: part for key, part in parts.items() if several or not part.several_sets}


def _is_off(part: Component, settings: Mapping[str, Any]) -> bool:
    return all(settings.get(key) == value for key, value in part.settings().items())
