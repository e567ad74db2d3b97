"""Forty families of timm: features, maps and what accepts them, against docs/backbones.md."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.backbones import MODELS, SIZE, row, tree
from medsgssl.errors import ConfigError
from medsgssl.inference.maps import attention_rollout, grad_cam, map_kind
from medsgssl.methods.registry import configure, method_of
from medsgssl.models.classifier import Classifier
from medsgssl.models.encoder import Encoder, MapLayout
from medsgssl.transforms.batch import ViewBatch

PAGE = Path(__file__).parents[2] / "docs" / "backbones.md"


def encoder_of(model: str) -> Encoder:
    torch.manual_seed(0)
    try:
        return method_of(configure("simclr", tree(model))).encoder().eval()
    except ConfigError:
        pytest.skip("refused, as the table says")


def one_image() -> ViewBatch:
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(1, 1, 1, SIZE, SIZE, generator=generator)
    masks = torch.ones(1, 1, SIZE, SIZE, dtype=torch.bool)
    none = torch.zeros(1)
    return ViewBatch(images, masks, none, none, none, none, none, none)


def reference_map(encoder: Encoder, inputs: Tensor) -> Tensor:
    """The last map as timm's own interface for features gives it."""
    options = {"indices": 1, "output_fmt": "NCHW", "intermediates_only": True}
    try:
        return encoder.backbone.forward_intermediates(inputs, norm=True, **options)[-1]
    except AssertionError:  # some families cannot put their last norm here
        return encoder.backbone.forward_intermediates(inputs, **options)[-1]


def test_there_are_forty_families() -> None:
    assert len(set(MODELS)) >= 40


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_a_family_does_what_the_page_says(model: str) -> None:
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith(f"| {model} |")]
    assert lines == [f"| {' | '.join(row(model).cells())} |"]


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_the_map_of_a_family_is_timms_own(model: str) -> None:
    encoder, batch = encoder_of(model), one_image()
    if not isinstance(encoder.layout, MapLayout):
        pytest.skip("has no map")
    inputs = encoder.normalize(batch.images[:, 0])
    with torch.no_grad():
        ours, wanted = encoder.features(inputs).spatial, reference_map(encoder, inputs)
    assert ours.shape[2:] == encoder.layout.grid
    if wanted.shape != ours.shape or not torch.allclose(ours, wanted, rtol=1e-3, atol=1e-4):
        # timm's interface stops before the last convolution or norm of some models: there a
        # change of one corner of the image must change that corner of the map most.
        changed = inputs.clone()
        changed[..., : SIZE // 4, : SIZE // 4] += 3
        with torch.no_grad():
            change = (encoder.features(changed).spatial - ours).abs().mean(dim=1)[0]
        rows, columns = change.shape
        place = divmod(int(change.argmax()), columns)
        assert place[0] < rows / 2
        assert place[1] < columns / 2


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_grad_cam_and_rollout_of_a_family_equal_a_reference(model: str) -> None:
    encoder, batch = encoder_of(model), one_image()
    try:
        kind = map_kind(encoder)
    except ConfigError:
        pytest.skip("refused, as the table says")
    classifier = Classifier(encoder, classes=14).eval()
    if kind == "grad-cam":
        found = grad_cam(classifier, batch, torch.tensor([3]))
        torch.testing.assert_close(found, cam_by_hand(classifier, batch, 3), rtol=1e-3, atol=1e-6)
    else:
        found = attention_rollout(classifier, batch)
        torch.testing.assert_close(found, rollout_by_hand(encoder, batch), rtol=1e-3, atol=1e-6)


def cam_by_hand(classifier: Classifier, batch: ViewBatch, disease: int) -> Tensor:
    """Grad-CAM by finding the axis of channels in the size of the gradient alone."""
    encoder = classifier.encoder
    last = encoder.backbone.forward_features(encoder.normalize(batch.images[:, 0])).detach()
    last.requires_grad_()
    pooled = encoder.backbone.forward_head(last, pre_logits=True)
    (gradient,) = torch.autograd.grad(classifier.head(pooled)[0, disease], last)
    assert isinstance(encoder.layout, MapLayout)
    height, width = encoder.layout.grid
    if last.ndim == 3:
        prefix = last.shape[1] - height * width
        values, weights = last[0, prefix:], gradient[0, prefix:].mean(dim=0)
        return (values @ weights).relu().reshape(1, height, width).detach()
    first = last.shape[1] == encoder.backbone.num_features
    values, slopes = (t[0] if first else t[0].movedim(2, 0) for t in (last, gradient))
    return torch.einsum("chw,c->hw", values, slopes.mean(dim=(1, 2))).relu()[None].detach()


def rollout_by_hand(encoder: Encoder, batch: ViewBatch) -> Tensor:
    """Rollout from weights that, times the values, give what the layer's fused attention gives."""
    backbone, inputs = copy.deepcopy(encoder.backbone), encoder.normalize(batch.images[:, 0])
    calls = {True: _calls(backbone, inputs, True), False: _calls(backbone, inputs, False)}
    assert isinstance(encoder.layout, MapLayout)
    tokens = encoder.layout.prefix + encoder.layout.grid[0] * encoder.layout.grid[1]
    flow = torch.eye(tokens)
    for block, (given, fused, _), (_, _, weights) in zip(
        backbone.blocks, calls[True], calls[False], strict=True
    ):
        layer = block.attn
        offset = layer.qkv.bias if layer.qkv.bias is not None else getattr(layer, "v_bias", None)
        width = layer.qkv.weight.shape[0] // 3
        values = F.linear(given, layer.qkv.weight[2 * width :])
        values = values if offset is None else values + offset[-width:]
        heads = values.unflatten(2, (layer.num_heads, -1)).transpose(1, 2)
        mixed = (weights @ heads).transpose(1, 2).flatten(2)
        wanted = layer.proj(getattr(layer, "norm", torch.nn.Identity())(mixed))
        torch.testing.assert_close(wanted, fused, rtol=1e-3, atol=1e-4)
        flow = 0.5 * (weights[0].mean(dim=0) + torch.eye(tokens)) @ flow
    prefix = encoder.layout.prefix
    with_class = getattr(backbone, "cls_token", None) is not None
    start = flow[0] if with_class else flow[prefix:].mean(dim=0)
    return start[prefix:].reshape(1, *encoder.layout.grid)


@torch.no_grad()
def _calls(backbone: Any, inputs: Tensor, fused: bool) -> list[tuple[Tensor, Tensor, Any]]:
    """Input, output and (where not fused) weights of each layer's attention."""
    given: list[Tensor] = []
    outputs: list[Tensor] = []
    weights: list[Tensor] = []
    hooks = []
    for block in backbone.blocks:
        block.attn.fused_attn = fused
        hooks += [
            block.attn.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0])),
            block.attn.register_forward_hook(lambda _, __, output: outputs.append(output)),
            block.attn.attn_drop.register_forward_hook(lambda _, __, out: weights.append(out)),
        ]
    backbone.forward_features(inputs)
    for hook in hooks:
        hook.remove()
    return list(zip(given, outputs, weights or [None] * len(given), strict=True))
