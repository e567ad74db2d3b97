"""The committed judgements of real masks, and the cases that are drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.mask_cases import KINDS, VERDICTS, Row, judged_images
from medsgssl.data.synthetic.render import render_phantom
from medsgssl.masks.types import LungMask
from medsgssl.utils.rng import generator

JUDGED = Path(__file__).parents[2] / "docs" / "results" / "masks-by-eye.csv"


@pytest.mark.real
def test_judged_images_are_there_and_of_a_known_kind(real_data: Path) -> None:
    rows = list(judged_images(real_data, JUDGED))
    assert {kind for kind, _, _ in rows} <= set(KINDS)
    assert {verdict for _, _, verdict in rows} <= set(VERDICTS)
    assert all(path.is_file() for _, path, _ in rows)
    assert len({(kind, path) for kind, path, _ in rows}) == len(rows)


@pytest.mark.parametrize("kind", [kind for kind, change in KINDS.items() if change is not None])
def test_a_drawn_case_repeats_and_keeps_or_moves_its_lungs(kind: str) -> None:
    phantom = render_phantom(0, 1, 256, view_position="PA")
    lungs = phantom.left_lung | phantom.right_lung
    change = KINDS[kind]
    assert change is not None
    one, other = (change(phantom.image, lungs, generator(0, kind, 3)) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    image, moved = one
    assert (image.dtype, moved.dtype) == (np.uint8, np.bool_)
    assert image.shape == moved.shape
    assert np.array_equal(image, phantom.image) == (kind == "plain")
    # Gray levels stay with their lungs where an image is turned.
    if kind in ("turned by 90 degrees", "upside down"):
        assert image[moved].mean() == phantom.image[lungs].mean()


def test_a_row_counts_bad_masks_and_those_that_nobody_is_warned_of() -> None:
    lungs = np.zeros((20, 20), bool)
    lungs[5:15, 3:8] = lungs[5:15, 12:17] = True
    half = lungs.copy()
    half[:, 10:] = False
    row = Row()
    for mask, status in ((lungs, "ok"), (half, "ok"), (half, "doubtful")):
        row.add("references", LungMask(mask, 0.5, status), lungs)
    assert row.cells()[6:9] == ["3", f"{(1 + 2 * 2 / 3) / 3:.3f}", "2 (1)"]
    assert row.cells()[:6] == [""] * 6
