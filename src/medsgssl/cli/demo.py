"""`demo`: everything once, on synthetic X-rays, in a few minutes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo(
    out: Annotated[Path, typer.Option("--out", help="Where everything goes.")] = Path("demo"),
    count: Annotated[int, typer.Option(help="Synthetic X-rays.", min=200)] = 600,
) -> None:
    """Show the whole way on synthetic X-rays: data, masks, pretraining, fine-tuning, report."""
    from medsgssl.pipeline.demo import run_demo

    run_demo(out, count)
