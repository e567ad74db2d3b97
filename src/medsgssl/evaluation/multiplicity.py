"""Correction of p values for testing many diseases."""

from __future__ import annotations

from collections.abc import Mapping


def holm(p_values: Mapping[str, float | None]) -> dict[str, float | None]:
    """Adjust p values by Holm's step-down method, which controls the family-wise error rate.

    Source: Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal
    of Statistics 6, 1979.

    Args:
        p_values: Name to p value in [0, 1]; None for a test that could not be made, which does
            not count towards the family.

    Returns:
        Adjusted p values in the same order, None where there was none.
    """
    made = sorted((p, name) for name, p in p_values.items() if p is not None)
    adjusted: dict[str, float | None] = dict.fromkeys(p_values)
    highest = 0.0
    for rank, (p, name) in enumerate(made):
        highest = max(highest, min(1.0, (len(made) - rank) * p))
        adjusted[name] = highest
    return adjusted
