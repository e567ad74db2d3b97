from __future__ import annotations

from pathlib import Path

import pytest

from medsgssl.config.loading import dump
from medsgssl.errors import ConfigError
from medsgssl.methods.registry import all_methods
from medsgssl.runs.folder import flatten
from medsgssl.study.plan import StudyPlan
from medsgssl.study.planning import make_ablation, make_plan
from medsgssl.study.variants import left_out


def _plan(**changes: object) -> StudyPlan:
    arguments: dict[str, object] = {"methods": ["simclr", "masked-contrastive"], "seeds": 2}
    return make_plan(Path("data"), **(arguments | changes))  # type: ignore[arg-type]


def test_one_pretraining_serves_all_fractions() -> None:
    plan = _plan(fractions=(1.0, 0.1), seeds=1)
    assert [run.name for run in plan.runs] == [
        "simclr-s0-pretrain", "simclr-s0-f0.1", "simclr-s0-f1",
        "masked-contrastive-s0-pretrain", "masked-contrastive-s0-f0.1", "masked-contrastive-s0-f1",
    ]  # fmt: skip
    assert {run.start for run in plan.runs if run.method == "simclr" and not run.pretrains} == {
        "simclr-s0-pretrain"
    }


def test_controls_are_for_methods_with_masks_alone() -> None:
    names = [run.name for run in _plan(seeds=1, controls=["shuffled", "none"]).runs]
    assert "masked-contrastive-shuffled-s0-f1" in names
    assert "masked-contrastive-none-s0-pretrain" in names
    assert not any(name.startswith("simclr-shuffled") for name in names)


def test_a_method_without_pretraining_has_none() -> None:
    plan = _plan(methods=["direct"], seeds=1, twins=True, controls=["none"])
    assert [(run.name, run.no_pretrain, run.start) for run in plan.runs] == [
        ("direct-s0-f1", True, None)
    ]


def test_twins_are_direct() -> None:
    plan = _plan(methods=["masked-contrastive"], seeds=1, twins=True)
    (twin,) = [run for run in plan.runs if run.no_pretrain]
    assert twin.name == "masked-contrastive-direct-s0-f1"
    assert plan.config(twin).no_pretrain


def test_every_run_has_its_own_seed_masks_and_fraction() -> None:
    plan = _plan(fractions=(0.5,), controls=["random-blob"], items=["data.img_size=64"])
    run = next(run for run in plan.runs if run.name == "masked-contrastive-random-blob-s1-f0.5")
    config = plan.config(run)
    assert (config.seed, config.masks.source, config.data.label_fraction) == (1, "random-blob", 0.5)
    assert config.data.img_size == 64


def test_settings_of_one_method() -> None:
    plan = _plan(items=["pretrain.epochs=3", "simclr:method.temperature=0.5"])
    configs = {run.method: plan.config(run) for run in plan.runs}
    assert configs["simclr"].method.temperature == 0.5  # type: ignore[attr-defined]
    assert configs["masked-contrastive"].method.temperature != 0.5  # type: ignore[attr-defined]
    assert {config.pretrain.epochs for config in configs.values()} == {3}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"methods": ["simcl"]}, "no method"),
        ({"methods": []}, "needs methods"),
        ({"controls": ["shufled"]}, "no mask control"),
        ({"fractions": (0.0,)}, "label fractions"),
        ({"items": ["data.imgsize=64"]}, "no such setting"),
        ({"items": ["seed=3"]}, "decides seed"),
        ({"items": ["direct:pretrain.epochs=3"]}, "not among the methods"),
    ],
)
def test_mistakes_are_found_before_anything_runs(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        _plan(**changes)


def test_a_study_may_grow_but_not_change(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    _plan(seeds=1).joined(folder).save(folder)
    grown = _plan(seeds=2).joined(folder)
    assert grown.runs == StudyPlan(grown.data, {}, {}, grown.runs).runs
    assert len(grown.runs) == len(_plan(seeds=2).runs)
    _plan(seeds=1, items=["data.num_workers=0"]).joined(folder)  # changes no result
    with pytest.raises(ConfigError, match=r"pretrain\.epochs: None -> 3"):
        _plan(items=["pretrain.epochs=3"]).joined(folder)


def test_plan_is_read_as_it_was_written(tmp_path: Path) -> None:
    plan = _plan(items=["pretrain.epochs=3", "simclr:method.temperature=0.5"])
    plan.save(tmp_path)
    assert StudyPlan.load(tmp_path) == plan


def test_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="holds no study"):
        _plan().joined(tmp_path)


def test_an_ablation_leaves_out_each_part_beside_control_and_twin() -> None:
    plan = make_ablation(Path("data"), "attention-prior", seeds=1, fractions=(0.1, 1.0))
    assert {run.name for run in plan.runs if not run.pretrains and run.fraction == 1} == {
        "simclr-s0-f1", "attention-prior-s0-f1", "attention-prior-direct-s0-f1",
        "attention-prior-without-segmentation-s0-f1",
        "attention-prior-without-equivariance-s0-f1",
    }  # fmt: skip
    less = next(run for run in plan.runs if run.without == "equivariance" and run.start)
    assert less.start == "attention-prior-without-equivariance-s0-pretrain"
    assert plan.config(less).method.lambda_eq == 0  # type: ignore[attr-defined]


def test_a_part_that_the_settings_leave_out_already_is_no_variant() -> None:
    plan = make_ablation(
        Path("data"), "attention-prior", items=["attention-prior:method.lambda_eq=0.0"]
    )
    assert {run.without for run in plan.runs} == {"", "segmentation"}


def test_the_distance_between_data_sets_is_a_part_where_there_are_several() -> None:
    def left(*items: str) -> set[str]:
        plan = make_ablation(Path("data"), "anatomy-masked-attention", items=items)
        return {run.without for run in plan.runs}

    assert left("data.extra_roots=[other]") - left() == {"domains"}


def test_a_method_without_parts_cannot_be_ablated() -> None:
    with pytest.raises(ConfigError, match="no parts to leave out"):
        make_ablation(Path("data"), "simclr")


def test_the_control_of_an_ablation_has_the_methods_backbone_unless_one_is_named() -> None:
    def backbone(*items: str) -> str:
        plan = make_ablation(Path("data"), "anatomy-masked-attention", items=items)
        return plan.config(plan.runs[0]).encoder.name

    assert backbone() == "vit_small_patch16_224"
    assert backbone("encoder.name=vit_tiny_patch16_224") == "vit_tiny_patch16_224"


@pytest.mark.parametrize(
    ("name", "part"), [(n, p) for n, m in all_methods().items() for p in m.components]
)
def test_every_part_of_every_method_can_be_left_out_and_is_recognized(name: str, part: str) -> None:
    plan = make_ablation(Path("data"), name, seeds=1, items=["data.extra_roots=[other]"])
    (run,) = [run for run in plan.runs if run.without == part and not run.pretrains]
    assert left_out(flatten(dump(plan.config(run)))) == part
    whole = next(run for run in plan.runs if run.method == name and not run.without)
    assert left_out(flatten(dump(plan.config(whole)))) == ""
