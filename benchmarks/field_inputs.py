"""Inputs like those that people reported trouble with: what `benchmarks/field.py` reads."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image
from pydicom.uid import ExplicitVRLittleEndian, JPEGExtended12Bit

from medsgssl.data.synthetic.dataset import generate_phantoms
from medsgssl.data.synthetic.render import render_phantom

#: Python that lists the curves of a run; ``folder`` is where TensorBoard's files are.
CURVES = """>>> from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
>>> board = EventAccumulator("{folder}").Reload()
>>> for name in board.Tags()["scalars"]:
...     print(name, [event.step for event in board.Scalars(name)])"""
#: Python that counts the scores that equal images have got; ``folder`` is the run's.
SCORES = """>>> import pandas as pd
>>> scores = pd.read_parquet("{folder}/predictions.parquet").filter(like="score_")
>>> print(f"{{scores.nunique().max()}} different scores for {{len(scores)}} equal images")"""

_SIDE = 128
_HEADER = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,{sex},View Position"


def write_all() -> None:
    """Write every input below the current folder."""
    generate_phantoms(Path("nih"), 60, size=64)
    shutil.copytree("nih", "blank")
    for path in Path("blank").rglob("*.png"):
        Image.new("L", (64, 64), 90).save(path)
    _dicom_headers()
    _padding()
    _formats()
    _layouts()
    _tables()
    _own_masks()


def deep(number: int) -> NDArray[np.uint16]:
    """Return a phantom of 12 bits, uint16 (128, 128)."""
    image = cv2.GaussianBlur(render_phantom(0, number, _SIDE).image, (0, 0), 1.0)
    return (image.astype(np.float32) / 255 * 4095).astype(np.uint16)


def write_dicom(path: Path, pixels: NDArray[np.generic], **tags: Any) -> None:
    """Write an uncompressed radiograph with further elements of its header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1", "1.2.3"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = 8 * pixels.dtype.itemsize
    dataset.BitsStored, dataset.HighBit = dataset.BitsAllocated, dataset.BitsAllocated - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.PixelData = pixels.tobytes()
    for name, value in tags.items():
        setattr(dataset, name, value)
    dataset.save_as(path, enforce_file_format=True)


def lut(bits: int) -> list[pydicom.Dataset]:
    """Return a VOI LUT from 12 bits to fewer, with a bend."""
    entries = np.minimum(np.arange(4096) * 1.1, 4095).astype(int) * (2**bits - 1) // 4095
    item = pydicom.Dataset()
    item.add_new(0x00283002, "US", [4096, 0, bits])
    item.add_new(0x00283006, "OW", entries.astype("<u2").tobytes())
    return [item]


def _dicom_headers() -> None:
    slips: list[dict[str, Any]] = [
        {"WindowCenter": "2047", "WindowWidth": "0"},
        {"WindowCenter": "0.5", "WindowWidth": "0.9"},
        {"WindowCenter": "2047", "WindowWidth": "4095", "VOILUTFunction": ""},
    ]
    with pydicom.config.disable_value_validation():
        for number in range(8):
            slip = slips[number] if number < len(slips) else {}
            write_dicom(Path(f"headers/p{number}.dcm"), deep(number), **slip)
    comma = Path("headers/p8.dcm")
    write_dicom(comma, deep(8), WindowCenter="2047", WindowWidth="4095")
    comma.write_bytes(comma.read_bytes().replace(b"4095", b"4,95"))
    for number in range(4):
        path = Path(f"nodecoder/p{number}.dcm")
        write_dicom(path, deep(number), BitsStored=12, HighBit=11)
        dataset = pydicom.dcmread(path)
        dataset.file_meta.TransferSyntaxUID = JPEGExtended12Bit
        dataset.PixelData = pydicom.encaps.encapsulate([bytes(100)])
        dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
        dataset.save_as(path, enforce_file_format=True)
    write_dicom(Path("lut/plain.dcm"), np.minimum(deep(0) * 1.1, 4095).astype(np.uint16))
    write_dicom(Path("lut/lut8.dcm"), deep(0), VOILUTSequence=lut(8))


