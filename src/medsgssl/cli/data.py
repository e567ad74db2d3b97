"""`catalog` and `phantom`: look at a data set, or write a synthetic one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medsgssl.cli.options import AsJson, DataArgument, DataOnlySettings, Quiet, Split, resolve_data
from medsgssl.cli.output import print_json


def catalog(
    data: DataArgument,
    split: Split = None,
    out: Annotated[
        Path | None, typer.Option(help="Also write the catalog to this Parquet file.")
    ] = None,
    hash_content: Annotated[
        bool,
        typer.Option("--hash/--no-hash", help="Read whole files: finds duplicates and damage."),
    ] = True,
    settings: DataOnlySettings = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Check a data set: images, labels, patients, splits. Every problem is listed and counted."""
    from medsgssl.data.audit_table import audit_view, write_problem_list
    from medsgssl.data.catalog import load_or_build, saved_as
    from medsgssl.utils.progress import counting, new_console

    resolved = resolve_data(data, settings, split)
    with counting("checking images", new_console(stderr=True)) as progress:
        made = load_or_build(resolved, hash_content=hash_content, progress=progress)
    if out is not None:
        made.save(out)
    if as_json:
        print_json(made.summary)
    else:
        new_console(always=True).print(audit_view(made.summary))
        saved = out or saved_as(resolved)
        typer.echo(f"Catalog: {saved}")
        full = saved.with_name(f"{saved.stem}-problems.csv")
        if count := write_problem_list(made, full):
            noun = "image" if count == 1 else "images"
            typer.echo(f"{count:,} {noun} with a problem, listed in {full}")
    if not made.summary["files"]["usable"]:
        typer.echo("No image can be used.", err=True)
        raise typer.Exit(1)


def phantom(
    out: Annotated[Path, typer.Argument(help="Folder to write; new, empty or the same set.")],
    count: Annotated[int, typer.Option("--count", min=1, help="Number of images.")] = 300,
    size: Annotated[int, typer.Option("--size", min=32, help="Side in pixels.")] = 256,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the set.")] = 0,
    quiet: Quiet = False,
) -> None:
    """Write synthetic chest X-rays in the layout of NIH ChestX-ray14, with exact lung masks."""
    from medsgssl.data.synthetic.dataset import generate_phantoms
    from medsgssl.utils.progress import counting, new_console
    from medsgssl.utils.system import cpu_count

    # Starting a process takes as long as drawing 50 images.
    workers = min(cpu_count(), 8) if count > 100 else 1
    with counting("phantoms", new_console(stderr=True)) as progress:
        generate_phantoms(out, count, size, seed, progress=progress, workers=workers)
    typer.echo(f"{count} phantoms of {size} x {size} pixels in {out}")
