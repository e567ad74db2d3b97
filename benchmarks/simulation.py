"""Finished runs with made-up scores, to test what the report says of a study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from medsgssl.evaluation.predictions import Split
from medsgssl.runs.folder import RunFolder
from medsgssl.study.collect import FinishedRun
from medsgssl.study.score_model import DrawnRun, ScoreModel, draw_runs


def simulate_study(
    tests: Sequence[Split],
    model: ScoreModel,
    gains: Sequence[float],
    random: np.random.Generator,
    *,
    seeds: int = 3,
    folds: bool = False,
    fractions: Sequence[float] = (1.0,),
) -> list[FinishedRun]:
    """Draw the finished runs of a study, as ``draw_runs`` draws their scores."""
    drawn = draw_runs(tests, model, gains, random, seeds=seeds, folds=folds, fractions=fractions)
    return [_run(one, folds, tests[one.repeat if folds else 0]) for one in drawn]


def _run(drawn: DrawnRun, folds: bool, test: Split) -> FinishedRun:
    method = f"method-{drawn.arm}" if drawn.arm else "simclr"
    name = f"{method}-{drawn.repeat}-{drawn.fraction:g}"
    settings = {
        "method_name": method,
        "no_pretrain": False,
        "seed": drawn.repeat,
        "data.label_fraction": drawn.fraction,
        "data.fold": drawn.repeat if folds else None,
    }
    test = replace(test, scores=drawn.scores)
    return FinishedRun(name, RunFolder(Path(name)), settings, test, None, None, method)
