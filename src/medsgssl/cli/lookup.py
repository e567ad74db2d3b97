"""`methods`, `config` and `doctor`: the methods, their settings, and the state of the machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medsgssl.cli.options import (
    AsJson,
    DataOnlySettings,
    NoPretrain,
    RunOptions,
    resolve_data,
    with_run_options,
)
from medsgssl.cli.output import print_json

if TYPE_CHECKING:
    from medsgssl.methods.index import MethodEntry


# Longer lines are hard to read, however wide the terminal is.
_WIDEST = 100


def methods(as_json: AsJson = False) -> None:
    """List the methods: what each computes, its source, its default backbone and its cost."""
    from medsgssl.methods.index import method_index
    from medsgssl.methods.registry import measured_costs

    costs, basis = measured_costs()
    index = method_index()
    if as_json:
        rows = [
            {
                "name": name,
                "summary": entry.summary,
                "backbone": entry.backbone,
                "cost": costs.get(name),
                "source": entry.citation,
                "uses_masks": entry.uses_masks,
                "pretrains": entry.pretrains,
            }
            for name, entry in index.items()
        ]
        print_json({"methods": rows, "cost": basis})
        return
    _print_methods(index, costs, basis)


def _print_methods(
    index: Mapping[str, MethodEntry], costs: Mapping[str, float], basis: str
) -> None:
    """Print each method as a line of columns, with its summary and its source indented below."""
    import textwrap

    from rich.markup import escape

    from medsgssl.utils.progress import new_console

    console = new_console(always=True)
    width = min(console.width, _WIDEST)
    longest = max(map(len, index))
    backbone = max(len(entry.backbone) for entry in index.values())
    for name, entry in index.items():
        # Methods of other packages have not been measured, and `direct` does not pretrain.
        cost = f"cost {costs[name]:.1f} x" if name in costs else ""
        masks = "lung masks" if entry.uses_masks else "no masks"
        columns = f"{entry.backbone:{backbone}}  {cost:10}  {masks}"
        lines = [f"[bold cyan]{escape(f'{name:{longest}}')}[/]  {escape(columns)}"]
        for text in (entry.summary, f"Source: {entry.citation}"):
            wrapped = textwrap.wrap(text, width - 2, break_on_hyphens=False)
            lines += [f"  {escape(line)}" for line in wrapped]
        console.print("\n".join(lines), highlight=False, soft_wrap=True, end="\n\n")
    typer.echo(textwrap.fill(f"cost: {basis}", width, break_on_hyphens=False))


@with_run_options
def config(options: RunOptions, no_pretrain: NoPretrain = False, as_json: AsJson = False) -> None:
    """Print every setting of a method: value, meaning and range, as YAML that --config takes."""
    from medsgssl.config.describe import commented_yaml
    from medsgssl.config.loading import dump
    from medsgssl.methods.index import find_entry

    resolved = options.resolve(no_pretrain=no_pretrain, to_run=False)
    if as_json:
        print_json(dump(resolved))
        return
    typer.echo(commented_yaml(resolved, find_entry(options.method).settings_schema), nl=False)


_COLORS = {"ok": "green", "warning": "yellow", "broken": "red"}


def doctor(
    data: Annotated[
        Path | None, typer.Argument(metavar="[DATA]", help="Folder of a data set to check as well.")
    ] = None,
    settings: DataOnlySettings = None,
    as_json: AsJson = False,
) -> None:
    """Check versions, devices, memory, disk, model hub, DICOM decoders and a data set.

    Each line that is not ok says how to fix it. The exit status is 1 where something is broken,
    and 0 where there are only warnings.
    """
    from dataclasses import asdict

    from rich.markup import escape

    from medsgssl.pipeline.health import check_health
    from medsgssl.utils.progress import new_console

    resolved = None if data is None else resolve_data(data, settings)
    console = new_console(always=True)
    checks = []
    for check in check_health(resolved):
        checks.append(check)
        if not as_json:
            status = f"[{_COLORS[check.status]}]{check.status:8}[/]"
            console.print(f"{status} {check.name}: {escape(check.value)}", highlight=False)
            if check.fix:
                console.print(f"         Fix: {escape(check.fix)}", highlight=False)
    if as_json:
        print_json([asdict(check) for check in checks])
    if any(check.status == "broken" for check in checks):
        raise typer.Exit(1)
