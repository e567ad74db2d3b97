"""Made-up studies whose pages show every word: `python -m tests.report.example_studies OUT`.

Predictions are drawn, so that nothing is trained. Of the studies of 2, 5 and 12 arms, that of five
has a method that helps, one that hurts, one that is equivalent to its control and one that stays
undecided. `controls` has mask controls and baselines, `seed` a single seed.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medsgssl.config.loading import merge, nest
from medsgssl.report.study_page import write_study_report
from medsgssl.study.plan_builder import make_plan
from tests.study.synthetic import cohort, write_run

#: Skill over the control, and where the noise of the scores comes from: equal noise, equal scores.
GAINS = {
    "guided-crop": (0.16, ""),
    "masked-contrastive": (-0.14, ""),
    "attention-prior": (0.003, "simclr"),
    "multi-region": (0.02, ""),
    "mask-channel": (0.09, ""),
    "adaptive-pathology": (-0.01, ""),
    "anatomy-contrast": (0.12, ""),
    "anatomy-masked-attention": (0.05, ""),
}


@dataclass(frozen=True)
class Example:
    """A study to make up."""

    methods: tuple[str, ...]
    fractions: tuple[float, ...] = (0.1, 1.0)
    seeds: int = 3
    controls: tuple[str, ...] = ()
    baselines: bool = False
    patients: int = 320


EXAMPLES = {
    "2-arms": Example(("guided-crop",)),
    "5-arms": Example(tuple(GAINS)[:4]),
    "12-arms": Example(tuple(GAINS)),
    "controls": Example(
        ("guided-crop", "mask-channel"), (1.0,), 3, ("shuffled", "random-blob"), True
    ),
    "seed": Example(("guided-crop", "mask-channel"), (1.0,), seeds=1),
}


def write_study(folder: Path, example: Example) -> Path:
    """Write the runs of a made-up study with its plan, and report it; return the page."""
    plan = make_plan(
        folder / "data",
        ["simclr", *example.methods],
        seeds=example.seeds,
        fractions=example.fractions,
        controls=example.controls,
        baselines=example.baselines,
    )
    plan.save(folder)
    table = cohort(example.patients)
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
            0.7 + 0.4 * run.fraction**0.5 + gain - 0.2 * run.no_pretrain,
            seed=run.seed,
            fraction=run.fraction,
            noise=noise or run.arm,
            masks=run.masks,
            no_pretrain=run.no_pretrain,
            table=table,
            settings=settings,
        )
    return write_study_report([folder])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", nargs="*", default=list(EXAMPLES), choices=list(EXAMPLES))
    given = parser.parse_args()
    for name in given.only:
        print(write_study(given.out / name, EXAMPLES[name]))
