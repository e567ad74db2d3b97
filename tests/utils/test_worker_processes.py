"""A worker that dies costs the item that killed it, and nothing else."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from medsgssl.errors import ResourceError
from medsgssl.utils.worker_processes import SpareWorker, WorkerDiedError, map_surviving

FATAL = {3: signal.SIGSEGV, 10: signal.SIGKILL}


def squares(numbers: Sequence[int]) -> list[int]:
    for number in numbers:
        if number in FATAL:
            os.kill(os.getpid(), FATAL[number])
    return [number**2 for number in numbers]


def squares_unless_together(folder: Path, numbers: Sequence[int]) -> list[int]:
    """Die where another process works at the same time, as where memory is short."""
    mine = folder / str(os.getpid())
    mine.touch()
    time.sleep(0.2)
    if len(list(folder.iterdir())) > 1:
        os.kill(os.getpid(), signal.SIGKILL)
    mine.unlink()
    return [number**2 for number in numbers]


def die() -> None:
    os._exit(9)


def in_pairs(count: int) -> list[list[int]]:
    return [list(range(start, min(start + 2, count))) for start in range(0, count, 2)]


def test_the_items_that_kill_their_worker_are_found() -> None:
    crashes: dict[int, str] = {}

    def crashed(number: int, name: str) -> int:
        crashes[number] = name
        return -number

    results = list(map_surviving(squares, in_pairs(13), crashed, 2))
    assert results == [
        [-number if number in FATAL else number**2 for number in pair] for pair in in_pairs(13)
    ]
    assert crashes == {number: name.name for number, name in FATAL.items()}


def test_where_no_item_is_to_blame_all_are_done(tmp_path: Path) -> None:
    def crashed(number: int, name: str) -> int:
        raise AssertionError(f"{number} was blamed: {name}")

    # A killed process leaves its file behind; the process that goes on alone must not see it.
    job = partial(squares_unless_together, tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("medsgssl.utils.worker_processes.SpareWorker", _sweeping(tmp_path))
        results = list(map_surviving(job, in_pairs(7), crashed, 2))
    assert results == [[number**2 for number in pair] for pair in in_pairs(7)]


def _sweeping(folder: Path) -> type[SpareWorker]:
    class Sweeping(SpareWorker):
        def __init__(self, initializer=None) -> None:  # type: ignore[no-untyped-def]
            for leftover in folder.iterdir():
                leftover.unlink()
            super().__init__(initializer)

    return Sweeping


def test_processes_that_cannot_live_are_no_items_fault() -> None:
    def crashed(number: int, name: str) -> int:
        raise AssertionError(f"{number} was blamed: {name}")

    with pytest.raises(ResourceError, match="die as soon as they start"):
        list(map_surviving(squares, in_pairs(4), crashed, 1, die))


def test_errors_of_a_job_stay_what_they_are() -> None:
    with pytest.raises(TypeError):
        list(map_surviving(squares, [[1], ["x"]], lambda *_: 0, 1))  # type: ignore[list-item]


def test_a_spare_worker_lives_on_after_a_death_and_ends_when_closed() -> None:
    with closing(SpareWorker()) as spare:
        first = spare.call(os.getpid)
        assert spare.call(os.getpid) == first
        with pytest.raises(WorkerDiedError, match="SIGSEGV"):
            spare.call(squares, [3])
        second = spare.call(os.getpid)
    assert second != first
    with pytest.raises(ProcessLookupError):
        os.kill(second, 0)
