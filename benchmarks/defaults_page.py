"""Write docs/defaults.md from the committed measurements.

Run: python benchmarks/defaults_page.py > docs/defaults.md
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[1] / "docs" / "results" / "defaults" / "results.jsonl"
TEXT = Path(__file__).with_name("defaults_page.md")

Result = dict[str, Any]


def main() -> None:
    """Print the page: the text, with each table in its place."""
    results = [json.loads(line) for line in RESULTS.read_text().splitlines()]
    text = TEXT.read_text()
    for name, build in TABLES.items():
        text = text.replace(f"{{{name}}}", build(results))
    print(text, end="")


def probes(results: list[Result]) -> str:
    """Views and rates by probes on frozen features."""
    rows = [
        (
            job.get("encoder", "imagenet"),
            job.get("views", "no pretraining"),
            f"{job['lr']:g}" if "lr" in job else "-",
            f"{result['contrast'][-1]:.2f}" if "contrast" in result else "-",
            f"{result['auc']['knn']:.3f}",
            f"{result['auc']['ridge 3']:.3f}",
        )
        for result, job in _of(results, "probe")
    ]
    head = ("weights", "views", "lr", "contrast after 5 epochs", "k-NN", "linear probe")
    return _table(head, sorted(rows))


def finetuned(results: list[Result]) -> str:
    """Mean AUC of the last epoch by seed."""
    seeds: dict[str, dict[int, float]] = {}
    for result, job in _of(results, "finetune"):
        views = job.get("views", "no pretraining")
        seeds.setdefault(views, {})[job["seed"]] = result["epochs"][-1]["raw"]["score"]
    numbers = sorted({seed for values in seeds.values() for seed in values})
    rows = [
        (
            views,
            *(f"{values[n]:.3f}" if n in values else "-" for n in numbers),
            f"{statistics.mean(values.values()):.3f}",
        )
        for views, values in sorted(seeds.items())
    ]
    return _table(("views of pretraining", *(f"seed {n}" for n in numbers), "mean"), rows)


def kept(results: list[Result]) -> str:
    """Mean AUC on other patients of the weights that each rule keeps."""
    rules: dict[str, Callable[[list[Any]], float]] = {
        "last epoch": lambda epochs: epochs[-1]["raw"]["score"],
        "average over about the last epoch": lambda epochs: epochs[-1]["ema"]["score"],
        "best by diseases with 10 positive patients": lambda epochs: _best(epochs, "val_listed"),
        "best by all diseases (the rule before)": lambda epochs: _best(epochs, "val_all"),
        "best possible, chosen on the scored patients": lambda epochs: max(
            epoch["raw"]["score"] for epoch in epochs
        ),
    }
    runs = [result["epochs"] for result, _ in _of(results, "finetune")]
    rows = []
    for name, rule in rules.items():
        values = [rule(epochs) for epochs in runs]
        gaps = [
            value - rules["last epoch"](epochs) for value, epochs in zip(values, runs, strict=True)
        ]
        rows.append(
            (name, f"{statistics.mean(values):.3f}", f"{min(gaps):+.3f} to {max(gaps):+.3f}")
        )
    return _table(("kept weights", f"mean AUC of {len(runs)} runs", "against the last epoch"), rows)


def finetuned_note(results: list[Result]) -> str:
    """Say how far apart the views are, by the paired differences of the seeds that both have."""
    seeds: dict[str, dict[int, float]] = {}
    for result, job in _of(results, "finetune"):
        views = job.get("views", "no pretraining")
        seeds.setdefault(views, {})[job["seed"]] = result["epochs"][-1]["raw"]["score"]
    texts = []
    for a, b in (("default", "mild"), ("default", "no pretraining"), ("mild", "no pretraining")):
        both = sorted(seeds.get(a, {}).keys() & seeds.get(b, {}).keys())
        if both:
            gaps = ", ".join(f"{seeds[a][n] - seeds[b][n]:+.3f}" for n in both)
            texts.append(f"`{a}` against `{b}`, seed by seed: {gaps}.")
    return "\n".join(texts)


TABLES = {
    "probes": probes,
    "finetuned": finetuned,
    "finetuned_note": finetuned_note,
    "kept": kept,
}


def _of(results: list[Result], phase: str) -> list[tuple[Result, dict[str, Any]]]:
    return [(r, r["job"]) for r in results if r["job"]["phase"].startswith(phase)]


def _best(epochs: list[Any], by: str) -> float:
    return float(max(epochs, key=lambda epoch: epoch["raw"][by])["raw"]["score"])


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [tuple(head), *map(tuple, rows)]
    texts = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join([texts[0], f"|{' --- |' * len(lines[0])}", *texts[1:]])


if __name__ == "__main__":
    main()
