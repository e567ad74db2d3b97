"""The command `medsgssl`: assembles the commands, and turns errors into one clear message."""

from __future__ import annotations

import atexit
import gc
import os
import re
import sys
from difflib import get_close_matches
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from medsgssl import __version__
from medsgssl.cli import study_results
from medsgssl.cli.after_training import embed, export, predict
from medsgssl.cli.data import catalog, phantom
from medsgssl.cli.lookup import config, doctor, methods
from medsgssl.cli.masks import masks_app
from medsgssl.cli.output import print_error, show_warnings_in_one_line
from medsgssl.cli.renamed import with_new_words
from medsgssl.cli.run import demo, evaluate, finetune, pretrain, report, run_command
from medsgssl.cli.study import study_app
from medsgssl.errors import MedsgsslError
from medsgssl.utils.interrupts import StopRequested, catch_signals
from medsgssl.utils.ranks import launched_processes, rank
from medsgssl.utils.resources import clear_resource_errors

# New objects between two searches for cycles (Python's own: 700 or 2,000). Libraries make hundreds
# of thousands of objects that stay: searching among them took a sixth of their loading.
_OBJECTS_BETWEEN_SEARCHES = 50_000


class RootGroup(TyperGroup):
    """The group of all commands: last release's words, mistakes in typing, and Ctrl-C."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run the command line; mistakes in typing are printed as every other error is."""
        standalone = extra.get("standalone_mode", True)
        extra["standalone_mode"] = False
        if not standalone:
            return super().main(*args, **extra)
        try:
            sys.exit(super().main(*args, **extra))
        except typer.Abort:
            sys.exit(1)
        except Exception as error:
            # Typer's usage errors have moved between its versions; all of them can say this.
            if not hasattr(error, "format_message"):
                raise
            _refuse(error)

    def parse_args(self, ctx, args):  # type: ignore[no-untyped-def]  # typer moved click's types
        """Replace old commands and options, then parse as usual."""
        masks = self.commands.get("masks")
        known = list(masks.commands) if isinstance(masks, TyperGroup) else []
        return super().parse_args(ctx, with_new_words(args, known))

    def invoke(self, ctx):  # type: ignore[no-untyped-def]
        """Run the command; Ctrl-C says what the same command would do next."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            typer.echo("Interrupted. The same command continues where this one stopped.", err=True)
            raise typer.Exit(130) from None


def _refuse(error: Any) -> NoReturn:
    """Print what is wrong with the words of a command line, and exit with 2."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else ""
    program = (context.find_root().info_name or "") if context is not None else ""
    command = f"medsgssl {path.removeprefix(program).strip()}".strip()
    # Typer and click both suggest a command in some pairs of versions: once is enough.
    message = re.sub(r"( Did you mean [^?]+\?)\1+", r"\1", error.format_message())
    problem, fix = message.rstrip("."), f"see `{command} -h`"
    wrong = getattr(error, "option_name", None)
    if wrong is not None and context is not None:
        options = {name for one in context.command.params for name in one.opts}
        known = sorted(name for name in options if name.startswith("--"))
        near = get_close_matches(wrong, known, n=1, cutoff=0.7)
        problem = f"`{command}` has no option {wrong}"
        problem += f"; did you mean {near[0]}?" if near else ""
        fix = f"its options are {', '.join(known)}; see `{command} -h`"
    if problem:  # a group without a command has printed its help
        print_error(f"{problem[:1].lower()}{problem[1:]}\n  Fix: {fix}")
    sys.exit(2)


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
    gc.set_threshold(_OBJECTS_BETWEEN_SEARCHES)
    # Python's last search, among all that torch has made, would take longer than a small epoch.
    atexit.register(gc.freeze)
    show_warnings_in_one_line()
    if launched_processes() is not None:
        # Where the first process dies, torch prints a trace of its C++ for every lost connection.
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
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
