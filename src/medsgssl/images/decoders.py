"""Which compressions of DICOM (transfer syntaxes) the installed packages can decode."""

from __future__ import annotations

from dataclasses import dataclass

from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID, AllTransferSyntaxes

#: What brings the decoders that pydicom itself lacks.
INSTALL_DECODERS = "pip install 'medsgssl[dicom]'"


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
    return [found for uid in AllTransferSyntaxes if (found := _look_up(uid)) is not None]


def unreadable_reason(uid: str) -> str | None:
    """Return why pixels of a transfer syntax cannot be decoded here, or None where they can."""
    found = _look_up(UID(uid))
    if found is None:
        return f"nothing decodes its transfer syntax {UID(uid).name}"
    if found.readable:
        return None
    return f"no decoder for {found.name} is installed"


def _look_up(uid: UID) -> TransferSyntax | None:
    try:
        decoder = get_decoder(uid)
    except NotImplementedError:
        return None
    missing = () if decoder.is_available else tuple(decoder.missing_dependencies)
    return TransferSyntax(str(uid), uid.name, decoder.is_available, missing)
