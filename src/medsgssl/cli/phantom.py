"""``medsgssl phantom``: write a set of synthetic chest X-rays."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def phantom(
    out: Annotated[Path, typer.Argument(help="Folder to write; new, empty or the same set.")],
    count: Annotated[int, typer.Option("--count", min=1, help="Number of images.")] = 300,
    size: Annotated[int, typer.Option("--size", min=32, help="Side in pixels.")] = 256,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the set.")] = 0,
) -> None:
    """Write synthetic chest X-rays in the layout of NIH ChestX-ray14, with exact lung masks."""
    from rich.progress import Progress

    from medsgssl.machine import cpu_count
    from medsgssl.sources.phantom import generate_phantoms

    # Processes take about two seconds to start, in which one alone draws 50 images.
    workers = min(cpu_count(), 8) if count > 100 else 1
    with Progress(transient=True) as bar:
        task = bar.add_task("phantoms", total=count)
        generate_phantoms(
            out,
            count,
            size,
            seed,
            progress=lambda done, _: bar.update(task, completed=done),
            workers=workers,
        )
    typer.echo(f"{count} phantoms of {size} x {size} pixels in {out}")
