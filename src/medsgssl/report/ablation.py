"""The leave-one-out table: what a method loses without each of its parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from medsgssl.evaluation.delong import holm
from medsgssl.study.analysis import Analysis
from medsgssl.study.comparisons import Comparison
from medsgssl.study.variants import part_of


def part_rows(analysis: Analysis) -> list[dict[str, Any]]:
    """Return one row per part left out, by method and label fraction.

    ``auc`` is of the method without the part, ``difference`` the whole method's mean AUC minus
    that, so what the part brings. The p values are corrected by Holm over the parts of one method
    at one label fraction.
    """
    families: dict[tuple[str, float], list[Comparison]] = {}
    for found in analysis.comparisons:
        if found.kind == "part":
            families.setdefault(found.arm.key, []).append(found)
    return [row for family in families.values() for row in _family(analysis, family)]


def _family(analysis: Analysis, family: Sequence[Comparison]) -> list[dict[str, Any]]:
    corrected = holm({found.against.without: found.mean.p for found in family})
    return [
        {
            "method": found.arm.label,
            "labels": found.arm.fraction,
            "without": found.against.without,
            "what": part_of(found.against.method, found.against.without).what,
            **analysis.means[found.arm.key]["auc"].columns("auc_whole"),
            **analysis.means[found.against.key]["auc"].columns("auc"),
            **found.mean.columns("difference"),
            "p": found.mean.p,
            "p_holm": corrected[found.against.without],
        }
        for found in family
    ]