def _padding() -> None:
    for number in range(4):
        pixels = deep(number)
        write_dicom(Path(f"padding/p{number}_none.dcm"), pixels)
        padded, signed = pixels.copy(), pixels.astype(np.int16)
        padded[:, :12], signed[:, :12] = 65535, -32768
        write_dicom(Path(f"padding/p{number}_65535.dcm"), padded, PixelPaddingValue=65535)
        write_dicom(Path(f"padding/p{number}_signed.dcm"), signed, PixelPaddingValue=-32768)
        padded[:, :12] = 60001
        write_dicom(
            Path(f"padding/p{number}_range.dcm"),
            padded,
            PixelPaddingValue=60000,
            PixelPaddingRangeLimit=65535,
        )


def _picture(path: str, number: int = 0, **extra: Any) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(render_phantom(0, number, 64).image).save(path, **extra)


def _formats() -> None:
    for number in range(3):
        for suffix in ("png", "tif", "bmp"):
            _picture(f"formats/p{number}{suffix[0]}.{suffix}", number)
        write_dicom(Path(f"formats/scan/IM{number:04d}"), deep(number))
    Path("formats/notes.txt").write_text("none of these is an image")
    (Path("formats") / "._p0p.png").write_bytes(b"\0\5\26\7" + bytes(60))
    exif = Image.Exif()
    exif[0x0112] = 6
    _picture("odd/turned.jpg", 0, exif=exif, quality=95)
    _picture("odd/longer.jpg", 1, quality=95)
    with Path("odd/longer.jpg").open("ab") as stream:
        stream.write(bytes(5000))


def _layouts() -> None:
    for number in range(12):
        patient = 10000032 + number
        _picture(f"mimic/files/p10/p{patient}/s{50414267 + number}/{number:08x}.jpg", number)
        film = f"{216840111366964012283393834152 + number}_00-105-{number:03d}"
        _picture(f"padchest/{number % 2}/{film}.png", number)
        batch = f"CheXpert-v1.0 batch {2 + number % 3} (train {1 + number % 3})"
        _picture(f"chexpert/{batch}/patient{number:05d}/study1/view1_frontal.jpg", number)
        _picture(f"elsewhere/p{number}.png", number)
    Path("linked").mkdir()
    Path("linked/films").symlink_to(Path("elsewhere").absolute())
    Path("linked/loop").symlink_to(Path("linked").absolute())


def _tables() -> None:
    names = [f"{patient:08d}_000.png" for patient in range(1, 21)]
    for number, name in enumerate(names):
        _picture(f"nested/images-224/images-224/{name}", number)
        _picture(f"kaggle/images/{name}", number)
    rows = [
        f"{name},{'Effusion' if n % 2 else 'Mass'},0,{int(name[:8])},050Y,{'MF'[n % 2]},PA"
        for n, name in enumerate(names)
    ]
    for path, sex in (
        ("nested/Data_Entry_2017.csv", "Sex"),
        ("kaggle/sample_labels.csv", "Gender"),
    ):
        Path(path).write_text("\n".join([_HEADER.format(sex=f"Patient {sex}"), *rows]) + "\n")
    Path("lines").mkdir()
    _picture("lines/a.png")
    _picture("lines/b.png", 1)
    Path("lines/labels.csv").write_text("image,patient,Tube\n\na.png,1,1\n\nb.png,2,perhaps\n")
    Path("one").mkdir()
    for number in range(20):
        _picture(f"one/p{number:02d}.png", number)
    parts = ["train"] * 10 + ["val"] * 5 + ["test"] * 5
    table = [
        f"p{number:02d}.png,{number},{'' if part == 'train' and number else number % 2},{part}"
        for number, part in enumerate(parts)
    ]
    Path("one/labels.csv").write_text("\n".join(["image,patient,Tube,split", *table]) + "\n")


def _own_masks() -> None:
    for number in range(4):
        phantom = render_phantom(0, number, _SIDE)
        name, lungs = f"p{number}.png", phantom.lungs.astype(np.uint8)
        labels = lungs.copy()
        labels[:, _SIDE // 2 :] *= 2
        black = np.zeros((_SIDE, _SIDE, 3), np.uint8)
        written: dict[str, NDArray[np.uint8 | np.uint16]] = {
            "films": phantom.image,
            "gray": 255 * lungs,
            "deep": lungs.astype(np.uint16),
            "alpha": np.dstack([black, 255 * lungs]),
            "labels": labels,
            "inverted": 255 * (1 - lungs),
        }
        for folder, pixels in written.items():
            Path(folder).mkdir(exist_ok=True)
            cv2.imwrite(f"{folder}/{name}", pixels)
    shutil.copytree("gray", "others")
    for path in list(Path("others").iterdir()):
        path.rename(path.with_name(f"scan-{path.name}"))
