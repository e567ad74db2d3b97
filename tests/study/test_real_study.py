"""A whole study on phantoms: every stage for real, tiny."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from medsgssl.data.synthetic.dataset import generate_phantoms
from medsgssl.models.weights import read_header
from medsgssl.report.study_page import write_study_report
from medsgssl.study.analysis import analyze
from medsgssl.study.collect import collect_runs, run_folders
from medsgssl.study.plan import run_folder
from medsgssl.study.plan_builder import make_plan
from medsgssl.study.run_localization import localize_runs
from medsgssl.study.runner import run_study
from medsgssl.utils.io import read_json

ITEMS = [
    "data.img_size=32", "data.num_workers=0", "encoder.name=test_efficientnet",
    "encoder.pretrained=false", "pretrain.epochs=1", "finetune.epochs=1",
    "pretrain.accelerator=cpu", "finetune.accelerator=cpu", "evaluate.bootstrap=20",
    "masks.recipe=classic",
]  # fmt: skip


@pytest.mark.slow
def test_a_study_from_phantoms_to_its_page(tmp_path: Path) -> None:
    data = generate_phantoms(tmp_path / "data", 120, 64)
    plan = make_plan(
        data, ["simclr", "masked-contrastive", "direct"], seeds=1, fractions=(0.5, 1.0),
        controls=["shuffled"], items=[*ITEMS, f"data.cache_dir={tmp_path / 'cache'}"],
    )  # fmt: skip
    folder = tmp_path / "study"
    quiet = Console(quiet=True)
    outcomes = run_study(plan, folder, quiet)
    assert {outcome.status for outcome in outcomes} == {"done"}, outcomes
    # The weights of both fractions are those of the one pretraining.
    weights = {
        run_folder(folder, name).pretrained.read_bytes()
        for name in ("simclr-s0-pretrain", "simclr-s0-f0.5", "simclr-s0-f1")
    }
    assert len(weights) == 1
    assert read_header(run_folder(folder, "simclr-s0-f1").classifier)["method"] == "simclr"
    # Masks were drawn once for all.
    assert len(list((tmp_path / "cache").glob("*/masks/*/store.json"))) == 1
    assert {outcome.status for outcome in run_study(plan, folder, quiet)} == {"skipped"}
    found = analyze([folder])
    assert len(found.collected.runs) == 8
    labels = {arm.label for arm in found.arms}
    assert labels == {
        "simclr", "direct", "masked-contrastive", "masked-contrastive, shuffled masks",
    }  # fmt: skip
    # The mask store is found by its identity, so there are strata by quality.
    assert all(not quality.absent for _, quality in found.quality), found.quality
    assert collect_runs([folder]).missing == {}
    looked = localize_runs(run_folders([folder]), console=quiet)
    assert len(looked) == 8
    scores = read_json(looked[0])
    assert scores["boxes"] > 0
    assert 0 <= scores["measures"]["energy"]["value"] <= 1
    assert localize_runs(run_folders([folder]), console=quiet) == []
    page = write_study_report([folder])
    assert f"{scores['boxes']} boxes" in page.read_text()
    assert (folder / "report" / "localization.csv").is_file()
