"""Mistakes that newcomers make, and what each gets: the table of docs/newcomer.md.

    python benchmarks/newcomer.py docs/newcomer.md

``tests/cli/test_newcomer.py`` checks the table.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import cv2
import numpy as np

from medsgssl.cli.app import main as command_line
from medsgssl.data.synthetic.dataset import generate_phantoms

_SMALL = "--set encoder.pretrained=false --set data.img_size=32 --set data.cache_dir=cache"


@dataclass(frozen=True)
class Mistake:
    """One line of the table: what went wrong, and the words that were typed."""

    what: str
    words: str


MISTAKES = [
    Mistake("a method misspelled", "run simclrr --data nih --out run"),
    Mistake("a command misspelled", "rnu simclr --data nih --out run"),
    Mistake("an option misspelled", "run simclr --dta nih --out run"),
    Mistake("an option left out", "run simclr --data nih"),
    Mistake("a setting misspelled", "run simclr --data nih --out run --set data.imgsize=64"),
    Mistake("a setting without its group", "run simclr --data nih --out run --set img_size=64"),
    Mistake("a setting without =", "run simclr --data nih --out run --set data.img_size"),
    Mistake("a word for a number", "run simclr --data nih --out run --set data.img_size=big"),
    Mistake("a number out of range", "run simclr --data nih --out run --set data.val_fraction=1.5"),
    Mistake(
        "several mistakes at once",
        "run simclr --data nih --out run --set encoder.name=resnet81 --set seed=x "
        "--mask-source ruels --set method.temprature=1",
    ),
    Mistake("a hub name without its prefix", "config simclr --set encoder.name=lab/expert"),
    Mistake("a configuration that is not there", "run simclr --config my.yaml --out run"),
    Mistake("a data folder that is not there", f"run simclr --data elsewhere --out run {_SMALL}"),
    Mistake("an empty data folder", "catalog empty"),
    Mistake("a folder above the data set", "catalog above"),
    Mistake("images without labels", f"run direct --data plain --out run {_SMALL}"),
    Mistake("a label table that was not named", "catalog own"),
    Mistake("a label table that is not there", "catalog own --set data.labels=lables.csv"),
    Mistake("semicolons between columns", "catalog semicolons --set data.labels=labels.csv"),
    Mistake("an invalid label", "catalog words --set data.labels=labels.csv"),
    Mistake("a class without a column", "catalog own --set data.labels=labels.csv "
            "--set data.classes=[Tube,Mas]"),
    Mistake("an invalid pattern", "catalog plain --set data.patient_pattern=(p"),
    Mistake("patches that do not fill the image", "run simclr --data nih --out run "
            "--set encoder.pretrained=false --set encoder.name=vit_tiny_patch16_224 "
            "--set data.img_size=104 --set data.cache_dir=cache"),
    Mistake("weights that are not there", "run direct --data nih --out run "
            "--set encoder.weights=w.safetensors --set data.cache_dir=cache"),
    Mistake("masks of other images", "masks build nih --masks-dir plain --out store"),
    Mistake("a folder that is not a run", "predict plain plain --out scores.csv"),
    Mistake("an unknown target", "export run --to onx --out model"),
    Mistake("a report before the run", "report plain"),
]  # fmt: skip


@contextlib.contextmanager
def place() -> Iterator[None]:
    """Work in a temporary folder with the data sets that the mistakes name."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        _write_data()
        yield


def _write_data() -> None:
    generate_phantoms(Path("nih"), 60, size=32)
    for name in ("empty", "plain", "own", "semicolons", "words"):
        Path(name).mkdir()
    Path("above").mkdir()
    Path("above/nih").symlink_to(Path("nih").absolute())
    grain = np.random.default_rng(0).integers(0, 256, (12, 24, 24)).astype(np.uint8)
    for folder in ("plain", "own", "semicolons", "words"):
        for number, pixels in enumerate(grain):
            cv2.imwrite(f"{folder}/p{number:02d}.png", pixels)
    rows = [f"p{number:02d}.png,{number},{number % 2}" for number in range(12)]
    table = "\n".join(["image,patient,Tube", *rows]) + "\n"
    Path("own/labels.csv").write_text(table)
    Path("semicolons/labels.csv").write_text(table.replace(",", ";"))
    Path("words/labels.csv").write_text(table.replace("p11.png,11,1", "p11.png,11,perhaps"))


def answer(words: str) -> tuple[int, str]:
    """Run a command line in this process.

    Returns:
        Its exit status, and what it printed to standard error, without the temporary folder.
    """
    said, status = io.StringIO(), 0
    with (
        mock.patch.object(sys, "argv", ["medsgssl", *words.split()]),
        mock.patch.dict(os.environ, {"COLUMNS": "1000"}),
        contextlib.redirect_stderr(said),
        contextlib.redirect_stdout(io.StringIO()),
        warnings.catch_warnings(),
    ):
        try:
            command_line()
        except SystemExit as end:
            status = int(end.code or 0)
    return status, said.getvalue().replace(f"{Path.cwd().resolve()}/", "")


def cells(mistake: Mistake) -> list[str]:
    """Return the line of the table of one mistake."""
    status, said = answer(mistake.words)
    text = said[said.find("Error: ") :].removeprefix("Error: ").strip()
    shown = "<br>".join(line.strip() for line in text.splitlines()).replace("|", "\\|")
    return [mistake.what, f"`medsgssl {mistake.words}`", shown, str(status)]


def table() -> str:
    """Return the Markdown table."""
    head = ["mistake", "what was typed", "what it gets", "exit"]
    with place():
        lines = [head, ["---"] * len(head), *(cells(mistake) for mistake in MISTAKES)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Write the table below the mark of the page."""
    page = Path(sys.argv[1])
    top = page.read_text().split("<!-- table -->\n")[0]
    page.write_text(f"{top}<!-- table -->\n{table()}\n")


if __name__ == "__main__":
    main()
