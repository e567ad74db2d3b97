"""`methods`, `config` and `doctor`: the methods, their settings, and the state of the machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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


def methods(as_json: AsJson = False) -> None:
    """List the methods: what each computes, its source, its default backbone and its cost."""
    from rich.table import Table

    from medsgssl.methods.index import method_index
    from medsgssl.methods.registry import measured_costs
    from medsgssl.utils.progress import new_console

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
    table = Table(show_lines=True, caption=f"cost: {basis}")
    table.add_column("method", no_wrap=True, min_width=max(map(len, index)))
    for name in ("what it computes", "backbone", "cost", "source"):
        table.add_column(name, overflow="fold")
    for name, entry in index.items():
        # Methods of other packages have not been measured, and `direct` does not pretrain.
        cost = f"{costs[name]:.1f} x" if name in costs else "-"
        table.add_row(name, entry.summary, entry.backbone, cost, entry.citation)
    new_console(always=True).print(table)


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
