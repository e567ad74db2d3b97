"""Encoders of other people: hubs, folders and files, fitted under any prefix or refused."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from medsgssl.config.schema import EncoderSettings
from medsgssl.errors import CheckpointError, ConfigError
from medsgssl.methods.registry import configure, method_of
from medsgssl.models import hub
from medsgssl.models.encoder import build_encoder
from medsgssl.models.initial_weights import load_initial_weights

CNN, VIT = "test_efficientnet", "test_vit"


@pytest.fixture(autouse=True)
def _nothing_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "_KNOWN", {})


def plain(name: str = CNN, **options: Any) -> Any:
    torch.manual_seed(3)
    return timm.create_model(name, num_classes=0, **options).eval()


def hub_folder(folder: Path, model: Any, name: str = CNN, **config: Any) -> Path:
    folder.mkdir()
    tree = {"architecture": name, "num_features": model.num_features, "pretrained_cfg": {}} | config
    (folder / "config.json").write_text(json.dumps(tree))
    save_file(model.state_dict(), folder / "model.safetensors")
    return folder


def same(model: Any, settings: EncoderSettings, size: int = 64) -> bool:
    backbone = build_encoder(settings, size).backbone
    mine, theirs = backbone.state_dict(), model.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[key], theirs[key]) for key in mine)


def test_a_local_folder_gives_weights_and_normalization(tmp_path: Path) -> None:
    model = plain()
    own = {"mean": [0.3, 0.4, 0.5], "std": [0.1, 0.2, 0.3]}
    folder = hub_folder(tmp_path / "expert", model, pretrained_cfg=own)
    settings = EncoderSettings(name=f"local-dir:{folder}")
    assert same(model, settings)
    encoder = build_encoder(settings, 64)
    assert encoder.mean.flatten().tolist() == pytest.approx(own["mean"])
    assert encoder.std.flatten().tolist() == pytest.approx(own["std"])


def test_arguments_of_the_network_are_followed(tmp_path: Path) -> None:
    arguments = {"embed_dim": 96, "num_heads": 3, "img_size": 160}
    model = plain(VIT, **arguments)
    folder = hub_folder(tmp_path / "vit", model, VIT, model_args=arguments)
    settings = EncoderSettings(name=f"local-dir:{folder}")
    assert same(model, settings, size=160)
    assert build_encoder(settings, 64).num_features == 96


def test_a_repository_of_the_hub_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, asked = plain(), []
    folder = hub_folder(tmp_path / "repository", model)

    def download(repository: str, file: str, revision: str | None = None) -> str:
        asked.append((repository, file, revision))
        return str(folder / file)

    monkeypatch.setattr(hub, "hf_hub_download", download)
    assert same(model, EncoderSettings(name="hf-hub:lab/expert@v2"))
    assert ("lab/expert", "model.safetensors", "v2") in asked


def test_a_hub_that_cannot_be_reached_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    for key in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setattr(hub, "try_to_load_from_cache", lambda *_: None)
    with pytest.raises(ConfigError, match="HF_HUB_OFFLINE") as caught:
        build_encoder(EncoderSettings(name="hf-hub:lab/expert"), 64)
    assert "local-dir:FOLDER" in caught.value.fix


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        (
            {"architectures": ["Dinov2Model"], "model_type": "dinov2"},
            r"transformers \(Dinov2Model\)",
        ),
        ({"architecture": "no_such_net"}, "this timm does not know"),
        ([1], "names no timm model"),
    ],
)
def test_a_folder_in_another_format_is_named(tmp_path: Path, tree: Any, words: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(tree))
    with pytest.raises(ConfigError, match=words):
        build_encoder(EncoderSettings(name=f"local-dir:{tmp_path}"), 64)


def test_names_are_checked_with_all_other_mistakes(tmp_path: Path) -> None:
    for name, words in {
        "hf-hub:expert": "hf-hub:USER/NAME",
        "s3:lab/expert": "use a timm model, hf-hub:USER/NAME or local-dir:FOLDER",
        f"local-dir:{tmp_path}": "config.json",
        str(tmp_path): "did you mean local-dir:",
        "resnet81": "did you mean",
    }.items():
        with pytest.raises(ConfigError) as caught:
            configure("simclr", {"encoder": {"name": name}, "seed": "x"}, check_names=True)
        assert words in caught.value.problem
        assert "seed" in caught.value.problem


PREFIXES = ["", "module.", "backbone.", "module.encoder.backbone.", "student.backbone."]


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("entry", [None, "state_dict", "model"])
def test_a_state_dict_is_found_under_any_prefix(
    tmp_path: Path, prefix: str, entry: str | None
) -> None:
    model = plain()
    state = {prefix + key: value for key, value in model.state_dict().items()}
    state |= {"head.weight": torch.zeros(2, 2), "head.bias": torch.zeros(2)}
    content = {entry: state, "args": argparse.Namespace(lr=1), "epoch": 3} if entry else state
    torch.save(content, tmp_path / "w.pth")
    torch.manual_seed(9)
    fresh = timm.create_model(CNN, num_classes=0)
    (note,) = load_initial_weights(fresh, tmp_path / "w.pth", CNN)
    assert "2 tensors" in note
    assert "head.bias" in note
    assert all(
        torch.equal(value, fresh.state_dict()[key]) for key, value in model.state_dict().items()
    )


def test_plain_values_beside_the_weights_are_passed_over(tmp_path: Path) -> None:
    model = plain()
    beside = {"best": np.float64(0.8), "step": np.int64(4), "root": tmp_path, "done": np.True_}
    torch.save({"state_dict": model.state_dict(), **beside}, tmp_path / "w.pth")
    assert same(model, EncoderSettings(name=CNN, weights=tmp_path / "w.pth"))


def test_densenets_of_the_time_of_chexnet_are_read(tmp_path: Path) -> None:
    # Up to torchvision 0.2 layers were called norm.1 and conv.2.
    model = plain("densenet121")
    old = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))([12])", r"\1.\2", key): value
        for key, value in model.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    state = {f"module.densenet121.{key}": value for key, value in old.items()}
    state["module.densenet121.classifier.0.weight"] = torch.zeros(14, 1024)
    torch.save({"state_dict": state, "epoch": 9}, tmp_path / "m.pth.tar")
    torch.manual_seed(9)
    fresh = timm.create_model("densenet121", num_classes=0)
    (note,) = load_initial_weights(fresh, tmp_path / "m.pth.tar", "densenet121")
    assert "1 tensors of m.pth.tar (state_dict)" in note
    for key, value in fresh.state_dict().items():
        assert torch.equal(value, model.state_dict()[key]), key


def test_a_file_that_leaves_a_layer_unfilled_is_refused_by_name(tmp_path: Path) -> None:
    state = plain().state_dict()
    lost = [key for key in state if key.startswith("conv_head")]
    state["extra.weight"] = torch.zeros(1)
    save_file({k: v for k, v in state.items() if k not in lost}, tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match=f"lacks 1 of .*{lost[0]}.*extra.weight"):
        build_encoder(EncoderSettings(name=CNN, weights=tmp_path / "w.safetensors"), 64)


def test_a_pickle_with_code_is_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return (Path.write_text, (tmp_path / "sprung", "x"))

    torch.save({"state_dict": plain().state_dict(), "more": Trap()}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="holds more than tensors"):
        build_encoder(EncoderSettings(name=CNN, weights=tmp_path / "w.pth"), 64)
    assert not (tmp_path / "sprung").exists()


def test_what_is_not_used_is_a_warning_of_the_run(tmp_path: Path) -> None:
    state = plain().state_dict() | {"classifier.bias": torch.zeros(9)}
    save_file(state, tmp_path / "w.safetensors")
    tree = {"encoder": {"name": CNN, "weights": str(tmp_path / "w.safetensors")}}
    (note,) = [text for text in method_of(configure("simclr", tree)).check() if "place" in text]
    assert "classifier.bias" in note


def test_a_file_of_a_run_is_sent_to_the_option_that_knows_what_it_saw(tmp_path: Path) -> None:
    save_file(plain().state_dict(), tmp_path / "w.safetensors", metadata={"medsgssl": "{}"})
    with pytest.raises(CheckpointError, match="written by a run") as caught:
        build_encoder(EncoderSettings(name=CNN, weights=tmp_path / "w.safetensors"), 64)
    assert "--from" in caught.value.fix
