"""A model card of a run, and a reporting checklist of a study, filled from result files.

The checklist follows the items of TRIPOD+AI that a run's files can answer, and says of the others
that the author has to.

Sources:
    Mitchell et al., "Model cards for model reporting", FAccT 2019.
    Collins et al., "TRIPOD+AI statement", BMJ 385, 2024.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medsgssl.files import read_json, write_text
from medsgssl.report.page import number, percent, span, words
from medsgssl.report.results import Results
from medsgssl.runs import RunFolder
from medsgssl.sources import DISEASES
from medsgssl.study.analysis import Analysis

CARD_FILE = "model_card.md"
CHECKLIST_FILE = "checklist.md"
_OPEN = "**To be told by the author.**"


def write_card(run: RunFolder) -> Path:
    """Write ``model_card.md`` into a run folder.

    Raises:
        ConfigError: The folder holds no run.
        DataError: A file is damaged.
    """
    results = Results.read(run)
    parts = [
        f"# Model card: {results.setting('name')}",
        _model(results),
        _uses(),
        _data(results),
        _performance(results),
        _limits(results),
    ]
    write_text(run.path / CARD_FILE, "\n\n".join(parts) + "\n")
    return run.path / CARD_FILE


def _model(results: Results) -> str:
    start = "ImageNet weights" if results.setting("encoder.pretrained") else "random weights"
    way = "supervised training alone" if results.direct else "self-supervised pretraining first"
    versions = results.environment or {}
    lines = {
        "Backbone": f"{results.setting('encoder.name')}, from {start}",
        "Training": f"{way}; seed {results.setting('seed')}",
        "Input": f"one grey chest X-ray, {results.setting('data.img_size')} pixels square",
        "Output": "14 probabilities, one per finding of ChestX-ray14; not exclusive",
        "Lung masks": str((results.data or {}).get("masks", {}).get("source", "not told")),
        "Made with": _software(versions),
        "Files": "`classifier.safetensors`, `config.yaml`, `environment.json`",
    }
    return "## Model\n\n" + _list(lines)


def _software(versions: dict[str, Any]) -> str:
    return f"medsgssl {versions.get('medsgssl', '?')}, torch {versions.get('torch', '?')}"


def _split(catalog: dict[str, Any]) -> str:
    return str(catalog.get("split", {}).get("kind", "not told"))


def _uses() -> str:
    return (
        "## Use\n\nResearch on methods. It is not a medical device and must not guide care. "
        f"Intended users, setting and population beyond the data below: {_OPEN}"
    )


def _data(results: Results) -> str:
    catalog = (results.data or {}).get("catalog", {})
    splits = catalog.get("splits", {})
    lines = {
        "Source": str(catalog.get("source", "not told")),
        "Label revision": str(catalog.get("label_revision", "not told")),
        "Split": f"{_split(catalog)}, by patient; no patient is in two",
        "Labels used": f"{percent(results.setting('data.label_fraction'))} of training patients",
    }
    for name, found in splits.items():
        lines[name] = f"{found['usable']} usable images of {found['patients']} patients"
    text = "## Data\n\n" + _list(lines)
    return text + (
        "\n\nLabels were mined from radiology reports by software; its makers expect more than "
        "90 % of them to be right."
        if catalog.get("source") == "nih"
        else ""
    )


def _performance(results: Results) -> str:
    metrics = results.metrics
    if metrics is None:
        return "## Performance\n\nNot evaluated yet: there is no `metrics.json`."
    level = percent(metrics["bootstrap"]["confidence"])
    lines = [
        f"Test split: {metrics['images']} images of {metrics['patients']} patients. Mean AUC "
        f"{number(metrics['mean_auc'])} ({level} interval {span(metrics['mean_auc_interval'])}, "
        "patients resampled). From `metrics.json`.",
        "",
        f"| Finding | Positives | AUC | {level} interval | AP | ECE after scaling |",
        "|---|---|---|---|---|---|",
    ]
    for name, found in metrics["per_disease"].items():
        lines.append(
            f"| {words(name)} | {found['positives']} | {number(found['auc'])} | "
            f"{span(found['auc_interval'])} | {number(found['ap'])} | "
            f"{number(found['ece_calibrated'])} |"
        )
    lines += ["", "| Group | Images | Mean AUC | Interval |", "|---|---|---|---|"]
    for kind, groups in metrics["subgroups"].items():
        for name, found in groups.items():
            lines.append(
                f"| {kind} {name} | {found['images']} | {number(found['mean_auc'])} | "
                f"{span(found['mean_auc_interval'])} |"
            )
    return "## Performance\n\n" + "\n".join(lines)


def _limits(results: Results) -> str:
    found = [*(results.data or {}).get("warnings", []), *results.pretrain_warnings[-1:]]
    found += (results.metrics or {}).get("warnings", [])
    told = "\n".join(f"- {text}" for text in found) or "- The run gave no warning."
    return (
        f"## Limits\n\n{told}\n- Tested on one data set; how it does elsewhere is not known.\n"
        f"- Ethical considerations and licence of the data: {_OPEN}"
    )


def _list(lines: dict[str, str]) -> str:
    return "\n".join(f"- **{name}:** {text}" for name, text in lines.items())


def write_checklist(analysis: Analysis, folder: Path) -> Path:
    """Write ``checklist.md``: what a reader of a study must be told, as far as files tell it."""
    run = analysis.collected.runs[0]
    catalog: dict[str, Any] = (run.data or {}).get("catalog", {})
    bench = analysis.bench
    positives = ", ".join(f"{words(name)} {count}" for name, count in _positives(analysis).items())
    environment = run.folder.environment
    versions = read_json(environment) if environment.is_file() else {}
    seeds = sorted({item.seed for item in analysis.collected.runs})
    rows = [
        ("Data source and period", f"{catalog.get('source', 'not told')}; period: {_OPEN}"),
        ("Labels", f"revision {catalog.get('label_revision', 'not told')}; reference: {_OPEN}"),
        ("Split", f"{_split(catalog)}, by patient, leak checked"),
        ("Test size", f"{len(bench.test)} images, {bench.patients} patients"),
        ("Positives in test", positives),
        ("Sample size justified", _OPEN),
        ("Missing and damaged images", _warned(analysis)),
        ("Models", "; ".join(dict.fromkeys(arm.label for arm in analysis.arms))),
        ("Settings of every run", "`config.yaml` of each folder in `runs.csv`"),
        ("Seeds", ", ".join(map(str, seeds))),
        ("Model choice", "best epoch by validation mean AUC; the test split was not looked at"),
        ("Thresholds and calibration", "from validation; see `metrics.json` of each run"),
        (
            "Performance with uncertainty",
            f"`means.csv`, {percent(bench.confidence)} intervals, {bench.resamples} resamples of "
            "patients",
        ),
        ("Comparison", "paired on the same images; `comparisons.csv`, `diseases.csv`, Holm"),
        ("Fairness", "`subgroups.csv`: sex, age band, view"),
        ("Runs that failed or are missing", ", ".join(analysis.collected.missing) or "none"),
        ("Software", f"{_software(versions)}, {versions.get('platform', '?')}"),
        ("External validation", "none in these files"),
        ("Ethics, funding, registration", _OPEN),
    ]
    lines = ["# Checklist", "", "| Item | What is known |", "|---|---|"]
    lines += [f"| {name} | {text.replace('|', '/')} |" for name, text in rows]
    write_text(folder / CHECKLIST_FILE, "\n".join(lines) + "\n")
    return folder / CHECKLIST_FILE


def _positives(analysis: Analysis) -> dict[str, int]:
    test = analysis.bench.test
    return dict(zip(DISEASES, (int(count) for count in test.labels.sum(axis=0)), strict=True))


def _warned(analysis: Analysis) -> str:
    found = [text for text, origin in analysis.collected.warnings if "data.json" in origin]
    return "; ".join(found) or "none warned of"
