"""`masks`: draw, look at, score and join the lung masks of a data set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from medsgssl.masks.build import Item
    from medsgssl.masks.sources import Maker


class BuildByDefault(TyperGroup):
    """Take `masks DATA` for `masks build DATA`: a first word that is no command is a folder."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put `build` before everything that does not start with a command or with --help."""
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["build", *args]
        return super().parse_args(ctx, args)


masks_app = typer.Typer(
    cls=BuildByDefault,
    no_args_is_help=True,
    help="Draw the lung masks of a data set (`masks DATA`), look at them and score them.",
)

Data = Annotated[Path, typer.Argument(help="Folder of the data set.")]
Store = Annotated[Path, typer.Argument(help="Folder of a mask store.")]
RecipeName = Annotated[str, typer.Option("--recipe", help="Rules that draw the masks.")]
Page = Annotated[Path | None, typer.Option("--page", help="Also write this quality page (HTML).")]


@masks_app.command()
def build(
    data: Data,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder of the mask store; by default where runs look for it."),
    ] = None,
    recipe: RecipeName = "anatomic",
    workers: Annotated[int, typer.Option(help="Processes; 0 for one per core.", min=0)] = 0,
    shard: Annotated[str, typer.Option(help="i/n: only the i-th of n equal shares.")] = "1/1",
    own: Annotated[
        Path | None,
        typer.Option("--own", help="Folder of your own PNG masks to take instead of a recipe."),
    ] = None,
    page: Page = None,
) -> None:
    """Draw the masks of a data set; an interrupted call goes on when given again."""
    from rich.progress import Progress

    from medsgssl.masks.build import build_store
    from medsgssl.masks.sources import FolderMaker, RecipeMaker
    from medsgssl.report.mask_pages import write_quality_page
    from medsgssl.utils.system import cpu_count

    items = _items(data)
    maker = FolderMaker(own) if own is not None else RecipeMaker(recipe)
    if out is None:
        if shard != "1/1":
            raise typer.BadParameter("a shard needs a folder of its own: give --out")
        out = _default_store(data, maker, items)
    with Progress(transient=True) as bar:
        task = bar.add_task("drawing lung masks", total=None)
        store = build_store(
            out,
            items,
            maker,
            workers or cpu_count(),
            progress=lambda done, total: bar.update(task, completed=done, total=total),
            shard=_shard(shard),
        )
    typer.echo(f"{len(store)} masks in {out}: {_counts(store.counts)}")
    if page is not None:
        typer.echo(f"Quality page: {write_quality_page(store, dict(items), page)}")


@masks_app.command()
def page(
    data: Data,
    store: Store,
    out: Annotated[Path, typer.Option("--out", help="The HTML file.")],
    count: Annotated[int, typer.Option(help="Overlays at most.", min=1)] = 60,
) -> None:
    """Show the masks of lowest quality, worst first."""
    from medsgssl.masks.store import MaskStore
    from medsgssl.report.mask_pages import write_quality_page

    typer.echo(write_quality_page(MaskStore.open(store), dict(_items(data)), out, count))


@masks_app.command()
def explain(
    image: Annotated[Path, typer.Argument(help="One image file.")],
    out: Annotated[Path, typer.Option("--out", help="The HTML file.")],
) -> None:
    """Show every step that draws the mask of one image."""
    from medsgssl.report.mask_pages import write_explanation

    lungs = write_explanation(image, out)
    typer.echo(f"{lungs.status}, quality {lungs.quality:.2f}. {lungs.reason}".rstrip())
    typer.echo(f"Steps: {out}")


@masks_app.command()
def score(
    images: Annotated[Path, typer.Option(help="Folder of images.")],
    reference: Annotated[Path, typer.Option(help="Folder of PNG masks of the same names.")],
    recipe: RecipeName = "anatomic",
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for scores.json, scores.csv, worst.html, quality.png."),
    ] = None,
) -> None:
    """Compare a recipe with masks drawn by people."""
    from medsgssl.masks.benchmark import score_recipe
    from medsgssl.report.mask_pages import write_scores

    scores = score_recipe(images, reference, recipe)
    for name, value in scores.summary().items():
        typer.echo(f"{name:28} {_said(value)}")
    if out is not None:
        write_scores(scores, images, reference, out)
        typer.echo(f"Written: {out}")


@masks_app.command()
def merge(
    shards: Annotated[list[Path], typer.Argument(help="Folders of all shards.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the joined store.")],
) -> None:
    """Join the shards that several machines drew, and check that none is missing."""
    from medsgssl.masks.build import merge_shards

    store = merge_shards(shards, out)
    typer.echo(f"{len(store)} masks in {out}: {_counts(store.counts)}")


def _items(data: Path) -> list[Item]:
    """Image id and path of every image that the catalog of a data set can use."""
    from medsgssl.config.schema import DataSettings
    from medsgssl.data.catalog import load_or_build
    from medsgssl.data.prepare import mask_items

    # Masks do not depend on the split, and not every data set has the default one.
    return mask_items(load_or_build(DataSettings(root=data, split="train")))


def _default_store(data: Path, maker: Maker, items: list[Item]) -> Path:
    """The folder in the cache where a run looks for these very masks."""
    from medsgssl.config.schema import DataSettings
    from medsgssl.data.catalog import cache_place
    from medsgssl.data.prepare import store_folder

    return store_folder(cache_place(DataSettings(root=data)), maker, items)


def _shard(text: str) -> tuple[int, int]:
    first, slash, second = text.partition("/")
    if not (slash and first.isdigit() and second.isdigit()):
        raise typer.BadParameter(f"{text!r} is not of the form i/n, e.g. 1/4")
    return int(first), int(second)


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{counts.get(status, 0)} {status}" for status in ("ok", "doubtful", "failed"))


def _said(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)
