"""Where a difference lies: in men or women, ages, views, and where the lung masks are good."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medsgssl.config.schema import DataSettings
from medsgssl.data.mask_cache import mask_identity
from medsgssl.data.paths import dataset_cache
from medsgssl.errors import DataError, MedsgsslError
from medsgssl.evaluation.jackknife import JackknifedScores, Statistic
from medsgssl.evaluation.multiplicity import holm
from medsgssl.evaluation.resampled_auc import Floats
from medsgssl.evaluation.subgroups import groups_of
from medsgssl.masks.store import MaskStore
from medsgssl.study.arms import Arm
from medsgssl.study.collect import FinishedRun
from medsgssl.study.comparisons import Comparison
from medsgssl.study.statistics import Chosen, PointEstimate, ResampledTestSet

_THIRDS = ("low", "middle", "high")


@dataclass(frozen=True)
class Stratum:
    """A comparison within a part of the test images.

    Attributes:
        kind: ``sex``, ``age``, ``view_position`` or ``mask quality``.
        name: The part.
        images: How many.
        patients: Of how many patients.
        diseases: How many diseases are in the means: those with enough patients in this part.
        auc: Mean AUC of the arm.
        auc_against: Mean AUC of what it is compared with.
        difference: The first minus the second.
    """

    kind: str
    name: str
    images: int
    patients: int
    diseases: int
    auc: PointEstimate
    auc_against: PointEstimate
    difference: PointEstimate


@dataclass(frozen=True)
class Interaction:
    """Whether a difference is larger in one part of the test images than in the others.

    Attributes:
        kind: ``sex``, ``age`` or ``view_position``.
        name: The part.
        rest: What it is compared with: the other part, or ``the others``.
        diseases: How many diseases are in the means: those with enough patients in both.
        difference: Difference of the two arms in the part minus that in the rest.
        p_holm: Its p value after Holm's correction over the interactions of one comparison.
    """

    kind: str
    name: str
    rest: str
    diseases: int
    difference: PointEstimate
    p_holm: float | None = None


@dataclass(frozen=True)
class SubgroupTests:
    """A comparison by sex, age band and view position.

    Attributes:
        strata: Within each part.
        interactions: Tests of each part against the others of its kind.
    """

    strata: tuple[Stratum, ...]
    interactions: tuple[Interaction, ...]


@dataclass(frozen=True)
class QualityStrata:
    """The comparison by mask quality.

    Attributes:
        strata: Without a usable mask, then thirds of the quality; empty where ``absent`` is not.
        trend: Difference in the high third minus difference in the low third.
        absent: Why there are none.
    """

    strata: tuple[Stratum, ...] = ()
    trend: PointEstimate | None = None
    absent: str = ""


class Strata:
    """Comparisons within parts of the test images; each part of a run is jackknifed once."""

    def __init__(self, bench: ResampledTestSet) -> None:
        self._bench = bench
        self._jackknifed: dict[tuple[str, bytes], JackknifedScores] = {}

    def subgroups(self, comparison: Comparison) -> SubgroupTests:
        """Compare within each sex, age band and view position, and test each against the others."""
        groups = groups_of(self._bench.test)
        strata = [
            self._stratum(comparison, kind, name, rows)
            for kind, parts in groups.items()
            for name, rows in parts.items()
        ]
        tests = [
            test for kind, parts in groups.items() for test in self._tests(comparison, kind, parts)
        ]
        corrected = holm({str(n): test.difference.p for n, test in enumerate(tests)})
        return SubgroupTests(
            tuple(strata),
            tuple(replace(test, p_holm=corrected[str(n)]) for n, test in enumerate(tests)),
        )

    def _tests(
        self, comparison: Comparison, kind: str, parts: Mapping[str, Chosen]
    ) -> list[Interaction]:
        names = list(parts)
        if len(names) < 2:
            return []
        everyone = np.any([parts[name] for name in names], axis=0)
        # Of two parts the second test would be the first with the sign turned.
        asked = names[:1] if len(names) == 2 else names
        tests = []
        for name in asked:
            rest = everyone & ~parts[name]
            difference, diseases = self._gap(comparison, parts[name], rest)
            label = names[1] if len(names) == 2 else "the others"
            tests.append(Interaction(kind, name, label, diseases, difference))
        return tests

    def _gap(self, comparison: Comparison, rows: Chosen, rest: Chosen) -> tuple[PointEstimate, int]:
        """Return the difference among some images minus that among others."""
        both = self._bench.frequent(rows) & self._bench.frequent(rest)
        if not both.any():
            return PointEstimate(None), 0

        def change(arm: Arm) -> dict[int, Statistic]:
            high, low = self._means(arm, rows, both), self._means(arm, rest, both)
            return {key: high[key] - low[key] for key in high}

        return self._difference(comparison, change), int(both.sum())

    def _difference(
        self, comparison: Comparison, pick: Callable[[Arm], dict[int, Statistic]]
    ) -> PointEstimate:
        """Compare two arms, the spread between seeds or folds pooled over the arms like them."""
        pooled = self._bench.spread([pick(peer) for peer in comparison.peers])
        ours, other = pick(comparison.arm), pick(comparison.against)
        return self._bench.difference(ours, other, pooled=pooled)

    def by_quality(self, comparison: Comparison) -> QualityStrata:
        """Compare where the arm's lung masks are bad, middling and good."""
        run = comparison.arm.runs[0]
        try:
            quality = mask_quality(run)
        except MedsgsslError as error:
            return QualityStrata(absent=error.problem)
        test = self._bench.test.table["image_id"]
        absent = [name for name in test if name not in quality]
        if absent:
            return QualityStrata(absent=f"the mask store lacks {len(absent)} test images")
        values = np.array([quality[name] for name in test])
        parts = quality_parts(values)
        if "low" not in parts:
            return QualityStrata(absent="the masks of the test images are all of one quality")
        strata = [
            self._stratum(comparison, "mask quality", name, rows) for name, rows in parts.items()
        ]
        trend, diseases = self._gap(comparison, parts["high"], parts["low"])
        return QualityStrata(tuple(strata), trend if diseases else None)

    def _stratum(self, comparison: Comparison, kind: str, name: str, rows: Chosen) -> Stratum:
        among = self._bench.frequent(rows)
        ours = self._means(comparison.arm, rows, among)
        other = self._means(comparison.against, rows, among)
        return Stratum(
            kind=kind,
            name=name,
            images=int(rows.sum()),
            patients=len(np.unique(self._bench.test.patients[rows])),
            diseases=int(among.sum()),
            auc=self._bench.estimate(ours),
            auc_against=self._bench.estimate(other),
            difference=self._difference(comparison, lambda arm: self._means(arm, rows, among)),
        )

    def _means(self, arm: Arm, rows: Chosen, among: Chosen) -> dict[int, Statistic]:
        return {run.repeat: self._of(run, rows).mean_auc(among) for run in arm.runs}

    def _of(self, run: FinishedRun, rows: Chosen) -> JackknifedScores:
        key = (str(run.folder.path), np.packbits(rows).tobytes())
        if key not in self._jackknifed:
            self._jackknifed[key] = self._bench.jackknife(run.test.scores, run.fold, rows)
        return self._jackknifed[key]


