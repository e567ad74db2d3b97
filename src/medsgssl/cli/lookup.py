"""`methods` and `config`: what there is, and what can be set."""

from __future__ import annotations

import typer

from medsgssl.cli.options import (
    ConfigFile,
    DataFolder,
    MaskSource,
    MethodName,
    NoPretrain,
    Settings,
    resolve,
)


def methods() -> None:
    """List the methods: what each computes, its source, its default backbone and its cost."""
    from rich.console import Console
    from rich.table import Table

    from medsgssl.methods.registry import all_methods, configure, measured_costs

    costs, basis = measured_costs()
    table = Table("method", "what it computes", "backbone", "cost", "source", show_lines=True)
    table.caption = f"cost: {basis}"
    for name, method in all_methods().items():
        # Methods of other packages have not been measured; a direct one has no pretraining.
        cost = f"{costs[name]:.1f} x" if name in costs else "-"
        table.add_row(name, method.summary, configure(name).encoder.name, cost, method.citation)
    Console().print(table)


def config(
    method: MethodName,
    data: DataFolder = None,
    no_pretrain: NoPretrain = False,
    mask_source: MaskSource = None,
    file: ConfigFile = None,
    settings: Settings = None,
) -> None:
    """Print every setting of a method with its value, as YAML that --config takes."""
    from medsgssl.config.loading import to_yaml

    resolved = resolve(
        method, file, settings, data=data, mask_source=mask_source, no_pretrain=no_pretrain
    )
    typer.echo(to_yaml(resolved), nl=False)
