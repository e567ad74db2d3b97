"""`masks`: draw, look at, score and merge the lung masks of a data set."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from medsgssl.cli.options import (
    DataArgument,
    DataOnlySettings,
    Launcher,
    LauncherName,
    Quiet,
    resolve_data,
    slurm_settings,
)

if TYPE_CHECKING:
    from medsgssl.config.schema import DataSettings
    from medsgssl.masks.build import Item
    from medsgssl.masks.mask_files import LabelName
    from medsgssl.masks.sources import Maker
    from medsgssl.masks.store import MaskStore


masks_app = typer.Typer(
    no_args_is_help=True,
    help="Draw the lung masks of a data set, look at them and score them.",
)

Store = Annotated[Path, typer.Argument(help="Folder of a mask store.")]
RecipeName = Annotated[
    str,
    typer.Option("--recipe", help="auto, distilled, anatomic, classic, or another package's."),
]
Weights = Annotated[
    Path | None, typer.Option("--weights", help="A student of `masks train`, for distilled.")
]
Heart = Annotated[
    bool, typer.Option("--heart/--no-heart", help="Count the lung behind the heart as lung.")
]
LabelMap = Annotated[
    str | None,
    typer.Option("--labels", help="What the values of label maps stand for: 1=right,2=left."),
]
Page = Annotated[Path | None, typer.Option("--page", help="Also write this quality page (HTML).")]


@masks_app.command()
def build(
    data: DataArgument,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder of the mask store; by default where runs look for it."),
    ] = None,
    recipe: RecipeName = "auto",
    workers: Annotated[int, typer.Option(help="Processes; 0 for one per core.", min=0)] = 0,
    shard: Annotated[str, typer.Option(help="i/n: only the i-th of n equal shares.")] = "1/1",
    launcher: Launcher = LauncherName.LOCAL,
    shards: Annotated[
        int, typer.Option(help="With --launcher submitit: jobs that draw one share each.", min=1)
    ] = 1,
    masks_dir: Annotated[
        Path | None,
        typer.Option("--masks-dir", help="Folder of your own masks, used instead of a recipe."),
    ] = None,
    labels: LabelMap = None,
    weights: Weights = None,
    heart: Heart = False,
    page: Page = None,
    settings: DataOnlySettings = None,
    quiet: Quiet = False,
) -> None:
    """Draw the masks of a data set; the same command continues an interrupted one."""
    from medsgssl.masks.build import build_store
    from medsgssl.report.mask_pages import write_quality_page
    from medsgssl.utils.progress import counting, new_console
    from medsgssl.utils.system import cpu_count

    if launcher is LauncherName.SUBMITIT:
        if out is None:
            raise typer.BadParameter("shards are merged into one store: name it with --out")
        _build_on_cluster(data, out, shards, settings or [])
        return
    if shards > 1:
        raise typer.BadParameter("--shards needs --launcher submitit; --shard i/n draws one share")
    resolved = _data_settings(data, settings)
    items = _items(resolved)
    maker, reason = _maker(data, settings, recipe, masks_dir, labels, weights, heart)
    if reason:
        typer.echo(f"masks.recipe=auto: {maker.name}, because {reason}")
    if out is None:
        if shard != "1/1":
            raise typer.BadParameter("a shard needs a folder of its own: give --out")
        out = _default_store(resolved, maker, items)
    with counting("drawing lung masks", new_console(stderr=True)) as progress:
        store = build_store(
            out,
            items,
            maker,
            workers or cpu_count(),
            progress=progress,
            shard=_shard(shard),
        )
    if page is not None:
        typer.echo(f"Quality page: {write_quality_page(store, dict(items), page)}")
    _print_counts(store, out)


@masks_app.command()
def page(
    data: DataArgument,
    store: Store,
    out: Annotated[Path, typer.Option("--out", help="The HTML file.")],
    count: Annotated[int, typer.Option(help="Overlays of each kind at most.", min=1)] = 24,
    settings: DataOnlySettings = None,
) -> None:
    """Show random, doubtful and failed masks, and where rules and student differ."""
    from medsgssl.masks.store import MaskStore
    from medsgssl.report.mask_pages import write_quality_page

    items = _items(_data_settings(data, settings))
    typer.echo(write_quality_page(MaskStore.open(store), dict(items), out, count))


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
    reference: Annotated[
        Path, typer.Option(help="Folder of masks: NAME.png, NAME_mask.png, ... of image NAME.")
    ],
    recipe: RecipeName = "auto",
    weights: Weights = None,
    heart: Heart = False,
    labels: LabelMap = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for scores.json, scores.csv, worst.html, quality.png."),
    ] = None,
) -> None:
    """Score a recipe against masks drawn by people."""
    from medsgssl.masks.benchmark import score_recipe
    from medsgssl.report.mask_pages import write_scores

    scores = score_recipe(images, reference, recipe, weights, heart, _labels(labels))
    for name, value in scores.summary().items():
        typer.echo(f"{name:28} {_written(value)}")
    if out is not None:
        write_scores(scores, images, reference, out)
        typer.echo(f"Written: {out}")


@masks_app.command()
def train(
    data: DataArgument,
    out: Annotated[Path, typer.Option("--out", help="The weights file (.safetensors).")],
    images: Annotated[
        Path | None,
        typer.Option("--list", help="Text file of the image ids to learn from; else all."),
    ] = None,
    without: Annotated[
        list[Path] | None,
        typer.Option("--without-patients", help="Text files of patient ids to leave out."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the training.", min=0)] = 0,
    epochs: Annotated[str, typer.Option(help="Passes in each round.")] = "4,4",
    device: Annotated[str, typer.Option(help="cpu, cuda, ...")] = "cpu",
    workers: Annotated[int, typer.Option(help="Processes; 0 for one per core.", min=0)] = 0,
    data_settings: DataOnlySettings = None,
) -> None:
    """Train a mask student on the good masks of the rules; no labels are used.

    With `--set data.split=...` (or data.folds and data.fold) it learns from the training images of
    that split alone. The same command continues an interrupted training: its state is in
    OUT.work.
    """
    from medsgssl.data.mask_student import teach
    from medsgssl.masks.recipes.distilled.train import TrainSettings

    if not all(part.strip().isdecimal() for part in epochs.split(",")):
        raise typer.BadParameter(f"{epochs!r} is not of the form 4,4")
    settings = TrainSettings(seed=seed, epochs=tuple(int(part) for part in epochs.split(",")))
    card = teach(
        _data_settings(data, data_settings),  # without a split, every image is for training
        out,
        settings,
        images=images,
        without=without or [],
        device=device,
        workers=workers,
        say=typer.echo,
    )
    typer.echo(card.as_text())
    typer.echo(f"Weights: {out}")


@masks_app.command()
def merge(
    shards: Annotated[list[Path], typer.Argument(help="Folders of all shards.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the merged store.")],
) -> None:
    """Merge the shards that several machines drew; a missing shard is an error."""
    from medsgssl.masks.build import merge_shards

    store = merge_shards(shards, out)
    _print_counts(store, out)


def _build_on_cluster(data: Path, out: Path, shards: int, settings: list[str]) -> None:
    """Draw every shard in a job of its own, with this command's own options, and merge them."""
    from medsgssl.errors import MaskError
    from medsgssl.masks.build import merge_shards
    from medsgssl.masks.store import STORE_FILE, MaskStore
    from medsgssl.study.cluster import ClusterJobs, wait_for

    if (out / STORE_FILE).exists():
        _print_counts(MaskStore.open(out), out)
        return
    slurm, others = slurm_settings(settings)
    _items(_data_settings(data, others))  # the catalog is read once, before the jobs need it
    place = out.absolute().parent / f"{out.name}.shards"
    folders = [place / f"{number:04d}" for number in range(1, shards + 1)]
    words = without_options(sys.argv[1:], {"--launcher": 1, "--shards": 1, "--out": 1}, "slurm.")
    commands = [
        [sys.executable, "-m", "medsgssl", *words, "--out", str(folder), "--shard", f"{n}/{shards}"]
        for n, folder in enumerate(folders, start=1)
    ]
    names = [f"shard-{number:04d}" for number in range(1, shards + 1)]
    jobs = ClusterJobs(place, slurm.model_copy(update={"gpus": 0})).submit(names, commands)
    failed = [name for name, status in zip(names, wait_for(jobs), strict=True) if status]
    if failed:
        raise MaskError(
            f"{len(failed)} of {shards} shards failed: {', '.join(failed[:5])}",
            f"look into {place / 'logs'}; the same command draws what is missing",
        )
    _print_counts(merge_shards(folders, out), out)


