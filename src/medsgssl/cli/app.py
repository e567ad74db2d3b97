"""Assembles the commands and turns the user's errors into one clear message."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.console import Console

from medsgssl import __version__
from medsgssl.cli.after_training import embed, export, predict
from medsgssl.cli.data import catalog, phantom
from medsgssl.cli.lookup import config, methods
from medsgssl.cli.masks import masks_app
from medsgssl.cli.run import demo, evaluate, finetune, pretrain, report, run
from medsgssl.cli.study import ablate, compare_app
from medsgssl.errors import MedsgsslError

app = typer.Typer(
    name="medsgssl",
    help="Segmentation-guided self-supervised learning on chest X-rays.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


_DATA, _RUN, _AFTER, _LOOK = "Data", "Runs", "After training", "Look things up"
app.command(rich_help_panel=_RUN)(demo)
app.command(rich_help_panel=_RUN)(run)
app.command(rich_help_panel=_RUN)(pretrain)
app.command(rich_help_panel=_RUN)(finetune)
app.command(rich_help_panel=_RUN)(evaluate)
app.command(rich_help_panel=_RUN)(report)
app.add_typer(compare_app, name="compare", rich_help_panel=_RUN)
app.command(rich_help_panel=_RUN)(ablate)
app.command(rich_help_panel=_DATA)(catalog)
app.add_typer(masks_app, name="masks", rich_help_panel=_DATA)
app.command(rich_help_panel=_DATA)(phantom)
app.command(rich_help_panel=_AFTER)(predict)
app.command(rich_help_panel=_AFTER)(embed)
app.command(rich_help_panel=_AFTER)(export)
app.command(rich_help_panel=_LOOK)(methods)
app.command(rich_help_panel=_LOOK)(config)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        typer.echo(f"medsgssl {__version__}")
        raise typer.Exit


def main() -> None:
    """Run the command line; a user's error exits with status 2 and one message."""
    try:
        app()
    except MedsgsslError as error:
        console = Console(stderr=True)
        console.print("[bold red]Error:[/] ", end="", highlight=False)
        console.print(str(error), markup=False, highlight=False, soft_wrap=True)
        sys.exit(2)
