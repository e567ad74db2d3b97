"""Comparisons of the arms of a study on the same test images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from medsgssl.evaluation.delong import compare_aucs, holm
from medsgssl.study.arms import Arm, differing
from medsgssl.study.statistics import Estimate, ResampledTestSet, each

Kind = Literal["control", "twin", "direct", "masks", "part"]


#: What a comparison of each kind answers.
QUESTIONS: dict[Kind, str] = {
    "control": "the method against the control without masks",
    "twin": "pretraining against the same input path without it",
    "direct": "pretraining against plain supervised training",
    "masks": "lung masks against masks without anatomy",
    "part": "the whole method against the method without one of its parts",
}


# What a method is allowed to differ in from what it is compared with.
_OWN = ("method_name", "no_pretrain", "method.", "masks.", "data.label_fraction")


@dataclass(frozen=True)
class DiseaseDifference:
    """One disease in a comparison.

    Attributes:
        difference: Of the AUC, with interval and p value.
        holm: The p value after Holm's correction over the diseases.
        delong: p values of DeLong's test with patients as clusters, by seed, for seeds that both
            arms have.
        ap: Difference of the average precision.
        note: Why something is absent.
    """

    difference: Estimate
    holm: float | None
    delong: dict[int, float]
    ap: Estimate
    note: str = ""


@dataclass(frozen=True)
class Comparison:
    """One arm against another on the same test images.

    Attributes:
        kind: What is compared.
        arm: The first.
        against: The second; differences are the first minus the second.
        mean: Difference of the headline mean AUC.
        mean_20: Difference of the mean AUC over the diseases with enough positives.
        mean_ap: Difference of the headline mean average precision.
        diseases: By name.
        unlike: Settings in which they differ beyond what a method may choose.
    """

    kind: Kind
    arm: Arm
    against: Arm
    mean: Estimate
    mean_20: Estimate
    mean_ap: Estimate
    diseases: dict[str, DiseaseDifference]
    unlike: tuple[str, ...]


def compare_arms(arms: Sequence[Arm], control: str, bench: ResampledTestSet) -> list[Comparison]:
    """Make every comparison that the arms allow, fraction by fraction."""
    return [
        _compare(kind, arm, against, bench)
        for arm in arms
        for kind, against in _opponents(arm, arms, control)
    ]


def _opponents(arm: Arm, arms: Sequence[Arm], control: str) -> Iterator[tuple[Kind, Arm]]:
    same = [other for other in arms if other.fraction == arm.fraction and other is not arm]
    for other in same:
        own = other.method == arm.method
        if other.label == control and not (arm.no_pretrain and arm.method == control):
            yield "control", other
        elif arm.no_pretrain or arm.without:
            continue
        elif own and other.without and other.masks == arm.masks:
            yield "part", other
        elif own and other.no_pretrain and not arm.is_mask_control:
            yield "twin", other
        elif other.method == "direct" and arm.method == control:
            yield "direct", other
        elif own and not other.no_pretrain and other.is_mask_control and not arm.is_mask_control:
            yield "masks", other


def _compare(kind: Kind, arm: Arm, against: Arm, bench: ResampledTestSet) -> Comparison:
    a, b = arm.drawn, against.drawn
    head, frequent = bench.headline, bench.frequent()
    raw = [_disease(d, arm, against, bench) for d in range(len(bench.test.names))]
    named = dict(zip(bench.test.names, raw, strict=True))
    corrected = holm({name: found.difference.p for name, found in named.items()})
    return Comparison(
        kind=kind,
        arm=arm,
        against=against,
        mean=bench.difference(
            each(a, lambda run: run.mean_auc(head)), each(b, lambda run: run.mean_auc(head))
        ),
        mean_20=bench.difference(
            each(a, lambda run: run.mean_auc(frequent)), each(b, lambda run: run.mean_auc(frequent))
        ),
        mean_ap=bench.difference(
            each(a, lambda run: run.mean_ap(head)), each(b, lambda run: run.mean_ap(head))
        ),
        diseases={
            name: DiseaseDifference(
                found.difference, corrected[name], found.delong, found.ap, found.note
            )
            for name, found in named.items()
        },
        unlike=_unlike(arm, against),
    )


def _disease(d: int, arm: Arm, against: Arm, bench: ResampledTestSet) -> DiseaseDifference:
    ap = bench.difference(
        each(arm.drawn, lambda run: run.disease_ap(d)),
        each(against.drawn, lambda run: run.disease_ap(d)),
    )
    difference = bench.difference(
        each(arm.drawn, lambda run: run.disease_auc(d)),
        each(against.drawn, lambda run: run.disease_auc(d)),
    )
    labels, _, patients, known = bench.test.column(d)
    delong, note = {}, ""
    others = {run.seed: run for run in against.runs}
    pairs = [(run, others[run.seed]) for run in arm.runs if run.seed in others]
    if len(arm.runs) == 1 and len(against.runs) == 1:
        pairs = [(arm.runs[0], against.runs[0])]
    for run, other in pairs:
        columns = labels, run.test.scores[known, d], other.test.scores[known, d]
        try:
            found = compare_aucs(*columns, clusters=patients)
        except ValueError as error:
            note = str(error)
            continue
        delong[run.seed] = found.p
        if len(arm.runs) == 1 and len(against.runs) == 1:
            # Of one run each, the closed form is exact where the bootstrap is rough.
            difference = Estimate(found.difference, found.interval(bench.confidence), None, found.p)
    return DiseaseDifference(difference, None, delong, ap, note)


def _unlike(arm: Arm, against: Arm) -> tuple[str, ...]:
    own, other = arm.settings, against.settings
    keys = [
        key
        for key in differing([own, other])
        if not key.startswith(_OWN)
        and not (key.startswith("pretrain.") and _one_is_direct(arm, against))
    ]
    return tuple(f"{key}: {own.get(key)} against {other.get(key)}" for key in keys)


def _one_is_direct(arm: Arm, against: Arm) -> bool:
    return arm.no_pretrain or against.no_pretrain
