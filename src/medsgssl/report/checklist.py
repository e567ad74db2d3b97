"""A reporting checklist of a study, filled from result files.

It follows the items of TRIPOD+AI that the files can answer; the author fills in the others.

Source: Collins et al., "TRIPOD+AI statement", BMJ 385, 2024.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from medsgssl.config.loading import FlatSettings
from medsgssl.data.mask_cache import CONTROLS
from medsgssl.report.model_card import OPEN, UNKNOWN, pretrained_on, software, split_kind
from medsgssl.runs.data_summary import CatalogSummary
from medsgssl.runs.study_files import LOCALIZATION_FILE
from medsgssl.study.analysis import Analysis
from medsgssl.utils.formatting import counted, percent, words
from medsgssl.utils.io import read_json, write_text

CHECKLIST_FILE = "checklist.md"


def write_checklist(analysis: Analysis, folder: Path) -> Path:
    """Write ``checklist.md``: what a reader of a study must know, as far as files hold it."""
    run = analysis.collected.runs[0]
    catalog = run.data["catalog"] if run.data else None
    revision = catalog["label_revision"] if catalog else UNKNOWN
    bench = analysis.bench
    positives = ", ".join(f"{words(name)} {count}" for name, count in _positives(analysis).items())
    environment = run.folder.environment
    versions = read_json(environment) if environment.is_file() else {}
    numbers = ", ".join(map(str, sorted({item.seed for item in analysis.collected.runs})))
    repeats = ("Seeds", numbers)
    if bench.folds:
        repeats = ("Folds", f"{numbers}; fold f is trained with seed f")
    rows = [
        ("Data source and period", f"{catalog['source'] if catalog else UNKNOWN}; period: {OPEN}"),
        (
            "Labels",
            f"revision {revision}; reference: {OPEN}",
        ),
        ("Split", f"{split_kind(catalog)}, by patient, leak checked"),
        ("Pretrained on", _pretrained_on(analysis)),
        ("Training and validation size", _sizes(catalog)),
        ("Test size", f"{counted(len(bench.test), 'image')}, {counted(bench.patients, 'patient')}"),
        ("Positives in test", positives),
        ("Age, sex and view position in test", _people(bench.test.table)),
        ("Sample size justified", OPEN),
        ("Missing and damaged images", _warned(analysis)),
        ("Models", "; ".join(dict.fromkeys(arm.label for arm in analysis.arms))),
        ("Start and budget", _budgets(analysis)),
        ("Input and its preparation", _input(run.settings)),
        ("Lung masks", _mask_summary(analysis)),
        ("Class imbalance", f"loss: {run.settings.get('finetune.loss', UNKNOWN)}"),
        ("Settings of every run", "`config.yaml` of each folder in `runs.csv`"),
        repeats,
        (
            "Model choice",
            "validation alone (`kept_epoch.json` of each run); never the test split",
        ),
        ("Thresholds and calibration", "from validation; see `metrics.json` of each run"),
        (
            "Performance with uncertainty",
            f"`means.csv`, {percent(bench.confidence)} intervals, each patient left out in turn",
        ),
        ("Comparison", "paired on the same images; `comparisons.csv`, `diseases.csv`, Holm"),
        (
            "Several comparisons",
            "simultaneous intervals over planned comparisons; Holm over diseases and components",
        ),
        ("Fairness", "`subgroups.csv`: sex, age band, view position"),
        (
            "Shortcuts",
            "AUC of view position, sex, age and follow-up alone: `metrics.json` of each run",
        ),
        ("Is it the anatomy", _controls(analysis)),
        ("Where the networks look", _looked(analysis)),
        ("Availability of data and code", OPEN),
        ("Runs that failed or are missing", ", ".join(analysis.collected.missing) or "none"),
        ("Software", f"{software(versions)}, {versions.get('platform', '?')}"),
        ("External validation", "none in these files"),
        ("Ethics, funding, registration", OPEN),
    ]
    lines = ["# Checklist", "", "| Item | What is known |", "|---|---|"]
    lines += [f"| {name} | {text.replace('|', '/')} |" for name, text in rows]
    write_text(folder / CHECKLIST_FILE, "\n".join(lines) + "\n")
    return folder / CHECKLIST_FILE


def _sizes(catalog: CatalogSummary | None) -> str:
    texts = catalog["splits"] if catalog else {}
    sizes = [
        f"{name}: {counted(texts[name]['usable'], 'image')}, "
        f"{counted(texts[name]['patients'], 'patient')}"
        for name in ("train", "val")
        if name in texts
    ]
    return "; ".join(sizes) or UNKNOWN


def _pretrained_on(analysis: Analysis) -> str:
    texts = [
        pretrained_on(run.folder)
        for arm in analysis.arms
        if not arm.no_pretrain
        for run in arm.runs
    ]
    return "; or ".join(dict.fromkeys(texts)) or "nothing"


def _people(table: pd.DataFrame) -> str:
    ages = table["age"].dropna()
    texts = [f"age {ages.median():.0f} (median, {ages.min()} to {ages.max()})"] if len(ages) else []
    for column in ("sex", "view_position"):
        counts = table[column].value_counts()
        texts += [
            f"{name or f'{words(column)} not recorded'} {count}" for name, count in counts.items()
        ]
    return ", ".join(texts)


def _budgets(analysis: Analysis) -> str:
    by_budget: dict[str, list[str]] = {}
    for arm in analysis.arms:
        kept = arm.settings
        start = "ImageNet weights" if kept.get("encoder.pretrained") else "random weights"
        head = kept.get("finetune.mode", "finetune")
        trained = f"{kept.get('finetune.epochs')} epochs" if head == "finetune" else str(head)
        before = "" if arm.no_pretrain else f"{kept.get('pretrain.epochs')} + "
        budget = f"{kept.get('encoder.name')} from {start}, {before}{trained}"
        by_budget.setdefault(budget, []).append(arm.label)
    texts = [f"{budget}: {', '.join(dict.fromkeys(arms))}" for budget, arms in by_budget.items()]
    return "; ".join(texts)


def _input(settings: FlatSettings) -> str:
    return (
        f"gray, {settings.get('data.img_size')} pixels square; 0.1 and 99.9 percentiles of deeper "
        "images to 8 bits; augmentation in `config.yaml`"
    )


def _mask_summary(analysis: Analysis) -> str:
    for run in analysis.collected.runs:
        masks = run.data["masks"] if run.data else None
        if masks and (counts := masks.get("counts")):
            statuses = ", ".join(f"{count} {name}" for name, count in counts.items())
            ruled = masks["source"] in ("rules", *CONTROLS)
            origin = f"recipe {masks.get('recipe')}, without labels" if ruled else "the user's own"
            return f"{origin}: {statuses}"
    return "none in these files"


def _controls(analysis: Analysis) -> str:
    controls = dict.fromkeys(arm.masks for arm in analysis.arms if arm.is_mask_control)
    return (
        f"masks without anatomy: {', '.join(controls)}" if controls else "no mask control was run"
    )


def _looked(analysis: Analysis) -> str:
    there = [
        run for run in analysis.collected.runs if (run.folder.path / LOCALIZATION_FILE).is_file()
    ]
    return "`localization.csv`" if there else "not scored"


def _positives(analysis: Analysis) -> dict[str, int]:
    test = analysis.bench.test
    return dict(zip(test.names, test.positives().tolist(), strict=True))


def _warned(analysis: Analysis) -> str:
    texts = [text for text, origin in analysis.collected.warnings if "data.json" in origin]
    return "; ".join(texts) or "no warning"
