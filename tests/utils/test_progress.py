"""Whether progress is shown belongs to one call, not to the process."""

from __future__ import annotations

from medsgssl.utils.progress import new_console, quietly


def test_a_quiet_call_leaves_the_next_one_as_it_was() -> None:
    with quietly(True):
        assert new_console().quiet
    assert not new_console().quiet
