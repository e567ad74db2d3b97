"""A folder of phantoms in the layout of the NIH ChestX-ray14 release."""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from medsgssl.data.labels import DISEASES, NO_FINDING
from medsgssl.data.synthetic.cohort import PREVALENCE, Entry, draw_cohort
from medsgssl.data.synthetic.findings import PixelBox
from medsgssl.data.synthetic.render import draw_view_position, render_phantom
from medsgssl.errors import ConfigError, DataError
from medsgssl.utils.io import read_json, write_bytes, write_json, write_text
from medsgssl.utils.worker_processes import worker_pool

_FORMAT = 1  # raised whenever the same arguments give other bytes
_FILM = 350.0  # side of the film in mm
_BOX_FRAME = 1024
_HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]\n"
)
_BOX_HEADER = "Image Index,Finding Label,Bbox [x,y,w,h],,,\n"


@dataclass(frozen=True)
class _Plan:
    """The arguments that decide every byte of a set; kept as ``phantom.json``."""

    format: int
    count: int
    size: int
    seed: int
    patients: int
    prevalence: dict[str, float]


def generate_phantoms(
    out: Path,
    count: int,
    size: int = 256,
    seed: int = 0,
    patients: int | None = None,
    prevalence: Mapping[str, float] | None = None,
    progress: Callable[[int, int], None] | None = None,
    workers: int = 1,
) -> Path:
    """Write a set of phantoms in the NIH layout, with boxes and exact lung masks.

    The folder gets ``images/``, ``lung_masks/`` (0/255, same names), ``Data_Entry_2017.csv``,
    ``train_val_list.txt``, ``test_list.txt``, ``BBox_List_2017.csv`` (1024 x 1024 frame, every
    box of every finding) and ``phantom.json``. The same arguments give the same bytes; an
    interrupted call is continued by the same call.

    Args:
        out: Folder to fill; it may be absent, empty, or hold a set of the same arguments.
        count: Number of images, at least 1.
        size: Height and width in pixels, at least 32.
        seed: Seed of the set, non-negative.
        patients: Number of patients; half of ``count`` when not given.
        prevalence: Share of the images with each disease, in [0, 1]; `PREVALENCE` when not
            given. Diseases that are left out do not occur.
        progress: Called with (images done, images in all) after each image.
        workers: Processes that draw; their number changes no byte. More than one needs a program
            whose main module can be imported, as the command line's can.

    Returns:
        ``out``.

    Raises:
        ConfigError: An argument is out of range.
        DataError: The folder holds something else.
    """
    plan = _checked(count, size, seed, patients, prevalence)
    _claim(out, plan)
    boxes_file = out / "BBox_List_2017.csv"
    if boxes_file.exists():
        # The boxes are written last, so the set is complete.
        return out
    entries = draw_cohort(plan.seed, plan.count, plan.patients, plan.prevalence)
    _write_tables(out, plan, entries)
    boxes: list[list[str]] = []
    with contextlib.ExitStack() as stack:
        draw = partial(_draw, out, plan)
        if workers > 1:
            pool = stack.enter_context(worker_pool(workers))
            drawn: Iterator[list[list[str]]] = pool.map(draw, entries, chunksize=8)
        else:
            drawn = map(draw, entries)
        for done, rows in enumerate(drawn, start=1):
            boxes += rows
            if progress is not None:
                progress(done, plan.count)
    write_text(boxes_file, _BOX_HEADER + _csv(boxes))
    return out


def _checked(
    count: int,
    size: int,
    seed: int,
    patients: int | None,
    prevalence: Mapping[str, float] | None,
) -> _Plan:
    if count < 1:
        raise ConfigError(f"count is {count}", "ask for at least one image")
    if size < 32:
        raise ConfigError(f"size is {size}", "ask for at least 32 pixels")
    if seed < 0:
        raise ConfigError(f"seed is {seed}", "give a seed of 0 or more")
    people = max(1, count // 2) if patients is None else patients
    if not 1 <= people <= count:
        raise ConfigError(
            f"{people} patients cannot share {count} images", f"give 1 to {count} patients"
        )
    given = PREVALENCE if prevalence is None else prevalence
    shares = {name: float(share) for name, share in given.items()}
    for name, share in shares.items():
        if name not in DISEASES or not 0 <= share <= 1:
            raise ConfigError(
                f"prevalence {name}: {share} is not a disease with a share in [0, 1]",
                f"use the names {', '.join(DISEASES)}",
            )
    return _Plan(_FORMAT, count, size, seed, people, {k: shares.get(k, 0.0) for k in DISEASES})


def _claim(out: Path, plan: _Plan) -> None:
    """Make the folder ours, or find that it already is."""
    wanted = asdict(plan)
    record = out / "phantom.json"
    if record.exists():
        if read_json(record) != wanted:
            raise DataError(
                f"{out} holds phantoms of other arguments (see {record})",
                "choose another folder, or delete this one",
            )
        return
    # A name with a leading dot may be left over from an interrupted write.
    if out.exists() and (
        not out.is_dir() or any(not path.name.startswith(".") for path in out.iterdir())
    ):
        raise DataError(f"{out} is not empty and not a phantom set", "choose a new or empty folder")
    write_json(record, wanted)


def _draw(out: Path, plan: _Plan, entry: Entry) -> list[list[str]]:
    """Write one image with its mask, unless it is there, and return the rows of its boxes."""
    image, mask = out / "images" / entry.name, out / "lung_masks" / entry.name
    # A healthy image has no boxes, so there is nothing to learn from drawing it again.
    if not entry.findings and image.exists() and mask.exists():
        return []
    phantom = render_phantom(
        plan.seed, entry.index, plan.size, entry.findings, patient=entry.patient
    )
    write_bytes(mask, _png(phantom.lungs.astype(np.uint8) * np.uint8(255)))
    write_bytes(image, _png(phantom.image))
    return _box_rows(entry.name, phantom.boxes, _BOX_FRAME / plan.size)


def _write_tables(out: Path, plan: _Plan, entries: list[Entry]) -> None:
    rows = [
        [
            entry.name,
            "|".join(sorted(entry.findings)) or NO_FINDING,
            str(entry.follow_up),
            str(entry.patient),
            str(entry.age),
            entry.sex,
            draw_view_position(plan.seed, entry.index),
            str(plan.size),
            str(plan.size),
            *[f"{_FILM / plan.size:.3f}"] * 2,
        ]
        for entry in entries
    ]
    write_text(out / "Data_Entry_2017.csv", _HEADER + _csv(rows))
    for name, test in (("train_val_list.txt", False), ("test_list.txt", True)):
        write_text(out / name, "".join(f"{e.name}\n" for e in entries if e.test is test))


def _box_rows(name: str, boxes: Mapping[str, list[PixelBox]], scale: float) -> list[list[str]]:
    return [
        # The release's box file says "Infiltrate" where its labels say "Infiltration".
        [name, disease.replace("Infiltration", "Infiltrate"), *(f"{v * scale:.6g}" for v in box)]
        for disease, disease_boxes in boxes.items()
        for box in disease_boxes
    ]


def _csv(rows: list[list[str]]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue()


def _png(image: NDArray[np.uint8]) -> bytes:
    done, content = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 4])
    if not done:  # pragma: no cover - OpenCV always encodes 8-bit gray
        raise RuntimeError("OpenCV could not encode a PNG")
    return content.tobytes()
