"""Locks: one writer at a time, named; a killed holder leaves nothing locked."""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path

import pytest

from medsgssl.errors import ConfigError
from medsgssl.utils.io import atomic_path
from medsgssl.utils.locks import exclusive, lock_owner, shared_work

FORK = multiprocessing.get_context("fork")


def hold(folder: Path, seconds: float) -> None:
    with exclusive(folder, "the run folder"):
        time.sleep(seconds)


def held_elsewhere(folder: Path, seconds: float) -> multiprocessing.process.BaseProcess:
    process = FORK.Process(target=hold, args=(folder, seconds))
    process.start()
    deadline = time.monotonic() + 30
    while lock_owner(folder) is None and time.monotonic() < deadline:
        time.sleep(0.01)
    return process


def test_a_second_process_is_refused_and_told_who_holds_the_folder(tmp_path: Path) -> None:
    process = held_elsewhere(tmp_path, 60)
    with pytest.raises(ConfigError, match=rf"in use by process {process.pid} on \S+ \(since"):
        hold(tmp_path, 0)
    process.kill()
    process.join()
    hold(tmp_path, 0)  # the lock went with the process


def test_shared_work_waits_until_the_other_process_is_done(tmp_path: Path) -> None:
    process = held_elsewhere(tmp_path, 0.5)
    with shared_work(tmp_path) as waited:
        assert waited
        assert process.exitcode is not None or lock_owner(tmp_path).pid == os.getpid()
    process.join()
    with shared_work(tmp_path) as waited:
        assert not waited


def test_what_killed_processes_left_is_swept_when_the_lock_is_taken(tmp_path: Path) -> None:
    context = atomic_path(tmp_path / "a.txt")
    leftover = context.__enter__()
    (tmp_path / ".keep.txt").write_text("the user's")
    hold(tmp_path, 0)
    assert not leftover.exists()
    assert (tmp_path / ".keep.txt").exists()


def test_work_that_wrote_nothing_leaves_nothing(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    for folder in (there, tmp_path / "runs" / "new"):
        with exclusive(folder, "the run folder"):
            assert (folder / ".lock").exists()
    assert [path.name for path in tmp_path.rglob("*")] == ["there"]


def test_the_lock_stays_where_something_was_written(tmp_path: Path) -> None:
    with exclusive(tmp_path / "run", "the run folder"):
        (tmp_path / "run" / "config.yaml").touch()
    names = sorted(path.name for path in (tmp_path / "run").iterdir())
    assert names == [".lock", "config.yaml"]
