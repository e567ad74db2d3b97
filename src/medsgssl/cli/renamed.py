"""Old commands and options: accepted for one release, with a warning that names the new ones."""

from __future__ import annotations

import warnings

from medsgssl.config.renamed import RenamedWarning

#: Old words at the start of the command line -> what is written now.
RENAMED_COMMANDS = {
    ("compare", "look"): ("study", "localize"),
    ("compare", "run"): ("study", "run"),
    ("compare", "report"): ("study", "report"),
    ("compare", "table"): ("study", "table"),
    ("compare", "card"): ("study", "card"),
    ("compare",): ("study", "run"),
    ("ablate",): ("study", "ablate"),
}

RENAMED_OPTIONS = {
    "--direct": "--no-pretrain",
    "--twins": "--baselines",
    "--also": "--extra-data",
    "--own": "--masks-dir",
}

_HELP = ("-h", "--help")


def with_new_words(args: list[str], mask_commands: list[str]) -> list[str]:
    """Return the words of a command line with old commands and options replaced.

    Args:
        args: Everything behind ``medsgssl``.
        mask_commands: The commands of the group ``masks``; ``masks DATA`` used to mean ``build``.

    Warns:
        RenamedWarning: For each old command or option, naming the new one.
    """
    return _new_options(_new_command(args, mask_commands))


def _new_command(args: list[str], mask_commands: list[str]) -> list[str]:
    for old, new in RENAMED_COMMANDS.items():
        if tuple(args[: len(old)]) == old:
            rest = args[len(old) :]
            _warn(f"medsgssl {' '.join(old)}", f"medsgssl {' '.join(new)}")
            if old == ("compare",) and (not rest or rest[0] in _HELP):
                return ["study", *rest]
            return [*new, *rest]
    if args[:1] == ["masks"] and len(args) > 1 and args[1] not in (*mask_commands, *_HELP):
        _warn("medsgssl masks DATA", "medsgssl masks build DATA")
        return ["masks", "build", *args[1:]]
    return args


def _new_options(args: list[str]) -> list[str]:
    renamed = []
    for word in args:
        name, equals, value = word.partition("=")
        new = RENAMED_OPTIONS.get(name)
        if new is not None:
            _warn(name, new)
        renamed.append(word if new is None else f"{new}{equals}{value}")
    return renamed


def _warn(old: str, new: str) -> None:
    warnings.warn(f"{old} is now called {new}", RenamedWarning, stacklevel=3)
