"""`catalog`: look at a data set before anything is trained on it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medsgssl.cli.options import Settings

if TYPE_CHECKING:
    from medsgssl.config import DataSettings


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

    from medsgssl.catalog import (
        audit_view,
        build_catalog,
        load_or_build,
        saved_as,
    )
    from medsgssl.pipeline.progress import counting

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
    from medsgssl.config import MethodSettings, build, merge, nest, parse_overrides

    tree = merge(parse_overrides(items), nest("data.root", str(data.absolute())))
    if split is not None:
        tree = merge(tree, nest("data.split", split))
    # The name is that of a method, which a catalog has none of; every key is checked all the same.
    return build(merge(tree, {"name": "catalog"}), MethodSettings).data