def without_options(words: list[str], dropped: dict[str, int], prefix: str) -> list[str]:
    """Return a command line without some options, and without settings of a prefix."""
    kept: list[str] = []
    rest = iter(words)
    for word in rest:
        name, has_value, _ = word.partition("=")
        if name in dropped:
            for _ in range(0 if has_value else dropped[name]):
                next(rest, None)
        elif word == "--set":
            setting = next(rest, "")
            kept += [] if setting.startswith(prefix) else [word, setting]
        elif not word.startswith(f"--set={prefix}"):
            kept.append(word)
    return kept


def _data_settings(data: Path, settings: list[str] | None) -> DataSettings:
    """Return the data's settings; every image is for training where they name no split."""
    # Masks do not depend on the split, and not every data set has the default one.
    named = any(item.startswith(("data.split=", "data.fold")) for item in settings or [])
    return resolve_data(data, settings, split=None if named else "train")


def _maker(
    data: Path,
    settings: list[str] | None,
    recipe: str,
    masks_dir: Path | None,
    labels: str | None,
    weights: Path | None,
    heart: bool,
) -> tuple[Maker, str]:
    """What makes the masks, and why where ``auto`` chose it: the same choice as a run's."""
    from medsgssl.config.schema import MaskSettings
    from medsgssl.data.catalog import load_or_build
    from medsgssl.data.mask_choice import choose_masks
    from medsgssl.errors import ConfigError

    if masks_dir is not None and not masks_dir.is_dir():
        raise ConfigError(f"{masks_dir} is not a folder", "name the folder of your masks")
    masks = MaskSettings.model_validate(
        {
            "recipe": recipe,
            "source": "rules" if masks_dir is None else str(masks_dir),
            "weights": weights,
            "heart": "include" if heart else "exclude",
            "labels": _labels(labels),
        }
    )
    # Only the student depends on the split.
    asks_student = recipe in ("auto", "distilled") and masks_dir is None
    resolved = resolve_data(data, settings) if asks_student else _data_settings(data, settings)
    choice = choose_masks(masks, load_or_build(resolved), resolved.max_pixels)
    if isinstance(choice, Path):
        raise ConfigError(f"{choice} is a mask store", "give it to runs as masks.source")
    return choice.maker, choice.reason


