"""Mutate a room and run its tests: ``python -m tests.mutation ROOM``, or ``make mutants ROOM=...``.

Results go to ``--out`` (docs/results/mutants), one file per room, mutant by mutant: a run that was
stopped goes on where it was, and those that survived are tried again when tests have changed.
``--minutes`` stops after so many. ``--page`` writes the page of all rooms from the results and from
equivalent.json there.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import sys
from pathlib import Path

import pytest

from tests.mutation.lab import Lab, Verdict
from tests.mutation.operators import Mutant
from tests.mutation.page import ALIVE, page, read_equivalents, read_results
from tests.mutation.rooms import ROOMS, ROOT


def main() -> int:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("room", nargs="?", choices=sorted(ROOMS))
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "mutants")
    parser.add_argument("--sample", type=int, help="how many mutants; the room's own by default")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after so many")
    parser.add_argument("--list", action="store_true", help="list the mutants and stop")
    parser.add_argument("--page", action="store_true", help="print the page of all results")
    given = parser.parse_args()
    if given.page:
        sys.stdout.write(page(given.out))
        return 0
    if given.room is None:
        parser.error("name a room: " + ", ".join(sorted(ROOMS)))
    room = ROOMS[given.room]
    mutants = room.mutants()[: given.sample]
    file = given.out / f"{given.room}.jsonl"
    results = read_results(file)
    tests, same = room.digest(), read_equivalents(given.out)
    again = {
        key
        for key, one in results.items()
        if one["status"] in ALIVE and key not in same and one.get("tests") != tests
    }
    kills = [(m.file, results[m.key]["by"]) for m in mutants if results.get(m.key, {}).get("by")]
    todo = [m for m in mutants if m.key not in results or m.key in again]
    print(f"{given.room}: {len(mutants)} mutants, {len(todo)} to do", flush=True)
    if given.list:
        for mutant in todo:
            print(
                f"{mutant.file}:{mutant.line} [{mutant.function}] {mutant.before} -> {mutant.after}"
            )
        return 0
    given.out.mkdir(parents=True, exist_ok=True)
    done = 0

    def report(mutant: Mutant, verdict: Verdict) -> None:
        nonlocal done
        done += 1
        entry = {
            "key": mutant.key,
            "status": verdict.status,
            "by": verdict.by,
            "tests": tests,
        }
        with file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(entry) + "\n")
        print(
            f"{done}/{len(todo)} {verdict.status:9s} {verdict.seconds:5.1f} s "
            f"{mutant.file}:{mutant.line} {mutant.before} -> {mutant.after}",
            flush=True,
        )

    if not todo:
        return 0
    # A run that is stopped takes its fork with it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Nothing that starts threads has been imported yet; a fork would lose them.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
    options = ["-q", "-s", "-p", "no:cacheprovider", "-m", "not slow and not real"]
    cache = ROOT / "build" / f"reached-{given.room}.json"
    return int(
        pytest.main(
            [*options, "--rootdir", str(ROOT), *(str(ROOT / test) for test in room.tests)],
            plugins=[Lab(todo, {m.file for m in mutants}, cache, report, given.minutes, kills)],
        )
    )


if __name__ == "__main__":
    raise SystemExit(main())
