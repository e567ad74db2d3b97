"""One typed store of lung masks, keyed by image id.

A folder holds ``store.json`` (what made the masks) and ``part-*.parquet`` (some hundred images
each: packed bits on a working grid, size of the image, quality, status, reason).
"""

from __future__ import annotations

import dataclasses
import hashlib
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medsgssl.errors import MaskError
from medsgssl.masks.geometry import grid_shape, resize_mask
from medsgssl.masks.types import LungMask, Mask, Status
from medsgssl.utils.io import atomic_path, fingerprint, read_json


@dataclass(frozen=True, slots=True)
class Row:
    """One image of a store; the fields are the columns of a part.

    ``content`` is the hash of the image file that the mask was made from (a mask of other content
    is out of date), ``stamp`` its size and time, by which an unchanged file is known without
    reading it; both are empty where they are not known.
    """

    image_id: str
    height: int
    width: int
    grid_height: int
    grid_width: int
    bits: bytes
    quality: float
    status: Status
    reason: str
    area: float
    digest: str
    content: str = ""
    stamp: str = ""


_CHECKSUM = "checksum"
COLUMNS = [field.name for field in dataclasses.fields(Row)]
_INTEGERS = ("height", "width", "grid_height", "grid_width")
TYPES = {**dict.fromkeys(_INTEGERS, "int32"), "quality": "float32", "area": "float32"}


def pack_row(image_id: str, shape: tuple[int, int], lungs: LungMask, grid: int) -> Row:
    """Bring a mask to the grid of the store and pack it.

    Args:
        image_id: The image's key.
        shape: Height and width of the image in pixels.
        lungs: Its mask, of any size with the aspect ratio of the image.
        grid: Longer side of the grid in pixels; smaller images keep their size.
    """
    size = grid_shape(shape, min(grid, max(shape)))
    mask = resize_mask(lungs.mask, size)
    bits = zlib.compress(np.packbits(mask).tobytes(), 6)
    content = repr((shape, size, round(lungs.quality, 4), lungs.status, lungs.reason)).encode()
    digest = hashlib.blake2b(content + np.packbits(mask).tobytes(), digest_size=8).hexdigest()
    return Row(
        image_id,
        *shape,
        *size,
        bits,
        lungs.quality,
        lungs.status,
        lungs.reason,
        float(mask.mean()),
        digest,
    )


def unpack_mask(bits: bytes, shape: tuple[int, int]) -> Mask:
    """Return the bool mask of ``shape`` that `pack_row` packed."""
    packed = np.frombuffer(zlib.decompress(bits), dtype=np.uint8)
    return np.unpackbits(packed, count=shape[0] * shape[1]).astype(bool).reshape(shape)


def write_part(target: Path, rows: Sequence[Row]) -> None:
    """Write rows as one parquet file; a killed process leaves nothing under ``target``."""
    frame = pd.DataFrame([dataclasses.astuple(row) for row in rows], columns=COLUMNS)
    frame = frame.astype(TYPES)
    frame[_CHECKSUM] = _row_checksums(frame)
    with atomic_path(target) as temporary:
        frame.to_parquet(temporary, index=False)


def read_whole_part(source: Path) -> pd.DataFrame:
    """Read all columns of one part and check every row against its checksum.

    Raises:
        MaskError: The file is damaged.
    """
    frame = read_part(source, [*COLUMNS, _CHECKSUM])
    if not (frame.pop(_CHECKSUM) == _row_checksums(frame)).all():
        raise _damaged_part(source, "a row has a wrong checksum")
    return frame


def _row_checksums(frame: pd.DataFrame) -> NDArray[np.uint32]:
    """Return a checksum over all values of each row, (N,)."""
    rows = zip(*(frame[name].tolist() for name in COLUMNS), strict=True)
    return np.array([zlib.crc32(repr(row).encode()) for row in rows], np.uint32)


def _damaged_part(source: Path, what: object) -> MaskError:
    return MaskError(
        f"{source} is not a readable part of a mask store: {what}",
        "run the `medsgssl masks build` command of this store again: only the images of the "
        "damaged part are drawn again",
    )


