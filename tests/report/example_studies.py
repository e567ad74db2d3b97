"""Made-up studies of 2, 5 and 12 arms whose pages show every word: `python -m THIS OUT [--folds]`.

Predictions are drawn, so that nothing is trained. Of the five arms one helps, one hurts, one is
equivalent to its control and one stays undecided; of the twelve, some have mask controls.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from medsgssl.config.loading import merge, nest
from medsgssl.report.study_page import write_study_report
from medsgssl.study.planning import make_plan
from tests.study.synthetic import cohort, write_run

#: Skill over the control, and where the noise of the scores comes from: equal noise, equal scores.
GAINS = {
    "guided-crop": (0.16, ""),
    "masked-contrastive": (-0.14, ""),
    "attention-prior": (0.003, "simclr"),
    "multi-region": (0.01, ""),
    "mask-channel": (0.09, ""),
    "adaptive-pathology": (-0.01, ""),
}
ARMS = {2: ["guided-crop"], 5: list(GAINS)[:4], 12: list(GAINS)}


def write_study(folder: Path, arms: int, fractions: tuple[float, ...] = (0.1, 1.0)) -> Path:
    """Write the runs of a made-up study with its plan, and report it; return the page."""
    controls = ["shuffled", "random-blob"] if arms == 12 else []
    methods = ["simclr", *ARMS[arms]]
    plan = make_plan(folder / "data", methods, seeds=3, fractions=fractions, controls=controls)
    plan.save(folder)
    table = cohort(600)
    for run in plan.runs:
        if run.pretrains:
            continue
        settings: dict[str, Any] = {}
        for key, value in run.overrides.items():
            settings = merge(settings, nest(key, value))
        gain, noise = GAINS.get(run.method, (0.0, "simclr"))
        gain = gain if run.masks == "rules" else gain / 4
        write_run(
            folder / "runs" / run.name,
            run.method,
            0.7 + 0.4 * run.fraction**0.5 + gain,
            seed=run.seed,
            fraction=run.fraction,
            noise=noise or run.arm,
            masks=run.masks,
            table=table,
            settings=settings,
        )
    return write_study_report([folder])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--arms", type=int, nargs="*", default=list(ARMS))
    given = parser.parse_args()
    for count in given.arms:
        print(write_study(given.out / f"{count}-arms", count))
