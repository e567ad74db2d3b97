"""The page of the figures: one table for each part, from the files of the results alone."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import matplotlib
from pydantic import BaseModel, TypeAdapter

matplotlib.use("svg")

from matplotlib import pyplot as plt

from benchmarks.speed.figures import Figure, Part, read_part
from medsgssl.utils.io import write_text

#: In the order of the page; the module of each part measures it.
PARTS = {
    "steps": "Training steps",
    "kept_memory": "Kept memory",
    "gpu": "On a GPU",
    "views": "Views",
    "preparation": "Preparing images",
    "bootstrap": "Intervals",
    "default_epoch": "One epoch with the defaults",
    "start_up": "Start-up",
    "several_runs": "Several runs at once",
    "dry_run": "What a plan predicts",
    "growth": "As the data grows",
}
_HEAD = """# Speed

`make bench` measures what this page shows, and writes it. Every ratio is the median of rounds in
which both sides ran in turn, in one process where the part does not say otherwise. Figures of other
machines differ; ratios differ less.
"""
_NO_GPU = """
No GPU was at hand: rendering on the device (`data.render=device`), `compile`, bf16 and pinned
prediction are tested on a CPU for what they compute, and not measured.
"""


def write_page(results: Path, page: Path) -> None:
    """Write the page of all parts whose results are there, and the plot of the growth."""
    parts = [
        read_part(results / f"{name}.json")
        for name in PARTS
        if (results / f"{name}.json").is_file()
    ]
    text = [_HEAD, _machine(parts)]
    if all(part.name != "gpu" for part in parts):
        text.append(_NO_GPU)
    text.append(_before(results, parts))
    for part in parts:
        text += [f"\n## {PARTS[part.name]}\n", f"{part.note}\n", _table(part.figures)]
        if part.name == "growth":
            picture = page.with_name("speed-growth.svg")
            _plot(part, picture)
            text.append(f"\n![Seconds and memory by number of images]({picture.name})\n")
        text.append(f"\nMeasured in {part.seconds:.0f} s; load before: {part.load:g}.\n")
    write_text(page, "\n".join(text))


class Before(BaseModel):
    """A figure of an earlier version, in ``before.json``, and the one to set beside it.

    Attributes:
        part: The part of the benchmark that measures it now.
        name: The figure's name there.
        beside: What it is compared with there.
        kind: Whether the ratio or the figure itself is meant.
        before: The earlier version's.
        unit: Its unit; empty for ratios.
    """

    part: str
    name: str
    beside: str
    kind: Literal["ratio", "value"]
    before: float
    unit: str = ""


def _before(results: Path, parts: list[Part]) -> str:
    """Return the table of what an earlier version took, on a machine of this kind."""
    path = results / "before.json"
    if not path.is_file():
        return ""
    measured = {
        (part.name, figure.name, figure.beside): figure for part in parts for figure in part.figures
    }
    rows = ["| what | before | now |", "| --- | ---: | ---: |"]
    for each in TypeAdapter(list[Before]).validate_json(path.read_bytes()):
        now = measured.get((each.part, each.name, each.beside))
        if now is not None:
            beside = f" beside {each.beside}" if each.beside else ""
            pair = (each.before, getattr(now, each.kind))
            row = [f"{each.name}{beside}", *(f"{_number(v)} {each.unit}".strip() for v in pair)]
            rows.append("| " + " | ".join(row) + " |")
    if len(rows) == 2:
        return ""
    note = "What an audit of an earlier version had measured, on a machine of the same kind."
    return f"\n## Before and after\n\n{note}\n\n" + "\n".join(rows) + "\n"


def _machine(parts: list[Part]) -> str:
    lines = []
    for each in dict.fromkeys(tuple(part.machine.items()) for part in parts):
        found = dict(each)
        cores = f"{found.pop('processor')}, {found.pop('cores')} cores"
        versions = ", ".join(f"{name} {version}" for name, version in found.items())
        lines.append(f"Machine: {cores}. {versions}.\n")
    return "\n".join(lines)


def _table(figures: list[Figure]) -> str:
    compared = any(figure.beside for figure in figures)
    wanted = any(figure.wanted for figure in figures)
    head = ["what", "medsgssl", "unit"]
    head += ["beside", "its figure", "ratio"] if compared else []
    head += ["wanted"] if wanted else []
    rows = [head, ["---" if n in {0, 2, 3} else "---:" for n in range(len(head))]]
    for figure in figures:
        row = [figure.name, _number(figure.value), figure.unit]
        if compared:
            row += [figure.beside, _number(figure.other), _number(figure.ratio)]
        rows.append([*row, figure.wanted] if wanted else row)
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"


def _number(value: float | None) -> str:
    """Three significant digits, large ones with separators."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _plot(part: Part, picture: Path) -> None:
    """Draw seconds and memory of each stage against the number of images that were measured."""
    chart, axes = plt.subplots(1, 2, figsize=(8, 3))
    for axis, unit in zip(axes, ("s", "MB"), strict=True):
        found: dict[str, list[tuple[int, float]]] = {}
        for figure in part.figures:
            if figure.unit == unit and "projected" not in figure.name:
                stage, count = figure.name.removesuffix(" images").split(" of ")
                pair = (int(count.replace(",", "")), figure.value)
                found.setdefault(stage, []).append(pair)
        for stage, pairs in found.items():
            axis.plot(*zip(*pairs, strict=True), marker="o", label=stage)
        axis.set_xlabel("images")
        axis.set_ylabel(unit)
        axis.set_ylim(bottom=0)
    axes[0].legend(frameon=False)
    chart.tight_layout()
    with plt.rc_context({"svg.hashsalt": "medsgssl"}):
        chart.savefig(picture, metadata={"Date": None})
