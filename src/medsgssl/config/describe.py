"""Describes settings for people: meaning and range, from the settings classes alone."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from medsgssl.config.loading import dump
from medsgssl.config.schema import Config

#: A JSON schema as pydantic makes it of a settings class.
Schema = Mapping[str, Any]

_WIDTH = 96
_TYPES = {"string": "text", "boolean": "true | false", "null": "null", "array": "list"}


def commented_yaml(config: Config, method_schema: Schema) -> str:
    """Return a configuration as YAML, with the meaning and range of each setting as a comment.

    Args:
        config: The configuration.
        method_schema: JSON schema of the settings below ``method.``.
    """
    schema = Config.model_json_schema()
    properties = {**schema["properties"], "method": method_schema}
    definitions = {**schema.get("$defs", {}), **method_schema.get("$defs", {})}
    lines: list[str] = []
    for key, value in dump(config).items():
        if isinstance(value, Mapping) and lines:
            lines.append("")
        lines += _entry(key, value, properties[key], definitions, "")
    return "\n".join(lines) + "\n"


def _entry(key: str, value: Any, schema: Schema, definitions: Schema, indent: str) -> Iterator[str]:
    target = _target(schema, definitions)
    if isinstance(value, Mapping) and "properties" in target:
        if not value:
            yield f"{indent}{key}: {{}}"
            return
        yield f"{indent}# {target.get('description', key)}"
        yield f"{indent}{key}:"
        for name, below in value.items():
            yield from _entry(name, below, target["properties"][name], definitions, indent + "  ")
        return
    meaning, allowed = schema.get("description"), describe_range(schema)
    comment = f"{meaning} [{allowed}]" if meaning else f"[{allowed}]"
    for line in textwrap.wrap(comment, _WIDTH - len(indent) - 2, break_on_hyphens=False):
        yield f"{indent}# {line}"
    # In a list, because YAML writes an end mark behind a value that stands alone.
    text = yaml.safe_dump([value], default_flow_style=True, width=10_000).strip()
    yield f"{indent}{key}: {text[1:-1]}"


def _target(schema: Schema, definitions: Schema) -> Schema:
    reference = schema.get("$ref")
    if reference is None and len(schema.get("allOf", [])) == 1:
        reference = schema["allOf"][0].get("$ref")
    return definitions[reference.rpartition("/")[2]] if reference else schema


def describe_range(schema: Schema) -> str:
    """Write the values that a setting takes, e.g. ``integer, 32 to 1024, a multiple of 8``.

    Args:
        schema: JSON schema of one setting.
    """
    if "anyOf" in schema:
        return " | ".join(describe_range(option) for option in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return " | ".join(str(value) for value in schema.get("enum", [schema.get("const")]))
    kind = str(schema.get("type", "value"))
    if "prefixItems" in schema:
        return f"[{', '.join(describe_range(item) for item in schema['prefixItems'])}]"
    if kind == "array":
        return f"list of {describe_range(schema.get('items', {}))}"
    name = "path" if schema.get("format") == "path" else _TYPES.get(kind, kind)
    return ", ".join([name, *_bounds(schema)])


def _bounds(schema: Schema) -> Iterator[str]:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        yield f"{low:g} to {high:g}"
    elif low is not None:
        yield f"at least {low:g}"
    elif high is not None:
        yield f"at most {high:g}"
    if (above := schema.get("exclusiveMinimum")) is not None:
        yield f"above {above:g}"
    if (below := schema.get("exclusiveMaximum")) is not None:
        yield f"below {below:g}"
    if (step := schema.get("multipleOf")) is not None:
        yield f"a multiple of {step:g}"
