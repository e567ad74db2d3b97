"""A short version of the fault laboratory with a fixed seed; `make faults` runs all of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.lab import GROUPS, Lab


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("lab")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("XDG_CACHE_HOME", str(folder / "user-cache"))
        yield Lab(folder, seed=7)


# The others take longer, and are covered by tests of their own.
@pytest.mark.parametrize("group", ["kills", "two", "nan"])
def test_every_fault_ends_in_the_right_result(lab: Lab, group: str) -> None:
    for row in GROUPS[group](lab, 1):
        assert row.right, row
