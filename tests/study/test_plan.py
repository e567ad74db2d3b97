from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from medsgssl.config.loading import dump, flatten
from medsgssl.errors import ConfigError, DataError
from medsgssl.methods.registry import all_methods
from medsgssl.study.matching import unlike, views_seen
from medsgssl.study.plan import StudyPlan
from medsgssl.study.plan_builder import make_ablation, make_plan
from medsgssl.study.plan_summary import describe_plan, plan_table
from medsgssl.study.variants import left_out
from medsgssl.utils.io import read_json, write_json


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
    plan = _plan(methods=["direct"], seeds=1, baselines=True, controls=["none"])
    assert [(run.name, run.no_pretrain, run.start) for run in plan.runs] == [
        ("direct-s0-f1", True, None)
    ]


def test_a_baseline_of_its_own_has_the_methods_input_path() -> None:
    plan = _plan(methods=["guided-crop", "masked-contrastive"], seeds=1, baselines=True)
    # What fine-tunes the plain network shares the plain baseline.
    assert {run.name for run in plan.runs if run.no_pretrain} == {
        "guided-crop-no-pretrain-s0-f1", "direct-s0-f1", "direct-lung-box-s0-f1",
    }  # fmt: skip
    pairs = {(one.arm, one.against) for one in plan.family if one.kind == "baseline"}
    assert ("masked-contrastive", "direct") in pairs
    assert ("guided-crop", "guided-crop-no-pretrain") in pairs
    # The control of each frame has the plain network of that frame as its baseline.
    assert ("simclr", "direct") in pairs
    assert any(
        arm.startswith("simclr-lung-box") and other == "direct-lung-box" for arm, other in pairs
    )


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
        ({"folds": 5}, "not both"),
        ({"seeds": None, "folds": 2}, "bear no verdict"),
        ({"items": ["data.fold=1", "data.folds=5"]}, "decides data.fold"),
    ],
)
def test_mistakes_are_found_before_anything_runs(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        _plan(**changes)


def test_a_study_may_grow_but_not_change(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    _plan(seeds=1).joined(folder).save(folder)
    first = StudyPlan.load(folder)
    grown = _plan(seeds=2).joined(folder)
    assert len(grown.runs) == len(_plan(seeds=2).runs)
    assert grown.earlier == (first.hash,)
    assert grown.hash != first.hash
    assert _plan(seeds=1).joined(folder) == first
    _plan(seeds=1, items=["data.num_workers=0"]).joined(folder)  # changes no result
    with pytest.raises(ConfigError, match=r"pretrain\.epochs: None -> 3"):
        _plan(items=["pretrain.epochs=3"]).joined(folder)
    with pytest.raises(ConfigError, match=r"study\.margin: 0\.01 -> 0\.02"):
        _plan(items=["study.margin=0.02"]).joined(folder)


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
        "simclr-s0-f1", "attention-prior-s0-f1", "attention-prior-no-pretrain-s0-f1",
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


def test_a_transformer_gets_a_control_with_its_own_network() -> None:
    methods = ["anatomy-masked-attention", "mask-channel"]
    plan = _plan(methods=methods, seeds=1, items=["data.img_size=64"])
    pairs = {one.arm: one.against for one in plan.family}
    assert pairs == {
        "anatomy-masked-attention": "simclr-vit_small_patch16_224", "mask-channel": "simclr",
    }  # fmt: skip
    configs = {run.arm: plan.config(run) for run in plan.runs}
    for arm, control in pairs.items():
        assert configs[control].method_name == "simclr"
        own, other = (flatten(dump(configs[name])) for name in (arm, control))
        assert unlike(own, other) == []
    mixed = flatten(dump(configs["anatomy-masked-attention"])), flatten(dump(configs["simclr"]))
    assert unlike(*mixed) == ["encoder.name"]


def test_a_control_sees_as_many_views_as_its_method() -> None:
    plan = _plan(methods=["guided-crop"], seeds=1, items=["pretrain.epochs=10"])
    configs = {run.arm: plan.config(run) for run in plan.runs}
    ((arm, control),) = [(one.arm, one.against) for one in plan.family]
    assert views_seen(configs[arm]) == views_seen(configs[control]) == 30
    assert configs[control].pretrain.epochs == 15


def test_folds_take_the_place_of_seeds() -> None:
    plan = _plan(methods=["mask-channel"], seeds=None, folds=5, fractions=(0.1, 1.0))
    assert {(run.fold, run.seed) for run in plan.runs} == {(f, f) for f in range(5)}
    # All arms of a fold before the next one, and every fold pretrains for itself.
    assert [run.fold for run in plan.runs] == sorted(run.fold for run in plan.runs)  # type: ignore[type-var]
    assert all(f"-k{run.fold}" in run.start for run in plan.runs if run.start)
    config = plan.config(plan.runs[-1])
    assert (config.data.folds, config.data.fold, config.seed) == (5, 4, 4)


def test_the_plan_is_printed_with_one_whole_line_per_run() -> None:
    plan = _plan(
        methods=["anatomy-masked-attention"], seeds=3, fractions=(0.1, 1.0), controls=["shuffled"],
    )  # fmt: skip
    head, *lines = plan_table(plan)
    names = ["method", "encoder", "seed", "labels", "control", "judged", "against", "run"]
    assert head.split() == names
    assert len(lines) == sum(not run.pretrains for run in plan.runs)
    assert lines[0].split() == [
        "anatomy-masked-attention", "vit_small_patch16_224", "0", "10", "%", "-",
        "simclr-vit_small_patch16_224", "anatomy-masked-attention-s0-f0.1",
    ]  # fmt: skip
    # Arms of one method and encoder, such as two frames, are told apart by the run's name.
    assert len({line.split()[-1] for line in lines}) == len(lines)
    assert any(line.split()[5] == "shuffled" for line in lines)
    told = describe_plan(replace(plan, primary_diseases=("Pleural_Thickening",)))
    assert any(plan.hash in line for line in describe_plan(plan))
    assert told[0].startswith(f"{len(plan.runs)} runs in all")
    assert any(line.endswith("1 disease: Pleural Thickening") for line in told)


@pytest.mark.parametrize(
    ("name", "part"), [(n, p) for n, m in all_methods().items() for p in m.components]
)
def test_every_part_of_every_method_can_be_left_out_and_is_recognized(name: str, part: str) -> None:
    plan = make_ablation(Path("data"), name, seeds=1, items=["data.extra_roots=[other]"])
    (run,) = [run for run in plan.runs if run.without == part and not run.pretrains]
    assert left_out(flatten(dump(plan.config(run)))) == part
    whole = next(run for run in plan.runs if run.method == name and not run.without)
    assert left_out(flatten(dump(plan.config(whole)))) == ""


def test_a_damaged_plan_is_refused_in_one_line(tmp_path: Path) -> None:
    make_plan(Path("data"), ["simclr"], seeds=1).save(tmp_path)
    written = read_json(tmp_path / "study.json")
    del written["runs"][0]["seed"]
    write_json(tmp_path / "study.json", written)
    with pytest.raises(DataError, match=r"study\.json does not fit .*runs\.0\.seed"):
        StudyPlan.load(tmp_path)
