"""A store that is built again: changed files, damaged parts, doubled rows, several processes."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from medsgssl.errors import MaskError
from medsgssl.masks import build
from medsgssl.masks.build import Item, build_store
from medsgssl.masks.store import MaskStore
from medsgssl.utils.io import file_hash


@pytest.fixture
def items(tmp_path: Path) -> list[Item]:
    folder = tmp_path / "images"
    folder.mkdir()
    items = []
    for number in range(6):
        image = np.full((64, 64), 200, np.uint8)
        for center in (18, 46):
            cv2.ellipse(image, (center, 32), (9, 18 + number), 0, 0, 360, 60, -1)
        path = folder / f"{number}.png"
        assert cv2.imwrite(str(path), image)
        items.append((path.name, path))
    return items


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The images whose masks were drawn, in order."""
    names: list[str] = []
    make = build._make_batch

    def counted(maker, batch, grid, keep=None):
        names.extend(image_id for image_id, _ in batch)
        return make(maker, batch, grid, keep)

    monkeypatch.setattr(build, "_make_batch", counted)
    return names


def test_a_file_that_changed_is_drawn_again_whatever_its_time_says(
    tmp_path: Path, items: list[Item], drawn: list[str]
) -> None:
    store = build_store(tmp_path / "s", items, "classic")
    before = {image_id: store.get(image_id).mask for image_id, _ in items}
    drawn.clear()
    path = items[2][1]
    status = path.stat()
    mirrored = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[::-1]
    assert cv2.imwrite(str(path), np.roll(mirrored, 5, axis=1))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    contents = {image_id: file_hash(file) for image_id, file in items}
    assert store.outdated(contents) == ["2.png"]
    again = build_store(tmp_path / "s", items, "classic")
    assert drawn == ["2.png"]
    assert again.outdated(contents) == []
    for image_id, _ in items:
        same = np.array_equal(again.get(image_id).mask, before[image_id])
        assert same == (image_id != "2.png")


def test_touching_a_file_draws_nothing(tmp_path: Path, items: list[Item], drawn: list[str]) -> None:
    build_store(tmp_path / "s", items, "classic")
    drawn.clear()
    items[1][1].touch()
    build_store(tmp_path / "s", items, "classic")
    assert drawn == []


def test_a_repaired_file_is_no_longer_failed(tmp_path: Path, items: list[Item]) -> None:
    content = items[0][1].read_bytes()
    items[0][1].write_bytes(content[:50])
    assert build_store(tmp_path / "s", items, "classic").get("0.png").status == "failed"
    items[0][1].write_bytes(content)
    assert build_store(tmp_path / "s", items, "classic").get("0.png").status != "failed"


@pytest.mark.parametrize("way", ["bit flip", "cut short", "emptied"])
def test_a_damaged_part_is_noticed_and_only_its_images_are_drawn_again(
    tmp_path: Path, items: list[Item], drawn: list[str], way: str
) -> None:
    whole = build_store(tmp_path / "s", items, "classic", part_images=2)
    fingerprint = whole.fingerprint
    masks = {image_id: whole.get(image_id).mask for image_id, _ in items}
    drawn.clear()
    part = sorted((tmp_path / "s").glob("part-*.parquet"))[1]
    content = bytearray(part.read_bytes())
    content[len(content) // 3] ^= 8
    part.write_bytes({"cut short": content[:-20], "emptied": b""}.get(way, content))
    healed = build_store(tmp_path / "s", items, "classic", part_images=2)
    # A bit of the file may mean nothing; then nothing has to be drawn.
    assert drawn == ["2.png", "3.png"] or (way == "bit flip" and not drawn)
    assert healed.fingerprint == fingerprint
    assert all(np.array_equal(healed.get(i).mask, mask) for i, mask in masks.items())


@pytest.mark.parametrize("content", [None, b"", b'{"recipe": "cla', b'{"recipe": "other"}'])
def test_a_damaged_header_is_written_again_and_nothing_is_drawn(
    tmp_path: Path, items: list[Item], drawn: list[str], content: bytes | None
) -> None:
    fingerprint = build_store(tmp_path / "s", items, "classic").fingerprint
    drawn.clear()
    header = tmp_path / "s" / "store.json"
    header.unlink() if content is None else header.write_bytes(content)
    assert build_store(tmp_path / "s", items, "classic").fingerprint == fingerprint
    assert drawn == []


def test_a_damaged_header_does_not_let_another_recipe_in(tmp_path: Path, items: list[Item]) -> None:
    build_store(tmp_path / "s", items, "classic")
    (tmp_path / "s" / "store.json").write_bytes(b"{}")
    with pytest.raises(MaskError):
        build_store(tmp_path / "s", items, "anatomic")


def test_identical_rows_that_two_processes_wrote_are_read_once(
    tmp_path: Path, items: list[Item]
) -> None:
    store = build_store(tmp_path / "s", items, "classic")
    part = next((tmp_path / "s").glob("part-*.parquet"))
    twice = part.with_name("part-0001of0001-00009.parquet")
    twice.write_bytes(part.read_bytes())
    assert MaskStore.open(tmp_path / "s").fingerprint == store.fingerprint
    frame = pd.read_parquet(twice)
    frame.loc[0, "digest"] = "other"
    frame.to_parquet(twice)
    with pytest.raises(MaskError, match=r"holds the image 0\.png more than once"):
        MaskStore.open(tmp_path / "s")


def test_two_processes_build_one_store(tmp_path: Path, items: list[Item]) -> None:
    context = multiprocessing.get_context("fork")
    cv2.setNumThreads(1)
    arguments = (tmp_path / "s", items, "classic")
    processes = [context.Process(target=build_store, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    assert MaskStore.open(tmp_path / "s").complete


def test_an_image_on_which_a_decoder_crashes_is_failed_and_named(
    tmp_path: Path, items: list[Item], crashing_decoder: None
) -> None:
    with items[3][1].open("ab") as stream:
        stream.write(b"CRASH")  # after the end mark
    store = build_store(tmp_path / "s", items, "classic", 1)
    assert store.get("3.png").status == "failed"
    assert f"{items[3][1]} ends the process that reads it (SIGSEGV)" in store.get("3.png").reason
    assert all(store.get(name).status != "failed" for name, _ in items if name != "3.png")
