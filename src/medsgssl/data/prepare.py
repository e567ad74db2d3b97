"""From a data folder to what training draws from: catalog, masks, decoded images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console

from medsgssl.config.schema import Config, DataSettings
from medsgssl.data.catalog import Catalog, load_or_build
from medsgssl.data.dataset import ImageMaskDataset
from medsgssl.data.image_cache import decode, filling
from medsgssl.data.mask_cache import CONTROLS, MaskArray, mask_array, mask_identity, whole_masks
from medsgssl.data.mask_choice import MaskChoice, choose_masks
from medsgssl.data.overlap import drop_overlap, extra_datasets, image_identity_keys
from medsgssl.data.paths import dataset_cache
from medsgssl.errors import ConfigError, DataError, MaskError
from medsgssl.images.intensity import INTENSITY
from medsgssl.masks.build import Keep, build_store
from medsgssl.masks.sources import FolderMaker, Maker
from medsgssl.masks.store import FORMAT_VERSION, MaskStore
from medsgssl.runs.data_summary import (
    DataSummary,
    ExtraDataset,
    MaskSummary,
    Overlap,
)
from medsgssl.utils.formatting import plural
from medsgssl.utils.io import fingerprint
from medsgssl.utils.progress import counting
from medsgssl.utils.system import cpu_count

# Beyond this share the masks deserve a look before anything is concluded from them.
_MANY_DOUBTFUL = 0.1
_MANY_FAILED = 0.1


@dataclass(frozen=True)
class PreparedData:
    """The data of one run.

    Attributes:
        catalog: The table of images.
        source: Images, masks and labels by row.
        key: Fingerprint of everything above.
        summary: The audit, the masks' counts, what else is pretrained on, warnings.
        more: Further data sets to pretrain on.
        pretrained_on: ``image_identity_keys`` of every image that pretraining sees.
        pretrain_key: Fingerprint of all data sets that pretraining draws from.
        set_aside: ``data_set`` (folder), ``image_id`` and ``reason`` of every image that is not
            used.
    """

    catalog: Catalog
    source: ImageMaskDataset
    key: str
    summary: DataSummary
    more: tuple[ImageMaskDataset, ...]
    pretrained_on: pd.DataFrame
    pretrain_key: str
    set_aside: pd.DataFrame

    def split_table(self) -> pd.DataFrame:
        """Return image id, patient id and split of every image."""
        return self.catalog.table[["image_id", "patient_id", "split"]]


def prepare_data(config: Config, console: Console, *, needs_masks: bool) -> PreparedData:
    """Build, or find complete, everything training draws from.

    Args:
        config: The run's configuration.
        console: Shows progress.
        needs_masks: Whether the method looks at lung masks; without, none are made.

    Raises:
        ConfigError: No data folder is named.
        DataError: Images, tables or masks cannot be used.
    """
    if config.data.root is None:
        raise ConfigError("no data folder is named", "give one with --data FOLDER")
    if not needs_masks:
        masks = config.masks.model_copy(update={"source": "none"})
        config = config.model_copy(update={"masks": masks})
    # Looked for before anything long begins.
    folders = [] if config.no_pretrain else extra_datasets(config.data)
    first = _prepare_set(config, console)
    more = [_prepare_set(_further(config, data), console, first.catalog) for data in folders]
    summary = first.summary
    if more:
        summary["also"] = _extra_datasets(more)
    for other in more:
        folder = other.catalog.root.name
        summary["warnings"] = summary["warnings"] + [
            f"{folder}: {w}" for w in other.summary["warnings"]
        ]
    return PreparedData(
        catalog=first.catalog,
        source=first.source,
        key=first.key,
        summary=summary,
        more=tuple(other.source for other in more),
        pretrained_on=pd.concat([_trained_on(part) for part in (first, *more)]),
        pretrain_key=fingerprint([part.key for part in (first, *more)]) if more else first.key,
        set_aside=pd.DataFrame(
            [
                (part.catalog.root.name, image_id, reason)
                for part in (first, *more)
                for image_id, reason in part.set_aside.items()
            ],
            columns=["data_set", "image_id", "reason"],
        ),
    )


def check_data(config: Config, *, needs_masks: bool) -> Catalog:
    """Check the data set, its further sets and the mask source before anything is computed.

    Args:
        config: The run's configuration.
        needs_masks: Whether the method looks at lung masks.

    Returns:
        The catalog of the data set.

    Raises:
        ConfigError: A folder is not there.
        DataError: Images, tables or masks cannot be used.
    """
    settings = config.data
    catalog = load_or_build(settings, hash_content=True)
    if not config.no_pretrain:
        extra_datasets(settings)
    if needs_masks and config.masks.source != "none":
        choice = choose_masks(config.masks, catalog, settings.max_pixels)
        if isinstance(choice, Path):
            require_images(MaskStore.open(choice), catalog)
    return catalog


def require_images(store: MaskStore, catalog: Catalog) -> None:
    """Check that a mask store holds every usable image of a catalog, as it is now.

    Raises:
        MaskError: It lacks some, or some files have changed since.
    """
    outdated = store.outdated(image_contents(catalog))
    if outdated:
        raise MaskError(
            f"{len(outdated)} {plural(len(outdated), 'image has', 'images have')} changed since "
            f"the masks in {store.folder} were made, e.g. {outdated[0]}",
            f"run `medsgssl masks build {catalog.root} --out {store.folder}` again, with the same "
            "options: only these are drawn again",
        )
    ids = catalog.usable()["image_id"]
    lacking = [image_id for image_id in ids if image_id not in store]
    if lacking:
        raise MaskError(
            f"the mask store {store.folder} lacks {len(lacking)} of {len(ids)} images, e.g. "
            f"{lacking[0]}",
            f"give the masks of this data set: `medsgssl masks build {catalog.root} --out FOLDER`",
        )


@dataclass(frozen=True)
class _PreparedSet:
    """One data set, as the attributes of ``PreparedData``."""

    catalog: Catalog
    source: ImageMaskDataset
    key: str
    summary: DataSummary
    set_aside: dict[str, str]  # image id: reason


def _prepare_set(config: Config, console: Console, first: Catalog | None = None) -> _PreparedSet:
    """Prepare one data set.

    Args:
        config: Where it lies, and which masks it is given.
        console: Shows progress.
        first: The data set beside which this one is pretrained on; None for that one itself.
    """
    settings = config.data
    catalog = load_or_build(settings, hash_content=True)
    shared: Overlap | None = None
    if first is not None:
        # Before the masks, whose controls mix images of one split.
        catalog, shared = drop_overlap(first, catalog)
        if not (catalog.usable()["split"] == "train").any():
            raise DataError(
                f"no image of {catalog.root} can be pretrained on beside {first.root}: they are "
                "there already, cannot be read, or belong to its validation and test patients",
                "leave the folder out of --extra-data",
            )
    # The student may have seen patients of the first data set's validation and test.
    choice = (
        None
        if config.masks.source == "none"
        else choose_masks(config.masks, first or catalog, settings.max_pixels)
    )
    folder = dataset_cache(settings)
    size = settings.cache_size or settings.img_size
    store: MaskStore | None = None
    if isinstance(choice, Path):
        store = MaskStore.open(choice)
    elif choice is not None:
        # Every image is decoded once: for its mask, and kept for training on the way.
        with filling(catalog, folder, size) as keep:
            store = mask_store(choice, catalog, folder, console, keep)
    with counting("decoding images", console) as progress:
        cache = decode(catalog, folder, size, cpu_count(), progress)
    reason = choice.reason if isinstance(choice, MaskChoice) else ""
    masks, mask_summary = _masks(config, store, reason, catalog, folder, size)
    summary: DataSummary = {
        "catalog": catalog.summary,
        "masks": mask_summary,
        "warnings": _warnings(catalog, mask_summary, cache.problems),
    }
    if shared is not None:
        summary["shared"] = shared
    if shared and shared["held_out"]:
        summary["warnings"].append(
            f"{shared['held_out']} {plural(shared['held_out'], 'image belongs', 'images belong')} "
            "to validation or test of the first data set: set aside"
        )
    key = fingerprint([catalog.fingerprint, size, INTENSITY, mask_summary["identity"]])
    source = ImageMaskDataset.of(catalog, cache, masks)
    return _PreparedSet(catalog, source, key, summary, cache.problems)


def _further(config: Config, data: DataSettings) -> Config:
    """Return the configuration under which a further data set is prepared."""
    masks = config.masks
    if masks.source not in ("rules", *CONTROLS):
        # A user's own masks are those of the first data set.
        masks = masks.model_copy(update={"source": "rules"})
    return config.model_copy(update={"data": data, "masks": masks})


def _trained_on(part: _PreparedSet) -> pd.DataFrame:
    rows = np.flatnonzero(part.source.splits == "train")
    return image_identity_keys(part.catalog.table).iloc[rows]


def _extra_datasets(more: Sequence[_PreparedSet]) -> dict[str, ExtraDataset]:
    """Return what is known of each further data set, by the name of its folder."""
    return {
        f"{number}: {part.catalog.root.name}": {
            "kind": part.catalog.summary["source"],
            "fingerprint": part.catalog.fingerprint,
            "images": len(part.catalog.table),
            "trained_on": int((part.source.splits == "train").sum()),
            "set_aside_as_held_out": part.summary["shared"]["held_out"],
            "already_in_the_first": part.summary["shared"]["already_there"],
            "mask_source": part.summary["masks"]["source"],
            "masks_failed": part.summary["masks"].get("counts", {}).get("failed", 0),
        }
        for number, part in enumerate(more, start=1)
    }


def _masks(
    config: Config,
    store: MaskStore | None,
    reason: str,
    catalog: Catalog,
    folder: Path,
    size: int,
) -> tuple[MaskArray, MaskSummary]:
    source = config.masks.source
    if store is None:
        return whole_masks(len(catalog.table), size), {"source": "none", "identity": "none"}
    control = source if source in CONTROLS else None
    masks = mask_array(
        catalog, store, folder, size, control, config.seed, in_memory=config.data.cache_masks
    )
    seed = config.seed if control else None
    return masks, {
        "source": source,
        "recipe": store.header.recipe,
        "recipe_reason": reason,
        "counts": store.counts,
        "whole_image_instead": masks.missing,
        "quality_of_usable": decile_counts(masks.quality[masks.usable]),
        "identity": mask_identity(store, control, seed),
    }


def decile_counts(quality: NDArray[np.float32]) -> dict[str, int]:
    """Count mask qualities in tenths of [0, 1]."""
    counts, edges = np.histogram(quality, bins=10, range=(0, 1))
    spans = [f"{low:.1f} to {high:.1f}" for low, high in pairwise(edges)]
    return dict(zip(spans, counts.tolist(), strict=True))


def mask_store(
    choice: MaskChoice | Path,
    catalog: Catalog,
    folder: Path,
    console: Console,
    keep: Keep | None = None,
) -> MaskStore:
    """Build, or find complete, the masks that were chosen.

    Args:
        choice: The maker, or the folder of a store.
        catalog: The images.
        folder: The data set's folder below the cache directory.
        console: Shows progress.
        keep: Takes the images that are decoded for their masks, as ``build_store`` gives them.
    """
    if isinstance(choice, Path):
        return MaskStore.open(choice)
    items = mask_items(catalog)
    with counting("drawing lung masks", console) as progress:
        return build_store(
            store_folder(folder, choice.maker, items),
            items,
            choice.maker,
            cpu_count(),
            progress=progress,
            keep=keep,
        )


def store_folder(folder: Path, maker: Maker, items: Sequence[tuple[str, Path]]) -> Path:
    """Return where the masks of a maker lie below the data set's place."""
    names = [name for name, _ in items]
    made_by = [FORMAT_VERSION, INTENSITY, maker.version, maker.parameter_hash, cv2.__version__]
    identity = fingerprint([*made_by, names])
    return folder / "masks" / f"{maker.name}-{identity}"


