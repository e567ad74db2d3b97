"""The figures of a benchmark, as files and as lines."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import TypeAdapter

from medsgssl.utils.io import write_text
from medsgssl.utils.system import cpu_count

#: Packages whose versions decide how fast something is.
_PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "opencv-python-headless",
    "numpy",
    "scikit-learn",
    "lightly",
    "kornia",
    "torchxrayvision",
)


@dataclass(frozen=True)
class Figure:
    """One measured figure.

    Attributes:
        name: What was measured.
        value: The figure of this package.
        unit: Its unit.
        beside: What it is compared with; empty where there is nothing.
        other: The same figure of that.
        ratio: ``value`` over ``other``: the median of the rounds where both were taken in turn.
        wanted: What the ratio or the figure should be, in words.
    """

    name: str
    value: float
    unit: str
    beside: str = ""
    other: float | None = None
    ratio: float | None = None
    wanted: str = ""


@dataclass(frozen=True)
class Part:
    """The figures of one part of the benchmark.

    Attributes:
        name: Of its module.
        note: How it was measured, in sentences.
        figures: In the order of the page.
        machine: Processor, its number of cores, Python and packages.
        seconds: How long it took.
        load: Mean number of other processes that wanted a core when it began.
    """

    name: str
    note: str
    figures: list[Figure]
    machine: dict[str, str]
    seconds: float
    load: float


_PART = TypeAdapter(Part)


def write_part(path: Path, part: Part) -> None:
    """Write a part as JSON."""
    write_text(path, _PART.dump_json(part, indent=1).decode() + "\n")


def read_part(path: Path) -> Part:
    """Read what ``write_part`` wrote."""
    return _PART.validate_json(path.read_bytes())


def machine() -> dict[str, str]:
    """Return what the figures depend on beside the code."""
    found = {"processor": _processor(), "cores": str(cpu_count()), "Python": _python()}
    if torch.cuda.is_available():
        found["GPU"] = torch.cuda.get_device_name()
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def load() -> float:
    """Return how many processes wanted a core during the last minute."""
    return round(os.getloadavg()[0], 2)


def in_turn(
    works: Sequence[Callable[[], object]],
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
) -> list[list[float]]:
    """Time several works in turn, round by round, after one round that is not counted.

    Returns:
        Seconds of each work in each round.
    """
    seconds: list[list[float]] = [[] for _ in works]
    for number in range(rounds + 1):
        for work, taken in zip(works, seconds, strict=True):
            started = clock()
            work()
            if number:
                taken.append(clock() - started)
    return seconds


def median_ratio(own: Sequence[float], other: Sequence[float]) -> float:
    """Return the median of the rounds' ratios: other processes disturb single times."""
    return statistics.median(a / b for a, b in zip(own, other, strict=True))


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _python() -> str:
    return platform.python_version()
