"""The mask channel, its zero filters and its noise."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from medsgssl.config.schema import EncoderSettings
from medsgssl.errors import ConfigError
from medsgssl.models.mask_channel import (
    MaskChannelEncoder,
    build_mask_channel_encoder,
    perturb_masks,
)

SIZE = 64
# Plain, "same"-padded and two-branch first convolutions, and a patch embedding.
BACKBONES = [
    "mobilenetv2_050",
    "resnet18",
    "tf_efficientnet_lite0",
    "convnext_atto",
    "densenet121",
    "repvgg_a0",
    "vit_tiny_patch16_224",
]


def build(name: str, at_test: bool = True, drop: float = 0.5) -> MaskChannelEncoder:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    settings = EncoderSettings(name=name, pretrained=False)
    return build_mask_channel_encoder(settings, SIZE, drop, 0.05, at_test)


def first_convolution(encoder: MaskChannelEncoder) -> nn.Conv2d:
    return encoder.backbone.get_submodule(encoder.backbone.default_cfg["first_conv"])


def train_mask_filters(encoder: MaskChannelEncoder) -> None:
    with torch.no_grad():
        first_convolution(encoder).weight[:, 3:].normal_()


def mask_inputs(
    encoder: MaskChannelEncoder, masks: Tensor, quality: Tensor | None = None
) -> Tensor:
    """What the network is given as its mask channel."""
    seen: list[Tensor] = []
    convolution = first_convolution(encoder)
    with convolution.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0])):
        encoder(torch.rand(len(masks), 1, SIZE, SIZE), masks, quality)
    return seen[0][:, 3]


def half_lung(count: int) -> Tensor:
    masks = torch.zeros(count, SIZE, SIZE, dtype=torch.bool)
    masks[:, 16:48, 20:44] = True
    return masks


@pytest.mark.parametrize("name", BACKBONES)
def test_at_init_the_output_equals_the_three_channel_network_whatever_the_mask(
    name: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    size = {"img_size": SIZE} if name.startswith("vit") else {}
    color = timm.create_model(name, in_chans=3, **size).eval()
    save_file(color.state_dict(), tmp_path / "weights.safetensors")
    settings = EncoderSettings(name=name, weights=tmp_path / "weights.safetensors")
    encoder = build_mask_channel_encoder(settings, SIZE, 0.5, 0.05, True).eval()
    images = torch.rand(2, 1, SIZE, SIZE)
    with torch.no_grad():
        wanted = color.forward_head(
            color.forward_features(encoder.normalize(images)),
            pre_logits=True,
        )
        # Relative to the spread of the features, which may be tiny without training.
        scale = wanted.std()
        assert scale > 0
        for masks in (torch.rand(2, SIZE, SIZE) > 0.5, half_lung(2), half_lung(2) & False):
            found = encoder(images, masks).pooled
            torch.testing.assert_close(found / scale, wanted / scale, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["mobilenetv2_050", "vit_tiny_patch16_224"])
def test_the_mask_filters_start_at_zero_and_have_a_gradient(name: str) -> None:
    encoder = build(name, drop=0.0)
    filters = first_convolution(encoder).weight
    assert filters.shape[1] == 4
    assert not filters[:, 3].any()
    pooled = encoder(torch.rand(4, 1, SIZE, SIZE), half_lung(4)).pooled
    (pooled * torch.randn_like(pooled)).sum().backward()
    assert filters.grad is not None
    assert filters.grad[:, 3].norm() > 0


def test_dropping_the_channel_works_at_test() -> None:
    encoder, without = build("mobilenetv2_050").eval(), build("mobilenetv2_050", at_test=False)
    train_mask_filters(encoder)
    without.load_state_dict(encoder.state_dict())
    without.eval()
    images, masks = torch.rand(2, 1, SIZE, SIZE), half_lung(2)
    with torch.no_grad():
        dropped = without(images, masks).pooled
        assert dropped.isfinite().all()
        assert torch.equal(dropped, encoder(images, masks & False).pooled)
        assert not torch.allclose(dropped, encoder(images, masks).pooled)


def test_at_test_the_mask_enters_unchanged() -> None:
    masks = half_lung(3)
    assert torch.equal(mask_inputs(build("mobilenetv2_050").eval(), masks), masks.float())


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_a_mask_without_trust_enters_as_dropped(mode: str) -> None:
    encoder = build("mobilenetv2_050", drop=0.0).train(mode == "train")
    quality = torch.tensor([0.0, 0.29, 0.3, 1.0])
    seen = mask_inputs(encoder, half_lung(4), quality)
    assert seen.flatten(1).any(dim=1).tolist() == [False, False, True, True]


def test_the_state_is_that_of_timms_model_with_four_channels() -> None:
    encoder = build("mobilenetv2_050")
    plain = timm.create_model("mobilenetv2_050", num_classes=0, in_chans=4)
    plain.load_state_dict(encoder.backbone.state_dict(), strict=True)


def test_in_training_each_view_drops_its_mask_by_itself_half_of_the_time() -> None:
    encoder, masks = build("mobilenetv2_050").train(), half_lung(200)
    kept = mask_inputs(encoder, masks).flatten(1).any(dim=1).float().mean()
    assert 0.35 < kept < 0.65
    assert mask_inputs(build("mobilenetv2_050", drop=1.0).train(), masks[:4]).sum() == 0


def test_in_training_every_mask_is_perturbed_in_its_own_way() -> None:
    masks = half_lung(8)
    seen = mask_inputs(build("mobilenetv2_050", drop=0.0).train(), masks)
    assert len({tuple(one.flatten().tolist()) for one in seen}) == len(masks)
    assert set(seen.unique().tolist()) == {0.0, 1.0}


def test_perturbed_masks_are_dilated_eroded_and_shifted_within_reach() -> None:
    torch.manual_seed(0)
    masks = half_lung(300)
    found = perturb_masks(masks, 0.05)  # 3 pixels
    areas = found.sum(dim=(1, 2))
    assert areas.min() < masks[0].sum() < areas.max()
    far = torch.ones_like(masks)
    far[:, 16 - 6 : 48 + 6, 20 - 6 : 44 + 6] = False
    assert not (found & far).any()
    assert found[:, 22:42, 26:38].all()
    rows = found.any(dim=2).float().argmax(dim=1)
    assert rows.min() < 16 - 3  # dilated and shifted up
    assert rows.max() > 16 + 3  # eroded and shifted down


def test_whole_and_empty_masks_stay_whole_and_empty() -> None:
    whole = torch.ones(50, SIZE, SIZE, dtype=torch.bool)
    assert perturb_masks(whole, 0.1).all()
    assert not perturb_masks(~whole, 0.1).any()


def test_without_reach_masks_stay_as_they_are() -> None:
    assert torch.equal(perturb_masks(half_lung(3), 0.0), half_lung(3))


@pytest.mark.parametrize(
    ("name", "reason"), [("resnetv2_50x1_bit", "standardized"), ("tresnet_m", "image itself")]
)
def test_a_first_layer_that_cannot_be_widened_is_refused(name: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        build(name)
