"""Reference pages, written from the code: command line, settings, methods, run folder, API."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from typer.main import get_command

import medsgssl
from medsgssl import runs
from medsgssl.cli.app import app
from medsgssl.config.describe import describe_range
from medsgssl.config.loading import dump
from medsgssl.config.schema import Config
from medsgssl.methods.base import Method
from medsgssl.methods.registry import all_methods, configure, measured_costs
from medsgssl.runs.folder import RunFolder

Schema = Mapping[str, Any]


def cell(text: object) -> str:
    """Return text that does not end a cell of a Markdown table."""
    return " ".join(str(text).split()).replace("|", "\\|")


def table(head: tuple[str, ...], rows: Iterator[tuple[object, ...]]) -> str:
    """Return a Markdown table."""
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(cell, line))} |" for line in lines) + "\n"


# The command line.


def command_line_page() -> str:
    """Return every command with its usage, arguments and options."""
    parts = [
        "# Command line\n\n"
        "Written from the commands themselves; `medsgssl COMMAND --help` shows the same.\n"
    ]
    parts += _commands(get_command(app), "medsgssl")
    return "\n".join(parts)


def _commands(command: Any, path: str) -> Iterator[str]:
    context = command.context_class(command, info_name=path)
    group = getattr(command, "commands", None)
    if group is not None and path != "medsgssl":
        yield f"## {path}\n\n{command.help or ''}\n"
    if group is None:
        yield _command(command, context, path)
        return
    for name, below in group.items():
        if not below.hidden:
            yield from _commands(below, f"{path} {name}")


def _command(command: Any, context: Any, path: str) -> str:
    usage = " ".join([path, *map(_plain, command.collect_usage_pieces(context))])
    text = f"### {path}\n\n{command.help or ''}\n\n```text\n{usage}\n```\n\n"
    rows = list(_parameters(command, context))
    return text + (table(("argument or option", "meaning"), iter(rows)) if rows else "")


def _parameters(command: Any, context: Any) -> Iterator[tuple[str, str]]:
    for parameter in command.params:
        if getattr(parameter, "hidden", False):
            continue
        record = parameter.get_help_record(context)
        if record is not None:
            yield f"`{_plain(record[0])}`", record[1]


# How people write what the command line calls by the names of Python's types.
_TYPES = {"path": "PATH", "str": "TEXT", "int range": "INTEGER", "float range": "NUMBER"}


def _plain(text: str) -> str:
    """Return an option or argument without the marks of types: ``{DATA...}...`` is ``DATA...``."""
    if not text.startswith("-"):
        text = re.sub(r" <.*>$", "", text)
        text = re.sub(r"^\{(.*?)(?: ?\.\.\.)?\}(\.\.\.)?$", r"\1\2", text)
        text = text.replace("[[", "[").replace("]]", "]")
        return text.upper() if text.islower() else text
    return re.sub(r"<(?:list\[)?([^\]>]+)\]?>", lambda m: _TYPES.get(m[1].lower(), m[1]), text)


# Settings.


def settings_page() -> str:
    """Return every setting that all methods share."""
    config = configure("simclr")
    schema = Config.model_json_schema()
    text = (
        "# Settings\n\nWritten from the settings classes. Give one with `--set KEY=VALUE`, in a "
        "YAML file with `--config FILE`, or in Python with "
        "`load_config(..., settings={KEY: VALUE})`. `medsgssl config METHOD` prints all of them "
        "for a method as YAML. The settings of a method, below `method.`, are on [its "
        "page](../methods/index.md), as are the defaults that it changes.\n"
    )
    groups: dict[str, list[tuple[str, ...]]] = {}
    for key, value, entry in _leaves(dump(config), schema["properties"], schema.get("$defs", {})):
        if not key.startswith("method."):
            group = key.rpartition(".")[0] or "top level"
            groups.setdefault(group, []).append(_setting(key, value, entry))
    for group, rows in groups.items():
        text += f"\n## {group}\n\n" + table(_SETTING_HEAD, iter(rows))
    return text


# The meaning comes first: a phone shows the first two columns.
_SETTING_HEAD = ("setting", "meaning", "default", "range")


def _setting(key: str, value: object, entry: Schema) -> tuple[str, ...]:
    return f"`{key}`", entry.get("description", ""), _value(value), describe_range(entry)


def _leaves(
    values: Mapping[str, Any], properties: Schema, definitions: Schema, prefix: str = ""
) -> Iterator[tuple[str, Any, Schema]]:
    for key, value in values.items():
        entry = properties.get(key, {})
        reference = entry.get("$ref") or (entry.get("allOf") or [{}])[0].get("$ref")
        target = definitions[reference.rpartition("/")[2]] if reference else entry
        if isinstance(value, Mapping) and "properties" in target:
            yield from _leaves(value, target["properties"], definitions, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value, entry


def _value(value: object) -> str:
    if value is None:
        return "-"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


# Methods.


def methods_page() -> str:
    """Return the list of methods."""
    costs, basis = measured_costs()
    rows = (
        (f"[{name}]({name}.md)", method.summary, _cost(costs, name))
        for name, method in all_methods().items()
    )
    head = ("method", "what it computes", "cost of a pretraining step")
    return (
        "# Methods\n\nEach is one file of `medsgssl/methods`, and one page here: the loss, what "
        "can be left out, the settings, and what the network sees. Together they are the technical "
        "guide.\n\n"
        + table(head, rows)
        + f"\nCost: {basis}. [Frames, crops and new methods](../methods.md): what they share.\n"
        + "\n![What every method shows the network](../images/views.png)\n"
    )


def _cost(costs: Mapping[str, float], name: str) -> str:
    return f"{costs[name]:.2f} x simclr" if name in costs else "-"


def method_page(method: type[Method]) -> str:
    """Return the page of one method.

    Args:
        method: Its class.
    """
    config, costs = configure(method.name), measured_costs()[0]
    control = "none: it is the control" if method.name == "simclr" else "`simclr`"
    masks = "needed" if method.uses_masks else "none: they change nothing"
    text = f"# {method.name}\n\n{method.summary}\n\n"
    text += f"![What the network sees of one image](../images/methods/{method.name}.png)\n\n"
    text += (
        "One synthetic X-ray with its lung mask in blue, then what the network is given. "
        "[How masks are drawn](../masks.md).\n\n"
    )
    text += f"## The loss\n\n{mathml(method.formula)}\n\n{symbol_list(method)}\n\n"
    facts = [
        ("source", method.citation),
        ("default backbone", f"`{config.encoder.name}`"),
        ("masks", masks),
        ("compared with", control if method.pretrains else "every pretraining is compared with it"),
        ("cost of a pretraining step", _cost(costs, method.name)),
        ("code", f"`{method.__module__}`"),
    ]
    facts += [(f"default of `{key}`", f"`{value}`") for key, value in method.defaults.items()]
    text += "## At a glance\n\n" + table(("what", "of this method"), iter(facts))
    if method.components:
        rows = (
            (f"`{name}`", part.what, ", ".join(f"`{k}={v}`" for k, v in part.settings().items()))
            for name, part in method.components.items()
        )
        text += f"\n## Components\n\n`medsgssl study ablate {method.name} --data DATA --out STUDY` "
        text += "leaves them out one by one, to find which component helps.\n\n"
        text += table(("component", "what is left out", "by"), rows)
    schema = method.settings.model_json_schema()
    own = list(_leaves(config.method.model_dump(mode="json"), schema.get("properties", {}), {}))
    if own:
        rows = (_setting(f"method.{key}", value, entry) for key, value, entry in own)
        text += "\n## Settings\n\n" + table(_SETTING_HEAD, rows)
    text += f"\n## Run it\n\n```bash\nmedsgssl run {method.name} --data DATA --out RUN\n"
    if method.pretrains:
        text += f"medsgssl run {method.name} --data DATA --out BASELINE --no-pretrain\n"
    return text + "```\n"


def mathml(formula: str) -> str:
    """Return a formula in LaTeX as MathML, which browsers draw without any script."""
    return f'<div class="formula">{convert(formula, display="block")}</div>'


def symbol_list(method: type[Method]) -> str:
    """Return the symbols of a method's loss as a list, with indices lowered and raised.

    Args:
        method: Its class; ``symbols`` is ``"z_1, z^(r): meaning; T: meaning."``.
    """
    keys = method.settings.model_fields
    items = []
    for entry in method.symbols.rstrip(".").split("; "):
        names, _, meaning = entry.partition(": ")
        names = re.sub(r"(\w+)_(\w+)", r"\1<sub>\2</sub>", names)
        names = re.sub(r"(\w+)\^\((\w)\)", r"\1<sup>(\2)</sup>", names).replace("tau", "τ")
        items.append(f"- *{names}*: {f'`method.{meaning}`' if meaning in keys else meaning}")
    return "\n".join(items)


# The run folder.


def run_folder_page() -> str:
    """Return the files of a run folder, and what is in those of JSON."""
    folder = RunFolder(Path("RUN"))
    rows = []
    for name, member in vars(RunFolder).items():
        if isinstance(member, property):
            path = getattr(folder, name)
            rows.append((f"`{path.relative_to(folder.path)}`", (member.__doc__ or "").strip()))
    text = (
        "# The run folder\n\nWritten from `medsgssl.runs`, where each file has its one definition. "
        "Arrays and tables are described in [Architecture](../architecture.md#the-run-folder).\n\n"
        + table(("file", "what"), iter(rows))
    )
    for path in sorted(Path(runs.__path__[0]).glob("*.py")):
        text += _typed_dicts(path)
    return text


def _typed_dicts(path: Path) -> str:
    source = path.read_text()
    comments = _comments(source)
    tree = ast.parse(source)
    text = ""
    for node in tree.body:
        # A class that follows a TypedDict derives from one.
        if not isinstance(node, ast.ClassDef) or not (text or "TypedDict" in ast.dump(node)):
            continue
        fields = [
            (f"`{item.target.id}`", f"`{ast.unparse(item.annotation)}`", comments.get(item.lineno))
            for item in node.body
            if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
        ]
        if fields:
            text += f"\n### {node.name}\n\n{ast.get_docstring(node) or ''}\n\n"
            rows = ((name, kind, note or "") for name, kind, note in fields)
            text += table(("key", "type", "what"), rows)
    document = ast.get_docstring(tree) or ""
    return f"\n## {path.stem}\n\n{document}\n{text}" if text else ""


def _comments(source: str) -> dict[int, str]:
    """Return the comment of each line that has one."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {
        token.start[0]: token.string.lstrip("# ")
        for token in tokens
        if token.type == tokenize.COMMENT
    }


# The API.


def api_page() -> str:
    """Return the directives that mkdocstrings fills in for every public name."""
    text = (
        "# Python API\n\n`import medsgssl` offers these names; each is imported when it is first "
        "used. Everything else is internal and may change. Every key of `Config` is on "
        "[Settings](settings.md), every file of `RunFolder` on [Run folder](run-folder.md).\n"
    )
    # Functions before classes: what to call, then what comes back.
    for name in sorted(medsgssl.__all__, key=lambda name: (not name.islower(), name)):
        module = medsgssl._MODULES[name]
        text += f"\n## {name}\n\n::: {module}.{name}\n"
    return text
