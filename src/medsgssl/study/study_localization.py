"""Where the arms of a study look: means and paired differences over the boxes of their runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from medsgssl.evaluation.few_patients import MIN_PATIENTS
from medsgssl.evaluation.jackknife import Statistic, mean_by_patient
from medsgssl.study.arms import Arm
from medsgssl.study.collect import FinishedRun
from medsgssl.study.comparisons import Comparison
from medsgssl.study.run_localization import BOXES_FILE, MEASURES
from medsgssl.study.statistics import PointEstimate, ResampledTestSet


@dataclass(frozen=True)
class ArmLocalization:
    """Where an arm looks.

    Attributes:
        boxes: Boxes behind each mean, of all folds together.
        patients: Of so many patients.
        measures: By name and by seed or fold; only runs that were localized.
    """

    boxes: int
    patients: int
    measures: Mapping[str, Mapping[int, Statistic]]

    @property
    def repeats(self) -> set[int]:
        """The seeds or folds that were localized."""
        return set(self.measures["pointing"])


def arm_localization(arm: Arm, bench: ResampledTestSet) -> ArmLocalization | None:
    """Read where the runs of an arm look; None where none was localized."""
    codes = dict(zip(bench.test.table["image_id"], bench.test.patients, strict=True))
    tables = {run.repeat: table for run in arm.runs if (table := _table(run)) is not None}
    if not tables:
        return None
    owners = {key: table["image_id"].map(codes).to_numpy() for key, table in tables.items()}
    seen = np.unique(np.concatenate(list(owners.values())))
    first = next(iter(tables.values()))
    boxes = sum(map(len, tables.values())) if bench.folds else len(first)
    return ArmLocalization(
        boxes,
        len(seen),
        {
            name: {
                key: mean_by_patient(table[name].to_numpy(float), owners[key], bench.patients)
                for key, table in tables.items()
                if name in table
            }
            for name in MEASURES
        },
    )


def _table(run: FinishedRun) -> pd.DataFrame | None:
    path = run.folder.path / BOXES_FILE
    return pd.read_parquet(path) if path.is_file() else None


def estimate(localization: ArmLocalization, name: str, bench: ResampledTestSet) -> PointEstimate:
    """Return a measure of an arm; its interval from 20 patients with boxes on."""
    repeats = localization.measures[name]
    if not repeats:
        return PointEstimate(None)
    point = bench.estimate(repeats)
    return point if localization.patients >= MIN_PATIENTS else point.bare()


def difference(
    comparison: Comparison, localized: Mapping[tuple[str, float], ArmLocalization], name: str
) -> PointEstimate:
    """Return the paired difference of a measure over the seeds or folds of both arms.

    Its interval, over patients and seeds, needs 20 patients with boxes; with fewer the number is
    descriptive.

    Args:
        comparison: The two arms.
        localized: Where the arms look, by their keys.
        name: One of ``MEASURES``.
    """
    sides = [localized.get(arm.key) for arm in (comparison.arm, comparison.against)]
    if sides[0] is None or sides[1] is None:
        return PointEstimate(None)
    bench = comparison.bench
    peers: Sequence[Mapping[int, Statistic]] = [
        one.measures[name]
        for peer in comparison.peers
        if (one := localized.get(peer.key)) is not None
    ]
    point = bench.difference(
        sides[0].measures[name], sides[1].measures[name], pooled=bench.spread(peers)
    )
    return point if min(one.patients for one in sides if one) >= MIN_PATIENTS else point.bare()
