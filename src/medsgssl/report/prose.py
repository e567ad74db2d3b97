"""How sentences of files become sentences of a page: merged, without paths and back-ticks."""

from __future__ import annotations

import re
from collections.abc import Sequence

from markupsafe import Markup, escape

from medsgssl.utils.formatting import words

#: Of more numbers than this, only the lowest and the highest are given.
_MOST_NUMBERS = 6
_NUMBER = re.compile(r"(\d+(?:\.\d+)?)")
_CODE = re.compile(r"`([^`]+)`")
#: A file that others say the same as: their number is the second group.
_MORE = re.compile(r"(.+) and (\d+) more")
# An absolute path: at least two parts, so that "sex/age" and "1/2" are none.
_PATH = re.compile(r"(?<![\w.~/…-])(?:[A-Za-z]:)?(?:[/\\][\w.@+~-]+)+[/\\]([\w.@+~-]+)")


# A setting by its dotted name.
_SETTING = re.compile(
    r"\b(?:data|encoder|method|masks|views|pretrain|finetune|evaluate|study)(?:\.[a-z]\w*)+"
)


def to_prose(text: str) -> Markup:
    """Return a sentence for a page: paths lose folders, settings and back-ticks become code."""
    # Every other piece stands in back-ticks.
    pieces = _CODE.split(str(escape(without_paths(text))))
    pieces[::2] = [_SETTING.sub(r"<code>\g<0></code>", piece) for piece in pieces[::2]]
    pieces[1::2] = [f"<code>{piece}</code>" for piece in pieces[1::2]]
    return Markup("".join(pieces))


def without_paths(text: str) -> str:
    """Replace every absolute path by its last part: a page must not describe a machine."""
    return _PATH.sub(r"…/\1", text)


def merge_warnings(warnings: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Make one warning of those that differ in their name and numbers alone.

    ``Mass: only 3 positives`` and so on become ``Mass, Nodule, Edema: only 3, 4, 9 positives``.

    Args:
        warnings: Sentences with the files they come from.
    """
    groups: dict[str, list[tuple[str, str]]] = {}
    for text, origin in warnings:
        rest = text.partition(": ")[2]
        groups.setdefault(_NUMBER.sub("0", rest) or text, []).append((text, origin))
    return [
        (_merge([text for text, _ in like]), _merge_origins([origin for _, origin in like]))
        for like in groups.values()
    ]


def _merge_origins(origins: Sequence[str]) -> str:
    different = list(dict.fromkeys(origins))
    if len(different) == 1:
        return different[0]
    # Each of them may stand for several files already.
    parts = [_MORE.fullmatch(origin) for origin in different]
    files = sum(1 + int(part[2]) if part else 1 for part in parts)
    first = parts[0][1] if parts[0] else different[0]
    return f"{first} and {files - 1} more"


def _merge(like: Sequence[str]) -> str:
    if len(set(like)) == 1:
        return like[0]
    parts = [text.partition(": ") for text in like]
    names = list(dict.fromkeys(words(name) for name, _, _ in parts))
    if len({_NUMBER.sub("0", name) for name in names}) == 1:
        names = [_join_numbers(names)]  # "epoch 1", "epoch 2", ...
    return f"{', '.join(names)}: {_join_numbers([rest for _, _, rest in parts])}"


def _join_numbers(texts: Sequence[str]) -> str:
    """Make one text of several that differ in their numbers alone."""
    # Every other piece is a number, which all may share.
    return "".join(_join(piece) for piece in zip(*map(_NUMBER.split, texts), strict=True))


def _join(pieces: Sequence[str]) -> str:
    different = list(dict.fromkeys(pieces))
    if len(different) == 1:
        return different[0]
    if len(pieces) <= _MOST_NUMBERS:
        return ", ".join(pieces)
    ordered = sorted(different, key=float)
    return f"{ordered[0]} to {ordered[-1]}"
