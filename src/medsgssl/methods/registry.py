"""Finds methods by name: every file of this package, and entry points of other packages."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from medsgssl.config.loading import Config, build, merge, nest
from medsgssl.config.renamed import with_new_names
from medsgssl.errors import ConfigError
from medsgssl.methods.base import Method
from medsgssl.utils.io import read_json

_METHODS: dict[str, type[Method]] = {}
_GROUP = "medsgssl.methods"

M = TypeVar("M", bound=type[Method])


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
    package = importlib.import_module("medsgssl.methods")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    for entry in importlib.metadata.entry_points(group=_GROUP):
        entry.load()


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
        raise ConfigError(f"there is no method {name!r}", f"choose one of: {', '.join(methods)}")
    return methods[name]


def configure(name: str, *layers: Mapping[str, Any], no_pretrain: bool = False) -> Config:
    """Build the configuration of a method.

    Args:
        name: The method.
        *layers: Nested settings, later ones win: YAML file, then command line.
        no_pretrain: Configure the no-pretraining baseline.

    Raises:
        ConfigError: The method or a setting is unknown, or a value is out of range.
    """
    method = find_method(name)
    tree: dict[str, Any] = {}
    for key, value in method.defaults.items():
        tree = merge(tree, nest(key, value))
    for layer in layers:
        tree = merge(tree, with_new_names({**layer, "method_name": name}))
    tree = merge(tree, {"method_name": name, "no_pretrain": no_pretrain or not method.pretrains})
    return build(tree, method.settings)


def method_of(config: Config) -> Method:
    """Return the method that a configuration names."""
    return find_method(config.method_name)(config)


#: The measured ratios and what they were measured on; written by the benchmark alone.
COSTS = Path(__file__).with_name("costs.json")
#: The method whose cost is 1.
CONTROL = "simclr"


def measured_costs() -> tuple[dict[str, float], str]:
    """Return seconds per image relative to SimCLR by method, and what that was measured on."""
    found: dict[str, Any] = read_json(COSTS)
    text = (
        f"seconds per pretraining image relative to {CONTROL}, each with its own defaults, at "
        f"{found['img_size']} pixels and batch {found['batch_size']} on {found['device']} "
        f"({found['threads']} threads, torch {found['torch']}): benchmarks/methods.py"
    )
    return found["ratios"], text
