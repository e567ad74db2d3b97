"""What a pretraining step of each method costs beside SimCLR's, as benchmarks/methods.py found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medsgssl.files import read_json

#: The measured ratios and what they were measured on; written by the benchmark alone.
COSTS = Path(__file__).with_name("costs.json")
#: The method whose cost is 1.
CONTROL = "simclr"


def measured_costs() -> tuple[dict[str, float], str]:
    """Return seconds per image relative to SimCLR by method, and what that was measured on."""
    found: dict[str, Any] = read_json(COSTS)
    text = (
        f"seconds per pretraining image relative to {CONTROL}, each with its own defaults, at "
        f"{found['img_size']} pixels and batch {found['batch_size']} on {found['device']} "
        f"({found['threads']} threads, torch {found['torch']}): benchmarks/methods.py"
    )
    return found["ratios"], text
