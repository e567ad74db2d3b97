"""The command ``medsgssl`` itself: last release's words, mistakes in typing, and Ctrl-C."""

from __future__ import annotations

import sys
from difflib import get_close_matches
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from medsgssl.cli.output import print_error
from medsgssl.cli.renamed import with_new_words


class RootGroup(TyperGroup):
    """The group of all commands."""

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
    problem, fix = error.format_message().rstrip("."), f"see `{command} -h`"
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
