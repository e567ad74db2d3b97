"""Memory that is freed inside the block serves the next tensor; behind it, the system has it."""

from __future__ import annotations

import platform
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medsgssl.config.training_settings import FinetuneSettings
from medsgssl.training.distributed import launch
from medsgssl.utils.allocator import KEEP_MEMORY, keep_freed_memory

pytestmark = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="the C library is not glibc"
)
_BYTES = 64 * 2**20  # more than glibc ever keeps by itself
_KEPT_ANYWAY = 16 * 2**20


def _cleared_pages(work: Callable[[], object]) -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    work()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def _write_memory(size: int = _BYTES) -> None:
    np.full(size, 1, np.uint8)


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def test_pages_are_cleared_once_inside_the_block_and_every_time_behind_it() -> None:
    pages = _BYTES // resource.getpagesize()
    with keep_freed_memory():
        _write_memory()
        inside = _cleared_pages(_write_memory)
        with keep_freed_memory():
            pass
        after_an_inner_block = _cleared_pages(_write_memory)
    assert max(inside, after_an_inner_block) < 0.01 * pages
    # Huge pages, where the system gives them unasked, count as one of 512.
    assert _cleared_pages(_write_memory) > pages / 600


def test_what_glibc_keeps_by_itself_is_kept_behind_the_block_too() -> None:
    with keep_freed_memory():
        pass
    _write_memory(_KEPT_ANYWAY)
    cleared = _cleared_pages(lambda: _write_memory(_KEPT_ANYWAY))
    assert cleared < 0.01 * _KEPT_ANYWAY / resource.getpagesize()


def test_freed_memory_is_given_back_behind_the_block() -> None:
    with keep_freed_memory():
        _write_memory()
        kept = _resident()
    assert kept - _resident() > 0.9 * _BYTES


def test_memory_is_left_to_glibc_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    code = """
import resource, numpy as np
from medsgssl.utils.allocator import keep_freed_memory
with keep_freed_memory():
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        np.full(64 * 2**20, 1, np.uint8)
        cleared = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(cleared)
"""
    cleared = {}
    for setting in ("0", "1"):
        monkeypatch.setenv(KEEP_MEMORY, setting)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
        cleared[setting] = int(done.stdout)
    assert cleared["1"] < 10 < cleared["0"]


def test_an_error_inside_the_block_ends_it_as_well() -> None:
    kept = 0

    @keep_freed_memory()
    def fail() -> None:
        nonlocal kept
        _write_memory()
        kept = _resident()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert kept - _resident() > 0.9 * _BYTES


def test_training_runs_inside_such_a_block() -> None:
    seen = []

    def train(fabric: object) -> None:
        _write_memory()
        seen.append(_cleared_pages(_write_memory))

    launch(FinetuneSettings(), [], train)
    assert seen[0] < 0.01 * _BYTES // resource.getpagesize()
