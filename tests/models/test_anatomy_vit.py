"""The transformer behind option 7 against stock timm."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import Tensor

from medsgssl.config.schema import EncoderSettings
from medsgssl.errors import ConfigError
from medsgssl.models.anatomy_vit import AnatomyBias, AnatomyViT, build_anatomy_vit, cls_attention
from medsgssl.models.encoder import Encoder

# One class token; two prefix tokens; five with register tokens and layer scale; any image size.
VITS = {
    "vit_tiny_patch16_224": 64,
    "deit_tiny_distilled_patch16_224": 64,
    "vit_small_patch14_reg4_dinov2": 56,
    "test_vit": 64,
}


def build(name: str = "test_vit", size: int = 64, gamma: float | None = None) -> AnatomyViT:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    encoder = build_anatomy_vit(EncoderSettings(name=name, pretrained=False), size, gamma)
    with torch.no_grad():
        for parameter in encoder.backbone.parameters():
            # Tokens, biases and layer scales start near 0, where much would look equal.
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return encoder.eval()


def block_outputs(encoder: AnatomyViT, run) -> list[Tensor]:
    found: list[Tensor] = []
    hooks = [
        block.register_forward_hook(lambda module, inputs, output: found.append(output))
        for block in encoder.backbone.blocks
    ]
    with torch.no_grad():
        run()
    for hook in hooks:
        hook.remove()
    return found


def half_cover(count: int, cells: int) -> Tensor:
    cover = torch.zeros(count, cells, cells)
    cover[:, :, : cells // 2] = torch.linspace(0.3, 1.0, cells // 2)
    return cover


@pytest.mark.parametrize("name", VITS)
def test_with_masks_off_the_wrapped_vit_equals_stock_timm_layer_by_layer(name: str) -> None:
    size = VITS[name]
    encoder = build(name, size)
    images = torch.rand(2, 1, size, size)
    mine = block_outputs(encoder, lambda: encoder.encode(images, align_layers=encoder.layers))
    stock = block_outputs(encoder, lambda: encoder.backbone(encoder.normalize(images)))
    assert len(mine) == len(stock) == len(encoder.backbone.blocks)
    for one, other in zip(mine, stock, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)
    with torch.no_grad():
        pooled = encoder(images, images[:, 0] > 0).pooled
        stock_pooled = Encoder(encoder.backbone)(images, images[:, 0] > 0).pooled
        torch.testing.assert_close(pooled, stock_pooled, atol=1e-5, rtol=0)
        stock_tokens = encoder.backbone.forward_features(encoder.normalize(images))
        cls = encoder.encode(images).extra["cls"]
        torch.testing.assert_close(cls, stock_tokens[:, 0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", VITS)
def test_a_whole_image_mask_leaves_stock_attention_layer_by_layer(name: str) -> None:
    size = VITS[name]
    encoder = build(name, size, gamma=0.6)
    images, whole = torch.rand(2, 1, size, size), torch.ones(2, size, size, dtype=torch.bool)
    mine = block_outputs(encoder, lambda: encoder(images, whole))
    stock = block_outputs(encoder, lambda: encoder.backbone(encoder.normalize(images)))
    for one, other in zip(mine, stock, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", VITS)
def test_every_layer_shows_its_own_attention(name: str) -> None:
    size = VITS[name]
    encoder = build(name, size)
    prefix = encoder.backbone.num_prefix_tokens
    for block in encoder.backbone.blocks:
        block.attn.fused_attn = False  # so that timm forms the map that is compared with
    wanted: list[Tensor] = []
    hooks = [
        block.attn.attn_drop.register_forward_pre_hook(lambda m, inputs: wanted.append(inputs[0]))
        for block in encoder.backbone.blocks
    ]
    with torch.no_grad():
        found = encoder.encode(torch.rand(2, 1, size, size), align_layers=encoder.layers)
    for hook in hooks:
        hook.remove()
    assert found.extra["attention"].shape[1] == len(wanted) == encoder.layers
    for layer, full in enumerate(wanted):
        to_patches = full[:, :, 0, prefix:]
        by_hand = (to_patches / to_patches.sum(dim=2, keepdim=True)).mean(dim=1)
        torch.testing.assert_close(found.extra["attention"][:, layer], by_hand)
    first, last = found.extra["attention"][:, 0], found.extra["attention"][:, -1]
    assert not torch.allclose(first, last, atol=1e-3)


def test_the_bias_is_its_formula_at_every_pair_of_patches() -> None:
    bias = AnatomyBias(layers=2, gamma=0.6)
    with torch.no_grad():
        bias.u[1] = -1.0
    m = torch.tensor([[1.0, 0.4, 0.0]])
    prefix = 2
    for layer, found in enumerate(bias(m, prefix)):
        gamma = torch.sigmoid(bias.u[layer]).item()
        assert found.shape == (1, 1, 5, 5)
        assert not found[0, 0, :prefix].any()  # CLS and registers attend freely
        assert not found[0, 0, :, :prefix].any()
        for i in range(3):
            for j in range(3):
                wanted = torch.log(gamma * m[0, i] * m[0, j] + 1 - gamma)
                assert found[0, 0, prefix + i, prefix + j].item() == pytest.approx(
                    wanted.item(), abs=1e-6
                )


def test_gamma_starts_at_its_first_value_in_every_layer_and_has_no_decay() -> None:
    bias = AnatomyBias(layers=5)
    torch.testing.assert_close(bias.gamma, torch.full((5,), 0.6))
    assert bias.u.ndim == 1  # the optimizer spares vectors


def test_the_bias_moves_patch_attention_toward_the_lungs() -> None:
    encoder = build(gamma=0.9)
    cover = half_cover(2, 4).ceil()
    images = torch.rand(2, 1, 64, 64)
    lung = cover.flatten(1)[0].bool()
    shares = []
    for bias in (None, encoder.bias):
        maps: list[Tensor] = []
        attention = encoder.backbone.blocks[0].attn
        attention.fused_attn = False
        with attention.attn_drop.register_forward_pre_hook(lambda m, i, out=maps: out.append(i[0])):
            encoder.encode(images, bias=bias, cover=cover)
        patches = maps[0][:, :, 1:, 1:]
        shares.append(patches[:, :, lung][..., lung].sum(dim=-1).mean())
    assert shares[1] > shares[0] * 1.1


def test_the_same_bias_acts_at_training_and_test() -> None:
    encoder = build(gamma=0.6)
    images, masks = torch.rand(2, 1, 64, 64), torch.rand(2, 64, 64) > 0.5
    masks[:, :32] = False
    in_test = encoder.eval()(images, masks).pooled
    assert torch.equal(encoder.train()(images, masks).pooled, in_test)
    assert not torch.allclose(in_test, encoder.encode(images).pooled)
    assert encoder.needs_masks
    assert not build().needs_masks


def test_fused_attention_stays_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = build(gamma=0.6)
    calls = []
    fused = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        torch.nn.functional,
        "scaled_dot_product_attention",
        lambda *arguments, **named: (calls.append(1), fused(*arguments, **named))[1],
    )
    encoder.encode(
        torch.rand(1, 1, 64, 64), bias=encoder.bias, cover=half_cover(1, 4), align_layers=2
    )
    assert len(calls) == encoder.layers


def test_only_the_last_layers_that_are_asked_for_show_attention() -> None:
    encoder, images = build(), torch.rand(2, 1, 64, 64)
    every = encoder.encode(images, align_layers=encoder.layers).extra["attention"]
    last = encoder.encode(images, align_layers=2).extra["attention"]
    assert torch.equal(last, every[:, -2:])
    assert "attention" not in encoder.encode(images).extra


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "test_vit"])
def test_hidden_patches_are_replaced_before_the_blocks(name: str) -> None:
    encoder, token = build(name), torch.randn(build(name).backbone.embed_dim)
    images = torch.rand(1, 1, 64, 64)
    hidden = torch.zeros(1, 4, 4, dtype=torch.bool)
    hidden[0, 1, 2] = True
    elsewhere = images.clone()
    elsewhere[:, :, 16:32, 32:48] = torch.rand(1, 1, 16, 16)  # the very pixels of that patch
    shown = encoder.encode(images).spatial
    seen = [
        encoder.encode(one, hidden=hidden, mask_token=token).spatial for one in (images, elsewhere)
    ]
    assert torch.equal(seen[0], seen[1])
    assert not torch.allclose(seen[0], shown)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "test_vit"])
def test_hidden_patches_keep_their_position(name: str) -> None:
    encoder = build(name)
    token = torch.zeros(encoder.backbone.embed_dim)
    hidden = torch.ones(1, 4, 4, dtype=torch.bool)
    tokens = encoder.encode(torch.rand(1, 1, 64, 64), hidden=hidden, mask_token=token).spatial
    assert not torch.allclose(tokens[..., 0, 0], tokens[..., 3, 3], atol=1e-3)


def test_attention_has_a_gradient_to_its_block_and_tokens() -> None:
    encoder = build()
    block = encoder.backbone.blocks[2]
    tokens = torch.randn(1, 17, encoder.backbone.embed_dim, requires_grad=True)
    attention = cls_attention(block, block.attn.qkv(block.norm1(tokens)), 1)
    attention[0, 3].backward()
    assert attention.sum().item() == pytest.approx(1)
    assert block.attn.qkv.weight.grad.norm() > 0
    assert tokens.grad is not None
    assert tokens.grad[0, 0].norm() > 0


@pytest.mark.parametrize(("size", "cells"), [(64, 4), (96, 6), (512, 32)])
def test_cells_are_the_patch_grid_at_any_size(size: int, cells: int) -> None:
    encoder = build("vit_tiny_patch16_224", size)
    masks = torch.zeros(1, size, size, dtype=torch.bool)
    masks[:, :, :20] = True
    cover = encoder.cover(masks)
    assert cover.shape == (1, cells, cells)
    torch.testing.assert_close(cover[0, 0, :3], torch.tensor([1.0, 0.25, 0.0]))


def test_cells_follow_the_patch_size() -> None:
    encoder = build("vit_small_patch32_224", 64)
    assert encoder.cover(torch.ones(1, 64, 64).bool()).shape == (1, 2, 2)


def test_half_precision_gives_finite_features() -> None:
    encoder = build(gamma=0.6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features = encoder.encode(
            torch.rand(2, 1, 64, 64), bias=encoder.bias, cover=half_cover(2, 4), align_layers=3
        )
    assert features.pooled.isfinite().all()
    assert features.extra["attention"].isfinite().all()


@pytest.mark.parametrize("name", ["mobilenetv2_050", "swin_tiny_patch4_window7_224"])
def test_a_backbone_that_is_no_vit_is_refused_with_a_remedy(name: str) -> None:
    with pytest.raises(ConfigError, match=r"not a vision transformer(.|\n)*vit_small_patch16_224"):
        build(name, 224)


def test_a_vit_without_class_token_is_refused() -> None:
    vit = timm.create_model("test_vit", num_classes=0, class_token=False, global_pool="avg")
    with pytest.raises(ConfigError, match="no class token"):
        AnatomyViT(vit)


def test_a_vit_with_other_blocks_is_refused() -> None:
    vit = timm.create_model(
        "test_vit", block_fn=timm.models.vision_transformer.ParallelScalingBlock
    )
    with pytest.raises(ConfigError, match="plain blocks"):
        AnatomyViT(vit)


def test_an_image_that_patches_do_not_fill_is_refused() -> None:
    with pytest.raises(ConfigError, match="multiple of 16"):
        build("vit_tiny_patch16_224", 72)


def test_pooling_over_patches_still_gives_the_class_token() -> None:
    vit = timm.create_model("test_vit", num_classes=0, global_pool="avg")
    features = AnatomyViT(vit).eval().encode(torch.rand(1, 1, 64, 64))
    assert not torch.allclose(features.extra["cls"], features.pooled)
