"""The report of one run: one page, made from the files of its folder alone.

Here its contents are gathered; ``templates/run.html.jinja`` lays them out. The page of a study is
``study_page.py``.
"""

from __future__ import annotations

from pathlib import Path

from medsgssl.report import run_tables
from medsgssl.report.charts import Chart, write_figure
from medsgssl.report.page import Example, write_page
from medsgssl.report.pictures import examples, map_examples
from medsgssl.report.prose import merge_warnings, without_paths
from medsgssl.report.run_charts import (
    calibration_charts,
    forest,
    learning_charts,
    pr_charts,
    roc_charts,
)
from medsgssl.report.run_files import FILES, Results
from medsgssl.runs.folder import RunFolder
from medsgssl.runs.metrics_file import Metrics
from medsgssl.runs.stage_files import read_kept_epoch
from medsgssl.utils.formatting import join_names, number, words


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
    kept = kept_epoch(results)
    for stage, log in logs.items():
        at = kept[0] if kept and stage == "finetune" else None
        panels = [] if log is None else learning_charts(log, stage, at)
        charts[stage] = {chart.name: chart for chart in panels}
    return charts


def _examples(results: Results) -> list[Example]:
    if results.examples is None:
        return []
    return examples(results.examples, without_masks=mask_source(results) == "none")


def _kept_tile(results: Results) -> str:
    """Return the kept epoch, counted from 1, with its validation mean AUC; empty for none."""
    kept = kept_epoch(results)
    if kept is None:
        return ""
    epochs = results.setting("finetune.epochs")
    return f"{kept[0] + 1} of {epochs} (validation AUC {number(kept[1])})"


def _repeat(results: Results) -> tuple[str, str]:
    """Return what tells the runs of an arm apart, and its number: the fold, else the seed."""
    fold, folds = results.setting("data.fold"), results.setting("data.folds")
    if fold is None:
        return "seed", str(results.setting("seed"))
    return "fold", f"{fold} (of 0 to {int(folds) - 1})"


def _content(results: Results, charts: dict[str, dict[str, Chart]]) -> dict[str, object]:
    run, metrics = results.folder, results.metrics
    return {
        "title": title(results),
        "data_set": data_set(results),
        "setting": results.setting,
        "direct": results.no_pretrain,
        "metrics": metrics,
        "calibration_table": run_tables.calibration_table(metrics) if metrics else None,
        "disease_table": run_tables.disease_table(metrics) if metrics else None,
        "verdict": verdict(metrics) if metrics else "",
        "kept_epoch": _kept_tile(results),
        "kept_note": kept_note(results),
        "warnings": warnings(results),
        "charts": {
            figure: [(name, chart.title, chart.svg()) for name, chart in panels.items()]
            for figure, panels in charts.items()
        },
        "split": split_kind(results),
        "repeat": _repeat(results),
        "masks": mask_source(results),
        "examples": _examples(results),
        "maps": [] if results.maps is None else map_examples(results.maps),
        "split_table": run_tables.split_table(results),
        "data_tables": run_tables.data_tables(results),
        "subgroups": run_tables.subgroup_tables(metrics) if metrics else [],
        "shortcuts": run_tables.shortcut_table(metrics) if metrics else None,
        "config_text": without_paths(results.config_text),
        "environment": {
            name: without_paths(str(text)) for name, text in (results.environment or {}).items()
        },
        "stages": stage_rows(results),
        "files": file_rows(results),
        "absent": {
            path.name: results.absent(path)
            for path in (
                run.metrics, run.predictions, run.pretrain_log, run.finetune_log, run.examples,
                run.split, run.data, run.environment,
            )
        },
    }  # fmt: skip


def title(results: Results) -> str:
    """Return the name of the method, marked where it is the baseline without pretraining."""
    name = str(results.config.get("method_name", "run"))
    return f"{name} without pretraining" if results.no_pretrain and name != "direct" else name


def data_set(results: Results) -> str:
    """Return the folder of the data set and its kind."""
    kind = results.data["catalog"]["source"] if results.data else None
    root = results.setting("data.root")
    folder = Path(str(root)).name if root else ""
    if kind and folder and str(kind).lower() != folder.lower():
        return f"{folder} ({kind})"
    return str(kind or folder or "unnamed data set")


