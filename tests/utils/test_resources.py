"""Failures of the machine are one line with a fix; every other error stays what it is."""

from __future__ import annotations

import errno
import os
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pandas as pd
import pytest

from medsgssl.errors import DataError, MedsgsslError, ResourceError
from medsgssl.utils.io import csv_text, require_space, reserve
from medsgssl.utils.resources import clear_resource_errors


def failing(error: BaseException) -> None:
    with clear_resource_errors():
        raise error


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "a.bin"), "disk is full: a.bin"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "disk is full"),
        (RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 9 vs 1"), "full"),
        (PermissionError(errno.EACCES, "Permission denied", "a.bin"), "a.bin may not be written"),
        (OSError(errno.EROFS, "Read-only file system", "a.bin"), "a.bin may not be written"),
        (OSError(errno.EMFILE, "Too many open files"), "too many files"),
        (MemoryError(), "too little memory"),
        (BrokenProcessPool("terminated abruptly"), "worker process was killed"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error."), "worker"),
        (RuntimeError("DataLoader timed out after 600 seconds"), "no batch for a long time"),
    ],
)
def test_failures_of_the_machine_become_clear(error: Exception, says: str) -> None:
    with pytest.raises(ResourceError, match=says) as caught:
        failing(error)
    assert caught.value.fix
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", [ValueError("a mistake in the code"), DataError("a", "b")])
def test_every_other_error_stays_what_it_is(error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        failing(error)
    assert caught.value is error


def test_space_is_checked_and_reserved_before_a_file_is_written(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match=r"the images need \d+\.\d\d GiB"):
        require_space(tmp_path, 1 << 60, "the images", "use a larger disk")
    require_space(tmp_path, 1, "the images", "use a larger disk")
    sparse = tmp_path / "a.bin"
    with sparse.open("wb") as stream:
        stream.truncate(1 << 20)
    assert sparse.stat().st_blocks * 512 < 1 << 20
    reserve(sparse, 1 << 20)
    assert sparse.stat().st_blocks * 512 >= 1 << 20


def test_names_from_others_never_reach_the_terminal_raw() -> None:
    error = MedsgsslError("a\x1b[2J\x07\u202egnp.\udcff ä\nsecond line", "x")
    assert str(error).startswith("a\\x1b[2J\\x07\\u202egnp.\\udcff ä\nsecond line")


def test_cells_that_begin_like_a_formula_are_guarded() -> None:
    table = pd.DataFrame({"name": ["=1+1", "@a", "plain", None], "value": [-1.5, 2, 3, 4]})
    lines = csv_text(table).splitlines()
    assert lines == ["name,value", "'=1+1,-1.5", "'@a,2.0", "plain,3.0", ",4.0"]
