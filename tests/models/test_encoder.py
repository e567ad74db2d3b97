"""The encoder: gray input, its own pooling and normalization, ImageNet weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from timm.data import create_transform, resolve_data_config

from medsgssl.config.schema import EncoderSettings
from medsgssl.errors import CheckpointError, ConfigError
from medsgssl.models.encoder import build_encoder

NO_MASK = torch.ones(2, 64, 64, dtype=torch.bool)


def scratch(name: str) -> EncoderSettings:
    return EncoderSettings(name=name, pretrained=False)


@pytest.mark.parametrize(
    "name", ["mobilenetv2_100", "resnet18", "densenet121", "convnext_atto", "vit_tiny_patch16_224"]
)
def test_any_timm_model_gives_pooled_and_spatial_features(name: str) -> None:
    encoder = build_encoder(scratch(name), 64).eval()
    features = encoder(torch.rand(2, 1, 64, 64), NO_MASK)
    assert features.pooled.shape == (2, encoder.num_features)
    assert features.spatial.ndim == 4
    assert features.spatial.shape[-1] == features.spatial.shape[-2]


PLAIN = ["mobilenetv2_100", "resnet18", "tf_efficientnet_lite0", "vit_small_patch16_224"]


@pytest.mark.parametrize("name", PLAIN)
def test_features_of_a_gray_file_equal_plain_timm(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    plain = timm.create_model(name, num_classes=0).eval()
    save_file(timm.create_model(name).state_dict() | plain.state_dict(), tmp_path / "w.safetensors")
    settings = EncoderSettings(name=name, weights=tmp_path / "w.safetensors")
    encoder = build_encoder(settings, 224).eval()
    gray = torch.randint(0, 256, (224, 224), dtype=torch.uint8)
    data = resolve_data_config(model=plain)
    as_timm = create_transform(**data | {"crop_pct": 1.0})(
        Image.fromarray(gray.numpy(), "L").convert("RGB")
    )
    images = gray[None, None].float() / 255
    with torch.no_grad():
        wanted = plain(as_timm[None])
        pooled = encoder(images, torch.ones(1, 224, 224, dtype=torch.bool)).pooled
    assert ((pooled - wanted).abs().max() / wanted.abs().max()).item() < 1e-5


@pytest.mark.parametrize("name", PLAIN)
def test_weights_go_in_and_out_of_plain_timm_without_surgery(name: str) -> None:
    size = {"img_size": 64} if name.startswith("vit") else {}
    encoder = build_encoder(scratch(name), 64)
    plain = timm.create_model(name, num_classes=0, **size)
    plain.load_state_dict(encoder.backbone.state_dict(), strict=True)
    encoder.backbone.load_state_dict(plain.state_dict(), strict=True)


def test_pretrained_position_embeddings_are_resized_for_other_image_sizes(tmp_path: Path) -> None:
    weights = tmp_path / "vit.safetensors"
    save_file(timm.create_model("vit_tiny_patch16_224").state_dict(), weights)
    settings = EncoderSettings(name="vit_tiny_patch16_224", weights=weights)
    encoder = build_encoder(settings, 96)
    assert encoder.backbone.pos_embed.shape[1] == 1 + 6 * 6


def test_a_transformers_patches_may_be_smaller_also_with_weights(tmp_path: Path) -> None:
    weights = tmp_path / "vit.safetensors"
    save_file(timm.create_model("vit_tiny_patch16_224").state_dict(), weights)
    settings = EncoderSettings(name="vit_tiny_patch16_224", weights=weights, patch_size=8)
    encoder = build_encoder(settings, 64)
    assert encoder.backbone.pos_embed.shape[1] == 1 + 8 * 8
    assert encoder(torch.rand(2, 1, 64, 64), NO_MASK).spatial.shape == (2, 192, 8, 8)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (EncoderSettings(name="resnet18", pretrained=False, patch_size=8), "has no patches"),
        (
            EncoderSettings(name="vit_tiny_patch16_224", pretrained=False),
            "cannot be divided into patches",
        ),
    ],
)
def test_patches_that_do_not_fit_are_an_error(settings: EncoderSettings, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build_encoder(settings, 72)


def test_the_normalization_is_the_backbones_own() -> None:
    vit = build_encoder(scratch("vit_small_patch16_224"), 64)
    cnn = build_encoder(scratch("mobilenetv2_100"), 64)
    assert vit.mean.flatten().tolist() == pytest.approx([0.5] * 3)
    assert cnn.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
    assert cnn.std.flatten().tolist() == pytest.approx([0.229, 0.224, 0.225])


def test_weights_that_cannot_be_loaded_are_an_error_that_names_the_flags(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("medsgssl.models.hub.constants.HF_HUB_OFFLINE", True)
    for key in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setattr("medsgssl.models.hub.try_to_load_from_cache", lambda *_: None)
    with pytest.raises(ConfigError, match=r"encoder\.weights=.*encoder\.pretrained=false"):
        build_encoder(EncoderSettings(), 64)


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    weights = tmp_path / "resnet.safetensors"
    save_file(timm.create_model("resnet18").state_dict(), weights)
    with pytest.raises(CheckpointError, match=r"resnet\.safetensors"):
        build_encoder(EncoderSettings(weights=weights), 64)


def test_weights_of_a_one_channel_model_are_refused_and_the_layer_is_named(tmp_path: Path) -> None:
    weights = tmp_path / "gray.safetensors"
    save_file(timm.create_model("mobilenetv2_100", in_chans=1).state_dict(), weights)
    with pytest.raises(CheckpointError, match=r"gray\.safetensors .*conv_stem"):
        build_encoder(EncoderSettings(weights=weights), 64)


def test_an_unknown_backbone_is_an_error_that_suggests_others() -> None:
    with pytest.raises(ConfigError, match="mobilenetv2"):
        build_encoder(scratch("mobilenetv2_1000"), 64)


def test_residual_branches_start_at_zero_from_scratch() -> None:
    torch.manual_seed(0)
    backbone = build_encoder(scratch("mobilenetv2_100"), 64).backbone
    blocks = [block for stage in backbone.blocks for block in stage if block.has_skip]
    assert len(blocks) == 10
    block = blocks[0].eval()
    x = torch.rand(2, block.conv_pw.in_channels, 8, 8)
    assert torch.equal(block(x), x)


def test_channels_last_maps_come_out_channels_first() -> None:
    encoder = build_encoder(scratch("mambaout_femto"), 64).eval()
    with torch.no_grad():
        features = encoder(torch.rand(2, 1, 64, 64), NO_MASK)
    assert features.last.shape == (2, 2, 2, 288)
    assert torch.equal(features.spatial, features.last.movedim(3, 1))
    assert encoder.map_channels == 288
    assert features.pooled.shape == (2, encoder.num_features)


def test_a_backbone_without_a_map_says_so_where_one_is_needed() -> None:
    encoder = build_encoder(scratch("pit_ti_224"), 64).eval()
    features = encoder(torch.rand(2, 1, 64, 64), NO_MASK)
    assert features.pooled.shape == (2, encoder.num_features)
    with pytest.raises(ConfigError, match="needs a backbone with a map"):
        _ = features.spatial
    with pytest.raises(ConfigError, match="needs a backbone with a map"):
        _ = encoder.map_channels


def test_the_output_stride_is_timms_own() -> None:
    settings = EncoderSettings(name="mobilenetv2_100", pretrained=False, output_stride=8)
    assert build_encoder(settings, 64)(torch.rand(2, 1, 64, 64), NO_MASK).spatial.shape[2:] == (
        8,
        8,
    )


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("vit_tiny_patch16_224", "output_stride", 8),
        ("mambaout_femto", "output_stride", 16),
        ("vgg11_bn", "drop_path", 0.1),
        ("densenet121", "drop_path", 0.1),
    ],
)
def test_what_a_backbone_does_not_offer_is_one_error(name: str, key: str, value: float) -> None:
    settings = EncoderSettings(name=name, pretrained=False, **{key: value})
    with pytest.raises(ConfigError, match=rf"{name} does not offer encoder\.{key}"):
        build_encoder(settings, 64)


@pytest.mark.parametrize("name", ["convnext_atto", "vit_tiny_patch16_224"])
def test_drop_path_is_taken_where_the_backbone_has_it(name: str) -> None:
    settings = EncoderSettings(name=name, pretrained=False, drop_path=0.5)
    torch.manual_seed(0)
    encoder = build_encoder(settings, 64).train()
    images = torch.rand(8, 1, 64, 64)
    outputs = [encoder(images, NO_MASK).pooled for _ in range(2)]
    assert not torch.equal(*outputs)
