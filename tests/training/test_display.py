"""What a resumed stage says when it begins."""

from __future__ import annotations

import pytest

from medsgssl.training.display import TrainingDisplay


@pytest.mark.parametrize(
    ("step", "enabled", "expected"),
    [(16, True, "pretrain continues at step 16 of 24\n"), (0, True, ""), (16, False, "")],
)
def test_a_resumed_stage_says_where_it_continues(
    step: int, enabled: bool, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with TrainingDisplay("pretrain", 3, 8, step, enabled):
        pass
    assert capsys.readouterr().out == expected