def mask_source(results: Results) -> str:
    """Return which masks the run saw; ``none`` where its method looks at no mask."""
    return results.data["masks"]["source"] if results.data else str(results.setting("masks.source"))


def split_kind(results: Results) -> str:
    """Return how the images were split: as resolved, else as asked for."""
    if results.data:
        return results.data["catalog"]["split"]["kind"]
    return str(results.setting("data.split"))


def verdict(metrics: Metrics) -> str:
    """Say in one sentence for how many diseases the classifier beats chance."""
    with_interval = {
        name: interval
        for name, result in metrics["per_disease"].items()
        if (interval := result["auc_interval"]) is not None
    }
    if metrics["bootstrap"]["resamples"] == 0:
        return "Not judged: `evaluate.bootstrap` is 0, so there are no intervals."
    if not with_interval:
        return "Not judged: no disease has enough test patients for an interval."
    above = [name for name, interval in with_interval.items() if interval[0] > 0.5]
    unsure = [words(name) for name in with_interval if name not in above]
    total = len(metrics["per_disease"])
    text = f"Better than chance, with an interval above 0.5, for {len(above)} of {total} diseases"
    text += f"; not for {join_names(unsure, most=4)}" if unsure else ""
    without = total - len(with_interval)
    return f"{text}; {without} without an interval." if without else f"{text}."


def kept_epoch(results: Results) -> tuple[int, float] | None:
    """Return the epoch that fine-tuning kept, as the log counts, and its validation mean AUC.

    Runs without ``kept_epoch.json`` are of a version that kept the highest validation mean AUC.
    """
    kept = read_kept_epoch(results.folder.kept_epoch)
    if kept is not None:
        for score in kept["epochs"]:
            if score["epoch"] == kept["epoch"]:
                return score["epoch"], score["val_mean_auc"]
        return None
    log = results.finetune_log
    if log is None or "val_mean_auc" not in log or log["val_mean_auc"].isna().all():
        return None
    row = int(log["val_mean_auc"].to_numpy(dtype=float, na_value=-1.0).argmax())
    return int(log["epoch"].iloc[row]), float(log["val_mean_auc"].iloc[row])


def kept_note(results: Results) -> str:
    """Describe the rule that kept the epoch, and the epochs that are as good within the noise.

    Epochs are counted from 1, as on the page.
    """
    kept = read_kept_epoch(results.folder.kept_epoch)
    if kept is None:
        return ""
    text = f"{kept['reason']}."
    if kept["epochs"]:
        others = [str(epoch + 1) for epoch in kept["within_noise"] if epoch != kept["epoch"]]
        errors = [score["standard_error"] for score in kept["epochs"]]
        largest = max((error for error in errors if error is not None), default=None)
        text += f" The validation mean AUC is that of {join_names([*map(words, kept['classes'])])}"
        text += f", with a standard error over patients of at most {number(largest)}. "
        text += f"Of {len(kept['epochs'])} epochs, validation does not separate "
        text += f"{join_names(others, most=8)}" if others else "any other"
        text += f" from epoch {kept['epoch'] + 1}: the paired difference is within two standard "
        text += "errors."
    return text


def warnings(results: Results) -> list[tuple[str, str]]:
    """Return every warning of the run with the file it comes from."""
    origins = {
        "data.json": results.data["warnings"] if results.data else [],
        "pretrain_warnings.json": results.pretrain_warnings,
        "metrics.json": results.metrics["warnings"] if results.metrics else [],
    }
    return merge_warnings(
        [(str(text), origin) for origin, texts in origins.items() for text in texts]
    )


def stage_rows(results: Results) -> list[tuple[str, float | None, str]]:
    """Return name, seconds and time of completion of every stage that is complete."""
    return [(name, entry["seconds"], entry["finished"]) for name, entry in results.stages.items()]


def file_rows(results: Results) -> list[tuple[str, str, int | None]]:
    """Return name, meaning and size of each file; the size is None for one that is not there."""
    folder = results.folder.path
    return [
        (name, what, (folder / name).stat().st_size if (folder / name).is_file() else None)
        for name, (_, what) in FILES.items()
    ]
