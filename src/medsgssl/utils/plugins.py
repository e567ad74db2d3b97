"""Plugins: methods, readers, metrics and panels from files of a package and from entry points."""

from __future__ import annotations

import importlib
import importlib.metadata
import pkgutil
from collections.abc import Iterator
from typing import Any

from medsgssl.errors import ConfigError


def import_files(package: str) -> None:
    """Import every file of a package, so that what they register is known.

    Args:
        package: Dotted name, e.g. ``medsgssl.methods``.
    """
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        importlib.import_module(f"{package}.{module.name}")


def load_entry_points(group: str) -> Iterator[tuple[str, Any]]:
    """Yield name and object of what other packages offer in a group of entry points.

    Raises:
        ConfigError: One cannot be imported.
    """
    for entry in importlib.metadata.entry_points(group=group):
        try:
            loaded = entry.load()
        except (ImportError, AttributeError, ValueError) as error:
            raise unusable(group, entry.name, error) from error
        yield entry.name, loaded


def unusable(group: str, name: str, problem: object) -> ConfigError:
    """Return the error for an entry point that is not what its group asks for."""
    return ConfigError(
        f"the entry point {name!r} of another package in {group} cannot be used: {problem}",
        "repair or uninstall the package that offers it",
    )
