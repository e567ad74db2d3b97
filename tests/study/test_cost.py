from __future__ import annotations

from pathlib import Path

import pytest

from medsgssl.data.synthetic.dataset import generate_phantoms
from medsgssl.runs.folder import RunFolder
from medsgssl.study.cost import estimate
from medsgssl.study.plan import StudyPlan
from medsgssl.study.planning import make_plan

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
