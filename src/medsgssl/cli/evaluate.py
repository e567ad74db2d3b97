"""`evaluate` and `report`: numbers and page from the files of a run folder alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medsgssl.cli.options import Settings
from medsgssl.cli.run import show_result

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]


def evaluate(folder: RunArgument, settings: Settings = None) -> None:
    """Recompute the metrics of a run from its predictions alone, and its report."""
    from medsgssl.config import merge, parse_overrides
    from medsgssl.errors import ConfigError
    from medsgssl.methods import configure
    from medsgssl.pipeline import evaluate_run
    from medsgssl.report import write_report
    from medsgssl.runs import RunFolder

    run = RunFolder(folder)
    stored = run.read_config()
    changes = parse_overrides(settings or [])
    if changes.keys() - {"evaluate"}:
        raise ConfigError(
            f"evaluate cannot change {', '.join(sorted(changes.keys() - {'evaluate'}))}",
            "give settings below evaluate., e.g. --set evaluate.bootstrap=2000",
        )
    config = configure(stored["name"], merge(stored, changes), direct=bool(stored["direct"]))
    evaluate_run(run, config)
    write_report(run)
    show_result(run)


def report(folder: RunArgument, figures: bool = False) -> None:
    """Write the report of a run anew; --figures adds its figures as SVG and PDF files."""
    from medsgssl.report import write_report
    from medsgssl.runs import RunFolder

    run = RunFolder(folder)
    run.read_config()
    typer.echo(f"Report: {write_report(run, figures=figures)}")
