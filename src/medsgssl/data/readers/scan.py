"""Lists the files below a data folder: links are followed, content decides what is an image."""

from __future__ import annotations

import os
import unicodedata
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath

import pandas as pd

from medsgssl.errors import DataError
from medsgssl.images.integrity import HEAD_BYTES, IMAGE_SUFFIXES, image_kind

_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".7z", ".rar")
#: Files that nobody takes for an image: not opened, counted, and not warned of.
EXPECTED_SUFFIXES = frozenset(
    {".csv", ".tsv", ".txt", ".md", ".json", ".yaml", ".yml", ".xml", ".html", ".xlsx", ".pdf",
     ".py", ".ipynb", ".parquet", ".npz", ".npy", ".gz", ".log", ".sha256", *_ARCHIVES}
)  # fmt: skip


@dataclass(frozen=True)
class ImageFile:
    """An image file: path below the data folder with ``/``, size in bytes, time of change in ns."""

    path: str
    size: int
    changed: int


@dataclass(frozen=True)
class Scan:
    """What lies below a data folder.

    Attributes:
        root: The folder.
        images: The image files, sorted by path.
        others: How many other files there are, by suffix.
        skipped: Files and folders that were passed over and why: names that are not UTF-8, links
            in a loop or to what is read already, folders that cannot be read.
        links: The links to folders that were followed.
    """

    root: Path
    images: tuple[ImageFile, ...] = field(repr=False)
    others: dict[str, int]
    skipped: dict[str, list[str]]
    links: tuple[str, ...] = ()

    @cached_property
    def by_path(self) -> dict[str, ImageFile]:
        """The image files by path."""
        return {image.path: image for image in self.images}

    @cached_property
    def by_name(self) -> dict[str, list[ImageFile]]:
        """The image files by file name, those nearest to the data folder first."""
        names: dict[str, list[ImageFile]] = {}
        for image in sorted(self.images, key=lambda one: (one.path.count("/"), one.path)):
            names.setdefault(image.path.rpartition("/")[2], []).append(image)
        return names

    @cached_property
    def by_stem(self) -> dict[str, list[ImageFile]]:
        """The image files by file name without suffix."""
        stems: dict[str, list[ImageFile]] = {}
        for name, images in self.by_name.items():
            stems.setdefault(PurePosixPath(name).stem, []).extend(images)
        return stems

    @cached_property
    def _by_folded_name(self) -> dict[str, list[ImageFile]]:
        folded: dict[str, list[ImageFile]] = {}
        for name, images in self.by_name.items():
            folded.setdefault(_folded(name), []).extend(images)
        return folded

    def named(self, name: str) -> list[ImageFile]:
        """Return the files of a name, written as it is, without suffix, or in other letters.

        Letters differ where a suffix is capital in one place (``.PNG``), or where one program
        wrote an umlaut as one character and another one (macOS) as two.
        """
        return (
            self.by_name.get(name)
            or self.by_stem.get(name)
            or self._by_folded_name.get(_folded(name), [])
        )

    def archives(self) -> str:
        """Return the packed files and their number as words, e.g. "12 .tar.gz"; often empty."""
        return ", ".join(f"{self.others[s]:,} {s}" for s in _ARCHIVES if s in self.others)

    def folders(self) -> dict[str, int]:
        """Count the images by the folder that they lie in, ``.`` for the data folder itself."""
        counts: dict[str, int] = {}
        for image in self.images:
            folder = image.path.rpartition("/")[0] or "."
            counts[folder] = counts.get(folder, 0) + 1
        return counts


def scan_folder(root: Path) -> Scan:
    """List every file below a folder; hidden ones (``.x``, macOS ``._x``) take no part.

    Links to folders are followed after all other folders, and no folder is read twice, however
    many links lead to it.
    """
    images: list[ImageFile] = []
    others: dict[str, int] = {}
    walk = _Walk(root)
    for entry, path in walk.files():
        suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122
        suffix = ".tar.gz" if entry.name.lower().endswith(".tar.gz") else suffix
        if suffix in IMAGE_SUFFIXES or (suffix not in EXPECTED_SUFFIXES and _is_image(entry.path)):
            status = entry.stat()
            images.append(
                ImageFile(path, status.st_size, max(status.st_mtime_ns, status.st_ctime_ns))
            )
        else:
            others[suffix or "no suffix"] = others.get(suffix or "no suffix", 0) + 1
    images.sort(key=lambda image: image.path)
    return Scan(root, tuple(images), others, walk.skipped, tuple(walk.links))


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


