"""The errors a user can meet: each says what is wrong, names the file, and says how to fix it."""

from __future__ import annotations


def printable(text: str) -> str:
    """Return text that is safe on a terminal: what moves the cursor or hides text is escaped.

    Names of files come from others: they may hold escape sequences, marks that turn the direction
    of writing, or bytes that are no UTF-8.
    """
    return "".join(
        char if char.isprintable() or char == "\n" else repr(char)[1:-1] for char in text
    )


class MedsgsslError(Exception):
    """Base of every error that the user can fix.

    The command line prints it as one message without a traceback and exits with status 2.

    Args:
        problem: What is wrong, naming the file, option or value.
        fix: What to do about it, as an imperative sentence.
    """

    def __init__(self, problem: str, fix: str) -> None:
        problem, fix = printable(problem), printable(fix)
        super().__init__(f"{problem}\n  Fix: {fix}")
        self.problem = problem
        self.fix = fix

    def __reduce__(self) -> tuple[type[MedsgsslError], tuple[str, str]]:
        """Survive pickling, so that worker processes can raise it."""
        return type(self), (self.problem, self.fix)


class ConfigError(MedsgsslError):
    """A configuration key or value is unknown or out of range."""


class DataError(MedsgsslError):
    """A data set, table or list is missing, malformed or inconsistent."""


class ImageError(DataError):
    """One image file cannot be used."""


class ResourceError(MedsgsslError):
    """The machine ran out of something: disk space, memory, permissions, processes."""


class LeakError(DataError):
    """A patient has images in more than one split."""


class MaskError(DataError):
    """A mask store is missing, incomplete or does not fit the catalog."""


class CheckpointError(MedsgsslError):
    """Weights or a checkpoint are damaged, of another method or of another configuration."""
