"""`ablate`: what a method loses without each of its parts."""

from __future__ import annotations

from medsgssl.cli.compare import (
    DryRun,
    LabelFractions,
    Seeds,
    StudyData,
    StudyFolder,
    StudySettings,
    carry_out,
    numbers,
)
from medsgssl.cli.options import ConfigFile, MethodName


def ablate(
    method: MethodName,
    data: StudyData,
    out: StudyFolder,
    seeds: Seeds = 3,
    label_fractions: LabelFractions = "1",
    config: ConfigFile = None,
    settings: StudySettings = None,
    dry_run: DryRun = False,
) -> None:
    """Leave out the parts of a method one by one: a study with its leave-one-out table.

    Runs the method, its twin without pretraining, the control simclr with the same backbone, and
    the method without each of its parts. `medsgssl compare report` then shows what each brings.
    """
    from medsgssl.config import read_yaml
    from medsgssl.study import make_ablation

    plan = make_ablation(
        data,
        method,
        seeds=seeds,
        fractions=numbers(label_fractions),
        items=settings or [],
        file=read_yaml(config) if config else None,
    )
    carry_out(plan, out, dry_run=dry_run)