def quality_parts(quality: Floats) -> dict[str, Chosen]:
    """Part images by mask quality: ``no mask`` (quality 0), then thirds of the others.

    Ties stay together; thirds that ties make empty are left out.
    """
    usable = quality > 0
    parts: dict[str, NDArray[np.bool_]] = {}
    if (~usable).any():
        parts["no mask"] = ~usable
    if usable.any():
        edges = np.quantile(quality[usable], [1 / 3, 2 / 3])
        third = np.searchsorted(edges, quality, side="left")
        thirds = {name: usable & (third == n) for n, name in enumerate(_THIRDS)}
        if thirds["low"].any() and thirds["high"].any():
            parts |= {name: rows for name, rows in thirds.items() if rows.any()}
    return parts


def mask_quality(run: FinishedRun) -> Mapping[str, float]:
    """Return the mask quality of every image, from the store that the run used.

    The store is found by the identity that ``data.json`` keeps, in the cache that ``config.yaml``
    names, or in the folder that the run was given.

    Raises:
        ConfigError: The cache folder is not known.
        MaskError: A store is damaged.
        DataError: There is none that the run's masks came from.
    """
    if run.data is None:
        raise DataError(f"{run.folder.data} does not exist", "run its data stage again")
    masks = run.data["masks"]
    source = masks["source"]
    if source == "none":
        raise DataError(f"{run.name} looked at no mask", "name a run with masks")
    for folder in _stores(run, source):
        store = MaskStore.open(folder)
        if mask_identity(store) == masks["identity"]:
            table = store.summary
            return dict(zip(table["image_id"], table["quality"].astype(float), strict=True))
    raise DataError(
        f"the mask store of {run.name} is no longer in the cache ({_cache_of(run) / 'masks'})",
        "draw its masks again: run its data stage",
    )


def _stores(run: FinishedRun, source: str) -> Sequence[Path]:
    if (Path(source) / "store.json").is_file():
        return [Path(source)]
    return [path.parent for path in sorted((_cache_of(run) / "masks").glob("*/store.json"))]


def _cache_of(run: FinishedRun) -> Path:
    kept = {name: run.settings.get(f"data.{name}") for name in ("root", "cache_dir")}
    return dataset_cache(DataSettings.model_validate(kept))
