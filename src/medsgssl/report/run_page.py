"""The report of one run: one page, made from the files of its folder alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medsgssl.report import run_summary, run_tables
from medsgssl.report.charts import Chart, write_figure
from medsgssl.report.learning_curves import learning_charts
from medsgssl.report.page import write_page
from medsgssl.report.run_charts import calibration_charts, forest, pr_charts, roc_charts
from medsgssl.report.run_files import Results
from medsgssl.report.run_pictures import Example, examples, map_examples
from medsgssl.runs.folder import RunFolder


def write_report(run: RunFolder, figures: bool = False) -> Path:
    """Write ``report.html``, one page that needs nothing but itself.

    Whatever a stage has not written yet is replaced by a sentence that names the stage.

    Args:
        run: The run folder.
        figures: Also write the figures as SVG and PDF into ``figures/`` of the run folder.

    Returns:
        The page.

    Raises:
        ConfigError: The folder holds no run.
        DataError: One of its files is damaged.
    """
    results = Results.read(run)
    charts = _charts(results)
    if figures:
        for name, panels in charts.items():
            if panels:
                columns = {"forest": 1, "roc": 5, "precision-recall": 5, "calibration": 5}
                drawn = list(panels.values())
                write_figure(drawn, run.path / "figures", name, columns.get(name, 3))
    return write_page(run.report, "run.html.jinja", _content(results, charts))


def _charts(results: Results) -> dict[str, dict[str, Chart]]:
    """Return every figure as its panels by name; a figure without a file has none."""
    metrics, test = results.metrics, results.test
    logs = {"pretrain": results.pretrain_log, "finetune": results.finetune_log}
    charts: dict[str, dict[str, Chart]] = {
        "forest": {},
        "roc": {} if test is None else roc_charts(test, metrics),
        "precision-recall": {} if test is None else pr_charts(test, metrics),
        "calibration": calibration_charts(metrics) if metrics else {},
    }
    if metrics and metrics["mean_auc"] is not None:
        charts["forest"] = {"all": forest(metrics, metrics["bootstrap"]["confidence"])}
    for stage, log in logs.items():
        panels = [] if log is None else learning_charts(log, stage)
        charts[stage] = {chart.name: chart for chart in panels}
    return charts


def _examples(results: Results) -> list[Example]:
    if results.examples is None:
        return []
    return examples(results.examples, without_masks=run_summary.mask_source(results) == "none")


def _content(results: Results, charts: dict[str, dict[str, Chart]]) -> dict[str, Any]:
    run, metrics = results.folder, results.metrics
    return {
        "title": run_summary.title(results),
        "data_set": run_summary.data_set(results),
        "setting": results.setting,
        "direct": results.no_pretrain,
        "metrics": metrics,
        "verdict": run_summary.verdict(metrics) if metrics else "",
        "best_epoch": run_summary.best_epoch(results),
        "warnings": run_summary.warnings(results),
        "charts": {
            figure: [(name, chart.title, chart.svg()) for name, chart in panels.items()]
            for figure, panels in charts.items()
        },
        "split": run_summary.split_kind(results),
        "masks": run_summary.mask_source(results),
        "examples": _examples(results),
        "maps": [] if results.maps is None else map_examples(results.maps),
        "split_table": run_tables.split_table(results),
        "data_tables": run_tables.data_tables(results),
        "subgroups": run_tables.subgroup_tables(metrics) if metrics else [],
        "shortcuts": run_tables.shortcut_table(metrics) if metrics else None,
        "config_text": results.config_text,
        "environment": results.environment,
        "stages": run_summary.stage_rows(results),
        "files": run_summary.file_rows(results),
        "absent": {
            path.name: results.absent(path)
            for path in (
                run.metrics, run.predictions, run.pretrain_log, run.finetune_log, run.examples,
                run.split, run.data, run.environment,
            )
        },
    }  # fmt: skip
