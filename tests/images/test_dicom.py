"""DICOM display headers: followed where they can be believed, else passed over, never fatal."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
)

from medsgssl.errors import ImageError
from medsgssl.images.decoders import transfer_syntaxes
from medsgssl.images.intensity import to_gray8
from medsgssl.images.reading import FileCheck, check_file, read_image, read_with_notes
from tests.images.dicom_files import write_dicom

TISSUE = cv2.GaussianBlur(
    np.random.default_rng(2).integers(0, 4096, (80, 64)).astype(np.float32), (0, 0), 3
)
# 12 bits, all of them used.
DEEP = ((TISSUE - TISSUE.min()) / np.ptp(TISSUE) * 4095).astype(np.uint16)
SIDES = np.zeros(DEEP.shape, bool)
SIDES[:, :10] = SIDES[:, -10:] = True


def lut(entries: NDArray[Any], bits: int, first: int = 0, *, words: bool = True) -> Any:
    item = pydicom.Dataset()
    item.add_new(0x00283002, "US", [len(entries) % 65536, first % 65536, bits])
    data = entries.astype("<u2" if words else np.uint8).tobytes()
    item.add_new(0x00283006, "OW", data)
    return [item]


def compress(dataset: pydicom.Dataset, stream: bytes) -> pydicom.Dataset:
    """Put a compressed stream, of whatever content, in the place of the pixels."""
    dataset.PixelData = pydicom.encaps.encapsulate([stream])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    return dataset


def test_padding_is_left_out_of_the_range_and_becomes_black(tmp_path: Path) -> None:
    plain = to_gray8(DEEP[~SIDES].reshape(80, -1))
    cases: list[dict[str, Any]] = [
        {"pad": 65535, "tags": {"PixelPaddingValue": 65535}},
        {"pad": 60001, "tags": {"PixelPaddingValue": 65535, "PixelPaddingRangeLimit": 60000}},
        {"pad": 60001, "tags": {"PixelPaddingValue": 60000, "PixelPaddingRangeLimit": 65535}},
    ]
    for case in cases:
        for kind in ("MONOCHROME1", "MONOCHROME2"):
            stored = 4095 - DEEP if kind == "MONOCHROME1" else DEEP.copy()
            stored[SIDES] = case["pad"]
            image = read_image(
                write_dicom(
                    tmp_path / "a.dcm", stored, PhotometricInterpretation=kind, **case["tags"]
                )
            )
            assert (image[SIDES] == 0).all()
            np.testing.assert_array_equal(image[~SIDES].reshape(80, -1), plain)


def test_signed_padding_is_recognized_however_its_number_is_written(tmp_path: Path) -> None:
    stored = DEEP.astype(np.int16)
    stored[SIDES] = -32768
    path = write_dicom(tmp_path / "a.dcm", stored, PixelRepresentation=1)
    dataset = pydicom.dcmread(path)
    for vr, value in (("SS", -32768), ("US", 32768)):
        dataset.add_new(0x00280120, vr, value)
        dataset.save_as(path)
        image = read_image(path)
        assert (image[SIDES] == 0).all()
        assert np.ptp(np.percentile(image[~SIDES], [1, 99])) > 200


def test_padding_that_would_leave_no_picture_is_not_believed(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", DEEP, PixelPaddingValue=0, PixelPaddingRangeLimit=4095)
    image, notes = read_with_notes(path)
    np.testing.assert_array_equal(image, to_gray8(DEEP))
    assert "padding" in notes[0]


@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("sequence", ["VOILUTSequence", "ModalityLUTSequence"])
def test_a_lut_gives_its_entries_whatever_its_bits(
    tmp_path: Path, bits: int, sequence: str
) -> None:
    # A curve with a bend; pydicom's VOI LUT of 8 bits gives noise on 12-bit pixels.
    entries = np.minimum(np.arange(4096) * 2, 4095) * (2**bits - 1) // 4095
    path = write_dicom(tmp_path / "a.dcm", DEEP, **{sequence: lut(entries, bits)})
    image, notes = read_with_notes(path)
    assert notes == ()
    np.testing.assert_array_equal(image, to_gray8(entries[DEEP].astype(np.int64)))


def test_a_lut_of_bytes_and_one_with_a_negative_first_value(tmp_path: Path) -> None:
    entries = np.arange(4096) // 16
    one = write_dicom(tmp_path / "a.dcm", DEEP, VOILUTSequence=lut(entries, 8, words=False))
    np.testing.assert_array_equal(read_image(one), to_gray8(entries[DEEP]))
    signed = (DEEP.astype(np.int32) - 1024).astype(np.int16)
    two = write_dicom(
        tmp_path / "b.dcm", signed, PixelRepresentation=1, VOILUTSequence=lut(entries, 8, -1024)
    )
    np.testing.assert_array_equal(read_image(two), read_image(one))


BROKEN_LUTS = {
    "not monotone": lut(np.random.default_rng(0).integers(0, 256, 4096), 8),
    "value 7 throughout": lut(np.full(4096, 7), 8),
    "bytes for": [lut(np.arange(4096), 12)[0]],
    "would leave 2 gray levels": lut((np.arange(4096) > 2000).astype(int), 8),
}
BROKEN_LUTS["bytes for"][0].LUTDescriptor = [60000, 0, 12]


@pytest.mark.parametrize("reason", BROKEN_LUTS)
def test_a_lut_that_cannot_be_believed_is_passed_over(tmp_path: Path, reason: str) -> None:
    path = write_dicom(tmp_path / "a.dcm", DEEP, VOILUTSequence=BROKEN_LUTS[reason])
    image, notes = read_with_notes(path)
    np.testing.assert_array_equal(image, to_gray8(DEEP))
    assert len(notes) == 1
    assert "its window is not used" in notes[0]


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_windows_follow_the_formulas_of_the_standard(tmp_path: Path, function: str) -> None:
    center, width = 2000.0, 3000.0
    x = DEEP.astype(float)
    expected = {
        "LINEAR": np.clip((x - (center - 0.5)) / (width - 1) + 0.5, 0, 1),
        "LINEAR_EXACT": np.clip((x - center) / width + 0.5, 0, 1),
        "SIGMOID": 1 / (1 + np.exp(-4 * (x - center) / width)),
    }[function]
    path = write_dicom(
        tmp_path / "a.dcm", DEEP, WindowCenter=center, WindowWidth=width, VOILUTFunction=function
    )
    np.testing.assert_array_equal(read_image(path), to_gray8(expected))


def test_slips_in_the_display_header_cost_the_window_and_not_the_image(tmp_path: Path) -> None:
    sane: dict[str, Any] = {"WindowCenter": "2047", "WindowWidth": "4095"}
    slips: list[dict[str, Any]] = [
        {"WindowWidth": "0"},
        {"WindowWidth": "-5"},
        {"WindowWidth": None},
        {"WindowCenter": None},
        {"VOILUTFunction": "BENT"},
        {"RescaleSlope": "0"},
        {"WindowCenter": "0.5", "WindowWidth": "0.9", "RescaleSlope": "0.0002442"},
    ]
    with pydicom.config.disable_value_validation():
        for slip in slips:
            path = write_dicom(tmp_path / "a.dcm", DEEP, **sane | slip)
            image, notes = read_with_notes(path)
            assert np.ptp(image) == 255, slip
            assert len(notes) >= 1, slip
            assert str(path) not in notes[0]  # so that equal notes can be counted
        path = write_dicom(tmp_path / "a.dcm", DEEP, VOILUTFunction="", **sane)
        assert read_with_notes(path)[1] == ()
    # A decimal comma.
    path.write_bytes(path.read_bytes().replace(b"4095", b"4,95"))
    image, notes = read_with_notes(path)
    np.testing.assert_array_equal(image, to_gray8(DEEP))
    assert "WindowWidth is not a number" in notes[0]


def test_the_check_of_a_file_says_what_reading_it_will_say(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", DEEP)
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.4.100")  # a video
    compress(dataset, bytes(100)).save_as(path, enforce_file_format=True)
    for check in (lambda: check_file(path, whole=False), lambda: read_image(path)):
        with pytest.raises(ImageError, match=r"a\.dcm cannot be decoded: nothing decodes"):
            check()


def test_a_missing_decoder_is_named_by_the_check_with_what_brings_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_dicom(tmp_path / "a.dcm", DEEP)
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = JPEGLosslessSV1
    compress(dataset, bytes(100)).save_as(path, enforce_file_format=True)
    monkeypatch.setattr(
        "pydicom.pixels.decoders.base.Decoder.is_available", property(lambda _: False)
    )
    for check in (lambda: check_file(path, whole=False), lambda: read_image(path)):
        with pytest.raises(ImageError, match="no decoder for JPEG Lossless") as caught:
            check()
        assert "medsgssl[dicom]" in caught.value.fix


def test_an_embedded_overlay_is_left_out_also_where_a_decoder_keeps_it(tmp_path: Path) -> None:
    stored = DEEP.copy()
    stored[20:30, 20:40] |= 1 << 15
    dataset = pydicom.dcmread(write_dicom(tmp_path / "a.dcm", stored))
    # JPEG 2000 of all 16 bits, as pydicom itself compressed such files.
    dataset.BitsStored, dataset.HighBit = 16, 15
    dataset.compress(JPEG2000Lossless)
    dataset.BitsStored, dataset.HighBit = 12, 11
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    image, notes = read_with_notes(tmp_path / "a.dcm")
    np.testing.assert_array_equal(image, to_gray8(DEEP))
    assert "an overlay" in notes[0]
    # Bits of the image itself, where the header gives too few of them, stay.
    dataset = pydicom.dcmread(write_dicom(tmp_path / "b.dcm", DEEP))
    dataset.compress(JPEG2000Lossless)
    dataset.BitsStored, dataset.HighBit = 10, 9
    dataset.save_as(tmp_path / "b.dcm", enforce_file_format=True)
    np.testing.assert_array_equal(read_image(tmp_path / "b.dcm"), to_gray8(DEEP))


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless])
def test_unsigned_pixels_that_are_called_signed_are_read_as_they_are(
    tmp_path: Path, syntax: UID
) -> None:
    dataset = pydicom.dcmread(write_dicom(tmp_path / "a.dcm", DEEP, BitsStored=12, HighBit=11))
    if syntax != ExplicitVRLittleEndian:
        dataset.compress(syntax)
    dataset.PixelRepresentation = 1
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    image, notes = read_with_notes(tmp_path / "a.dcm")
    np.testing.assert_array_equal(image, to_gray8(DEEP))
    assert "unsigned" in notes[0]
    signed = DEEP.astype(np.int16) - 2048
    path = write_dicom(tmp_path / "b.dcm", signed, BitsStored=12, HighBit=11, PixelRepresentation=1)
    image, notes = read_with_notes(path)
    np.testing.assert_array_equal(image, to_gray8(DEEP))
    assert notes == ()


@pytest.mark.parametrize("bits", [12, 16])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless])
def test_signed_pixels_are_read_as_such_also_where_the_header_says_unsigned(
    tmp_path: Path, syntax: UID, bits: int
) -> None:
    signed = DEEP.astype(np.int16) // 2 - 800
    path = write_dicom(
        tmp_path / "a.dcm", signed, BitsStored=bits, HighBit=bits - 1, PixelRepresentation=1
    )
    dataset = pydicom.dcmread(path)
    if syntax != ExplicitVRLittleEndian:
        dataset.compress(syntax)
    dataset.save_as(path, enforce_file_format=True)
    image, notes = read_with_notes(path)
    np.testing.assert_array_equal(image, to_gray8(DEEP // 2))
    assert notes == ()
    dataset.PixelRepresentation = 0
    dataset.save_as(path, enforce_file_format=True)
    image, notes = read_with_notes(path)
    np.testing.assert_array_equal(image, to_gray8(DEEP // 2))
    assert notes == ("its pixels are read as signed, though its header says unsigned",)


@pytest.mark.parametrize("signed", [False, True])
def test_stored_bits_above_others_are_found_by_their_high_bit(tmp_path: Path, signed: bool) -> None:
    values = DEEP.astype(np.int16) - 2048 if signed else DEEP
    tags = {"BitsStored": 12, "HighBit": 15, "PixelRepresentation": int(signed)}
    path = write_dicom(tmp_path / "a.dcm", np.left_shift(values, 4) | 5, **tags)
    image, notes = read_with_notes(path)
    np.testing.assert_array_equal(image, to_gray8(values))
    assert notes == ("the 4 bits below its stored bits are not used",)
    # A high bit that is wrong: the pixels do not reach it.
    path = write_dicom(tmp_path / "b.dcm", DEEP, BitsStored=12, HighBit=15)
    image, notes = read_with_notes(path)
    np.testing.assert_array_equal(image, to_gray8(DEEP))
    assert not notes


@pytest.mark.parametrize("bits", [1, 4, 7])
@pytest.mark.parametrize("kind", ["MONOCHROME1", "MONOCHROME2"])
def test_fewer_than_8_bits_fill_the_range_of_gray(tmp_path: Path, bits: int, kind: str) -> None:
    values = (DEEP >> (12 - bits)).astype(np.uint8)
    path = write_dicom(
        tmp_path / "a.dcm", values, BitsStored=bits, HighBit=bits - 1,
        PhotometricInterpretation=kind,
    )  # fmt: skip
    spread = np.rint(values / (2**bits - 1) * 255).astype(np.uint8)
    expected = 255 - spread if kind == "MONOCHROME1" else spread
    np.testing.assert_array_equal(read_image(path), expected)


@pytest.mark.parametrize(
    ("tags", "noted"),
    [
        ({"PixelAspectRatio": [2, 1]}, True),
        ({"ImagerPixelSpacing": [0.2, 0.1]}, True),
        ({"PixelSpacing": [0.139, 0.139]}, False),
        ({"PixelAspectRatio": [0, 0], "PixelSpacing": [0.1, 0.1]}, False),
    ],
)
def test_pixels_that_are_not_square_are_noted(
    tmp_path: Path, tags: dict[str, Any], noted: bool
) -> None:
    path = write_dicom(tmp_path / "a.dcm", DEEP, **tags)
    assert any("not square" in note for note in read_with_notes(path)[1]) is noted


def test_a_white_border_stays_white(tmp_path: Path) -> None:
    # Read as signed, its steps would be smaller.
    for border in (65535 - DEEP // 64, np.full_like(DEEP, 40_000)):
        stored = np.where(SIDES, border, DEEP).astype(np.uint16)
        image, notes = read_with_notes(write_dicom(tmp_path / "a.dcm", stored))
        np.testing.assert_array_equal(image, to_gray8(stored))
        assert notes == ()


def test_a_presentation_shape_against_the_color_model_is_noted(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", DEEP, PresentationLUTShape="INVERSE")
    image, notes = read_with_notes(path)
    np.testing.assert_array_equal(image, to_gray8(DEEP))
    assert "INVERSE" in notes[0]


def test_12_bit_jpeg_names_the_one_package_that_decodes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_dicom(tmp_path / "a.dcm", DEEP)
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = JPEGExtended12Bit
    dataset.BitsStored, dataset.HighBit = 12, 11
    compress(dataset, bytes(100)).save_as(path, enforce_file_format=True)
    monkeypatch.setattr("medsgssl.images.decoders.decodes_12_bit_jpeg", lambda: False)
    for check in (lambda: check_file(path, whole=False), lambda: read_image(path)):
        with pytest.raises(ImageError, match="of 12 bits is installed") as caught:
            check()
        assert "pylibjpeg-libjpeg" in caught.value.fix
        assert "GPL" in caught.value.fix


def test_compressed_pixels_that_claim_more_than_the_header_are_refused(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", DEEP)
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.4.90")
    size = (60_000).to_bytes(4, "big")
    stream = b"\xff\x4f\xff\x51\x00\x29\x00\x00" + size * 2 + bytes(40)
    compress(dataset, stream).save_as(path, enforce_file_format=True)
    with pytest.raises(ImageError, match="claim 60000 x 60000"):
        read_image(path)


def test_uncompressed_syntaxes_can_always_be_read() -> None:
    readable = {syntax.uid for syntax in transfer_syntaxes() if syntax.readable}
    assert ExplicitVRLittleEndian in readable
    for syntax in transfer_syntaxes():
        assert syntax.readable != bool(syntax.missing)


def test_real_files_of_many_kinds_end_in_an_image_or_a_named_error() -> None:
    data_store = pytest.importorskip("data_store", reason="pydicom-data is not installed")
    pytest.importorskip("gdcm", reason="the decoders of medsgssl[dicom] are not installed")
    paths = [
        *Path(data_store.__file__).parent.rglob("*.dcm"),
        *(Path(pydicom.__file__).parent / "data" / "test_files").glob("*.dcm"),
    ]
    images, unnamed = {}, []
    for path in paths:
        if path.stat().st_size > 1e6 and path.name != "RG1_UNCR.dcm":
            continue  # more of the same kinds
        try:
            images[path.name], _ = read_with_notes(path)
        except ImageError as error:
            unnamed += [] if str(path) in error.problem else [path]
    assert not unnamed
    assert len(images) >= 75
    # The same picture in two compressions; this chest is a true MONOCHROME1.
    difference = images["RG1_J2KI.dcm"].astype(int) - images["RG1_UNCR.dcm"]
    assert np.abs(difference).mean() < 1
    raw = next(path for path in paths if path.name == "RG1_UNCR.dcm")
    stored = pydicom.dcmread(raw).pixel_array
    assert np.corrcoef(stored.ravel(), images["RG1_UNCR.dcm"].ravel())[0, 1] < -0.9


# Every element that decoding or display looks at, with values of every kind of wrongness.
_ELEMENTS = (
    "WindowCenter", "WindowWidth", "VOILUTFunction", "RescaleSlope", "RescaleIntercept",
    "PixelPaddingValue", "PixelPaddingRangeLimit", "PhotometricInterpretation", "BitsStored",
    "HighBit", "BitsAllocated", "PixelRepresentation", "SamplesPerPixel", "NumberOfFrames", "Rows",
    "Columns", "PlanarConfiguration", "VOILUTSequence", "ModalityLUTSequence", "RescaleType",
    "PresentationLUTShape", "TransferSyntaxUID",
)  # fmt: skip
_NUMBERS = ("0", "-1", "1", "0.5", "1e30", "-1e30", "65535", "4,95", "nan", "inf", "1\\2", "", "x")


@st.composite
def _luts(draw: st.DrawFn) -> bytes:
    descriptor = np.array(draw(st.lists(st.integers(0, 65535), max_size=4)), "<u2").tobytes()
    data = draw(st.binary(max_size=64))
    data += b"\0" * (len(data) % 2)
    item = b"".join(
        tag + vr + pad + len(value).to_bytes(size, "little") + value
        for tag, vr, pad, size, value in (
            (b"\x28\0\x02\x30", b"US", b"", 2, descriptor),
            (b"\x28\0\x06\x30", b"OW", b"\0\0", 4, data),
        )
    )
    return b"\xfe\xff\x00\xe0" + len(item).to_bytes(4, "little") + item


_VALUES = st.one_of(
    st.none(),
    st.sampled_from(_NUMBERS).map(str.encode),
    st.integers(0, 65535).map(lambda number: number.to_bytes(2, "little")),
    st.sampled_from([b"MONOCHROME1", b"RGB", b"YBR_FULL_422", b"PALETTE COLOR", b"SIGMOID"]),
    st.binary(max_size=12),
    _luts(),
)  # fmt: skip


def is_gray8(result: object) -> bool:
    return isinstance(result, np.ndarray) and result.dtype == np.uint8 and result.ndim == 2


@pytest.fixture(scope="module")
def header_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "a.dcm"


def _put(dataset: pydicom.Dataset, name: str, value: bytes | None, vr: str) -> None:
    target = dataset.file_meta if name == "TransferSyntaxUID" else dataset
    if value is None:
        target.pop(pydicom.datadict.tag_for_keyword(name), None)
        return
    tag = pydicom.tag.Tag(pydicom.datadict.tag_for_keyword(name))
    # A raw element is written as it stands, whatever its bytes.
    target._dict[tag] = pydicom.dataelem.RawDataElement(tag, vr, len(value), value, 0, False, True)


# 100 files by default, MEDSGSSL_FUZZ=2000 and more on demand (`make faults`).
@settings(
    max_examples=int(os.environ.get("MEDSGSSL_FUZZ", "100")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize="MEDSGSSL_FUZZ" not in os.environ,
)
@given(
    changes=st.dictionaries(st.sampled_from(_ELEMENTS), _VALUES, min_size=1, max_size=4),
    vr=st.sampled_from(["own", "DS", "US", "LO", "UN", "SQ", "FD"]),
    cut=st.one_of(st.none(), st.integers(0, 400)),
)
def test_no_header_raises_anything_but_the_error_that_names_the_file(
    header_file: Path, changes: dict[str, bytes | None], vr: str, cut: int | None
) -> None:
    with pydicom.config.disable_value_validation(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write_dicom(header_file, DEEP[:20, :20], WindowCenter=2000, WindowWidth=3000)
        dataset = pydicom.dcmread(header_file)
        for name, value in changes.items():
            own = pydicom.datadict.dictionary_VR(pydicom.datadict.tag_for_keyword(name))
            _put(dataset, name, value, own.split(" ")[0] if vr == "own" else vr)
        try:
            dataset.save_as(header_file)
        except Exception:  # noqa: BLE001 - what cannot be written is no file to read
            return
    if cut is not None:
        content = header_file.read_bytes()
        header_file.write_bytes(content[: max(1, len(content) - cut)])
    for read in (
        lambda: read_with_notes(header_file)[0],
        lambda: check_file(header_file, whole=False),
        lambda: check_file(header_file, whole=True),
    ):
        try:
            result = read()
        except ImageError as error:
            result = error.problem
        assert isinstance(result, FileCheck) or str(header_file) in str(result) or is_gray8(result)
