"""`catalog` and `phantom`: look at a data set, or write a synthetic one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medsgssl.cli.options import Settings

if TYPE_CHECKING:
    from medsgssl.config.schema import DataSettings


def catalog(
    data: Annotated[Path, typer.Argument(help="Folder of the data set.")],
    split: Annotated[
        str | None, typer.Option(help="auto, lists, official or random (data.split).")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="File to write; by default the set's place in the cache.")
    ] = None,
    hash_content: Annotated[
        bool,
        typer.Option("--hash/--no-hash", help="Read whole files: finds duplicates and damage."),
    ] = True,
    settings: Settings = None,
) -> None:
    """Check a data set: images, labels, patients, splits; nothing is silently left out."""
    from rich.console import Console

    from medsgssl.data.audit_table import audit_view
    from medsgssl.data.catalog import build_catalog, load_or_build, saved_as
    from medsgssl.utils.progress import counting

    resolved = _data_settings(data, split, settings or [])
    console = Console()
    with counting("checking images", console) as progress:
        if out is None:
            made = load_or_build(resolved, hash_content=hash_content, progress=progress)
        else:
            made = build_catalog(resolved, hash_content=hash_content, progress=progress)
            made.save(out)
    console.print(audit_view(made.facts))
    typer.echo(f"Catalog: {out or saved_as(resolved)}")


def _data_settings(data: Path, split: str | None, items: list[str]) -> DataSettings:
    from medsgssl.config.loading import build, merge, nest, parse_overrides
    from medsgssl.config.schema import MethodSettings

    tree = merge(parse_overrides(items), nest("data.root", str(data.absolute())))
    if split is not None:
        tree = merge(tree, nest("data.split", split))
    # The name is that of a method, which a catalog has none of; every key is checked all the same.
    return build(merge(tree, {"method_name": "catalog"}), MethodSettings).data


def phantom(
    out: Annotated[Path, typer.Argument(help="Folder to write; new, empty or the same set.")],
    count: Annotated[int, typer.Option("--count", min=1, help="Number of images.")] = 300,
    size: Annotated[int, typer.Option("--size", min=32, help="Side in pixels.")] = 256,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the set.")] = 0,
) -> None:
    """Write synthetic chest X-rays in the layout of NIH ChestX-ray14, with exact lung masks."""
    from rich.progress import Progress

    from medsgssl.data.synthetic.dataset import generate_phantoms
    from medsgssl.utils.system import cpu_count

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
