"""Exports give the numbers of the original, in the programs that people load them with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch

from medsgssl.errors import CheckpointError, ConfigError
from medsgssl.inference import export as exporting
from medsgssl.inference.export import export_model, extra_parameters
from medsgssl.inference.predictor import Predictor, check_views
from tests.conftest import TrainedRun


@pytest.mark.parametrize("name", ["simclr", "mask-channel", "anatomy-masked-attention"])
@pytest.mark.parametrize("single", [False, True])
def test_plain_timm_loads_the_encoder_strictly(
    name: str, single: bool, trained_run: TrainedRun, tmp_path: Path
) -> None:
    bundle = Predictor.load(trained_run(name).path).bundle
    views, masks, _ = check_views(bundle)
    out = tmp_path / ("encoder.safetensors" if single else "encoder")
    drop = bool(extra_parameters(bundle.classifier.encoder))
    done = export_model(bundle, "timm", out, views, masks, drop_extras=drop)
    assert done.difference < 1e-5
    if not single:
        names = {path.name for path in out.iterdir()}
        assert names == {"model.safetensors", "config.json", "README.md"}
    # The printed lines are run as they are printed.
    scope: dict[str, Any] = {}
    exec(done.usage, scope)
    inputs = exporting.backbone_inputs(bundle.classifier.encoder, views, masks)
    with torch.inference_mode():
        theirs = scope["model"](inputs)
        ours = bundle.classifier.encoder.features(inputs).pooled
    torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=0)
    assert ("in_chans=4" in done.usage) == (name == "mask-channel")


def test_the_check_notices_other_weights(
    trained_run: TrainedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = Predictor.load(trained_run("simclr").path).bundle
    views, masks, _ = check_views(bundle)
    create = timm.create_model

    def other(name: str, *, checkpoint_path: str, **options: Any) -> Any:
        torch.manual_seed(0)
        return create(name, **options)

    monkeypatch.setattr(timm, "create_model", other)
    with pytest.raises(CheckpointError, match="differs from the original"):
        export_model(bundle, "timm", tmp_path / "out", views, masks)


def test_what_timm_cannot_hold_is_named(trained_run: TrainedRun, tmp_path: Path) -> None:
    bundle = Predictor.load(trained_run("attention-prior").path).bundle
    views, masks, _ = check_views(bundle)
    with pytest.raises(ConfigError, match="plain timm cannot hold") as error:
        export_model(bundle, "timm", tmp_path / "out", views, masks)
    assert extra_parameters(bundle.classifier.encoder)[0] in str(error.value)
    assert not (tmp_path / "out").exists()
    done = export_model(bundle, "timm", tmp_path / "out", views, masks, drop_extras=True)
    assert set(done.dropped) == set(extra_parameters(bundle.classifier.encoder))


@pytest.mark.parametrize("name", ["simclr", "mask-channel", "anatomy-masked-attention"])
def test_torchscript_gives_the_probabilities(
    name: str, trained_run: TrainedRun, tmp_path: Path
) -> None:
    bundle = Predictor.load(trained_run(name).path).bundle
    views, masks, _ = check_views(bundle)
    done = export_model(bundle, "torchscript", tmp_path / "model.pt", views, masks)
    model = torch.jit.load(str(done.path))
    inputs = (views[:2], masks[:2]) if bundle.classifier.encoder.needs_masks else (views[:2],)
    with torch.inference_mode():
        wanted = exporting.Probabilities(bundle).eval()(*inputs)
        torch.testing.assert_close(model(*inputs), wanted, atol=1e-6, rtol=0)
        typed = {"images": views[:2], "masks": masks[:2]}
        exec(done.usage, typed)
        torch.testing.assert_close(typed["probabilities"], wanted, atol=1e-6, rtol=0)
    assert ("masks: bool" in done.usage) == bundle.classifier.encoder.needs_masks


@pytest.mark.parametrize("name", ["simclr", pytest.param("mask-channel", marks=pytest.mark.slow)])
def test_onnx_gives_the_probabilities_for_any_batch(
    name: str, trained_run: TrainedRun, tmp_path: Path
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    bundle = Predictor.load(trained_run(name).path).bundle
    views, masks, _ = check_views(bundle)
    done = export_model(bundle, "onnx", tmp_path / "model.onnx", views, masks)
    assert done.difference < 1e-5
    session = onnxruntime.InferenceSession(str(done.path), providers=["CPUExecutionProvider"])
    names = [item.name for item in session.get_inputs()]
    feed = dict(zip(names, (views[:1].numpy(), masks[:1].numpy()), strict=False))
    (one,) = session.run(["probabilities"], feed)
    wanted = exporting.Probabilities(bundle).eval()(views[:1], masks[:1]).detach().numpy()
    np.testing.assert_allclose(one, wanted, atol=1e-5)
    typed = {"images": views[:1].numpy(), "masks": masks[:1].numpy()}
    exec(done.usage, typed)
    np.testing.assert_allclose(typed["probabilities"], one, atol=1e-6)
    assert "preprocessing" in session.get_modelmeta().custom_metadata_map


def test_a_hub_folder_predicts_what_the_run_predicts(
    trained_run: TrainedRun, tmp_path: Path, phantom_set: Path
) -> None:
    run = trained_run("guided-crop")
    bundle = Predictor.load(run.path).bundle
    views, masks, _ = check_views(bundle)
    done = export_model(bundle, "hf", tmp_path / "hub", views, masks)
    files = sorted((phantom_set / "images").glob("*.png"))[:3]
    first, second = (Predictor.load(path).predict(files) for path in (run.path, done.path))
    assert first.equals(second)
    assert "Research use only" in (done.path / "README.md").read_text()


def test_a_push_goes_through_the_hub_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, Any]] = []

    class Hub:
        def create_repo(self, name: str, **options: Any) -> None:
            calls.append((name, options))

        def upload_folder(self, *, repo_id: str, folder_path: Path) -> str:
            calls.append((repo_id, folder_path))
            return "hub/me/model"

    monkeypatch.setattr(exporting, "HfApi", Hub)
    assert exporting.push_to_hub(tmp_path, "me/model") == "hub/me/model"
    assert calls == [("me/model", {"exist_ok": True, "private": True}), ("me/model", tmp_path)]
