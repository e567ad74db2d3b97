from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from medsgssl.data.prepare import prepare_data
from medsgssl.data.synthetic.dataset import generate_phantoms
from medsgssl.runs.folder import RunFolder
from medsgssl.study.cost import estimate
from medsgssl.study.plan import StudyPlan
from medsgssl.study.plan_builder import make_plan
from medsgssl.study.status import seconds_of_runs_like

ITEMS = [
    "data.img_size=32", "data.num_workers=0", "encoder.name=test_efficientnet",
    "encoder.pretrained=false", "pretrain.epochs=1", "finetune.epochs=1",
    "pretrain.accelerator=cpu", "finetune.accelerator=cpu", "evaluate.bootstrap=50",
]  # fmt: skip


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate_phantoms(tmp_path_factory.mktemp("phantoms") / "data", 60, 64)


def _plan(data: Path, cache: Path, seeds: int = 2, *more: str) -> StudyPlan:
    items = [*ITEMS, f"data.cache_dir={cache}", *more]
    return make_plan(data, ["simclr"], seeds=seeds, fractions=(0.5, 1.0), items=items)


def test_estimate_writes_nothing_and_says_where_it_comes_from(
    phantoms: Path, tmp_path: Path
) -> None:
    before = sorted(phantoms.rglob("*"))
    # Fewer labels take less time only where they also take fewer steps.
    plan = _plan(phantoms, tmp_path / "cache", 2, "finetune.steps=labeled")
    found = estimate(plan, tmp_path / "study")
    assert not list(tmp_path.iterdir())
    assert sorted(phantoms.rglob("*")) == before
    assert sum(found.images.values()) == 60
    assert {run.basis for run in found.runs} == {"measured"}
    assert all(run.seconds > 0 and run.num_bytes > 0 for run in found.runs)
    assert found.preparing > 0
    assert found.seconds == found.preparing + sum(run.seconds for run in found.runs)
    assert found.memory_bytes > 50e6  # Python and torch alone take more
    half, whole = (run for run in found.runs if run.run.seed == 0 and not run.run.pretrains)
    assert half.seconds < whole.seconds


def test_complete_runs_tell_the_time_of_their_like(phantoms: Path, tmp_path: Path) -> None:
    plan = _plan(phantoms, tmp_path / "cache")
    run = RunFolder(tmp_path / "study" / "runs" / "simclr-s0-pretrain")
    run.path.mkdir(parents=True)
    run.pretrained.write_text("weights")
    run.mark("pretrain", "key", 77.0)
    found = estimate(plan, tmp_path / "study")
    assert found.complete == ["simclr-s0-pretrain"]
    (other,) = [run for run in found.runs if run.run.name == "simclr-s1-pretrain"]
    assert (other.seconds, other.basis) == (77.0, "complete runs")


def test_a_run_with_other_epochs_tells_nothing(phantoms: Path, tmp_path: Path) -> None:
    items = [*ITEMS, f"data.cache_dir={tmp_path / 'cache'}", "pretrain.epochs=2"]
    plan = make_plan(phantoms, ["simclr", "guided-crop"], seeds=1, items=items)
    pretrainings = {run.name: run for run in plan.runs if run.pretrains}
    assert pretrainings["simclr-lung-box-3-epochs-s0-pretrain"].method == "simclr"
    run = RunFolder(tmp_path / "study" / "runs" / "simclr-s0-pretrain")
    run.path.mkdir(parents=True)
    run.pretrained.write_text("weights")
    run.mark("pretrain", "key", 77.0)
    like = {
        name: seconds_of_runs_like(plan, tmp_path / "study", planned)
        for name, planned in pretrainings.items()
    }
    assert like.pop("simclr-s0-pretrain") == 77.0
    assert set(like.values()) == {None}


def test_what_is_in_the_cache_is_not_prepared_again(phantoms: Path, tmp_path: Path) -> None:
    plan = _plan(phantoms, tmp_path / "cache", 1)
    config = plan.config(plan.runs[0])
    prepare_data(config, Console(quiet=True), needs_masks=False)
    assert estimate(plan, tmp_path / "study").preparing == 0
