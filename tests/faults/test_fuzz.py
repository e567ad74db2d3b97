"""Readers of files that others wrote raise the package's own errors only, whatever is in them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medsgssl.config.loading import read_yaml
from medsgssl.config.schema import DataSettings
from medsgssl.data.catalog import current_catalog
from medsgssl.data.readers.base import read_list
from medsgssl.errors import MedsgsslError
from medsgssl.images.reading import check_file, read_with_notes
from medsgssl.masks.store import MaskStore
from medsgssl.models.weights import read_header
from medsgssl.training.checkpoint import load_checkpoint
from medsgssl.utils.io import read_json

FUZZ = settings(
    max_examples=int(os.environ.get("MEDSGSSL_FUZZ", "40")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize="MEDSGSSL_FUZZ" not in os.environ,
)


def _pictures() -> list[bytes]:
    pixels = cv2.GaussianBlur(
        np.random.default_rng(0).integers(0, 255, (24, 20)).astype(np.uint8), (0, 0), 2
    )
    return [cv2.imencode(s, pixels)[1].tobytes() for s in (".png", ".jpg", ".tif", ".bmp", ".webp")]


@st.composite
def _damaged(draw: st.DrawFn, contents: list[bytes]) -> bytes:
    content = bytearray(draw(st.sampled_from(contents)))
    for _ in range(draw(st.integers(0, 4))):
        content[draw(st.integers(0, len(content) - 1))] = draw(st.integers(0, 255))
    return bytes(content[: draw(st.integers(0, len(content)))]) + draw(st.binary(max_size=8))


def _survives(read: Callable[[], object]) -> None:
    try:
        read()
    except MedsgsslError:
        return


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@FUZZ
@given(content=_damaged(_pictures()))
def test_images(folder: Path, content: bytes) -> None:
    path = folder / "image"
    path.write_bytes(content)
    _survives(lambda: read_with_notes(path))
    _survives(lambda: check_file(path, whole=False))
    _survives(lambda: check_file(path, whole=True))


_TEXTS = st.one_of(
    st.binary(max_size=200),
    st.text(max_size=100).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.integers(1, 5000).map(lambda depth: b"[" * depth),
    st.integers(1, 3000).map(lambda depth: b'{"a":' * depth),
    st.integers(1, 400).map(lambda depth: b"".join(b" " * i + b"a:\n" for i in range(depth))),
)


@FUZZ
@given(content=_TEXTS)
def test_json_yaml_lists_stores_weights_and_checkpoints(folder: Path, content: bytes) -> None:
    path = folder / "file"
    path.write_bytes(content)
    (folder / "store.json").write_bytes(content)
    for read in (read_json, read_yaml, read_list, read_header):
        _survives(lambda read=read: read(path))  # type: ignore[misc]
    _survives(lambda: load_checkpoint(path, "key"))
    _survives(lambda: MaskStore.open(folder))


_TABLES = {
    "Data_Entry_2017.csv": b"Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,"
    b"Patient Gender,View Position\n00000001_000.png,Mass|Nodule,0,1,58,M,PA\n"
    b"00000002_000.png,No Finding,0,2,041Y,F,AP\n",
    "labels.csv": b"image,patient,Fluid,Scar\n00000001_000.png,p1,1,0\n00000002_000.png,p2,,-1\n",
    "train.csv": b"Path,Sex,Age,Frontal/Lateral,AP/PA,Pneumonia\n"
    b"00000001_000.png,Male,50,Frontal,AP,1.0\n00000002_000.png,Female,60,Frontal,PA,-1.0\n",
}


@FUZZ
@given(name=st.sampled_from(sorted(_TABLES)), data=st.data())
def test_label_tables(folder: Path, name: str, data: st.DataObject) -> None:
    root = folder / "set"
    root.mkdir(exist_ok=True)
    for old in root.glob("*.csv"):
        old.unlink()
    for number in (1, 2):
        (root / f"0000000{number}_000.png").write_bytes(_pictures()[0])
    (root / name).write_bytes(data.draw(_damaged([_TABLES[name]])))
    settings_of = DataSettings(root=root, cache_dir=folder / "cache")
    _survives(lambda: current_catalog(settings_of))
