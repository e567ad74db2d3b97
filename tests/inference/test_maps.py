from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from medsgssl.config.schema import Config
from medsgssl.data.dataset import ImageMaskDataset
from medsgssl.data.loader import BatchDataset
from medsgssl.data.sampler import EpochSampler
from medsgssl.inference.maps import attention_rollout, grad_cam, saliency
from medsgssl.methods.registry import all_methods, method_of
from medsgssl.models.classifier import Classifier
from medsgssl.transforms.batch import ViewBatch

VIT = "test_vit"


def _batch(config: Config, source: ImageMaskDataset) -> ViewBatch:
    rows = np.arange(3)
    order = EpochSampler(rows, 3, 0, shuffle=False)
    views = method_of(config).test_views()
    steps = BatchDataset(source, views, order, config.data.img_size, 0)
    return steps.render(0, rows).to_device(torch.device("cpu"))


def _classifier(config: Config) -> Classifier:
    torch.manual_seed(0)
    classifier = Classifier(method_of(config).encoder(), 14)
    torch.nn.init.normal_(classifier.head.weight)
    return classifier.eval()


def test_grad_cam_is_the_class_activation_map_of_a_pooled_network(
    tiny_config: Callable[..., Config], view_source: ImageMaskDataset
) -> None:
    config = tiny_config("simclr")
    classifier, batch = _classifier(config), _batch(config, view_source)
    diseases = torch.tensor([0, 5, 13])
    found = grad_cam(classifier, batch, diseases)
    with torch.no_grad():
        spatial = classifier.features(batch).spatial
        weights = classifier.head.weight[diseases] / spatial[0, 0].numel()
        wanted = torch.einsum("bc,bchw->bhw", weights, spatial).relu()
    torch.testing.assert_close(found, wanted)
    assert not torch.equal(found, grad_cam(classifier, batch, diseases.flip(0)))


def test_rollout_multiplies_the_attention_that_timm_computes(
    tiny_config: Callable[..., Config], view_source: ImageMaskDataset
) -> None:
    config = tiny_config("simclr", encoder__name=VIT)
    classifier, batch = _classifier(config), _batch(config, view_source)
    seen: list[torch.Tensor] = []
    for block in classifier.encoder.backbone.blocks:
        block.attn.fused_attn = False
        block.attn.attn_drop.register_forward_pre_hook(
            lambda _, inputs: seen.append(inputs[0].detach())
        )
    found = attention_rollout(classifier, batch)
    flow = torch.eye(seen[0].shape[-1])
    for attention in seen[: len(classifier.encoder.backbone.blocks)]:
        flow = 0.5 * (attention.mean(dim=1) + torch.eye(flow.shape[-1])) @ flow
    prefix = classifier.encoder.backbone.num_prefix_tokens
    torch.testing.assert_close(found.flatten(1), flow[:, 0, prefix:])
    assert (found.flatten(1).sum(1) < 1).all()


def test_hooks_are_taken_off(
    tiny_config: Callable[..., Config], view_source: ImageMaskDataset
) -> None:
    config = tiny_config("simclr", encoder__name=VIT)
    classifier = _classifier(config)
    attention_rollout(classifier, _batch(config, view_source))
    assert not any(b.attn._forward_pre_hooks for b in classifier.encoder.backbone.blocks)


@pytest.mark.parametrize("name", sorted(all_methods()))
def test_every_method_shows_where_it_looks(
    name: str, tiny_config: Callable[..., Config], view_source: ImageMaskDataset
) -> None:
    changes = {"encoder__name": VIT} if "attention" in name and "anatomy" in name else {}
    config = tiny_config(name, **changes)
    classifier, batch = _classifier(config), _batch(config, view_source)
    found = saliency(classifier, batch, torch.tensor([1, 2, 3]))
    assert found.shape[0] == 3
    assert torch.isfinite(found).all()
    assert (found >= 0).all()
    assert not found.requires_grad
    # What one image shows does not depend on the others in its batch.
    alone = replace(batch, **{
        key: getattr(batch, key)[:1] for key in batch.__dataclass_fields__
    })  # fmt: skip
    torch.testing.assert_close(
        saliency(classifier, alone, torch.tensor([1])), found[:1], rtol=1e-3, atol=1e-5
    )
