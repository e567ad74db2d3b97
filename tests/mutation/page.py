"""The page of all rooms: scores, survivors, and mutants that change nothing, with the reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.mutation.operators import Mutant
from tests.mutation.rooms import ROOMS

#: What a mutant is that no test noticed.
ALIVE = ("survived", "uncovered")


def read_results(file: Path) -> dict[str, dict[str, Any]]:
    """Return the last verdict on each mutant by its key."""
    if not file.exists():
        return {}
    lines = file.read_text(encoding="utf-8").splitlines()
    return {entry["key"]: entry for entry in map(json.loads, lines)}


def read_equivalents(folder: Path) -> dict[str, str]:
    """Return the reason of each mutant that changes nothing that can be observed, by its key."""
    file = folder / "equivalent.json"
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else {}


def page(folder: Path) -> str:
    """Return the page as Markdown."""
    equivalents = read_equivalents(folder)
    rows, alive, same = [], [], []
    for room, made_of in ROOMS.items():
        every = read_results(folder / f"{room}.jsonl")
        mutants = made_of.mutants()
        # Results of code that is gone say nothing any more.
        results = [(m, every[m.key]["status"]) for m in mutants if m.key in every]
        if not results:
            continue
        left = [mutant for mutant, status in results if status in ALIVE]
        equal = [mutant for mutant in left if mutant.key in equivalents]
        counted = len(results) - len(equal)
        killed = counted - (len(left) - len(equal))
        drawn = "all" if made_of.sample is None else f"drawn of {len(made_of.every())}"
        if len(results) < len(mutants):
            drawn += f"; {len(mutants) - len(results)} not run yet"
        rows.append(
            f"| {room} | {len(results)} ({drawn}) | {len(equal)} | {killed} | "
            f"{100 * killed / max(counted, 1):.1f} % |"
        )
        alive += [mutant for mutant in left if mutant.key not in equivalents]
        same += equal
    parts = [
        _HEAD,
        "| room | mutants | equivalent | killed | of the others |",
        "|---|---|---|---|---|",
        *rows,
        "",
        "## Survivors",
        "",
        *(list(map(_line, alive)) or ["None."]),
        "",
        "## Equivalent mutants",
        "",
        "They change nothing that a test could observe, or nothing that is promised, such as",
        "which of equally random numbers are drawn.",
        "",
        *[f"{_line(mutant)}: {equivalents[mutant.key]}" for mutant in same],
        "",
    ]
    return "\n".join(parts)


def _line(mutant: Mutant) -> str:
    file, function = mutant.file.removeprefix("src/medsgssl/"), mutant.function or "at import"
    return f"- `{file}` `{function}`: `{mutant.before}` -> `{mutant.after}`"


_HEAD = """# Mutation testing

Written by `python -m tests.mutation --page > docs/results/mutants.md` from the results in
`docs/results/mutants`. `make mutants ROOM=losses` changes one operator, comparison, number, flag,
argument or function of the code at a time and runs the tests that reach the line; a mutant that no
test notices survives. Texts, annotations, decorators, `raise` and `assert` statements are left
alone. All mutants of the losses with the attention code (`models/anatomy_vit.py` and
`methods/anatomy_masked_attention.py`), of `methods`, of `ops`, of `transforms` and of the
statistics (`evaluation`) were tried. One thread; tests of at most 30 seconds in all per mutant; a
mutant under which they take more than five times as long counts as killed.
"""
