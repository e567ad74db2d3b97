"""The configuration: defaults, mistakes, YAML and overrides."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from medsgssl.config.loading import (
    build,
    dump,
    flatten,
    merge,
    nest,
    parse_overrides,
    read_yaml,
    to_yaml,
)
from medsgssl.errors import ConfigError
from medsgssl.methods.registry import all_methods, configure, find_method


@pytest.mark.parametrize("name", all_methods())
def test_the_defaults_are_those_of_the_task(name: str) -> None:
    config = configure(name)
    assert (config.data.img_size, config.data.batch_size) == (224, 64)
    assert config.pretrain.epochs == config.finetune.epochs == 50
    assert config.pretrain.lr == "auto"  # 1e-4 at full size: tests/training/test_lr_schedule.py
    assert config.finetune.lr == 1e-4
    assert config.data.num_workers == "auto"
    assert config.data.cache_masks
    assert config.data.label_fraction == 1.0
    assert config.encoder.pretrained
    assert config.masks.source == "rules"
    assert (config.finetune.loss, config.finetune.focal_gamma) == ("focal", 2.0)
    assert config.seed == 0


def test_the_backbone_is_mobilenet_and_for_the_transformer_option_a_small_vit() -> None:
    for name in all_methods():
        vit = name == "anatomy-masked-attention"
        wanted = "vit_small_patch16_224" if vit else "mobilenetv2_100"
        assert configure(name).encoder.name == wanted
    assert configure("anatomy-masked-attention").pretrain.frozen_epochs == 5


def test_every_mistake_is_reported_at_once() -> None:
    wrong = {
        "sead": 1,
        "data": {"img_size": 223, "batch_size": 1, "imgsize": 64},
        "encoder": {"name": "resnet5o"},
        "masks": {"recipe": "magic", "source": "shufled"},
        "method": {"temperature": -1, "tau": 0.1},
        "finetune": {"loss": "hinge"},
    }
    with pytest.raises(ConfigError) as caught:
        configure("simclr", wrong, check_names=True)
    text = caught.value.problem
    for line in (
        "sead: no such setting; did you mean seed?",
        "data.img_size=223: ",
        "data.batch_size=1: ",
        "data.imgsize: no such setting; did you mean data.img_size?",
        "encoder.name='resnet5o': timm knows no such model; did you mean resnet5",
        "masks.recipe='magic': no such mask recipe; use one of: anatomic, ",
        "masks.source='shufled': neither a known mask source nor a folder; did you mean shuffled?",
        "method.temperature=-1: ",
        "method.tau: no such setting",
        "finetune.loss='hinge': ",
    ):
        assert f"\n  - {line}" in text
    assert text.count("\n  - ") == 10
    assert "medsgssl config simclr" in caught.value.fix


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("data.img_size", "large"),
        ("data.img_size", 16),
        ("data.num_workers", -1),
        ("data.label_fraction", 0.0),
        ("data.label_fraction", 1.5),
        ("pretrain.lr", 0.0),
        ("pretrain.epochs", -1),
        ("pretrain.epochs", 1.5),
        ("pretrain.precision", "8"),
        ("views.pretrain.scale", [0.9, 0.4]),
        ("views.pretrain.ratio", [0.0, 1.0]),
        ("views.pretrain.flip", 1.1),
        ("evaluate.confidence", 1.0),
        ("seed", -1),
    ],
)
def test_values_out_of_range_are_refused_by_their_key(key: str, value: object) -> None:
    with pytest.raises(ConfigError) as caught:
        configure("simclr", nest(key, value))
    group, _, last = key.rpartition(".")
    assert f"  - {group}" in caught.value.problem
    assert last in caught.value.problem


def test_settings_of_another_method_are_unknown() -> None:
    with pytest.raises(ConfigError, match=r"method\.fill_noise: no such setting"):
        configure("simclr", {"method": {"fill_noise": 0.1}})
    assert configure("masked-contrastive", {"method": {"fill_noise": 0.1}}).method.fill_noise == 0.1


def test_a_configuration_cannot_be_changed_after_it_is_built() -> None:
    config = configure("simclr")
    with pytest.raises(ValidationError, match="frozen"):
        config.data.img_size = 64  # type: ignore[misc]


@pytest.mark.parametrize("name", all_methods())
def test_yaml_comes_back_as_the_same_configuration(name: str, tmp_path: Path) -> None:
    changes = {"data": {"root": "/data/nih", "num_workers": 2}, "pretrain": {"lr": 3e-5}}
    config = configure(name, changes, {"pretrain": {"clip_grad": None}})
    path = tmp_path / "config.yaml"
    path.write_text(to_yaml(config))
    again = build(read_yaml(path), find_method(name).settings)
    assert again == config
    assert dump(again) == dump(config)
    assert again.pretrain.clip_grad is None


def test_yaml_keeps_the_order_of_the_tree() -> None:
    tree = yaml.safe_load(to_yaml(configure("simclr")))
    assert list(tree)[:3] == ["method_name", "no_pretrain", "seed"]
    assert list(tree)[-6:-2] == ["pretrain", "finetune", "evaluate", "study"]


def test_every_setting_can_be_given_by_its_dotted_key() -> None:
    config = configure("masked-contrastive")
    for key, value in flatten(dump(config)).items():
        if key not in ("method_name", "no_pretrain"):
            assert configure("masked-contrastive", nest(key, value)) == config, key


def test_one_setting_of_the_fine_tuning_views_leaves_the_others_as_they_were() -> None:
    usual = configure("simclr").views.finetune
    changed = configure("simclr", {"views": {"finetune": {"rotation": 3.0}}}).views
    assert changed.finetune == usual.model_copy(update={"rotation": 3.0})
    assert changed.pretrain == configure("simclr").views.pretrain != usual


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("64", 64),
        ("-3", -3),
        ("1e-4", 1e-4),
        ("5E-3", 5e-3),
        ("0.25", 0.25),
        ("true", True),
        ("false", False),
        ("null", None),
        ("auto", "auto"),
        ("[0.2, 0.9]", [0.2, 0.9]),
        ("[]", []),
        ("bf16-mixed", "bf16-mixed"),
        ("/data/with = sign", "/data/with = sign"),
        ("'64'", "64"),
        ("", None),
    ],
)
def test_overrides_are_read_as_their_kind(text: str, wanted: object) -> None:
    found = parse_overrides([f"a.b={text}"])["a"]["b"]
    assert found == wanted
    assert type(found) is type(wanted)


def test_overrides_reach_their_settings() -> None:
    texts = [
        "data.img_size=64",
        "pretrain.lr=1e-3",
        "pretrain.clip_grad=null",
        "views.pretrain.scale=[0.5, 0.9]",
        "encoder.pretrained=false",
        "method.temperature=0.1",
    ]
    config = configure("simclr", parse_overrides(texts))
    assert config.data.img_size == 64
    assert config.pretrain.lr == 1e-3
    assert config.pretrain.clip_grad is None
    assert config.views.pretrain.scale == (0.5, 0.9)
    assert config.encoder.pretrained is False
    assert config.method.temperature == 0.1


def test_the_last_of_two_overrides_wins_and_neighbors_stay() -> None:
    tree = parse_overrides(["a.b=1", "a.c=2", "a.b=3"])
    assert tree == {"a": {"b": 3, "c": 2}}


@pytest.mark.parametrize("item", ["data.img_size", "=3", "data.=3", ".img_size=3", "a..b=3"])
def test_an_override_that_is_no_key_and_value_is_refused(item: str) -> None:
    with pytest.raises(ConfigError, match="is not KEY=VALUE"):
        parse_overrides([item])


@pytest.mark.parametrize("text", ["[1, 2", "{a", "*x"])
def test_an_override_that_is_no_yaml_is_refused_by_its_text(text: str) -> None:
    with pytest.raises(ConfigError, match=r"data\.root"):
        parse_overrides([f"data.root={text}"])


def test_later_layers_win() -> None:
    file, line = {"data": {"img_size": 64, "batch_size": 8}}, {"data": {"img_size": 96}}
    data = configure("simclr", file, line).data
    assert (data.img_size, data.batch_size) == (96, 8)


def test_merging_changes_neither_mapping() -> None:
    base, over = {"a": {"b": 1}}, {"a": {"c": 2}}
    assert merge(base, over) == {"a": {"b": 1, "c": 2}}
    assert (base, over) == ({"a": {"b": 1}}, {"a": {"c": 2}})


def test_a_file_that_is_no_mapping_or_missing_or_broken_is_an_error_that_names_it(
    tmp_path: Path,
) -> None:
    for name, content in (("list.yaml", "- 1\n"), ("broken.yaml", "a: [1"), ("missing.yaml", None)):
        if content is not None:
            (tmp_path / name).write_text(content)
        with pytest.raises(ConfigError, match=name):
            read_yaml(tmp_path / name)


@pytest.mark.parametrize("value", ["inf", "-inf", "nan"])
def test_numbers_must_be_finite(value: str) -> None:
    with pytest.raises(ConfigError, match=r"pretrain\.lr"):
        configure("simclr", {"pretrain": {"lr": float(value)}})


def test_a_setting_without_its_group_is_found_by_its_last_word() -> None:
    with pytest.raises(ConfigError, match=r"imgsize: no such setting; did you mean data\.img_size"):
        configure("simclr", {"imgsize": 64})
