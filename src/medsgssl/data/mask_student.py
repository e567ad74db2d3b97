"""Teaches a mask student on the images of a data set, and records what it saw."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from medsgssl.config.schema import DataSettings
from medsgssl.data.catalog import load_or_build
from medsgssl.data.overlap import image_identity_keys
from medsgssl.errors import DataError
from medsgssl.masks.recipes.anatomic import recipe as anatomic
from medsgssl.masks.recipes.distilled.student_weights import StudentCard, StudentEpoch, save_student
from medsgssl.utils.system import cpu_count

if TYPE_CHECKING:
    from medsgssl.masks.recipes.distilled.train import TrainSettings


def teach(
    data: DataSettings,
    out: Path,
    settings: TrainSettings,
    *,
    images: Path | None = None,
    without: Sequence[Path] = (),
    device: str = "cpu",
    workers: int = 0,
    say: Callable[[str], object] = print,
) -> StudentCard:
    """Teach a student on a data set's images and write its weights.

    The weights of every round are kept beside it, as ``OUT.work/round-N.safetensors``.

    Args:
        data: The data set; only its training images teach.
        out: The weights file.
        settings: Constants of the training.
        images: Text file of image ids to learn from, one a line; all usable images without.
        without: Text files of patient ids that the student must not see.
        device: Where torch computes.
        workers: Processes that draw the teacher's masks; 0 for one per core.
        say: Takes a line after every epoch.

    Returns:
        The card that was written into the weights.

    Raises:
        DataError: No image is left.
        MaskError: Too few images have a good mask to learn from.
    """
    # torch is not needed to read this module.
    from medsgssl.masks.recipes.distilled.train import train_student

    catalog = load_or_build(data)
    table = catalog.usable()
    table = table[table["split"] == "train"]
    if images is not None:
        table = table[table["image_id"].isin(images.read_text().split())]
    kept_away = {_plain(patient) for path in without for patient in path.read_text().split()}
    table = table[~table["patient_id"].astype("str").map(_plain).isin(kept_away)]
    table = table.sort_values("image_id")
    if table.empty:
        raise DataError(
            f"no image of {catalog.root} is left to learn from",
            "check --list and --without-patients",
        )
    items = [
        (image_id, catalog.root / path)
        for image_id, path in zip(table["image_id"], table["path"], strict=True)
    ]
    work = out.with_suffix(".work")
    kept = image_identity_keys(table)

    def card_of(log: list[StudentEpoch]) -> StudentCard:
        return StudentCard(
            data=f"{catalog.summary['source']}, {len(table)} of {len(catalog.table)} images",
            images=len(table),
            patients=int(table["patient_id"].nunique()),
            never_saw=_names(without, len(kept_away)),
            teacher=f"anatomic, version {anatomic.VERSION}",
            seed=settings.seed,
            settings=asdict(settings),
            log=log,
        )

    weights, log = train_student(
        items,
        table["patient_id"].astype("str").tolist(),
        work,
        settings,
        device=device,
        workers=workers or cpu_count(),
        on_epoch=lambda line: say(
            f"round {line['round']}, epoch {line['epoch']}: loss {line['loss']:.3f}, agreement "
            f"{line['agreement']:.3f}, stability {line['stability']:.3f}"
        ),
        on_round=lambda number, best, log: save_student(
            work / f"round-{number}.safetensors", best, card_of(log), kept
        ),
    )
    card = card_of(log)
    save_student(out, weights, card, kept)
    return card


def _plain(patient: str) -> str:
    """Drop leading zeros: lists write 13, tables 00000013."""
    return patient.lstrip("0") or "0"


def _names(files: Sequence[Path], count: int) -> str:
    if not files:
        return "anything else"
    return f"{count} patients of {', '.join(path.name for path in files)}"
