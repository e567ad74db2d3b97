"""Checks the names in a configuration that only other packages know: backbones and masks."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

from medsgssl.config.schema import EncoderSettings, MaskControl, MaskSettings


def name_problems(tree: Mapping[str, Any]) -> list[str]:
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
    if name == EncoderSettings().name or ":" in name:
        return None  # hub and local names are looked up when the encoder is built
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
