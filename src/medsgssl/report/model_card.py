"""A model card of a run, filled from its result files.

Source: Mitchell et al., "Model cards for model reporting", FAccT 2019.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from medsgssl.report.prose import merge_warnings, without_paths
from medsgssl.report.run_files import Results
from medsgssl.report.run_tables import disease_table, subgroup_tables
from medsgssl.runs.data_summary import CatalogSummary
from medsgssl.runs.folder import RunFolder
from medsgssl.utils.formatting import counted, format_interval, number, percent, words
from medsgssl.utils.io import write_text

CARD_FILE = "model_card.md"
#: What files do not hold.
OPEN = "**To be filled in by the author.**"
#: What stands where a file is absent.
UNKNOWN = "not recorded"


def write_card(run: RunFolder) -> Path:
    """Write ``model_card.md`` into a run folder.

    Raises:
        ConfigError: The folder holds no run.
        DataError: A file is damaged.
    """
    results = Results.read(run)
    parts = [
        f"# Model card: {results.setting('method_name')}",
        _model(results),
        _uses(),
        _data(results, run),
        _performance(results),
        _limits(results),
    ]
    write_text(run.path / CARD_FILE, "\n\n".join(parts) + "\n")
    return run.path / CARD_FILE


def _model(results: Results) -> str:
    start = "ImageNet weights" if results.setting("encoder.pretrained") else "random weights"
    way = (
        "supervised training alone"
        if results.no_pretrain
        else "self-supervised pretraining, then supervised training"
    )
    versions = results.environment or {}
    lines = {
        "Backbone": f"{results.setting('encoder.name')}, from {start}",
        "Training": f"{way}; seed {results.setting('seed')}",
        "Input": f"one gray chest X-ray, {results.setting('data.img_size')} pixels square",
        "Output": f"probabilities, one per finding, not exclusive: {_findings(results)}",
        "Lung masks": results.data["masks"]["source"] if results.data else UNKNOWN,
        "Made with": software(versions),
        "Files": "`classifier.safetensors`, `config.yaml`, `environment.json`",
    }
    return "## Model\n\n" + _list(lines)


def _findings(results: Results) -> str:
    if results.metrics is None:
        return UNKNOWN
    return ", ".join(words(name) for name in results.metrics["per_disease"])


def software(versions: Mapping[str, str]) -> str:
    """Return which versions made a run, from its ``environment.json``."""
    return f"medsgssl {versions.get('medsgssl', '?')}, torch {versions.get('torch', '?')}"


def pretrained_on(run: RunFolder) -> str:
    """Return what the encoder was pretrained on, from ``pretrained_on.parquet``."""
    if not run.pretrained_on.is_file():
        return UNKNOWN
    counts = pd.read_parquet(run.pretrained_on)["source"].value_counts()
    return ", ".join(f"{counted(count, 'image')} of {name}" for name, count in counts.items())


def split_kind(catalog: CatalogSummary | None) -> str:
    """Return how the images were split, from the catalog's part of ``data.json``."""
    return catalog["split"]["kind"] if catalog else UNKNOWN


def _uses() -> str:
    return (
        "## Use\n\nResearch on methods. It is not a medical device and must not guide care. "
        f"Intended users, setting and population beyond the data below: {OPEN}"
    )


def _data(results: Results, run: RunFolder) -> str:
    catalog = results.data["catalog"] if results.data else None
    lines = {
        "Source": catalog["source"] if catalog else UNKNOWN,
        "Label revision": catalog["label_revision"] if catalog else UNKNOWN,
        "Split": f"{split_kind(catalog)}, by patient; no patient is in two",
        "Labels used": f"{percent(results.setting('data.label_fraction'))} of training patients",
    }
    for name, counts in (catalog["splits"] if catalog else {}).items():
        lines[name] = (
            f"{counted(counts['usable'], 'usable image')} of "
            f"{counted(counts['patients'], 'patient')}"
        )
    if not results.no_pretrain:
        lines["Pretrained on"] = pretrained_on(run)
    text = "## Data\n\n" + _list(lines)
    return text + (
        "\n\nLabels were mined from radiology reports by software; its authors expect more than "
        "90 % of them to be correct."
        if catalog and catalog["source"] == "nih"
        else ""
    )


def _performance(results: Results) -> str:
    metrics = results.metrics
    if metrics is None:
        return "## Performance\n\nNot evaluated yet: there is no `metrics.json`."
    level = percent(metrics["bootstrap"]["confidence"])
    lines = [
        f"Test split: {counted(metrics['images'], 'image')} of "
        f"{counted(metrics['patients'], 'patient')}. Mean AUC "
        f"{number(metrics['mean_auc'])} ({level} interval "
        f"{format_interval(metrics['mean_auc_interval'])}, over patients). From `metrics.json`.",
        "",
        disease_table(metrics)
        .select("disease", "positives", "auc", "ap", "ece_calibrated")
        .markdown(),
        *(f"{table.caption}\n\n{table.markdown()}" for table in subgroup_tables(metrics)),
    ]
    return "## Performance\n\n" + "\n".join(lines)


def _limits(results: Results) -> str:
    texts = [*(results.data["warnings"] if results.data else []), *results.pretrain_warnings[-1:]]
    texts += results.metrics["warnings"] if results.metrics else []
    counts = [(without_paths(text), "") for text in texts]
    listed = (
        "\n".join(f"- {text}" for text, _ in merge_warnings(counts)) or "- The run gave no warning."
    )
    return (
        f"## Limits\n\n{listed}\n- Tested on one data set; performance elsewhere is not known.\n"
        f"- Ethical considerations and license of the data: {OPEN}"
    )


def _list(lines: dict[str, str]) -> str:
    return "\n".join(f"- **{name}:** {text}" for name, text in lines.items())
