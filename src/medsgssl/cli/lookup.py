"""`methods` and `config`: which methods there are, and which settings they have."""

from __future__ import annotations

import typer

from medsgssl.cli.options import (
    AsJson,
    ConfigFile,
    DataFolder,
    ExtraData,
    MaskSource,
    MethodName,
    NoPretrain,
    Settings,
    resolve,
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


def config(
    method: MethodName,
    data: DataFolder = None,
    extra_data: ExtraData = None,
    no_pretrain: NoPretrain = False,
    mask_source: MaskSource = None,
    file: ConfigFile = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Print every setting of a method: value, meaning and range, as YAML that --config takes."""
    from medsgssl.config.describe import commented_yaml
    from medsgssl.config.loading import dump
    from medsgssl.methods.index import find_entry

    resolved = resolve(
        method,
        file,
        settings,
        data=data,
        extra_data=extra_data,
        mask_source=mask_source,
        no_pretrain=no_pretrain,
        to_run=False,
    )
    if as_json:
        print_json(dump(resolved))
        return
    typer.echo(commented_yaml(resolved, find_entry(method).settings_schema), nl=False)
