from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medsgssl.config.schema import DataSettings
from medsgssl.data.paths import dataset_cache
from medsgssl.masks.build import build_store
from medsgssl.masks.store import MaskStore, Row, pack_row
from medsgssl.masks.types import LungMask
from medsgssl.study.analysis import Analysis, analyze
from medsgssl.study.strata import quality_parts
from tests.study.synthetic import cohort, store_identity, write_run


def test_parts_are_no_mask_and_thirds_with_ties_together() -> None:
    parts = quality_parts(np.array([0, 0, 0.1, 0.2, 0.5, 0.5, 0.9, 0.95]))
    assert {name: int(rows.sum()) for name, rows in parts.items()} == {
        "no mask": 2, "low": 2, "middle": 2, "high": 2,
    }  # fmt: skip
    assert set(quality_parts(np.full(5, 0.7))) == set()
    assert set(quality_parts(np.zeros(3))) == {"no mask"}


class _Made:
    """A maker whose masks are good for half of the images."""

    name, version, parameter_hash = "made", 1, "0"

    def __init__(self, quality: dict[str, float]) -> None:
        self.quality = quality

    def check(self, items: object) -> None:
        """Take any images."""

    def make(self, image_id: str, path: Path, grid: int) -> Row:
        mask = np.zeros((8, 8), bool)
        mask[2:6, 2:6] = True
        return pack_row(image_id, (8, 8), LungMask(mask, self.quality[image_id], "ok"), grid)


def _study(folder: Path, store: MaskStore | None, skill: np.ndarray | float) -> Analysis:
    identity = "none" if store is None else store_identity(store)
    runs = [write_run(folder / f"simclr{s}", "simclr", 1.0, s) for s in range(3)]
    runs += [
        write_run(folder / f"guided{s}", "mask-channel", skill, s, identity=identity)
        for s in range(3)
    ]
    return analyze([run.path for run in runs])


def test_without_the_store_the_report_says_what_is_missing(tmp_path: Path) -> None:
    ((_, quality),) = _study(tmp_path, None, 1.2).quality
    assert not quality.strata
    assert "no longer in the cache" in quality.absent
    assert str(tmp_path) in quality.absent


def test_guidance_that_helps_with_good_masks_shows_in_the_trend(tmp_path: Path) -> None:
    table = cohort()
    rng = np.random.default_rng(3)
    quality = dict(zip(table["image_id"], 0.05 + 0.9 * rng.random(len(table)), strict=True))
    folder = dataset_cache(DataSettings(root=tmp_path / "data", cache_dir=tmp_path / "cache"))
    items = [(name, tmp_path / name) for name in quality]
    store = build_store(folder / "masks" / "made", items, _Made(quality))  # type: ignore[arg-type]
    good = np.array([quality[name] > 0.5 for name in table["image_id"]])
    found = _study(tmp_path, store, np.where(good, 2.0, 1.0))
    ((_, strata),) = found.quality
    assert [part.name for part in strata.strata] == ["low", "middle", "high"]
    high = strata.strata[-1].difference
    assert high.interval is not None
    assert high.interval[0] > 0
    assert strata.trend is not None
    assert strata.trend.interval is not None
    assert strata.trend.interval[0] > 0


def test_subgroups_hold_every_image_once(tmp_path: Path) -> None:
    ((_, tests),) = _study(tmp_path, None, 1.2).subgroups
    parts = tests.strata
    images = int((cohort()["split"] == "test").sum())
    for kind in ("sex", "age", "view_position"):
        assert sum(part.images for part in parts if part.kind == kind) == images
    women = next(part for part in parts if part.name == "F")
    assert women.auc.value is not None
    assert women.difference.value == pytest.approx(women.auc.value - women.auc_against.value)  # type: ignore[operator]


def test_a_gain_in_one_view_alone_shows_as_interaction(tmp_path: Path) -> None:
    table = cohort(800)
    frontal = (table["view_position"] == "PA").to_numpy()
    for name, skill in (("same", 1.4), ("more", np.where(frontal, 2.2, 1.0))):
        runs = [
            write_run(tmp_path / f"s{s}{name}", "simclr", 1.0, s, table=table) for s in range(3)
        ]
        runs += [
            write_run(tmp_path / f"g{s}{name}", "mask-channel", skill, s, table=table)
            for s in range(3)
        ]
        ((_, tests),) = analyze([run.path for run in runs]).subgroups
        assert {test.kind for test in tests.interactions} == {"sex", "age", "view_position"}
        (view_position,) = [test for test in tests.interactions if test.kind == "view_position"]
        assert (view_position.name, view_position.rest) == ("AP", "PA")
        assert view_position.p_holm is not None
        assert (view_position.p_holm < 0.05) == (name == "more")
        sex = next(test for test in tests.interactions if test.kind == "sex")
        assert view_position.difference.p is not None
        assert view_position.p_holm >= view_position.difference.p
        assert sex.p_holm is not None
        assert sex.p_holm > 0.05