def read_part(source: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Read columns of one part.

    Raises:
        MaskError: The file is damaged.
    """
    try:
        return pd.read_parquet(source, columns=list(columns))
    except (ValueError, OSError, KeyError) as error:
        raise _damaged_part(source, error) from error


FORMAT_VERSION = 2
STORE_FILE = "store.json"
SUMMARY_COLUMNS = ["image_id", "quality", "status", "reason", "area"]


@dataclass(frozen=True)
class StoreHeader:
    """What made the masks of a store; two stores that agree in it can be joined.

    Attributes:
        recipe: Name of the recipe.
        recipe_version: Its version.
        parameter_hash: Hash of its constants.
        grid: Longer side of the stored masks in pixels.
        images: Number of images of the whole list, over all shards.
        images_hash: Hash of the list of image ids.
        opencv: Version of OpenCV that drew them: others draw other masks. Empty where an earlier
            version of this package wrote the header.
        shard: ``(i, n)``: the store holds the i-th (from 1) of n shards.
        format_version: Of the files.
    """

    recipe: str
    recipe_version: int
    parameter_hash: str
    grid: int
    images: int
    images_hash: str
    opencv: str = ""
    shard: tuple[int, int] = (1, 1)
    format_version: int = FORMAT_VERSION

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the header of a store.

        Raises:
            MaskError: The folder holds no store of this format.
        """
        source = folder / STORE_FILE
        if not source.is_file():
            raise MaskError(
                f"{folder} is not a mask store: {STORE_FILE} is missing",
                "make the masks with `medsgssl masks build DATA --out FOLDER`",
            )
        values = read_json(source)
        if not isinstance(values, dict) or values.get("format_version") != FORMAT_VERSION:
            raise MaskError(
                f"{source} is not of format {FORMAT_VERSION}",
                "make the masks again with this version of medsgssl",
            )
        try:
            return cls(**{**values, "shard": tuple(values["shard"])})
        except (KeyError, TypeError) as error:
            raise MaskError(
                f"{source} is damaged: {error}", "make the masks again in a new folder"
            ) from error

    def as_json(self) -> dict[str, object]:
        """Return the header as plain values."""
        return asdict(self)

    @property
    def expected(self) -> int:
        """Number of images that the complete shard holds."""
        i, n = self.shard
        return len(range(i - 1, self.images, n))


class MaskStore:
    """Masks of a data set, read by image id. Make one with `MaskStore.open`.

    Masks come on the grid of the store (longer side ``header.grid``, the aspect ratio of the
    image); `resize_mask` brings them to any size.
    """

    def __init__(self, folder: Path, header: StoreHeader, index: pd.DataFrame) -> None:
        self.folder = folder
        self.header = header
        self._index = index
        # Plain lists: looking one row up in a frame costs more than unpacking its mask.
        self._columns: dict[str, list[Any]] = {str(n): index[n].tolist() for n in index.columns}
        self._position = {image_id: i for i, image_id in enumerate(self.ids)}
        self._bits = lru_cache(maxsize=512)(self._read_bits)

    @classmethod
    def open(cls, folder: Path | str) -> Self:
        """Open a store for reading, complete or not.

        Args:
            folder: The folder that `build_store` or `merge_shards` wrote.

        Raises:
            MaskError: The folder is no store, a part is damaged, or an image is held twice.
        """
        folder = Path(folder)
        header = StoreHeader.read(folder)
        names = [
            *SUMMARY_COLUMNS, "height", "width", "grid_height", "grid_width", "digest", "content",
        ]  # fmt: skip
        frames = []
        for part in sorted(folder.glob("part-*.parquet")):
            frame = read_part(part, names)
            frame["part"] = part.name
            frame["row"] = range(len(frame))
            frames.append(frame)
        index = pd.DataFrame(columns=[*names, "part", "row"])
        if frames:
            index = pd.concat(frames, ignore_index=True)
            # Two processes once wrote the same rows: one of each is enough.
            index = index.drop_duplicates(["image_id", "digest", "content"], ignore_index=True)
        if not index["image_id"].is_unique:
            twice = index["image_id"][index["image_id"].duplicated()].iloc[0]
            raise MaskError(
                f"{folder} holds the image {twice} more than once",
                "make the masks again in a new folder",
            )
        return cls(folder, header, index)

    def __len__(self) -> int:
        return len(self._position)

    def __contains__(self, image_id: object) -> bool:
        return image_id in self._position

    @property
    def ids(self) -> list[str]:
        """Image ids in the order of the parts."""
        return list(self._columns["image_id"])

    def outdated(self, contents: Mapping[str, str]) -> list[str]:
        """Return the images whose file has changed since their mask was made.

        Args:
            contents: Hash of each image file by image id; an empty one is not compared.
        """
        return [
            image_id
            for image_id, content in zip(self.ids, self._columns["content"], strict=True)
            if content and contents.get(image_id) and content != contents[image_id]
        ]

    @property
    def complete(self) -> bool:
        """Whether every image of the shard is there."""
        return len(self) == self.header.expected

    def size(self, image_id: str) -> tuple[int, int]:
        """Height and width of the image itself in pixels, ``(0, 0)`` if it was unreadable."""
        row = self._row(image_id)
        return self._columns["height"][row], self._columns["width"][row]

    def get(self, image_id: str) -> LungMask:
        """Return the mask of one image on the grid of the store.

        Raises:
            MaskError: The store does not hold the image.
        """
        row = self._row(image_id)
        values = {name: column[row] for name, column in self._columns.items()}
        bits = self._bits(values["part"])[values["row"]]
        mask = unpack_mask(bits, (values["grid_height"], values["grid_width"]))
        return LungMask(mask, values["quality"], values["status"], values["reason"])

    def read(self, ids: Iterable[str]) -> Iterator[LungMask]:
        """Yield the masks of the images in the order asked for; memory stays flat."""
        for image_id in ids:
            yield self.get(image_id)

    @property
    def summary(self) -> pd.DataFrame:
        """One row per image: image_id, quality, status, reason, area (share of the image)."""
        return self._index[SUMMARY_COLUMNS].copy()

    @property
    def counts(self) -> dict[str, int]:
        """Number of images of each status."""
        return dict(Counter(self._columns["status"]))

    @cached_property
    def fingerprint(self) -> str:
        """Hash of recipe and masks, independent of the order and the cut into parts.

        The version of OpenCV takes no part: where it drew the same masks, results stay valid.
        """
        rows = sorted(zip(self.ids, self._columns["digest"], strict=True))
        made = {**self.header.as_json(), "shard": None}
        del made["opencv"]
        return fingerprint([made, rows])

    def _row(self, image_id: str) -> int:
        try:
            return self._position[image_id]
        except KeyError:
            raise MaskError(
                f"the mask store {self.folder} has no image {image_id}",
                "make the masks of this data set again with `medsgssl masks`",
            ) from None

    def _read_bits(self, part: str) -> list[bytes]:
        return read_whole_part(self.folder / part)["bits"].tolist()
