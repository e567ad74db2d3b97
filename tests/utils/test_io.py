"""Writes are whole or absent; JSON, fingerprints and hashes."""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from medsgssl.errors import DataError, ImageError
from medsgssl.utils.io import (
    atomic_path,
    file_hash,
    fingerprint,
    read_json,
    write_bytes,
    write_json,
    write_text,
)


class Killed(BaseException):
    """Stands in for a killed process."""


@pytest.fixture
def umask() -> Iterator[None]:
    """A umask of 027 for one test."""
    before = os.umask(0o027)
    yield
    os.umask(before)


def test_a_write_that_succeeds_leaves_one_file(tmp_path: Path) -> None:
    write_text(tmp_path / "new" / "folder" / "a.txt", "größer")
    assert [path.name for path in (tmp_path / "new" / "folder").iterdir()] == ["a.txt"]
    assert (tmp_path / "new" / "folder" / "a.txt").read_text(encoding="utf-8") == "größer"


def write_half(target: Path, error: BaseException) -> None:
    with atomic_path(target) as temporary:
        temporary.write_text("half of the n")
        raise error


@pytest.mark.parametrize("error", [OSError, Killed])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, error: type[BaseException]
) -> None:
    target = tmp_path / "a.txt"
    write_text(target, "old")
    with pytest.raises(error):
        write_half(target, error())
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_first_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="disk"):
        write_half(tmp_path / "a.txt", OSError("disk full"))
    assert list(tmp_path.iterdir()) == []


def test_the_old_file_is_whole_until_the_new_one_is(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    write_text(target, "old")
    with atomic_path(target) as temporary:
        temporary.write_text("new")
        assert temporary.parent == target.parent
        assert target.read_text() == "old"
    assert target.read_text() == "new"


@pytest.mark.usefixtures("umask")
def test_files_are_as_readable_as_the_umask_says(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a", b"x")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640
    assert os.umask(0o027) == 0o027


def test_json_comes_back_and_ends_with_a_line(tmp_path: Path) -> None:
    value = {"a": [1, 2.5, None, "x"], "b": {"c": True}}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value
    assert (tmp_path / "a.json").read_text().endswith("}\n")


def test_json_without_a_number_is_none_and_never_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "a.json", {"auc": math.nan})
    assert list(tmp_path.iterdir()) == []


def test_json_that_is_missing_or_damaged_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.json does not exist"):
        read_json(tmp_path / "a.json")
    (tmp_path / "a.json").write_bytes(b'{"a": 1')
    with pytest.raises(DataError, match=r"a\.json is not valid JSON"):
        read_json(tmp_path / "a.json")
    (tmp_path / "a.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"a\.json is not valid JSON"):
        read_json(tmp_path / "a.json")


def test_a_fingerprint_sees_values_and_not_the_order_of_keys() -> None:
    one = fingerprint({"a": 1, "b": [1, 2]})
    assert fingerprint({"b": [1, 2], "a": 1}) == one
    assert fingerprint({"a": 1, "b": [2, 1]}) != one
    assert fingerprint({"a": 1.5, "b": [1, 2]}) != one
    assert len(one) == 12


def test_a_file_hash_is_that_of_the_content(tmp_path: Path) -> None:
    for name, content in (("a", b"x" * 3_000_000), ("b", b"x" * 3_000_000), ("c", b"")):
        (tmp_path / name).write_bytes(content)
    assert file_hash(tmp_path / "a") == file_hash(tmp_path / "b") != file_hash(tmp_path / "c")
    assert file_hash(tmp_path / "c") == "cae66941d9efbd404e4d88758ea67670"


def test_errors_say_what_is_wrong_and_what_to_do_also_from_a_worker() -> None:
    import pickle

    error = pickle.loads(pickle.dumps(ImageError("a.png is cut short", "fetch it again")))
    assert type(error) is ImageError
    assert str(error) == "a.png is cut short\n  Fix: fetch it again"
