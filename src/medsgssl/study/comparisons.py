"""Comparisons of the arms of a study on the same test images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from medsgssl.errors import ConfigError
from medsgssl.evaluation.effects import Effect
from medsgssl.evaluation.few_patients import MIN_PATIENTS, class_patients
from medsgssl.evaluation.jackknife import JackknifedScores, Statistic
from medsgssl.evaluation.multiplicity import holm
from medsgssl.evaluation.spread import Spread
from medsgssl.methods.registry import find_method
from medsgssl.study.arms import Arm
from medsgssl.study.matching import tuned_apart, unlike
from medsgssl.study.statistics import Chosen, PointEstimate, ResampledTestSet, paired

Kind = Literal["control", "baseline", "masks", "component"]
Pick = Callable[[JackknifedScores], Statistic]

#: What a comparison of each kind answers.
QUESTIONS: dict[Kind, str] = {
    "control": "the method against the control without masks",
    "baseline": "pretraining against none",
    "masks": "lung masks against masks without anatomy",
    "component": "the whole method against the method without one of its components",
}


@dataclass(frozen=True)
class DiseaseDifference:
    """One disease in a comparison.

    Attributes:
        difference: Of the AUC, with its own interval and p value where enough patients bear it.
        holm: The p value after Holm's correction over the diseases.
        ap: Difference of the average precision.
        note: Why something is absent.
    """

    difference: PointEstimate
    holm: float | None
    ap: PointEstimate
    note: str = ""


@dataclass(frozen=True)
class Comparison:
    """One arm against another on the same test images.

    Attributes:
        kind: What is compared.
        arm: The first.
        against: The second; differences are the first minus the second.
        bench: The test images.
        tuned_apart: Settings of pretraining that were tuned for each of them.
        peers: Arms of the same network and label fraction, these two among them: the spread
            between seeds or folds is pooled over them.
    """

    kind: Kind
    arm: Arm
    against: Arm
    bench: ResampledTestSet
    tuned_apart: tuple[str, ...] = ()
    peers: tuple[Arm, ...] = ()

    @cached_property
    def effect(self) -> Effect | None:
        """Difference of the primary mean AUC; None without a primary mean or a common seed."""
        if not self.bench.primary.any():
            return None
        among = self.bench.primary
        pairs = paired(*self._sides(lambda run: run.mean_auc(among)))
        if not pairs:
            return None
        return self.bench.effect(pairs, pooled=self._spread(lambda run: run.mean_auc(among)))

    def difference(self, pick: Pick, max_patient_df: float = float("inf")) -> PointEstimate:
        """Average the difference of one statistic over the seeds or folds of both arms."""
        sides = self._sides(pick)
        return self.bench.difference(sides[0], sides[1], max_patient_df, self._spread(pick))

    def _sides(self, pick: Pick) -> list[dict[int, Statistic]]:
        return [side.each(pick) for side in (self.arm, self.against)]

    def _spread(self, pick: Pick) -> Spread | None:
        return self.bench.spread([peer.each(pick) for peer in self.peers])

    @property
    def repeats(self) -> int:
        """Seeds or folds that both arms have."""
        return len(
            {run.repeat for run in self.arm.runs} & {run.repeat for run in self.against.runs}
        )

    @cached_property
    def mean(self) -> PointEstimate:
        """Difference of the mean AUC over the diseases that are judged on."""
        if self.effect is not None:
            return self.bench.point(self.effect, test=True)
        return self._mean_auc(self.bench.judged_on)

    @cached_property
    def mean_all(self) -> PointEstimate:
        """Difference of the mean AUC over every disease with both classes."""
        return self._mean_auc(self.bench.defined())

    @cached_property
    def mean_ap(self) -> PointEstimate:
        """Difference of the mean average precision over the diseases that are judged on."""
        among = self.bench.judged_on
        difference = self.difference(lambda run: run.mean_ap(among))
        return self._with_enough(difference, among)

    @cached_property
    def disease_aucs(self) -> dict[str, PointEstimate]:
        """Difference of the AUC of each disease, by name; alone where too few patients bear it."""
        return self._by_disease("auc_of")

    @cached_property
    def diseases(self) -> dict[str, DiseaseDifference]:
        """Difference of each disease, by name."""
        auc, ap = self.disease_aucs, self._by_disease("ap_of")
        corrected = holm({name: one.p for name, one in auc.items()})
        fewest = _fewest_patients(self.bench)
        return {
            name: DiseaseDifference(auc[name], corrected[name], ap[name], _note(fewest[name]))
            for name in auc
        }

    def _by_disease(self, of: Literal["auc_of", "ap_of"]) -> dict[str, PointEstimate]:
        differences = {}
        for d, (name, patients) in enumerate(_fewest_patients(self.bench).items()):
            # Of the two classes the smaller one decides how well the patients' spread is known.
            difference = self.difference(_pick(of, d), max(patients - 1, 1))
            differences[name] = difference if patients >= MIN_PATIENTS else difference.bare()
        return differences

    def _mean_auc(self, among: Chosen) -> PointEstimate:
        difference = self.difference(lambda run: run.mean_auc(among))
        return self._with_enough(difference, among)

    def _with_enough(self, difference: PointEstimate, among: Chosen) -> PointEstimate:
        return difference.bare() if (among & ~self.bench.frequent()).any() else difference


def _pick(of: Literal["auc_of", "ap_of"], d: int) -> Pick:
    return lambda run: run.auc_of(d) if of == "auc_of" else run.ap_of(d)


def _fewest_patients(bench: ResampledTestSet) -> dict[str, int]:
    positive, negative = class_patients(bench.test)
    return {name: int(min(positive[d], negative[d])) for d, name in enumerate(bench.names)}


def _note(patients: int) -> str:
    if patients >= MIN_PATIENTS:
        return ""
    return (
        f"{patients} patients of the rarer class, fewer than {MIN_PATIENTS}: no interval, no test"
    )


def compare_arms(arms: Sequence[Arm], control: str, bench: ResampledTestSet) -> list[Comparison]:
    """Make every comparison that the arms allow, fraction by fraction.

    Args:
        arms: The arms.
        control: Method, or label of the arm, that guided methods are judged against. Of several
            arms of that method each is judged against the one with its own network and frame.
        bench: The test images.
    """
    return [
        Comparison(
            kind,
            arm,
            against,
            bench,
            tuple(tuned_apart(arm.settings, against.settings)),
            _peers(arm, against, arms),
        )
        for arm in arms
        for kind, against in _opponents(arm, arms, control)
    ]


def _peers(arm: Arm, against: Arm, arms: Sequence[Arm]) -> tuple[Arm, ...]:
    """Return the two arms and all pretrained ones of the same network and label fraction."""
    return tuple(
        other
        for other in arms
        if other is arm
        or other is against
        or (
            not other.no_pretrain
            and other.fraction == arm.fraction
            and not unlike(arm.settings, other.settings)
        )
    )


def unmatched(arms: Sequence[Arm], control: str) -> list[tuple[Arm, list[str]]]:
    """Return the arms without a comparable control, with what the nearest control differs in."""
    alone = []
    for arm in arms:
        if arm.no_pretrain or control in (arm.method, arm.label) or arm.without:
            continue
        controls = [other for other in arms if _is_control(other, arm, control)]
        differences = [unlike(arm.settings, other.settings) for other in controls]
        if all(differences):
            alone.append((arm, min(differences, key=len, default=[])))
    return alone


def _is_control(other: Arm, arm: Arm, control: str) -> bool:
    return (
        control in (other.method, other.label)
        and not other.no_pretrain
        and not other.is_mask_control
        and other.fraction == arm.fraction
        and other is not arm
    )


def _opponents(arm: Arm, arms: Sequence[Arm], control: str) -> Iterator[tuple[Kind, Arm]]:
    """Yield what an arm is compared with; arms that differ in more than the method never are."""
    if arm.no_pretrain or arm.without:
        return
    comparable = [
        other
        for other in arms
        if other.fraction == arm.fraction
        and other is not arm
        and not unlike(arm.settings, other.settings)
    ]
    if control not in (arm.method, arm.label):
        controls = [other for other in comparable if _is_control(other, arm, control)]
        if controls:
            yield "control", _nearest(arm, controls)
    if arm.is_mask_control:
        return
    baselines = [other for other in comparable if _is_baseline(other, arm)]
    if baselines:
        yield "baseline", _nearest(arm, baselines)
    for other in comparable:
        if other.method != arm.method or other.no_pretrain:
            continue
        if other.without and other.masks == arm.masks:
            yield "component", other
        elif not other.without and other.is_mask_control:
            yield "masks", other


def _nearest(arm: Arm, others: Sequence[Arm]) -> Arm:
    """Return the arm of the same method, else the one tuned most alike."""
    return min(
        others,
        key=lambda other: (
            other.method != arm.method,
            len(tuned_apart(arm.settings, other.settings)),
            other.label,
        ),
    )


def _is_baseline(other: Arm, arm: Arm) -> bool:
    """Tell whether one arm is the other's network without pretraining."""
    if not other.no_pretrain:
        return False
    if other.method == arm.method:
        return other.masks in (arm.masks, "")
    return other.method == "direct" and has_plain_input(arm.method)


def has_plain_input(method: str) -> bool:
    """Tell whether a method fine-tunes the plain network, so that `direct` is its baseline."""
    try:
        return find_method(method).plain_input()
    except ConfigError:  # a method that is not installed here
        return False
