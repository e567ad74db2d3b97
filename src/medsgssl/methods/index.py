"""What `medsgssl methods` and `medsgssl config` show of each method without importing torch.

``index.json`` is made from the methods' classes by ``python -m medsgssl.methods.index``, and a test
compares the two. Methods that are not in it (those of other packages) are imported.
"""

from __future__ import annotations

import json
import pkgutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypedDict, Union

from pydantic import AfterValidator, Field, create_model

from medsgssl import methods as package
from medsgssl.config.describe import Schema
from medsgssl.config.loading import FlatSettings, Settings, SettingsTree, build
from medsgssl.config.method_settings import MethodSettings, ordered
from medsgssl.config.renamed import with_new_names
from medsgssl.config.schema import Config
from medsgssl.methods.registry import (
    all_methods,
    configure,
    layered,
    name_problems,
    plugin_names,
    registered,
    unknown_method,
)
from medsgssl.utils.io import read_json, write_json

if TYPE_CHECKING:
    from medsgssl.methods.base import Method

INDEX = Path(__file__).with_name("index.json")


@dataclass(frozen=True)
class MethodEntry:
    """What the index holds of one method.

    Attributes:
        module: The module of its class.
        summary: One sentence: what it computes.
        citation: Where the idea comes from.
        backbone: Its default ``encoder.name``.
        uses_masks: Whether its views, input path or loss look at a mask.
        pretrains: False for a method without a pretext task.
        defaults: Defaults of other settings that differ for this method, by dotted key.
        settings: Defaults of its own settings, below ``method.``.
        settings_schema: JSON schema of its own settings.
        required_weights: Loss weights of which at least one must be above 0.
    """

    module: str
    summary: str
    citation: str
    backbone: str
    uses_masks: bool
    pretrains: bool
    defaults: FlatSettings
    settings: SettingsTree
    settings_schema: Schema
    required_weights: tuple[str, ...] = ()

    @classmethod
    def of(cls, method: type[Method]) -> MethodEntry:
        """Describe a method's class."""
        config = configure(method.name)
        return cls(
            module=method.__module__,
            summary=method.summary,
            citation=method.citation,
            backbone=config.encoder.name,
            uses_masks=method.uses_masks,
            pretrains=method.pretrains,
            defaults=method.defaults,
            settings=config.method.model_dump(mode="json"),
            settings_schema=method.settings.model_json_schema(),
            required_weights=method.settings.required_weights,
        )


class IndexFile(TypedDict):
    """What ``index.json`` holds."""

    files: list[str]  # modules of this package, by which a new one is noticed
    methods: dict[str, SettingsTree]  # fields of ``MethodEntry`` by method


def method_index() -> dict[str, MethodEntry]:
    """Return every known method by name, sorted.

    Where a file of this package or an entry point is not in the index, the methods are imported.
    """
    stored: IndexFile = read_json(INDEX)
    index = {name: MethodEntry(**entry) for name, entry in stored["methods"].items()}
    if stored["files"] != _files() or (plugin_names() | set(registered())) - index.keys():
        others = {name: method for name, method in all_methods().items() if name not in index}
        index |= {name: MethodEntry.of(method) for name, method in others.items()}
    return dict(sorted(index.items()))


def find_entry(name: str) -> MethodEntry:
    """Return the entry of a method.

    Raises:
        ConfigError: There is none of that name.
    """
    index = method_index()
    if name not in index:
        raise unknown_method(name, index)
    return index[name]


def configure_from_index(name: str, *layers: Settings, no_pretrain: bool = False) -> Config:
    """Build the configuration of a method to look at it, as ``configure`` does to run it.

    The settings below ``method.`` are checked by their JSON schema, so torch is not imported; only
    the name of a backbone has to be looked up in timm.

    Args:
        name: The method.
        *layers: Nested settings, later ones win.
        no_pretrain: Configure the no-pretraining baseline.

    Returns:
        The configuration; ``method`` holds the right values, but is not of the method's own class.

    Raises:
        ConfigError: The method or a setting is unknown, or a value is out of range.
    """
    entry = find_entry(name)
    renamed = [with_new_names({**layer, "method_name": name}) for layer in layers]
    if name in registered():  # the class itself is at hand, as for methods of other packages
        return configure(name, *renamed, no_pretrain=no_pretrain, check_names=True)
    settings = _settings_type(entry)
    tree = layered(name, entry.defaults, renamed, no_pretrain or not entry.pretrains)
    return build(tree, settings, name_problems(tree))


def _settings_type(entry: MethodEntry) -> type[MethodSettings]:
    """Return a class that takes and refuses the same settings as the method's own."""
    described = entry.settings_schema.get("properties", {})
    fields: dict[str, Any] = {
        key: (_annotation(described[key]), value) for key, value in entry.settings.items()
    }
    settings = create_model("IndexedSettings", __base__=MethodSettings, **fields)
    settings.required_weights = tuple(entry.required_weights)
    return settings


_TUPLE: Any = tuple  # the types below are built from values, which mypy cannot follow
_PLAIN = {"number": float, "integer": int, "boolean": bool, "string": str}
_LIMITS = {"minimum": "ge", "maximum": "le", "exclusiveMinimum": "gt", "exclusiveMaximum": "lt"}


def _annotation(schema: Schema) -> Any:
    """Return the type that a part of a JSON schema describes, its limits included."""
    if "anyOf" in schema:
        return Union[tuple(_annotation(part) for part in schema["anyOf"])]  # noqa: UP007 - built
    if "const" in schema or "enum" in schema:
        return Literal[tuple(schema.get("enum", [schema.get("const")]))]
    if "prefixItems" in schema:
        pair = _TUPLE[tuple(_annotation(part) for part in schema["prefixItems"])]
        return Annotated[pair, AfterValidator(ordered)]
    if schema["type"] == "array":
        least = Field(min_length=schema.get("minItems", 0))
        return Annotated[_TUPLE[_annotation(schema["items"]), ...], least]
    limits = {_LIMITS[key]: value for key, value in schema.items() if key in _LIMITS}
    return Annotated[_PLAIN[schema["type"]], Field(**limits)]


def _files() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__))


def current_index() -> IndexFile:
    """Return what ``index.json`` should hold, from the classes of this package."""
    entries = {
        name: asdict(MethodEntry.of(method))
        for name, method in all_methods().items()
        if method.__module__.startswith(f"{package.__name__}.")
    }
    return json.loads(json.dumps({"files": _files(), "methods": entries}))  # type: ignore[no-any-return]


if __name__ == "__main__":
    write_json(INDEX, current_index())
