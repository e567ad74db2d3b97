"""A stage is complete with its key and its files."""

from __future__ import annotations

from pathlib import Path

import pytest

from medsgssl.errors import MedsgsslError
from medsgssl.pipeline.stages import run_stage_if_needed
from medsgssl.runs.folder import RunFolder


def test_a_stage_whose_file_is_gone_is_done_again_and_one_that_leaves_none_is_no_stage(
    tmp_path: Path,
) -> None:
    run, calls = RunFolder(tmp_path), []

    def work() -> None:
        calls.append(1)
        run.metrics.write_text("{}")

    for _ in range(2):
        run_stage_if_needed(run, "evaluate", {"evaluate": "k"}, work)
    assert len(calls) == 1
    run.metrics.unlink()
    run_stage_if_needed(run, "evaluate", {"evaluate": "k"}, work)
    assert len(calls) == 2
    with pytest.raises(MedsgsslError, match=r"ended without classifier\.safetensors"):
        run_stage_if_needed(run, "finetune", {"finetune": "k"}, lambda: None)
    assert run.key_of("finetune") is None
