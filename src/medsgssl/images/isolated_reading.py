"""Reads in a process of its own what a decoder may crash on: a crash costs that file alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medsgssl.config.schema import MAX_PIXELS
from medsgssl.errors import DataError, ImageError
from medsgssl.images.integrity import check_image
from medsgssl.images.reading import one_file, read_image, read_with_notes, warn_of_notes
from medsgssl.utils.worker_processes import SpareWorker, WorkerDiedError

# Each costs the start of a process; so many are no accident of single files.
_MOST_CRASHES = 20


class CrashCount:
    """Gives the error of each file on which a decoder crashed, and gives up after twenty."""

    def __init__(self) -> None:
        self._count = 0

    def error(self, path: Path, signal: str) -> ImageError:
        """Return the error of a file.

        Args:
            path: The file.
            signal: Name of the signal that ended the process, or "".

        Raises:
            DataError: It is the twenty-first.
        """
        self._count += 1
        how = f" ({signal})" if signal else ""
        if self._count > _MOST_CRASHES:
            raise DataError(
                f"more than {_MOST_CRASHES} files end the process that reads them{how}, e.g. "
                f"{path}",
                "install the decoders again (pip install --force-reinstall 'medsgssl[dicom]'), or "
                "convert the files to PNG",
            )
        return ImageError(
            f"{path} ends the process that reads it{how}",
            "convert it to PNG with another program, or take it out of the set",
        )


class IsolatedReader:
    """Reads image files one by one, to be used in a ``with`` block.

    PNG and common JPEG files, whose structure is followed to the end before they are decoded, are
    read in this process, all others in another one.
    """

    def __init__(self) -> None:
        self._worker, self._crashes = SpareWorker(), CrashCount()

    def __enter__(self) -> IsolatedReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._worker.close()

    def read(self, path: Path, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
        """Read a file as ``read_image`` does.

        Raises:
            ImageError: The file cannot be used, whatever the reason; the message names it.
            DataError: Decoders crash on more than twenty files.

        Warns:
            ImageWarning: A part of the header was passed over.
        """
        with one_file(path):
            sure = check_image(path, max_pixels).sure
        if sure:
            return read_image(path, max_pixels)
        image, notes = self.read_in_worker(path, max_pixels)
        warn_of_notes(path, notes)
        return image

    def read_in_worker(
        self, path: Path, max_pixels: int = MAX_PIXELS
    ) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
        """Read a file as ``read_with_notes`` does, in another process whatever it is."""
        try:
            return self._worker.call(read_with_notes, path, max_pixels)
        except WorkerDiedError as death:
            raise self._crashes.error(path, str(death)) from None
