"""Which compressions of DICOM (transfer syntaxes) the installed packages can decode.

The extra ``medsgssl[dicom]`` brings permissive packages alone: python-gdcm (Apache 2, GDCM itself
BSD), pyjpegls and pylibjpeg-openjpeg (MIT). Of what radiographs are stored in, they leave out JPEG
Extended of 12 bits, which pylibjpeg-libjpeg (GPL 3) decodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID, AllTransferSyntaxes, JPEGExtended12Bit

from medsgssl.errors import ImageError

#: What brings the decoders that pydicom itself lacks.
INSTALL_DECODERS = "pip install 'medsgssl[dicom]'"
#: What brings the one decoder that only a GPL package has.
INSTALL_12_BIT = "pip install pylibjpeg-libjpeg (its license is GPL 3)"
_LIBJPEG = "pylibjpeg"  # pydicom's name of the plugin; it decodes JPEG with libjpeg alone


class MissingDecoderError(ImageError):
    """A file is whole as far as is known, and no installed package decodes its compression.

    Args:
        problem: What is wrong, naming the file.
        fix: What to install.
        transfer_syntax: The UID of the compression; lost in pickling.
    """

    def __init__(self, problem: str, fix: str, transfer_syntax: str = "") -> None:
        super().__init__(problem, fix)
        self.transfer_syntax = transfer_syntax


@dataclass(frozen=True, slots=True)
class TransferSyntax:
    """One way in which DICOM pixels are stored.

    Attributes:
        uid: Its identifier in the DICOM standard.
        name: Its name there.
        readable: Whether an installed package decodes it.
        missing: The packages of which any one would decode it; empty where it is readable.
    """

    uid: str
    name: str
    readable: bool
    missing: tuple[str, ...] = ()


def transfer_syntaxes() -> list[TransferSyntax]:
    """Return every transfer syntax with still images that pydicom knows, in its order."""
    return [decoder for uid in AllTransferSyntaxes if (decoder := _look_up(uid)) is not None]


def require_decoder(path: Path, uid: str, bits: int = 8) -> None:
    """Refuse a file whose compression nothing that is installed decodes.

    Args:
        path: The file, for the message.
        uid: Its transfer syntax.
        bits: Bits stored per pixel.

    Raises:
        MissingDecoderError: Its compression cannot be decoded here.
    """
    if is_readable(uid, bits):
        return
    decoder, name = _look_up(UID(uid)), syntax_name(uid)
    if decoder is None:
        problem, fix = f"nothing decodes {name}", "convert it to PNG with a DICOM tool"
    elif decoder.readable:
        problem, fix = f"no decoder for {name} of {bits} bits is installed", INSTALL_12_BIT
    else:
        problem, fix = f"no decoder for {name} is installed", INSTALL_DECODERS
    raise MissingDecoderError(f"{path} cannot be decoded: {problem}", fix, uid)


def is_readable(uid: str, bits: int = 8) -> bool:
    """Return whether pixels of a transfer syntax and of so many bits can be decoded here."""
    decoder = _look_up(UID(uid))
    if decoder is None or not decoder.readable:
        return False
    return bits <= 8 or uid != JPEGExtended12Bit or decodes_12_bit_jpeg()


def decodes_12_bit_jpeg() -> bool:
    """Return whether JPEG Extended of more than 8 bits can be decoded: Pillow and GDCM cannot."""
    return _LIBJPEG in get_decoder(JPEGExtended12Bit).available_plugins


def syntax_name(uid: str) -> str:
    """Return the name of a transfer syntax in the DICOM standard; the UID where it has none."""
    return str(UID(uid).name)


def _look_up(uid: UID) -> TransferSyntax | None:
    try:
        decoder = get_decoder(uid)
    except NotImplementedError:
        return None
    missing = () if decoder.is_available else tuple(decoder.missing_dependencies)
    return TransferSyntax(str(uid), uid.name, decoder.is_available, missing)