def _labels(text: str | None) -> dict[int, LabelName] | None:
    from medsgssl.masks.mask_files import LabelName

    if text is None:
        return None
    names = {name: name for name in get_args(LabelName)}
    pairs = [part.partition("=") for part in text.split(",")]
    if not all(value.strip().isdecimal() and name.strip() in names for value, _, name in pairs):
        raise typer.BadParameter(f"{text!r} is not of the form 1=right,2=left (both, outside)")
    return {int(value): names[name.strip()] for value, _, name in pairs}


def _items(settings: DataSettings) -> list[Item]:
    """Image id and path of every image that the catalog of a data set can use."""
    from medsgssl.data.catalog import load_or_build
    from medsgssl.data.prepare import mask_items

    return mask_items(load_or_build(settings))


def _default_store(settings: DataSettings, maker: Maker, items: list[Item]) -> Path:
    """The folder in the cache where a run looks for these very masks."""
    from medsgssl.data.paths import dataset_cache
    from medsgssl.data.prepare import store_folder

    return store_folder(dataset_cache(settings), maker, items)


def _shard(text: str) -> tuple[int, int]:
    first, slash, second = text.partition("/")
    if not (slash and first.isdecimal() and second.isdecimal()):
        raise typer.BadParameter(f"{text!r} is not of the form i/n, e.g. 1/4")
    return int(first), int(second)


def _print_counts(store: MaskStore, folder: Path) -> None:
    counts = ", ".join(
        f"{store.counts.get(name, 0)} {name}" for name in ("ok", "doubtful", "failed")
    )
    typer.echo(f"{len(store)} masks in {folder}: {counts}")


def _written(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)
