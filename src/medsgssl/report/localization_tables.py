"""Where the methods of a study look: each arm against boxes and lungs, and arm against arm."""

from __future__ import annotations

from medsgssl.report.subgroup_tables import AGAINST, ARM, LABELS, sides
from medsgssl.report.tables import Cell, Column, Row, Table
from medsgssl.runs.study_files import read_localization
from medsgssl.study.analysis import Analysis
from medsgssl.study.run_localization import MEASURES
from medsgssl.study.study_localization import difference, estimate
from medsgssl.utils.formatting import counted, plural


def localization(analysis: Analysis) -> Table:
    """Return where the runs of each arm look; arms of which none was scored are left out."""
    columns = (
        ARM,
        LABELS,
        Column("runs", "runs", "count"),
        Column("boxes", "boxes", "count", page=False),
        Column("patients", "patients", "count", page=False),
        Column("grid", "grid", "text"),
        *(Column(name, heading, "estimate", digits=2) for name, heading in MEASURES.items()),
    )
    rows: list[Row] = []
    arms = [arm for arm in analysis.ordered_arms() if arm.key in analysis.localized]
    for arm in arms:
        localized = analysis.localized[arm.key]
        read = [read_localization(run.folder.path) for run in arm.runs]
        grid = next((one["grid"] for one in read if one is not None), ())
        row: dict[str, Cell] = {"arm": arm.label, "labels": arm.fraction}
        row |= {"runs": len(localized.repeats), "boxes": localized.boxes}
        row["patients"] = localized.patients
        row["grid"] = " \N{MULTIPLICATION SIGN} ".join(map(str, grid))
        row |= {name: estimate(localized, name, analysis.bench) for name in MEASURES}
        rows.append(row)
    caption = ""
    if arms:
        first = analysis.localized[arms[0].key]
        boxes = plural(first.boxes, "box", "boxes")
        caption = f"{first.boxes} {boxes} of {counted(first.patients, 'patient')}"
    source = "localization.csv, computed from localization.json of the runs"
    return Table("localization", caption, columns, rows, source)


#: Measures whose differences between methods mean something.
_COMPARED = ("pointing", "iou_25", "iou_50", "energy", "lung_energy")


def localization_differences(analysis: Analysis) -> Table:
    """Return the paired differences of the comparisons with the control, on the same boxes."""
    columns = (
        ARM,
        AGAINST,
        LABELS,
        Column("patients", "patients", "count"),
        *(Column(name, MEASURES[name], "change", digits=2) for name in _COMPARED),
    )
    rows: list[Row] = []
    for comparison in analysis.with_control():
        localized = analysis.localized.get(comparison.arm.key)
        if localized is None or comparison.against.key not in analysis.localized:
            continue
        row: dict[str, Cell] = {**sides(comparison), "patients": localized.patients}
        row |= {name: difference(comparison, analysis.localized, name) for name in _COMPARED}
        rows.append(row)
    caption = "Differences on the same boxes"
    source = "localization_differences.csv, computed from localization.parquet of the runs"
    return Table("localization_differences", caption, columns, rows, source)
