"""Signals stop the work where it can go on; workers end with their parent."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time

import pytest

from medsgssl.utils.interrupts import (
    StopRequested,
    catch_signals,
    check,
    deferred,
    exit_with_parent,
    requested,
)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_at_once_with_the_exit_status_of_shells(number: int, status: int) -> None:
    with catch_signals(), pytest.raises(StopRequested) as caught:
        signal.raise_signal(number)
    assert caught.value.exit_status == status
    assert requested() is None


def test_inside_deferred_the_first_signal_waits_and_the_second_does_not() -> None:
    with catch_signals():
        with deferred():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)
            assert requested() == signal.SIGTERM
            with pytest.raises(StopRequested):
                os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(StopRequested):
            check()
    check()


def _worker(pid: object, parent: int) -> None:
    exit_with_parent(parent)
    pid.value = os.getpid()  # type: ignore[attr-defined]
    time.sleep(60)


def _parent(pid: object) -> None:
    context = multiprocessing.get_context("fork")
    context.Process(target=_worker, args=(pid, os.getpid())).start()
    time.sleep(60)


def test_a_worker_ends_when_its_parent_is_killed() -> None:
    context = multiprocessing.get_context("fork")
    pid = context.Value("i", 0)
    parent = context.Process(target=_parent, args=(pid,))
    parent.start()
    deadline = time.monotonic() + 30
    while not pid.value and time.monotonic() < deadline:
        time.sleep(0.01)
    parent.kill()
    parent.join()
    while _runs(pid.value) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _runs(pid.value)


def _late_worker(parent: int) -> None:
    exit_with_parent(parent)
    time.sleep(60)


def test_a_worker_whose_parent_was_killed_while_it_started_ends() -> None:
    context = multiprocessing.get_context("fork")
    gone = context.Process(target=time.sleep, args=(0,))
    gone.start()
    gone.join()
    worker = context.Process(target=_late_worker, args=(gone.pid,))
    worker.start()
    worker.join(30)
    assert worker.exitcode == 1


def _runs(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stream:  # noqa: PTH123
            return stream.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
