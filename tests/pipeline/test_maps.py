"""``maps.npz``: where a method looks, before and after pretraining."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medsgssl.api import run as run_method
from medsgssl.config.schema import Config
from medsgssl.report.pictures import map_examples
from medsgssl.runs.folder import RunFolder

Build = Callable[..., Config]
VIT = {"encoder": {"name": "vit_tiny_patch16_224", "patch_size": 8}}


@pytest.mark.parametrize(
    ("name", "tree", "shown", "learned"),
    [
        ("attention-prior", {}, "predicted_lungs", True),
        ("adaptive-pathology", {}, "saliency", False),
        ("anatomy-masked-attention", VIT, "attention", True),
    ],
)
def test_maps_are_written_before_and_after_pretraining(
    tmp_path: Path, small_run: Build, name: str, tree: dict, shown: str, learned: bool
) -> None:
    run = RunFolder(tmp_path / "run")
    run_method(small_run(name, **tree), run.path)
    with np.load(run.maps) as stored:
        arrays = dict(stored)
    before, after = (arrays[f"{shown}_{when}"] for when in ("before", "after"))
    assert before.shape == after.shape
    assert before.min() >= 0
    assert after.max() > 0
    assert np.allclose(before, after) != learned
    examples = map_examples(arrays)
    assert [example.image_id for example in examples] == list(arrays["image_ids"])
    assert len(examples[0].pictures) == (2 if learned else 1)
    page = run.report.read_text(encoding="utf-8")
    assert "Where the method looks" in page
    assert examples[0].pictures[-1].caption in page


def test_a_run_killed_before_its_maps_does_not_pretrain_again(
    tmp_path: Path, small_run: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    run, config = RunFolder(tmp_path / "run"), small_run("attention-prior")
    with monkeypatch.context() as patch:
        patch.setattr("medsgssl.pipeline.runner.write_maps", killed)
        with pytest.raises(KeyboardInterrupt):
            run_method(config, run.path, until="pretrain")
    with monkeypatch.context() as patch:
        patch.setattr("medsgssl.pipeline.runner.pretrain", killed)
        run_method(config, run.path, until="pretrain")
    assert run.maps.is_file()


def test_a_method_without_maps_writes_none(tmp_path: Path, small_run: Build) -> None:
    run = RunFolder(tmp_path / "run")
    run_method(small_run("simclr"), run.path)
    assert not run.maps.exists()
    assert "Where the method looks" not in run.report.read_text(encoding="utf-8")


def test_the_share_in_the_mask_is_that_of_the_map() -> None:
    mask = np.zeros((1, 32, 32), dtype=bool)
    mask[:, :, :16] = True
    found = np.array([[[3.0, 1.0], [3.0, 1.0]]])
    arrays = {
        "image_ids": np.array(["one.png"]),
        "views": np.zeros((1, 32, 32), np.uint8),
        "masks": mask,
        "seen_before": found,
        "seen_after": found,
    }
    (example,) = map_examples(arrays)
    (picture,) = example.pictures
    assert picture.caption == "seen: 0.75 of it in the mask"
