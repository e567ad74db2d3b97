"""How numbers, intervals, sizes and lists are written for people: pages, messages, tables."""

from __future__ import annotations

import math
from collections.abc import Sequence

#: What stands where a number is absent.
NONE = "\N{EN DASH}"
#: A minus sign of the width of a plus sign.
MINUS = "\N{MINUS SIGN}"


def number(value: float | None, digits: int = 3) -> str:
    """Write a number with a fixed count of decimals; a dash where there is none."""
    return NONE if value is None or not math.isfinite(value) else _fixed(value, digits)


def format_interval(pair: Sequence[float] | None, digits: int = 3) -> str:
    """Write an interval as ``0.71-0.74`` with an en dash; a dash where there is none.

    Where an end is negative, ``to`` stands between them: a dash would look like a second minus.
    """
    if pair is None:
        return NONE
    between = " to " if min(pair) < 0 else NONE
    return f"{_fixed(pair[0], digits)}{between}{_fixed(pair[1], digits)}"


def count(value: float | None) -> str:
    """Write a whole number with thin spaces between thousands."""
    return NONE if value is None else f"{int(value):,}".replace(",", "\u202f")


def counted(value: int, noun: str) -> str:
    """Write a count with its noun: ``1 fold``, ``5 folds``."""
    return f"{count(value)} {plural(value, noun)}"


def plural(value: int, one: str, many: str = "") -> str:
    """Return the words that follow a count: ``one`` for 1, else ``many`` or ``one`` with an s.

    ``f"{n:,} {plural(n, 'file is', 'files are')} missing"``.
    """
    return one if value == 1 else many or f"{one}s"


def percent(value: float | None) -> str:
    """Write a share as a percentage with as many decimals as it needs."""
    return NONE if value is None else f"{100 * value:.4g}\u202f%"


def duration(seconds: float | None) -> str:
    """Write seconds as people say them: ``3.2 s``, ``4 min 10 s``, ``2 h 5 min``."""
    if seconds is None:
        return NONE
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def size(num_bytes: float) -> str:
    """Write the size of a file."""
    for unit in ("B", "kB", "MB"):
        if num_bytes < 1000:
            return f"{num_bytes:.0f} {unit}" if unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.1f} GB"


def words(name: str) -> str:
    """Write a name of the files for people: underscores become spaces."""
    return name.replace("_", " ")


def join_names(texts: Sequence[str], most: int = 14) -> str:
    """Write texts with commas; of more than ``most`` the rest is only counted."""
    listed = ", ".join(texts[:most])
    return f"{listed} and {len(texts) - most} more" if len(texts) > most else listed


def signed(value: float | None, digits: int = 3) -> str:
    """Write a difference with its sign; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return NONE
    text = _fixed(value, digits)
    return text if text.startswith(MINUS) or not float(text) else f"+{text}"


def signed_interval(pair: Sequence[float] | None, digits: int = 3) -> str:
    """Write the interval of a difference, both ends with their signs."""
    if pair is None:
        return "no interval"
    return f"{signed(pair[0], digits)} to {signed(pair[1], digits)}"


def _fixed(value: float, digits: int) -> str:
    """Write fixed decimals; what rounds to zero has no sign."""
    text = f"{abs(value):.{digits}f}"
    return f"{MINUS}{text}" if value < 0 and float(text) else text
