"""The report of a study, panel by panel: a self-contained page, its tables and figures as files.

A panel of the page is a function that returns a ``Panel`` and a line in ``PANELS``, or an entry
point ``medsgssl.study_panels`` of another package.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from medsgssl.evaluation.few_patients import MIN_PATIENTS
from medsgssl.report import study_charts, study_tables, subgroup_tables
from medsgssl.report.calibration_section import calibration_panel
from medsgssl.report.charts import write_figure
from medsgssl.report.checklist import write_checklist
from medsgssl.report.page import Block, Details, Panel, Text, write_page
from medsgssl.report.pictures import localization_examples
from medsgssl.report.prose import merge_warnings
from medsgssl.report.tables import Table, p_text, write_tables
from medsgssl.report.verdict_rows import build_verdict_rows, family_text
from medsgssl.study.analysis import Analysis, analyze
from medsgssl.study.packed import opened_studies
from medsgssl.study.plan import PLAN_FILE
from medsgssl.study.variants import CONTROL
from medsgssl.study.verdict import RULE, MethodVerdict
from medsgssl.utils.formatting import percent, signed, signed_interval, words
from medsgssl.utils.plugins import load_entry_points

PAGE = "report.html"
#: A longer table of tests is folded.
_MANY_ROWS = 12
Tables = dict[str, Table]


def report_folder(folders: Sequence[Path]) -> Path:
    """Return where a report goes by default: into its study, or beside where one works."""
    if len(folders) == 1 and (folders[0] / PLAN_FILE).is_file():
        return folders[0] / "report"
    return Path("comparison")


def write_study_report(
    folders: Sequence[Path],
    out: Path | None = None,
    *,
    control: str = CONTROL,
    confidence: float = 0.95,
) -> Path:
    """Compare the runs and write the page with its tables and figures.

    Tables are written as CSV, LaTeX and Markdown, figures as SVG and PDF.

    Args:
        folders: One study, packed or not, or run folders.
        out: Folder of the report; ``report_folder`` by default.
        control: Label of the arm to compare with.
        confidence: Nominal coverage.

    Returns:
        The page.

    Raises:
        ConfigError: A folder holds no run.
        DataError: A file is damaged, or the runs do not compare.
    """
    folder = out or report_folder(folders)
    with opened_studies(folders) as opened:
        analysis = analyze(opened, control=control, confidence=confidence)
        return _write(analysis, folder)


def _write(analysis: Analysis, folder: Path) -> Path:
    tables = study_tables.build_study_tables(analysis)
    write_tables(list(tables.values()), folder)
    write_checklist(analysis, folder)
    panels = [panel for make in all_panels() if (panel := make(analysis, tables)) is not None]
    for panel in panels:
        for name, charts in panel.figures():
            write_figure(charts, folder / "figures", name, columns=4)
    bench, first = analysis.bench, analysis.collected.runs[0]
    fractions = sorted({arm.fraction for arm in analysis.arms})
    content = {
        "methods": list(dict.fromkeys(arm.method for arm in analysis.arms)),
        "data_set": first.data["catalog"]["source"] if first.data else "an unnamed data set",
        "images": len(bench.test),
        "patients": bench.patients,
        "folds": len(bench.folds),
        "runs": len(analysis.collected.runs),
        "fractions": " and ".join(map(percent, fractions)),
        "verdicts": build_verdict_rows(analysis),
        "sentences": [(one.sentence, one.caveats) for one in _every_verdict(analysis)],
        "family": family_text(analysis),
        "unit": study_tables.unit(analysis),
        "control": analysis.control,
        "rule": RULE,
        "warnings": merge_warnings(analysis.warnings),
        "panels": panels,
    }
    return write_page(folder / PAGE, "study.html.jinja", content)


def _every_verdict(analysis: Analysis) -> list[MethodVerdict]:
    return [*analysis.verdicts, *analysis.baseline_verdicts]


def _top(analysis: Analysis) -> float:
    return max(arm.fraction for arm in analysis.arms)


def _mean_diseases(analysis: Analysis) -> list[str]:
    chosen = zip(analysis.bench.test.names, analysis.bench.judged_on, strict=True)
    return [words(name) for name, kept in chosen if kept]


def _not_compared(analysis: Analysis) -> Text:
    return Text(f"No arm could be compared with {analysis.control}.", "absent")


def difference_panel(analysis: Analysis, tables: Tables) -> Panel:
    """The difference of every arm from the control."""
    chart = study_charts.difference_chart(analysis)
    title = f"Difference from {analysis.control}"
    if chart is None:
        return Panel("difference", title, (_not_compared(analysis),), "Difference")
    confidence = percent(analysis.bench.confidence)
    if any(verdict.interval is not None for verdict in analysis.primary):
        lines = (
            f"Lines: the simultaneous {confidence} intervals that verdicts rest on. Filled: helps "
            f"or hurts. Pale bars: {confidence} intervals of each difference alone; arms that no "
            "verdict is on, such as mask controls, have these only."
        )
    elif any(comparison.mean.interval is not None for comparison in analysis.with_control()):
        lines = f"Pale bars: {confidence} intervals of each difference alone."
    else:
        lines = "Nothing is judged, so no interval is drawn."
    text = (
        f"Mean AUC over {len(_mean_diseases(analysis))} diseases on the same test images. {lines}"
    )
    blocks = (Text(text), chart, Text("comparisons.csv", "source"))
    return Panel("difference", title, blocks, "Difference")


def means_panel(analysis: Analysis, tables: Tables) -> Panel:
    """Means of every arm, and how they grow with the labels."""
    chart = study_charts.efficiency_chart(analysis)
    means = tables["means"]
    blocks: list[Block] = []
    if chart is None:
        blocks.append(Text("One label fraction only: there is no curve to draw.", "absent"))
    else:
        lines = len({arm.label for arm in analysis.arms})
        drawn = "Vertical lines: intervals, as in the table."
        blocks += [
            chart,
            Text(drawn if lines <= study_charts.MOST_BARS else "Intervals are in the table."),
        ]
    if any(arm.fraction < 1 for arm in analysis.arms):
        blocks.append(
            Text(
                "Shares are of the training patients. Validation, which thresholds, temperatures "
                "and the kept epoch rest on, keeps all of its labels at every share."
            )
        )
    blocks += [means, study_tables.decisions_view(analysis, means)]
    return Panel("labels", "Label efficiency and means", tuple(blocks), "Labels and means")


def diseases_panel(analysis: Analysis, tables: Tables) -> Panel:
    """Every disease of every method."""
    text = (
        "Differences are arm minus control on the same images. Holm: corrected over the diseases "
        "of the table; bold: below 0.05. Click a heading to sort."
    )
    compared = [
        comparison for comparison in analysis.with_control() if not comparison.arm.is_mask_control
    ]
    compared.sort(
        key=lambda comparison: (
            -comparison.arm.fraction,
            comparison.arm.no_pretrain,
            -(comparison.mean.value or 0),
        )
    )
    details: list[Block] = [
        Details(
            f"{comparison.arm.label} against {comparison.against.label}, "
            f"{percent(comparison.arm.fraction)} of the labels",
            (
                study_tables.rows_of(tables["diseases"], comparison, ""),
                Text(
                    f"Mean of {len(_mean_diseases(analysis))} diseases: "
                    f"{signed(comparison.mean.value)} "
                    f"({signed_interval(comparison.mean.interval)}"
                    f", p {p_text(comparison.mean.p)}); mean AP {signed(comparison.mean_ap.value)}."
                ),
            ),
            open=n == 0,
        )
        for n, comparison in enumerate(compared)
    ]
    source = Text("diseases.csv", "source")
    return Panel(
        "diseases", "Diseases", (Text(text), *(details or [_not_compared(analysis)]), source)
    )


def anatomy_panel(analysis: Analysis, tables: Tables) -> Panel:
    """Baselines and mask controls, and the difference by mask quality."""
    others = tables["comparisons"].where(
        lambda row: row["kind"] not in ("control", "part", "component"),
        "Against the same network without pretraining, and against mask controls",
    )
    blocks: list[Block] = [
        Text(
            "A gain may be attributed to the lungs only where the method also beats its own "
            "controls with masks that carry no anatomy, and one would expect it to grow with the "
            "quality of the masks."
        )
    ]
    if others:
        blocks.append(others.select("arm", "against", "labels", "difference", "p_tested", "asks"))
        blocks.append(
            Text(
                "Intervals of each difference alone. p of baselines: Holm over their family, as in "
                "the verdicts; of mask controls: each at "
                f"{percent(analysis.bench.level)}, tested only where the method helps."
            )
        )
    else:
        blocks.append(
            Text(
                "Neither baselines without pretraining nor mask controls were run: use "
                "`--baselines` and `--controls none,shuffled,random-blob`.",
                "absent",
            )
        )
    absent = subgroup_tables.quality_absent(analysis)
    if analysis.quality:
        blocks.append(Text("Where masks are good", "heading"))
    for comparison, quality in analysis.quality:
        if quality.absent:
            continue
        title = f"{comparison.arm.label}, {percent(comparison.arm.fraction)} of the labels"
        rows = study_tables.rows_of(tables["mask_quality"], comparison, title)
        blocks += [
            rows.select(
                "group", "images", "patients", "diseases", "auc", "auc_against", "difference"
            ),
            Text(subgroup_tables.quality_trend(quality)),
        ]
    if absent:
        blocks.append(Text(absent, "absent"))
    return Panel("anatomy", "Is it the anatomy?", tuple(blocks), "Anatomy")


def components_panel(analysis: Analysis, tables: Tables) -> Panel | None:
    """What each component of a method brings; None where none was left out."""
    if not tables["parts"]:
        return None
    text = (
        "The whole method against the method without one of its components, on the same test "
        "images. Holm: corrected over the components of a method. An interval around zero does "
        "not show that a component is useless."
    )
    return Panel("parts", "What each component brings", (Text(text), tables["parts"]), "Components")


def localization_panel(analysis: Analysis, tables: Tables) -> Panel:
    """Where the networks look, against boxes drawn by radiologists."""
    title = "Where the networks look"
    if not tables["localization"]:
        text = "No run was localized: `medsgssl study localize STUDY` scores maps against boxes."
        return Panel("looking", title, (Text(text, "absent"),), "Localization")
    text = (
        "Grad-CAM of convolutional networks, attention rollout of transformers, on the test images "
        "with boxes drawn by radiologists; the weights never saw a box. Pointing: the hottest "
        "pixel lies in the box. IoU: the map cut at a share of its highest value. A blind guess "
        "scores “by chance” in pointing and energy, a map of the middle of every image more. A map "
        "of few grid cells cannot find small findings."
    )
    blocks: list[Block] = [Text(text), tables["localization"]]
    if tables["localization_differences"]:
        note = (
            "Method minus control. Intervals over patients and "
            f"{study_tables.unit(analysis)}, not corrected for their number; with fewer than "
            f"{MIN_PATIENTS} patients with boxes the numbers are descriptive."
        )
        blocks += [tables["localization_differences"], Text(note)]
    arms = [arm for arm in analysis.arms if arm.fraction == _top(analysis)]
    if examples := localization_examples(arms):
        unit = study_tables.unit(analysis, one=True)
        legend = (
            "The first box of each disease in the list; of each arm the run of the lowest "
            f"{unit}. Bright: high, each map scaled to its own highest value; outlines: lungs and "
            "box. From `localization.npz` of the runs."
        )
        blocks += [Text("Examples", "heading"), Text(legend), *examples]
    return Panel("looking", title, tuple(blocks), "Localization")


def subgroups_panel(analysis: Analysis, tables: Tables) -> Panel:
    """Differences within subgroups, and what shortcuts alone would score."""
    top = _top(analysis)
    here = [
        (comparison, one.strata)
        for comparison, one in analysis.subgroups
        if comparison.arm.fraction == top
    ]
    here.sort(key=lambda pair: -(pair[0].mean.value or 0))  # as the verdicts
    chart = study_charts.subgroup_chart(here, analysis.control, study_charts.arm_labels(analysis))
    rows = tables["subgroups"].where(lambda row: row["labels"] == top, "")
    keys = ("arm", "group", "images", "patients", "diseases", "auc", "auc_against")
    numbers = Details("The numbers", (rows.select(*keys, "difference"),), open=chart is None)
    source = Text("subgroups.csv", "source")
    blocks: list[Block] = []
    if not rows:
        blocks.append(_not_compared(analysis))
    elif chart is None:
        text = (
            "No difference can be shown within subgroups: the arms have no common "
            f"{study_tables.unit(analysis)}, or no group has enough patients."
        )
        blocks += [Text(text, "absent"), numbers, source]
    else:
        text = (
            f"With {percent(top)} of the labels, all methods on one axis. Means are over the "
            "diseases with at least 20 patients of either class in the group, so levels of "
            "different groups do not compare; the differences within a group do. Intervals are not "
            "corrected for the number of groups."
        )
        blocks += [Text(text), chart, source]
        tests = tables["interactions"].where(lambda row: row["labels"] == top)
        if len(tests.rows) > _MANY_ROWS:
            summary = f"{tests.caption} {len(tests.rows)} tests"
            blocks.append(Details(summary, (replace(tests, caption=""),)))
        elif tests:
            blocks.append(tests)
        blocks.append(numbers)
    if shortcuts := subgroup_tables.shortcuts(analysis):
        text = (
            "0.5 is no information. A disease that the view position predicts can be scored "
            "without looking at the lungs; the AUC within one view position cannot profit from it."
        )
        title = "Shortcuts: what view position, sex, age and follow-up number predict alone"
        blocks.append(Details(title, (Text(text), shortcuts)))
    return Panel("subgroups", "Subgroups and shortcuts", tuple(blocks), "Subgroups")


def making_panel(analysis: Analysis, tables: Tables) -> Panel:
    """How the numbers were made, and of which runs."""
    text = (
        "Every number is computed from `predictions.parquet`, `metrics.json`, `data.json` and "
        "`config.yaml` of the runs below; no run is repeated and no model is loaded. The tables "
        "are beside this page as CSV, LaTeX and Markdown, the figures as SVG and PDF, and "
        "`checklist.md`, a reporting checklist filled in as far as the files allow."
    )
    unit = study_tables.unit(analysis)
    statistics = (
        "Patients, not images, are left out in turn, the same ones for every run. The interval of "
        f"an arm with several {unit} adds what training varies between them to that of patients. "
        f"Means are over: {', '.join(_mean_diseases(analysis))}."
    )
    details = (
        Details("Runs", (tables["runs"],), open=True),
        Details("Statistics", (Text(statistics),)),
    )
    return Panel("making", "How it was made", (Text(text), *details))


#: The panels of the page, from top to bottom.
PANELS: tuple[Callable[[Analysis, Tables], Panel | None], ...] = (
    difference_panel,
    means_panel,
    diseases_panel,
    anatomy_panel,
    components_panel,
    localization_panel,
    subgroups_panel,
    calibration_panel,
    making_panel,
)


def all_panels() -> list[Callable[[Analysis, Tables], Panel | None]]:
    """Return the panels of this page, then those that other packages offer."""
    return [*PANELS, *(panel for _, panel in load_entry_points("medsgssl.study_panels"))]
