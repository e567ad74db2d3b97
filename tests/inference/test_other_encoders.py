"""Another encoder's frozen features in a run, and what of it a trained classifier still needs."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from medsgssl.inference.export import export_model
from medsgssl.inference.predictor import Predictor, check_views
from medsgssl.methods.registry import configure
from medsgssl.models import hub
from medsgssl.pipeline.runner import run_method
from medsgssl.runs.metrics_file import read_metrics
from tests.conftest import TrainedRun


def test_a_folder_of_another_encoder_is_only_needed_for_training(
    trained_run: TrainedRun, phantom_set: Path, tmp_path: Path
) -> None:
    first = trained_run("simclr")
    bundle = Predictor.load(first.path).bundle
    views, masks, _ = check_views(bundle)
    folder = tmp_path / "expert"
    export_model(bundle, "timm", folder, views, masks)
    tree = {
        "data": {
            "root": str(phantom_set), "cache_dir": str(tmp_path / "cache"), "img_size": 32,
            "batch_size": 16, "num_workers": 0,
        },
        "encoder": {"name": f"local-dir:{folder}"},
        "finetune": {"mode": "linear", "accelerator": "cpu"},
        "evaluate": {"bootstrap": 20},
    }  # fmt: skip
    done = run_method(configure("direct", tree), tmp_path / "run")
    metrics = read_metrics(done.metrics)
    assert metrics is not None
    assert metrics["mean_auc"] is not None
    files = sorted((phantom_set / "images").glob("*.png"))[:3]
    # The features are those of the first run: the encoder was frozen.
    np.testing.assert_allclose(
        Predictor.load(done.path).embed(files), Predictor.load(first.path).embed(files), atol=1e-5
    )
    shutil.rmtree(folder)
    hub._KNOWN.clear()
    assert "/" not in str(Predictor.load(done.path).bundle.config.encoder.name)
    again = export_model(Predictor.load(done.path).bundle, "timm", tmp_path / "out", views, masks)
    assert 'create_model("test_efficientnet"' in again.usage
