"""The whole configuration: one tree for the command line, YAML and Python."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from medsgssl.config.encoder_names import portable_encoder_name
from medsgssl.config.method_settings import MethodSettings
from medsgssl.config.schema import Config
from medsgssl.errors import ConfigError

#: Settings as YAML nests them: groups by name, plain values below.
SettingsTree = dict[str, Any]
#: The same by dotted key, e.g. ``data.img_size``.
FlatSettings = dict[str, Any]
#: Either of them where it is only read.
Settings = Mapping[str, Any]


def parse_overrides(items: Sequence[str]) -> SettingsTree:
    """Turn ``["data.img_size=64"]`` into a nested mapping; values are read as YAML.

    Raises:
        ConfigError: An item has no ``=``, an empty key, or a value that is not YAML.
    """
    tree: SettingsTree = {}
    for item in items:
        key, equals, text = item.partition("=")
        if not equals or not all(key.split(".")):
            raise ConfigError(
                f"--set {item!r} is not KEY=VALUE", "write it like --set data.img_size=128"
            )
        try:
            value = _scalar(text)
        except yaml.YAMLError as error:
            raise ConfigError(
                f"--set {item!r} has a value that is not YAML: {' '.join(str(error).split())}",
                "put quotes around text with special characters, e.g. --set \"a.b='[x'\"",
            ) from error
        tree = merge(tree, nest(key, value))
    return tree


def _scalar(text: str) -> Any:
    # YAML 1.1 reads 1e-4 as text: numbers are tried first.
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return yaml.safe_load(text)


def nest(dotted: str, value: Any) -> SettingsTree:
    """Turn ``("a.b", 1)`` into ``{"a": {"b": 1}}``."""
    for part in reversed(dotted.split(".")):
        value = {part: value}
    return dict(value)


def nested(flat: Settings) -> SettingsTree:
    """Turn ``{"a.b": 1, "a.c": 2}`` into ``{"a": {"b": 1, "c": 2}}``."""
    tree: SettingsTree = {}
    for dotted, value in flat.items():
        tree = merge(tree, nest(dotted, value))
    return tree


def flatten(tree: SettingsTree, prefix: str = "") -> FlatSettings:
    """Turn ``{"a": {"b": 1}}`` into ``{"a.b": 1}``."""
    flat: FlatSettings = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def merge(base: Settings, over: Settings) -> SettingsTree:
    """Return ``base`` with the values of ``over`` laid on top, mapping by mapping."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            merged[key] = merge(below, value)
        else:
            merged[key] = value
    return merged


def read_yaml(path: Path) -> SettingsTree:
    """Read a configuration file.

    Raises:
        ConfigError: The file is missing, is not YAML or is not a mapping.
    """
    if not path.is_file():
        raise ConfigError(
            f"{path} does not exist", "write one with `medsgssl config METHOD > FILE.yaml`"
        )
    try:
        tree = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, RecursionError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read {path}: {error}", "give a YAML file") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} is not a mapping of settings", "see `medsgssl config METHOD`")
    return tree


def build(
    tree: Settings,
    method_settings: type[MethodSettings],
    other_problems: Sequence[str] = (),
) -> Config:
    """Validate a nested mapping into a ``Config``, reporting every mistake at once.

    Args:
        tree: Nested plain values, e.g. from YAML and overrides.
        method_settings: The settings class of the method named in ``tree["method_name"]``.
        other_problems: Mistakes that the caller has found, one line each.

    Raises:
        ConfigError: One or more keys or values are wrong; all of them are listed.
    """
    problems: list[str] = []
    known = [*_dotted_keys(Config), *(f"method.{key}" for key in method_settings.model_fields)]
    plain = dict(tree)
    try:
        plain["method"] = method_settings.model_validate(plain.get("method", {}))
    except ValidationError as error:
        problems += _describe(error, known, "method.")
        plain.pop("method", None)
    try:
        config = Config.model_validate(plain)
    except ValidationError as error:
        problems += _describe(error, known)
    problems += other_problems
    if problems:
        raise ConfigError(
            "the configuration has mistakes:\n" + "\n".join(f"  - {line}" for line in problems),
            "see `medsgssl config {}` for every key, its meaning and its range".format(
                tree.get("method_name", "METHOD")
            ),
        )
    return config


def _describe(error: ValidationError, known: Sequence[str], prefix: str = "") -> list[str]:
    lines = []
    for item in error.errors():
        key = prefix + ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            lines.append(f"{key}: no such setting{_suggestion(key, known)}")
        else:
            lines.append(f"{key}={item['input']!r}: {item['msg']}")
    return lines


def _suggestion(key: str, known: Sequence[str]) -> str:
    leaf = key.rpartition(".")[2]
    near = [name for name in known if name.rpartition(".")[2] == leaf]
    near = near[:3] or get_close_matches(key, known, n=1, cutoff=0.75)
    if not near:
        by_leaf = {name.rpartition(".")[2]: name for name in known}
        near = [by_leaf[close] for close in get_close_matches(leaf, by_leaf, n=1, cutoff=0.8)]
    return f"; did you mean {' or '.join(near)}?" if near else ""


def _dotted_keys(settings: type[BaseModel]) -> Iterator[str]:
    for name, field in settings.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from (f"{name}.{key}" for key in _dotted_keys(kind))
        else:
            yield name


def dump(config: Config) -> SettingsTree:
    """Return the configuration as plain JSON-like values."""
    return config.model_dump(mode="json")


#: Settings that hold a place on this machine.
_PATHS = ("data.root", "data.cache_dir", "data.extra_roots", "encoder.weights", "masks.source")


def without_paths(tree: Settings) -> SettingsTree:
    """Return a dumped configuration in which places on this machine are names of files and folders.

    Args:
        tree: Nested plain values, as ``dump`` gives them.
    """
    named: SettingsTree = {
        key: dict(value) if isinstance(value, Mapping) else value for key, value in tree.items()
    }
    encoder = named.get("encoder", {})
    if isinstance(encoder.get("name"), str):
        encoder["name"] = portable_encoder_name(encoder["name"])
    for dotted in _PATHS:
        group, name = dotted.split(".")
        value = named.get(group, {}).get(name)
        if isinstance(value, str):
            named[group][name] = Path(value).name
        elif isinstance(value, list):
            named[group][name] = [Path(str(folder)).name for folder in value]
    return named


def to_yaml(config: Config) -> str:
    """Return the configuration as YAML in the order of the tree."""
    return yaml.safe_dump(dump(config), sort_keys=False)
