"""The columns and cells that say what a row of a study's table compares."""

from __future__ import annotations

from medsgssl.report.tables import Cell, Column
from medsgssl.study.comparisons import Comparison

ARM = Column("arm", "arm", "text", "Method")
AGAINST = Column("against", "against", "text", "Against")
LABELS = Column("labels", "labels", "percent", "Labels")
P = Column("p", "p", "p", "$p$")
P_HOLM = Column("p_holm", "p (Holm)", "p", "$p$ (Holm)")


def sides(found: Comparison) -> dict[str, Cell]:
    """Return the cells that say what is compared."""
    return {
        "kind": found.kind,
        "arm": found.arm.label,
        "against": found.against.label,
        "labels": found.arm.fraction,
    }
