"""Finds methods by name: every file of this package, and entry points of other packages."""

from __future__ import annotations

import functools
import importlib.metadata
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, TypeVar, get_args

from medsgssl.config.encoder_names import encoder_name_problem, hub_source
from medsgssl.config.loading import Settings, SettingsTree, build, merge, nested
from medsgssl.config.renamed import with_new_names
from medsgssl.config.schema import Config, EncoderSettings, MaskControl, MaskSettings
from medsgssl.errors import ConfigError
from medsgssl.utils.io import read_json
from medsgssl.utils.plugins import import_files, load_entry_points

if TYPE_CHECKING:
    # The classes import torch, and the index of methods does without it.
    from medsgssl.methods.base import Method

_METHODS: dict[str, type[Method]] = {}
_GROUP = "medsgssl.methods"

M = TypeVar("M", bound="type[Method]")


def register(method: M) -> M:
    """Class decorator that makes a method known by its name.

    Raises:
        ValueError: Another method has the name.
    """
    known = _METHODS.setdefault(method.name, method)
    if (known.__module__, known.__qualname__) != (method.__module__, method.__qualname__):
        raise ValueError(f"two methods are called {method.name!r}: {known} and {method}")
    _METHODS[method.name] = method
    return method


@functools.cache
def _import_all() -> None:
    import_files("medsgssl.methods")
    for _ in load_entry_points(_GROUP):
        pass  # importing a method registers it


def registered() -> list[str]:
    """Return the names of the methods whose modules have been imported so far."""
    return list(_METHODS)


def plugin_names() -> set[str]:
    """Return the names of the methods that other packages offer as entry points."""
    return {entry.name for entry in importlib.metadata.entry_points(group=_GROUP)}


def all_methods() -> dict[str, type[Method]]:
    """Return every known method by name, sorted."""
    _import_all()
    return dict(sorted(_METHODS.items()))


def find_method(name: str) -> type[Method]:
    """Return the method of that name.

    Raises:
        ConfigError: There is none.
    """
    methods = all_methods()
    if name not in methods:
        raise unknown_method(name, methods)
    return methods[name]


def unknown_method(name: str, known: Iterable[str]) -> ConfigError:
    """Return the error for a name that no method has, with the names that are close to it."""
    known = list(known)
    near = get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return ConfigError(f"there is no method {name!r}{hint}", f"choose one of: {', '.join(known)}")


def configure(
    name: str,
    *layers: Settings,
    no_pretrain: bool = False,
    check_names: bool = False,
) -> Config:
    """Build the configuration of a method.

    Args:
        name: The method.
        *layers: Nested settings, later ones win: YAML file, then command line.
        no_pretrain: Configure the no-pretraining baseline.
        check_names: Also look up backbone, mask recipe and mask source, for a run that is about
            to start; stored configurations may name what another machine has.

    Raises:
        ConfigError: The method or a setting is unknown, or a value is out of range.
    """
    method = find_method(name)
    renamed = [with_new_names({**layer, "method_name": name}) for layer in layers]
    tree = layered(name, method.defaults, renamed, no_pretrain or not method.pretrains)
    return build(tree, method.settings, name_problems(tree) if check_names else ())


def layered(
    name: str, defaults: Settings, layers: Sequence[Settings], no_pretrain: bool
) -> SettingsTree:
    """Return the nested settings of a method: its defaults by dotted key, then each layer."""
    tree = nested(defaults)
    for layer in layers:
        tree = merge(tree, layer)
    return merge(tree, {"method_name": name, "no_pretrain": no_pretrain})


def method_of(config: Config) -> Method:
    """Return the method that a configuration names."""
    return find_method(config.method_name)(config)


class MeasuredCosts(TypedDict):
    """``costs.json``: what a pretraining image takes, and what it was measured on."""

    img_size: int
    batch_size: int
    device: str
    threads: int
    torch: str
    ratios: dict[str, float]  # seconds relative to SimCLR, by method


#: The measured ratios and what they were measured on; written by the benchmark alone.
COSTS = Path(__file__).with_name("costs.json")
#: The method whose cost is 1.
CONTROL = "simclr"


def measured_costs() -> tuple[dict[str, float], str]:
    """Return seconds per image relative to SimCLR by method, and what that was measured on."""
    costs: MeasuredCosts = read_json(COSTS)
    text = (
        f"seconds per pretraining image relative to {CONTROL}, each with its own defaults, at "
        f"{costs['img_size']} pixels and batch {costs['batch_size']} on {costs['device']} "
        f"({costs['threads']} threads, torch {costs['torch']}): benchmarks/methods.py"
    )
    return costs["ratios"], text


def name_problems(tree: Settings) -> list[str]:
    """Return what is wrong with the backbone, the mask recipe and the mask source of a run.

    Args:
        tree: The nested settings, before they are validated.

    Returns:
        One line per mistake; values of the wrong type are left to the validation.
    """
    problems = []
    for section, key, check in (
        ("encoder", "name", _encoder_problem),
        ("masks", "recipe", _recipe_problem),
        ("masks", "source", _source_problem),
    ):
        group = tree.get(section)
        value = group.get(key) if isinstance(group, Mapping) else None
        problem = check(value) if isinstance(value, str) else None
        if problem:
            problems.append(f"{section}.{key}={value!r}: {problem}")
    return problems


def _encoder_problem(name: str) -> str | None:
    if name == EncoderSettings().name:
        return None
    problem = encoder_name_problem(name)
    if problem is not None or hub_source(name) is not None:
        return problem  # what a hub holds is looked up when the encoder is built
    import timm  # noqa: PLC0415 - takes two seconds, and the usual name needs no look-up

    if timm.is_model(name):
        return None
    near = get_close_matches(name, timm.list_models(), n=3, cutoff=0.6)
    hint = f"; did you mean {', '.join(near)}?" if near else ""
    return f"timm knows no such model{hint}"


def _recipe_problem(name: str) -> str | None:
    if name == MaskSettings().recipe:
        return None
    from medsgssl.masks.recipes.registry import recipe_names  # noqa: PLC0415 - imports OpenCV

    known = recipe_names()
    return None if name in known else f"no such mask recipe; use one of: {', '.join(known)}"


def _source_problem(name: str) -> str | None:
    known = ("rules", *get_args(MaskControl))
    if name in known or Path(name).expanduser().is_dir():
        return None
    near = get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]}?" if near else f"; use {', '.join(known)}, or a folder"
    return f"neither a known mask source nor a folder{hint}"
