"""How the command line prints JSON, warnings and errors."""

from __future__ import annotations

import json
import sys
import warnings
from typing import Any

import typer

from medsgssl.config.renamed import RenamedWarning


def print_json(value: Any) -> None:
    """Print plain values as JSON; paths and dates become text."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def show_warnings_in_one_line() -> None:
    """Print the package's own warnings (renamed settings, notes on images) without source line."""
    usual = warnings.showwarning

    def show(message, category, filename, lineno, file=None, line=None):  # type: ignore[no-untyped-def]
        if category.__module__.partition(".")[0] == "medsgssl":
            typer.echo(f"Warning: {message}", err=True)
        else:
            usual(message, category, filename, lineno, file, line)

    warnings.simplefilter("once", RenamedWarning)
    warnings.showwarning = show


def print_error(problem: str) -> None:
    """Print what is wrong, in one block on standard error."""
    from rich.console import Console

    console = Console(stderr=True)
    console.print("[bold red]Error:[/] ", end="", highlight=False)
    console.print(problem, markup=False, highlight=False, soft_wrap=True)
    sys.stderr.flush()
