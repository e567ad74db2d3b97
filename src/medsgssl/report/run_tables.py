"""Small tables of a page: splits, audit, subgroups, shortcuts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeGuard

from medsgssl.report.run_files import Results
from medsgssl.report.tables import Cell, Column, Measured, Row, Table, text_table
from medsgssl.runs.data_summary import SplitCounts
from medsgssl.runs.metrics_file import Metrics, disease_interval, disease_metric
from medsgssl.utils.formatting import (
    NONE,
    count,
    join_names,
    percent,
    words,
)

_SPLITS = ("train", "val", "test")


#: Headings of the metrics of one disease; others are shown under their own name.
_METRIC_NAMES = {
    "f1": "F1",
    "ece": "ECE",
    "ece_calibrated": "ECE scaled",
    "ece_width": "ECE, equal widths",
    "ece_width_calibrated": "ECE, equal widths, scaled",
    "brier": "Brier",
    "brier_calibrated": "Brier scaled",
    "brier_skill": "Brier skill",
    "brier_skill_calibrated": "Brier skill scaled",
    "calibration_slope": "slope",
    "calibration_slope_calibrated": "slope scaled",
    "calibration_intercept": "intercept",
    "calibration_intercept_calibrated": "intercept scaled",
    "ece_debiased": "debiased error",
    "ece_debiased_calibrated": "debiased error scaled",
}
#: What a mean over diseases does not describe, or what has a column of its own.
_NO_AVERAGE = ("auc", "ap", "positives", "negatives", "unknown", "threshold", "temperature")
_NO_NUMBER = ("_interval", "_left_out")
#: What the page of a run shows in its section on calibration alone.
_SUMMARIES = ("brier_skill", "calibration_slope", "calibration_intercept", "ece_debiased")
_IN_CALIBRATION = (
    "brier",
    "brier_calibrated",
    "temperature",
    *(name + end for name in _SUMMARIES for end in ("", "_calibrated")),
)
#: Of two binnings, pages show one.
_FILES_ALONE = ("ece_width", "ece_width_calibrated")
#: How metrics of calibration begin; the others describe decisions at a threshold.
_CALIBRATION = ("ece", "brier", "calibration", "temperature")


def split_table(results: Results) -> Table | None:
    """Count patients and images of each split, and positives where a file tells them."""
    if results.split is None:
        return None
    table = results.split
    present = [name for name in _SPLITS if (table["split"] == name).any()]
    groups = {name: table[table["split"] == name] for name in present}
    rows = [
        ["patients", *(count(group["patient_id"].nunique()) for group in groups.values())],
        ["images", *(count(len(group)) for group in groups.values())],
    ]
    audited = results.data["catalog"]["splits"] if results.data else {}
    if audited:
        rows.append(["usable images", *(count(audited[name]["usable"]) for name in present)])
    positives = {name: _positives(results, audited, name) for name in present}
    if any(positives.values()):
        rows += [
            [words(name), *(count(positives[split].get(name)) for split in present)]
            for name in next(filter(None, positives.values()))
        ]
    source = "split.parquet, data.json" if audited else "split.parquet, metrics.json"
    return text_table("Patients, images and positives", ["", *present], rows, source)


def _positives(results: Results, audited: Mapping[str, SplitCounts], split: str) -> dict[str, int]:
    """Positives of a split; without an audit only the evaluated images tell them."""
    if audited:
        return dict(audited[split]["positives"])
    metrics = results.metrics
    if metrics and split == "test":
        return {name: result["positives"] for name, result in metrics["per_disease"].items()}
    if metrics and split == "val" and metrics["validation"]:
        return metrics["validation"]["positives"]
    return {}


def data_tables(results: Results) -> list[Table]:
    """Return what ``data.json`` tells of files, labels and masks beside the splits."""
    data = results.data
    if data is None:
        return []
    shown_elsewhere = ("splits", "labels", "warnings")
    catalog = {k: v for k, v in data["catalog"].items() if k not in shown_elsewhere}
    more = data.get("also")
    also = summary_tables({"data sets": more}, "data.json", "Also pretrained on") if more else []
    return [
        *summary_tables(catalog, "data.json", "Catalog"),
        *summary_tables(data["masks"], "data.json", "Lung masks"),
        *also,
        *summary_tables(data.get("labels_used", {}), "data.json", "Labels that fine-tuning used"),
    ]


def summary_tables(tree: Mapping[str, object], source: str, caption: str) -> list[Table]:
    """Turn nested facts into tables: one of the plain values, one per mapping below."""
    plain = [[words(key), _text(value)] for key, value in tree.items() if not _nested(value)]
    tables = [text_table(caption, ["", ""], plain, source)] if plain else []
    for key, value in tree.items():
        if not _nested(value):
            continue
        heading = f"{caption}: {words(key)}"
        if all(_nested(below) for below in value.values()):
            tables.append(_crossed(value, source, heading))
        else:
            tables += summary_tables(value, source, heading)
    return tables


def _crossed(tree: Mapping[str, object], source: str, caption: str) -> Table:
    """Lay mappings of the same keys side by side: one row each, one column per key."""
    below = {name: row for name, row in tree.items() if _nested(row)}
    keys = dict.fromkeys(key for row in below.values() for key in row)
    plain = [key for key in keys if not any(_nested(row.get(key)) for row in below.values())]
    rows = [[words(name), *(_text(row.get(key)) for key in plain)] for name, row in below.items()]
    return text_table(caption, ["", *map(words, plain)], rows, source)


def _nested(value: object) -> TypeGuard[Mapping[str, object]]:
    return isinstance(value, Mapping) and bool(value)


def _text(value: object) -> str:
    if value is None:
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return count(value)
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return join_names([_text(item) for item in value]) if value else NONE
    return str(value) if value != {} else NONE


def metric_columns(
    metrics: Sequence[Metrics], without: Sequence[str] = _NO_AVERAGE
) -> tuple[list[Column], list[Column]]:
    """Return a column for each metric of a disease: those of decisions, those of calibration.

    The metrics are those that the files hold, so one that the evaluation adds appears by itself.

    Args:
        metrics: Of one or more runs.
        without: Metrics that get no column.
    """
    keys: dict[str, None] = {}
    for one in metrics:
        for disease in one["per_disease"].values():
            for key, value in disease.items():
                plain = value is None or isinstance(value, int | float)
                if plain and key not in without and not key.endswith(_NO_NUMBER):
                    keys[key] = None
    columns = [
        Column(key, _METRIC_NAMES.get(key, words(key)), page=key not in _FILES_ALONE)
        for key in keys
    ]
    calibration = [column for column in columns if column.key.startswith(_CALIBRATION)]
    return [column for column in columns if column not in calibration], calibration


def disease_table(metrics: Metrics) -> Table:
    """Return every metric of every disease, the means below."""
    decisions, calibration = metric_columns(
        [metrics], ("auc", "ap", "positives", "negatives", "unknown")
    )
    level = percent(metrics["bootstrap"]["confidence"])
    columns = (
        Column("disease", "Disease", "name", "Disease"),
        Column("positives", "Positives", "count", "Positives"),
        Column("auc", f"AUC ({level} interval)", "estimate", "AUC"),
        Column("ap", "AP (interval)", "estimate", "AP"),
        *(
            Column(c.key, capitalized(c.heading), page=c.page and c.key not in _IN_CALIBRATION)
            for c in (*decisions, *calibration)
        ),
    )
    rows: list[Row] = []
    for name, disease in metrics["per_disease"].items():
        row: dict[str, Cell] = {
            c.key: disease_metric(disease, c.key) for c in (*decisions, *calibration)
        }
        row |= {"disease": name, "positives": disease["positives"]}
        row["auc"] = Measured.of(disease["auc"], disease["auc_interval"])
        row["ap"] = Measured.of(disease["ap"], disease["ap_interval"])
        if disease["auc"] is None:
            lacking = "positives" if disease["positives"] == 0 else "negatives"
            row["auc"] = f"not defined (no {lacking})"
        rows.append(row)
    every, often = metrics["diseases_in_mean"], metrics["diseases_in_mean_20"]
    foot: list[Row] = [
        {
            "disease": f"Mean of {len(every)}",
            "auc": Measured.of(metrics["mean_auc"], metrics["mean_auc_interval"]),
            "ap": metrics["mean_ap"],
        }
    ]
    if 0 < len(often) < len(every):
        mean = Measured.of(metrics["mean_auc_20"], metrics["mean_auc_20_interval"])
        foot.append(
            {
                "disease": f"Mean of {len(often)} (\N{GREATER-THAN OR EQUAL TO} 20 patients)",
                "auc": mean,
            }
        )
    return Table("diseases", "", columns, rows, "metrics.json", sortable=True, foot=foot)


#: Decimals of the summaries of calibration that are small; two for the others.
CALIBRATION_DIGITS = {"brier_skill": 3, "ece_debiased": 3}


def calibration_table(metrics: Metrics) -> Table | None:
    """Return skill, slope, intercept and debiased error with their intervals; None without.

    Of scores at the temperature from validation where there is one, else as trained.
    """
    scaled = any(one["temperature"] is not None for one in metrics["per_disease"].values())
    end = "_calibrated" if scaled else ""
    columns = (
        Column("disease", "Disease", "name", "Disease"),
        *(
            Column(
                name,
                capitalized(_METRIC_NAMES[name]),
                "estimate",
                digits=CALIBRATION_DIGITS.get(name, 2),
            )
            for name in _SUMMARIES
        ),
    )
    rows: list[Row] = []
    for disease, result in metrics["per_disease"].items():
        if disease_metric(result, f"brier_skill{end}") is None:
            continue
        row: dict[str, Cell] = {"disease": disease}
        for name in _SUMMARIES:
            interval = disease_interval(result, f"{name}{end}")
            row[name] = Measured.of(disease_metric(result, f"{name}{end}"), interval)
        rows.append(row)
    if not rows:
        return None
    when = "at the temperature from validation" if scaled else "as trained"
    return Table("calibration", f"Calibration {when}", columns, rows, "metrics.json")


def capitalized(text: str) -> str:
    """Return a heading with a capital letter; abbreviations stay as they are."""
    return text[:1].upper() + text[1:]


def subgroup_tables(metrics: Metrics) -> list[Table]:
    """Return mean AUC and its interval per subgroup, one table per kind of group."""
    return [
        Table(
            kind,
            f"By {words(kind)}",
            (
                Column("group", words(kind), "text"),
                Column("images", "images", "count"),
                Column("patients", "patients", "count"),
                Column("mean_auc", "mean AUC", "estimate"),
                Column("diseases", "diseases", "count"),
                Column("mean_auc_20", "of frequent ones", "estimate"),
                Column("diseases_20", "diseases", "count"),
            ),
            [
                {
                    "group": name,
                    "images": group["images"],
                    "patients": group["patients"],
                    "mean_auc": Measured.of(group["mean_auc"], group["mean_auc_interval"]),
                    "diseases": len(group["diseases_in_mean"]),
                    "mean_auc_20": Measured.of(group["mean_auc_20"], group["mean_auc_20_interval"]),
                    "diseases_20": len(group["diseases_in_mean_20"]),
                }
                for name, group in groups.items()
            ],
            "metrics.json",
        )
        for kind, groups in metrics["subgroups"].items()
        if groups
    ]


#: How the facts that may be shortcuts are called.
_FACTS = {"follow_up": "follow-up number"}


def fact_column(name: str) -> Column:
    """Return the column of the AUC that a fact outside the lungs gives alone."""
    return Column(name, f"{_FACTS.get(name, words(name))} alone", "estimate", digits=2)


def shortcut_table(metrics: Metrics) -> Table | None:
    """Return how well facts outside the lungs tell each disease, beside the classifier's AUC.

    The classifier's AUC within AP and within PA images cannot profit from the view.
    """
    shortcuts = {
        name: shortcut for name, shortcut in metrics["shortcuts"].items() if shortcut["images"]
    }
    if not shortcuts:
        return None
    positions = metrics["subgroups"].get("view_position", {})
    within = [name for name in ("AP", "PA") if name in positions]
    columns = (
        Column("disease", "disease", "name"),
        *map(fact_column, shortcuts),
        Column("classifier", "classifier", "estimate", digits=2),
        *(Column(name, f"within {name}", "estimate", digits=2) for name in within),
    )
    rows: list[Row] = []
    for disease, result in metrics["per_disease"].items():
        row: dict[str, Cell] = {
            "disease": disease,
            "classifier": Measured.of(result["auc"], result["auc_interval"]),
        }
        for name, shortcut in shortcuts.items():
            interval = shortcut.get("auc_interval", {}).get(disease)
            row[name] = Measured.of(shortcut["auc"].get(disease), interval)
        for name in within:
            part = positions[name]["per_disease"][disease]
            row[name] = Measured.of(part["auc"], part["auc_interval"])
        rows.append(row)
    caption = "Shortcuts: AUC of facts that are not in the lungs"
    return Table("shortcuts", caption, columns, rows, "metrics.json")
