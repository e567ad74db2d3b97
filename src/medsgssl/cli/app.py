"""Assembles the commands and turns the user's errors into one clear message."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from medsgssl import __version__
from medsgssl.cli import study_results
from medsgssl.cli.after_training import embed, export, predict
from medsgssl.cli.data import catalog, phantom
from medsgssl.cli.lookup import config, doctor, methods
from medsgssl.cli.masks import masks_app
from medsgssl.cli.output import print_error, show_warnings_in_one_line
from medsgssl.cli.root import RootGroup
from medsgssl.cli.run import demo, evaluate, finetune, pretrain, report, run_command
from medsgssl.cli.study import study_app
from medsgssl.errors import MedsgsslError
from medsgssl.utils.interrupts import StopRequested, catch_signals
from medsgssl.utils.ranks import rank
from medsgssl.utils.resources import clear_resource_errors

app = typer.Typer(
    name="medsgssl",
    cls=RootGroup,
    help="Segmentation-guided self-supervised learning on chest X-rays.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)

_RUN, _STUDY, _AFTER = "One run", "Several runs", "After training"
_DATA, _LOOK = "Data and masks", "Look things up"
app.command(rich_help_panel=_RUN)(demo)
app.command("run", rich_help_panel=_RUN)(run_command)
app.command(rich_help_panel=_RUN)(pretrain)
app.command(rich_help_panel=_RUN)(finetune)
app.command(rich_help_panel=_RUN)(evaluate)
app.command(rich_help_panel=_RUN)(report)
for _command in study_results.COMMANDS:
    study_app.command()(_command)
app.add_typer(study_app, name="study", rich_help_panel=_STUDY)
app.command(rich_help_panel=_DATA)(catalog)
app.add_typer(masks_app, name="masks", rich_help_panel=_DATA)
app.command(rich_help_panel=_DATA)(phantom)
app.command(rich_help_panel=_AFTER)(predict)
app.command(rich_help_panel=_AFTER)(embed)
app.command(rich_help_panel=_AFTER)(export)
app.command(rich_help_panel=_LOOK)(methods)
app.command(rich_help_panel=_LOOK)(config)
app.command(rich_help_panel=_LOOK)(doctor)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        typer.echo(f"medsgssl {__version__}")
        raise typer.Exit


def main() -> None:
    """Run the command line; a user's error exits with status 2 and one message."""
    show_warnings_in_one_line()
    if rank() > 0:
        # The first of a launcher's processes speaks for all; errors are another matter.
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115 - for as long as it lives
    try:
        with catch_signals(), clear_resource_errors():
            app()
    except StopRequested as stop:
        if first_to_fail():
            typer.echo(
                f"Stopped by {stop.name}. What was done so far is kept: the same command "
                "continues.",
                err=True,
            )
        sys.exit(stop.exit_status)
    except MedsgsslError as error:
        if not getattr(error, "reported", False) and first_to_fail():
            print_error(str(error))
        sys.exit(2)


def first_to_fail() -> bool:
    """Return whether this process reports a failure, where a launcher started several."""
    if "torch.distributed" not in sys.modules:
        return rank() == 0
    from medsgssl.training.distributed import speaks

    return speaks()
