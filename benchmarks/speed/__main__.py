"""Measures how fast this package is here, part by part, and writes the page of the figures.

    python -m benchmarks.speed run OUT [PART ...]     measure; parts that are there stay
    python -m benchmarks.speed page OUT PAGE          write the page, and its plot beside it

Each part runs in a process of its own, so that no part inherits threads or memory from another.
"""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
import time
from pathlib import Path

import torch

from benchmarks.speed.figures import Part, load, machine, write_part
from benchmarks.speed.page import PARTS, write_page


def run(out: Path, names: list[str], quick: bool) -> None:
    """Measure every part whose file is not there."""
    for name in names or PARTS:
        without_gpu = name == "gpu" and not torch.cuda.is_available()
        if without_gpu or (out / f"{name}.json").is_file():
            continue
        print(f"{time.strftime('%H:%M:%S')} {name}", flush=True)
        command = [sys.executable, "-m", "benchmarks.speed", "part", str(out), name]
        subprocess.run(command + ["--quick"] * quick, check=True)


def measure(out: Path, name: str, quick: bool) -> None:
    """Measure one part in this process."""
    module = importlib.import_module(f"benchmarks.speed.{name}")
    before, started = load(), time.perf_counter()
    figures = module.measure(quick)
    seconds = round(time.perf_counter() - started, 1)
    out.mkdir(parents=True, exist_ok=True)
    part = Part(name, module.NOTE, figures, machine(), seconds, before)
    write_part(out / f"{name}.json", part)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    commands = parser.add_subparsers(dest="command", required=True)
    for command in ("run", "part"):
        one = commands.add_parser(command)
        one.add_argument("out", type=Path)
        one.add_argument("parts", nargs="*", choices=PARTS, default=[])
        one.add_argument("--quick", action="store_true", help="sizes that show nothing but a run")
    one = commands.add_parser("page")
    one.add_argument("out", type=Path)
    one.add_argument("page", type=Path)
    asked = parser.parse_args()
    if asked.command == "page":
        write_page(asked.out, asked.page)
    elif asked.command == "run":
        run(asked.out, asked.parts, asked.quick)
    else:
        measure(asked.out, asked.parts[0], asked.quick)


if __name__ == "__main__":
    main()