def image_contents(catalog: Catalog) -> dict[str, str]:
    """Return the hash of each usable image file by image id; empty where it was not hashed."""
    usable = catalog.usable()
    return dict(zip(usable["image_id"], usable["content_hash"], strict=True))


def mask_items(catalog: Catalog) -> list[tuple[str, Path]]:
    """Return image id and path of every usable image."""
    usable = catalog.usable()
    return [
        (image_id, catalog.root / path)
        for image_id, path in zip(usable["image_id"], usable["path"], strict=True)
    ]


def _warnings(catalog: Catalog, masks: MaskSummary, problems: dict[str, str]) -> list[str]:
    warnings = list(catalog.summary["warnings"])
    # The catalog has named some of those that it found itself.
    usable = set(catalog.usable()["image_id"])
    if corrupt := {name: text for name, text in problems.items() if name in usable}:
        warnings.append(f"{len(corrupt):,} images cannot be decoded: {_some(corrupt)}")
    if problems:
        warnings.append(
            f"{len(problems):,} of {len(catalog.table):,} images are not used: set_aside.csv lists "
            "all of them"
        )
    counts = masks.get("counts", {})
    failed, total = counts.get("failed", 0), sum(counts.values())
    if total and failed / total > _MANY_FAILED:
        warnings.append(
            f"{failed} of {total} lung masks failed ({failed / total:.0%}): these images are given "
            "the whole-image mask with quality 0"
        )
    doubtful = counts.get("doubtful", 0)
    if total and masks.get("recipe") == FolderMaker.name and doubtful / total > _MANY_DOUBTFUL:
        warnings.append(
            f"{doubtful} of {total} given lung masks ({doubtful / total:.0%}) disagree with the "
            "rules' own masks: look at them with `medsgssl masks page`"
        )
    return warnings


def _some(problems: dict[str, str], count: int = 3) -> str:
    first: Sequence[str] = [f"{name} ({text})" for name, text in list(problems.items())[:count]]
    return "; ".join(first) + (" ..." if len(problems) > count else "")
