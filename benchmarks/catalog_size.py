"""What a catalog costs at 1 thousand to 1 million images: time, CPU time and peak memory.

    python -m benchmarks.catalog_size docs/results/cluster/catalog.jsonl --work FOLDER

Each size is a folder in NIH's layout, its images hard links to a hundred synthetic ones of
64 x 64 pixels. The command is run twice: the first call looks at every file, the second finds the
saved catalog. Only the command's own process is counted. Sizes that the file has are left out.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, TypedDict

import numpy as np
import typer

from medsgssl.data.synthetic.dataset import generate_phantoms

SIZES = (1_000, 7_000, 112_120, 1_000_000)
SOURCES = 100
#: Images per patient in NIH ChestX-ray14.
PER_PATIENT = 3.64
HEAD = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position"


class Cost(TypedDict):
    """One command: seconds, CPU seconds, MiB at most, and its exit status."""

    wall_s: float
    cpu_s: float
    peak_mib: float
    status: int


class Row(TypedDict):
    """A size: the first call, the second one, and what the catalog takes on disk."""

    images: int
    first: Cost
    again: Cost
    catalog_mib: float


def lay_out(data: Path, sources: list[Path], images: int) -> None:
    """Make a folder in NIH's layout, its images links to the sources."""
    rng = np.random.default_rng(0)
    patient = np.sort(rng.integers(1, round(images / PER_PATIENT) + 1, images))
    number = np.arange(images) - np.searchsorted(patient, patient)
    finding = rng.choice(["No Finding", "Effusion", "Mass|Nodule"], images)
    (data / "images").mkdir(parents=True)
    with (data / "Data_Entry_2017.csv").open("w") as table:
        table.write(HEAD + "\n")
        for row, (p, n, f) in enumerate(zip(patient, number, finding, strict=True)):
            name = f"{p:08d}_{n:03d}.png"
            os.link(sources[row % len(sources)], data / "images" / name)
            table.write(f"{name},{f},{n},{p},058Y,M,PA\n")


def measure(words: list[str], log: Path) -> Cost:
    """Run a command and return what it took."""
    started = time.monotonic()
    with log.open("ab") as stream:
        process = subprocess.Popen(words, stdout=stream, stderr=stream)
        _, status, usage = os.wait4(process.pid, 0)
    return Cost(
        wall_s=round(time.monotonic() - started, 1),
        cpu_s=round(usage.ru_utime + usage.ru_stime, 1),
        peak_mib=round(usage.ru_maxrss / 1024),
        status=os.waitstatus_to_exitcode(status),
    )


def main(
    out: Path,
    work: Annotated[Path, typer.Option(help="Folder for the links; emptied.")],
    sizes: Annotated[list[int] | None, typer.Option("--size")] = None,
) -> None:
    """Measure each size and append a row per size."""
    out.parent.mkdir(parents=True, exist_ok=True)
    known = [json.loads(line)["images"] for line in out.open()] if out.is_file() else []
    shutil.rmtree(work, ignore_errors=True)
    films = generate_phantoms(work / "films", SOURCES, 64)
    sources = sorted((films / "images").glob("*.png"))
    for images in sizes or SIZES:
        if images in known:
            continue
        data, cache, log = work / "data", work / "cache", work / f"{images}.log"
        lay_out(data, sources, images)
        words = [sys.executable, "-m", "medsgssl", "catalog", str(data), "--split", "random"]
        words += ["--set", f"data.cache_dir={cache}"]
        first, again = measure(words, log), measure(words, log)
        size = sum(path.stat().st_size for path in cache.rglob("*catalog.parquet")) / 2**20
        row = Row(images=images, first=first, again=again, catalog_mib=round(size, 1))
        with out.open("a") as stream:
            stream.write(json.dumps(row) + "\n")
        typer.echo(json.dumps(row))
        shutil.rmtree(data)
        shutil.rmtree(cache)


if __name__ == "__main__":
    typer.run(main)