_FolderId = tuple[int, int]


class _Walk:
    """Goes through a data folder once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._read: set[_FolderId] = set()
        self._waiting: deque[tuple[str, str, frozenset[_FolderId]]] = deque()
        self.skipped: dict[str, list[str]] = {}
        self.links: list[str] = []

    def files(self) -> Iterator[tuple[os.DirEntry[str], str]]:
        """Yield every file with its path below the root."""
        above = frozenset(_folder_id(parent) for parent in self._root.absolute().parents)
        yield from self._below(str(self._root), "", above)
        while self._waiting:
            folder, path, inside = self._waiting.popleft()
            if _folder_id(folder) in inside:
                self._skip("a link to a folder above it", path)
            elif _folder_id(folder) in self._read:
                self._skip("a link to a folder that is read already", path)
            else:
                self.links.append(path)
                yield from self._below(folder, f"{path}/", inside)

    def _below(
        self, folder: str, prefix: str, inside: frozenset[_FolderId]
    ) -> Iterator[tuple[os.DirEntry[str], str]]:
        """Yield the files below a folder; links to folders are put off.

        Args:
            folder: The folder.
            prefix: Its path below the root, with a slash at the end.
            inside: The folders that it was reached through.
        """
        try:
            here = _folder_id(folder)
            # Without a link no folder comes twice, whatever a file system tells of its identity.
            if here in self._read and self.links:
                self._skip("a folder that is read already", prefix.rstrip("/"))
                return
            self._read.add(here)
            inside |= {here}
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            self._skip(f"cannot be read ({error.strerror})", prefix or ".")
            return
        for entry in entries:
            if entry.name.startswith(".") or entry.name == "__MACOSX":
                continue
            path = prefix + entry.name
            try:
                path.encode()
            except UnicodeEncodeError:
                printable = path.encode(errors="backslashreplace").decode()
                self._skip("the name is not UTF-8", printable)
                continue
            if entry.is_dir():
                if entry.is_symlink():
                    self._waiting.append((entry.path, path, inside))
                else:
                    yield from self._below(entry.path, f"{path}/", inside)
            elif entry.is_file():
                yield entry, path
            elif entry.is_symlink():
                self._skip("a link to a file that does not exist", path)

    def _skip(self, why: str, path: str) -> None:
        self.skipped.setdefault(why, []).append(path)


def _folder_id(folder: Path | str) -> _FolderId:
    status = os.stat(folder)  # noqa: PTH116
    return status.st_dev, status.st_ino


def _is_image(path: str) -> bool:
    try:
        with Path(path).open("rb") as stream:
            return image_kind(stream.read(HEAD_BYTES)) is not None
    except OSError:
        return False


def image_frame(images: Sequence[ImageFile], ids: Sequence[str]) -> pd.DataFrame:
    """Return image files as a frame.

    Args:
        images: The files.
        ids: Image id of each.

    Returns:
        A frame indexed by ``image_id`` (sorted) with ``path``, ``size`` and ``changed``.

    Raises:
        DataError: Two files have one id.
    """
    by_id: dict[str, ImageFile] = {}
    for image, name in zip(images, ids, strict=True):
        if name in by_id:
            raise DataError(
                f"{by_id[name].path} and {image.path} have one image id", "rename one of them"
            )
        by_id[name] = image
    names = sorted(by_id)
    return pd.DataFrame(
        [(by_id[name].path, by_id[name].size, by_id[name].changed) for name in names],
        index=pd.Index(names, name="image_id", dtype="str"),
        columns=["path", "size", "changed"],
    )


def path_id(path: str) -> str:
    """Return the image id of a path: the path with ``_`` for ``/``."""
    return path.replace("/", "_")
