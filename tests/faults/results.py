"""Rows of the fault laboratory: kept in a file, and shown as the page docs/results/faults.md."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from medsgssl.utils.io import write_text


@dataclass(frozen=True)
class Outcome:
    """One row of the table.

    Attributes:
        group: Which kind of fault.
        fault: What was done.
        shown: The last line that the user saw.
        right: Whether the result is the right one.
        kills: How often commands were killed (SIGKILL).
        repeated: Training steps that were done twice because of it.
    """

    group: str
    fault: str
    shown: str
    right: bool
    kills: int = 0
    repeated: int = 0


@dataclass(frozen=True)
class Record:
    """A row as it is kept.

    Attributes:
        name: The group of the laboratory that it belongs to; its next run replaces it.
        day: When it was made, as 2026-01-31.
        outcome: The row.
    """

    name: str
    day: str
    outcome: Outcome


def read_records(path: Path) -> list[Record]:
    """Return the rows of a file, none where it is not there."""
    lines = path.read_text().splitlines() if path.is_file() else []
    trees = [json.loads(line) for line in lines]
    return [Record(**{**tree, "outcome": Outcome(**tree["outcome"])}) for tree in trees]


def write_records(path: Path, records: Sequence[Record]) -> None:
    """Write rows, one JSON object a line."""
    write_text(path, "".join(json.dumps(asdict(record)) + "\n" for record in records))


_HEAD = """# Kills, faults and hostile files

Made by `make faults` (`python -m tests.faults.lab`, which also runs single groups): real command
lines on 48 synthetic images, killed, interrupted, given full disks, damaged caches and hostile
files. A row is right where the result is that of a run without a fault, bit for bit (weights,
metrics), or where the command ends in one message with a fix, as the kind of fault demands.

{right} of {total} rows are right. There were {kills} kills; those of single runs cost {repeated}
training steps, and a checkpoint followed every step, so that each kill may cost one. Rows are from
{days}.

## Counts

| group | rows | right | kills | steps repeated |
| --- | --- | --- | --- | --- |
{counts}

## All rows

| group | fault | right | what the user sees |
| --- | --- | --- | --- |
{rows}
"""


def page(records: Sequence[Record]) -> str:
    """Return the page as Markdown."""
    rows = [record.outcome for record in records]
    groups = list(dict.fromkeys(row.group for row in rows))
    days = sorted({record.day for record in records})
    return _HEAD.format(
        right=sum(row.right for row in rows),
        total=len(rows),
        kills=sum(row.kills for row in rows),
        repeated=sum(row.repeated for row in rows),
        days=days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}",
        counts="\n".join(_count(group, [r for r in rows if r.group == group]) for group in groups),
        rows="\n".join(map(_row, rows)),
    )


def _count(group: str, rows: Sequence[Outcome]) -> str:
    numbers = (
        len(rows),
        sum(row.right for row in rows),
        sum(row.kills for row in rows),
        sum(row.repeated for row in rows),
    )
    return f"| {group} | {' | '.join(map(str, numbers))} |"


def _row(row: Outcome) -> str:
    shown = row.shown.replace("|", "/").replace("<", "&lt;")
    return f"| {row.group} | {row.fault} | {'yes' if row.right else '**no**'} | {shown} |"
