"""The report of a comparison: one self-contained page, its tables and figures as files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medsgssl.report.charts import Chart, write_figure
from medsgssl.report.checklist import write_checklist
from medsgssl.report.localization_examples import looked_examples
from medsgssl.report.page import templates
from medsgssl.report.study_charts import (
    calibration_chart,
    difference_chart,
    efficiency_chart,
    reliability_chart,
    strata_chart,
)
from medsgssl.report.study_frames import make_tables, write_tables
from medsgssl.report.study_tables import (
    calibration_table,
    decisions_table,
    disease_rows,
    looked_table,
    means_table,
    others_table,
    p_text,
    parts_table,
    quality_table,
    runs_table,
    shortcuts_table,
    subgroups_table,
)
from medsgssl.runs.data_summary import DataSummary
from medsgssl.study.analysis import Analysis, analyze
from medsgssl.study.comparisons import Comparison
from medsgssl.study.plan import PLAN_FILE
from medsgssl.study.variants import CONTROL
from medsgssl.study.verdict import RULE, reach
from medsgssl.utils.formatting import join_names, percent, signed, words
from medsgssl.utils.io import write_text

PAGE = "report.html"


def report_place(folders: Sequence[Path]) -> Path:
    """Return where a report goes by default: into its study, or beside where one works."""
    if len(folders) == 1 and (folders[0] / PLAN_FILE).is_file():
        return folders[0] / "report"
    return Path("comparison")


def write_study_report(
    folders: Sequence[Path],
    out: Path | None = None,
    *,
    control: str = CONTROL,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> Path:
    """Compare the runs and write the page with its tables (CSV, LaTeX) and figures (SVG, PDF).

    Args:
        folders: One study, or run folders.
        out: Folder of the report; ``report_place`` by default.
        control: Label of the arm to compare with.
        resamples: Resamples of patients behind each interval.
        confidence: Nominal coverage.

    Returns:
        The page.

    Raises:
        ConfigError: A folder holds no run.
        DataError: A file is damaged, or the runs do not compare.
    """
    analysis = analyze(folders, control=control, resamples=resamples, confidence=confidence)
    place = out or report_place(folders)
    tables = make_tables(analysis)
    write_tables(tables, place)
    write_checklist(analysis, place)
    charts = _charts(analysis)
    for name, chart in charts.items():
        write_figure([chart], place / "figures", name, columns=1)
    shown = _content(analysis, charts) | {
        "looked": looked_table(tables["localization"]),
        "left_out": parts_table(tables["parts"]),
    }
    page = templates().get_template("study.html.jinja").render(shown)
    write_text(place / PAGE, page)
    return place / PAGE


def _charts(analysis: Analysis) -> dict[str, Chart]:
    compared = analysis.with_control()
    top = max(arm.fraction for arm in analysis.arms)
    found: dict[str, Chart | None] = {
        "difference": difference_chart(compared, analysis.control),
        "efficiency": efficiency_chart(analysis),
        "calibration": calibration_chart(analysis, top),
        "reliability": reliability_chart(analysis, top, scaled=False),
        "reliability-scaled": reliability_chart(analysis, top, scaled=True),
    }
    for number_, (comparison, parts) in enumerate(analysis.subgroups):
        if comparison.arm.fraction == top:
            name = f"subgroups-{number_}"
            found[name] = strata_chart(name, comparison.arm.label, parts, analysis.control)
    return {name: chart for name, chart in found.items() if chart is not None}


def _content(analysis: Analysis, charts: dict[str, Chart]) -> dict[str, Any]:
    bench, first = analysis.bench, analysis.collected.runs[0]
    top = max(arm.fraction for arm in analysis.arms)
    quality, no_quality = quality_table(analysis)
    return {
        "analysis": analysis,
        "bench": bench,
        "data_set": _data_set(first.data, first.settings.get("data.root")),
        "methods": list(dict.fromkeys(arm.method for arm in analysis.arms)),
        "fractions": join_names(
            [percent(share) for share in sorted({arm.fraction for arm in analysis.arms})]
        ),
        "rule": RULE,
        "warnings": analysis.warnings,
        "charts": {name: (name, chart.title, chart.svg()) for name, chart in charts.items()},
        "means": means_table(analysis),
        "decisions": decisions_table(analysis),
        "looks": looked_examples([arm for arm in analysis.arms if arm.fraction == top]),
        "disease_tables": [
            (found, disease_rows(analysis, found))
            for found in sorted(analysis.with_control(), key=_methods_first)
            if not found.arm.is_mask_control
        ],
        "others": others_table(analysis),
        "quality": quality,
        "no_quality": no_quality,
        "subgroups": [
            subgroups_table(found, parts)
            for found, parts in analysis.subgroups
            if found.arm.fraction == top
        ],
        "shortcuts": shortcuts_table(analysis),
        "calibration": calibration_table(analysis),
        "runs": runs_table(analysis),
        "diseases_in_mean": [
            words(name)
            for name, chosen in zip(bench.test.names, bench.headline, strict=True)
            if chosen
        ],
        "signed": signed,
        "p_text": p_text,
        "reach": reach,
    }  # fmt: skip


def _methods_first(found: Comparison) -> tuple[float, bool, str]:
    return -found.arm.fraction, found.arm.no_pretrain, found.arm.label


def _data_set(data: DataSummary | None, root: Any) -> str:
    return data["catalog"]["source"] if data else Path(str(root)).name or "unnamed data set"
