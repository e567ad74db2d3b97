from __future__ import annotations

import copy

import pytest
import timm
import torch

from medsgssl.config.schema import EncoderSettings
from medsgssl.models.gate import build_gated_encoder

SIZE = 64
# CNNs of several families, one with channels last, and transformers with one and two prefix tokens.
CNNS = [
    "mobilenetv2_050",
    "mobilenetv3_small_050",
    "resnet18",
    "densenet121",
    "convnext_atto",
    "inception_next_atto",
    "regnetx_002",
]
VITS = ["test_vit", "deit_tiny_distilled_patch16_224"]


def gated(name: str, stride: int = 16):
    torch.set_num_threads(1)
    return build_gated_encoder(EncoderSettings(name=name, pretrained=False), SIZE, stride, 8).eval()


@pytest.mark.parametrize("name", [*CNNS, *VITS])
def test_a_middle_stage_of_any_cnn_and_vit_is_gated(name: str) -> None:
    encoder = gated(name)
    features = encoder(torch.rand(2, 1, SIZE, SIZE), torch.ones(2, SIZE, SIZE).bool())
    lung_map = features.extra["lung_map"]
    assert lung_map.shape == (2, 4, 4)
    assert lung_map.min() >= 0
    assert lung_map.max() <= 1
    assert features.pooled.shape == (2, encoder.num_features)


def test_channels_last_stages_are_gated_along_the_right_axes() -> None:
    name = "swin_tiny_patch4_window7_224"
    encoder = build_gated_encoder(EncoderSettings(name=name, pretrained=False), 224, 16, 8).eval()
    images = torch.rand(1, 1, 224, 224)
    with torch.no_grad():
        assert encoder(images, images[:, 0] > 0).extra["lung_map"].shape == (1, 14, 14)


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_features_are_multiplied_by_one_plus_map(name: str) -> None:
    encoder = gated(name)
    images = torch.rand(2, 1, SIZE, SIZE)
    masks = images[:, 0] > 0
    stage = encoder.backbone.get_submodule(encoder.stage)
    seen: list[torch.Tensor] = []
    # Hooks run in order: this one sees the stage's own output, the encoder's comes after it.
    with stage.register_forward_hook(lambda m, i, out: seen.append(out.clone())), torch.no_grad():
        lung_map = encoder(images, masks).extra["lung_map"]
    with torch.no_grad():
        stock = encoder.backbone(encoder.normalize(images))
        prefix = 1 if name == "test_vit" else 0
        factor = 1 + (lung_map.flatten(1)[..., None] if prefix else lung_map[:, None])
        wanted = seen[0].clone()
        wanted[:, prefix:] *= factor
        with stage.register_forward_hook(lambda m, i, out: wanted):
            by_hand = encoder.backbone(encoder.normalize(images))
        torch.testing.assert_close(encoder(images, masks).pooled, by_hand)
    assert not torch.allclose(stock, by_hand)


def test_a_closed_gate_is_the_stock_network() -> None:
    encoder = gated("test_resnet")
    with torch.no_grad():
        encoder.lung_map.layers[-1].weight.zero_()
        encoder.lung_map.layers[-1].bias.fill_(-60.0)
        images = torch.rand(2, 1, SIZE, SIZE)
        pooled = encoder(images, images[:, 0] > 0).pooled
        torch.testing.assert_close(pooled, encoder.backbone(encoder.normalize(images)))


def test_the_map_starts_as_a_quarter_of_lung() -> None:
    lung_map = gated("test_resnet").lung_map
    assert torch.sigmoid(lung_map.layers[-1].bias).item() == pytest.approx(0.27, abs=0.01)


def test_the_hook_lives_only_during_a_forward_pass() -> None:
    encoder = gated("test_resnet")
    encoder(torch.rand(1, 1, SIZE, SIZE), torch.ones(1, SIZE, SIZE).bool())
    assert not any(module._forward_hooks for module in encoder.modules())
    stock = timm.create_model("test_resnet", num_classes=0)
    assert encoder.backbone.state_dict().keys() == stock.state_dict().keys()


def test_a_hook_is_removed_even_when_the_backbone_fails() -> None:
    encoder = gated("vit_tiny_patch16_224")
    with pytest.raises(AssertionError):
        encoder(torch.rand(1, 1, 48, 48), torch.ones(1, 48, 48).bool())
    assert not any(module._forward_hooks for module in encoder.modules())


def test_a_copy_gates_with_its_own_head() -> None:
    encoder = gated("test_resnet")
    images = torch.rand(1, 1, SIZE, SIZE)
    masks = images[:, 0] > 0
    other = copy.deepcopy(encoder)
    before = other(images, masks).pooled
    with torch.no_grad():
        for parameter in encoder.lung_map.parameters():
            parameter.add_(1.0)
    assert torch.equal(other(images, masks).pooled, before)
    assert not torch.equal(encoder(images, masks).pooled, before)
