"""The command ``medsgssl`` itself: last release's words, and what Ctrl-C does."""

from __future__ import annotations

import typer
from typer.core import TyperGroup

from medsgssl.cli.renamed import with_new_words


class RootGroup(TyperGroup):
    """The group of all commands."""

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
