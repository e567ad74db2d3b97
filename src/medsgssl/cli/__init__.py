"""The command line; one file per command, heavy imports only inside the commands."""

from medsgssl.cli.app import main

__all__ = ["main"]
