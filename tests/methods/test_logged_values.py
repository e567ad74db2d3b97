"""What methods log beside their losses: bounds and chance of the global batch, and shares."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from medsgssl.losses.nt_xent import nt_xent_floor
from medsgssl.methods.adaptive_pathology import pooling_weights
from medsgssl.methods.contrastive import global_batch
from medsgssl.methods.registry import all_methods, configure, method_of

ENCODERS = {"anatomy-masked-attention": "test_vit"}
PRETRAINED = [name for name in all_methods() if name != "direct"]
# Terms that are no NT-Xent, or whose number of negatives varies.
OTHERS = {
    "reconstruction", "attention", "domain", "regions", "segmentation", "equivariance",
}  # fmt: skip


@pytest.fixture
def case(lung_batch, make_task):
    """A maker of a method's task and of a batch with its views."""

    def make(name: str, **own):
        encoder = ENCODERS.get(name, "test_efficientnet")
        tree = {"encoder": {"name": encoder, "pretrained": False}, "method": own}
        plan = method_of(configure(name, tree)).pretrain_views()
        return make_task(name, encoder, **own), lung_batch(plan=plan, domains=[0, 1, 0, 1])

    return make


@pytest.mark.parametrize("name", PRETRAINED)
@pytest.mark.parametrize("ranks", [1, 3])
def test_bounds_and_chance_are_those_of_the_global_batch(
    case, monkeypatch: pytest.MonkeyPatch, name: str, ranks: int
) -> None:
    task, batch = case(name)
    monkeypatch.setattr("medsgssl.methods.contrastive.world_size", lambda: ranks)
    assert global_batch(batch) == 4 * ranks
    output = task(batch, 0.5)
    contrasts = set(output.losses) - OTHERS
    assert contrasts
    assert set(output.lower_bounds) == set(output.chance) == contrasts
    for term in contrasts:
        assert output.lower_bounds[term] == pytest.approx(nt_xent_floor(4 * ranks, 0.2))
        assert output.chance[term] == pytest.approx(math.log(8 * ranks - 1))
    assert set(output.weights) == set(output.losses)


@pytest.mark.parametrize("name", PRETRAINED)
def test_the_embedding_is_that_of_the_first_views(case, name: str) -> None:
    task, batch = case(name)
    shown = []
    task.encoder.register_forward_hook(lambda module, inputs, output: shown.append(output.pooled))
    if name == "anatomy-masked-attention":
        inner = task.encoder.encode

        def encode(*args, **named):
            features = inner(*args, **named)
            shown.append(features.extra["cls"])
            return features

        task.encoder.encode = encode
    embedding = task(batch, 0.5).embedding
    assert torch.equal(embedding, shown[0][: batch.size])
    assert not embedding.requires_grad


@pytest.mark.parametrize(("name", "regions"), [("multi-region", 2), ("anatomy-contrast", 7)])
def test_the_share_of_regions_that_are_present_is_a_share(case, name: str, regions: int) -> None:
    task, batch = case(name)
    shown = 3 if name == "anatomy-contrast" else 2
    spatial = torch.rand(shown * 4, task.encoder.map_channels, 4, 4)
    present = task.region_losses(batch, spatial)[1]
    assert present.shape[1] == regions
    found = float(task(batch, 0.0).metrics["regions_present"])
    assert found == pytest.approx(float(present.float().mean()))
    assert 0 < found <= 1


def test_zones_of_views_come_from_the_mask_of_the_whole_view_alone(case) -> None:
    for name, own in (("multi-region", {"regions": "zones"}), ("anatomy-contrast", {})):
        task, batch = case(name, **own)
        masks = batch.masks.clone()
        masks[:, :-1] = False
        count = () if name == "multi-region" else (2,)
        wanted = task.region_maps(batch, *count)
        assert wanted.any()
        assert torch.equal(task.region_maps(replace(batch, masks=masks), *count), wanted)


def test_saliency_pools_by_quality_times_saliency_of_mean_one() -> None:
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(6, 8, 8, generator=generator)
    maps[4] = 0.0
    quality = torch.tensor([1.0, 0.4, 0.0])
    found = pooling_weights(maps, quality, (2, 2))
    cells = maps.view(6, 2, 4, 2, 4).mean(dim=(2, 4))
    for view in range(6):
        mean = cells[view].mean()
        salient = cells[view] / mean if mean > 0 else torch.zeros(2, 2)
        q = quality[view % 3]
        torch.testing.assert_close(found[view, 0], q * salient + (1 - q) + 1e-3)


def test_the_logged_weight_and_score_are_the_largest_and_the_mean(case) -> None:
    task, batch = case("adaptive-pathology")
    images, masks = batch.view(-1)
    task.norms.train()(images[:3], masks[:3])  # the mean score of what is normal would be 0
    output = task.eval()(batch, 0.0)
    scores = task.norms(images, masks).scores
    assert scores.mean().abs() > 0.1
    weights = torch.exp(batch.quality * scores / 4.0)
    assert float(output.metrics["largest_weight"]) == pytest.approx(
        float((weights / weights.mean()).max()), rel=1e-4
    )
    assert float(output.metrics["saliency_score"]) == pytest.approx(float(scores.mean()), abs=1e-5)


def test_the_logged_overlap_of_the_lung_map_weighs_by_quality(case) -> None:
    task, batch = case("attention-prior")
    batch = replace(batch, quality=torch.tensor([1.0, 0.0, 0.5, 0.1]))
    with torch.no_grad():
        task.encoder.lung_map.layers[-1].bias.fill_(1.0)  # the map of a new head is below 1/2
    output = task.eval()(batch, 0.0)
    stacked = torch.cat([batch.masks[:, 0], batch.masks[:, 1]])
    images = torch.cat([batch.images[:, 0], batch.images[:, 1]])
    lung_map = task.encoder(images, stacked).extra["lung_map"] > 0.5
    side = lung_map.shape[-1]
    target = torch.nn.functional.avg_pool2d(stacked[:, None].float(), 64 // side)[:, 0] > 0.5
    both, either = (lung_map & target).sum((1, 2)), (lung_map | target).sum((1, 2))
    overlap = torch.where(either > 0, both / either.clamp_min(1), 1.0)
    weights = batch.quality.repeat(2)
    wanted = float((weights * overlap).sum() / weights.sum())
    assert 0 < wanted < 1
    assert float(output.metrics["lung_map_iou"]) == pytest.approx(wanted, abs=1e-5)


def test_the_logged_attention_weighs_views_by_quality(case) -> None:
    task, batch = case("anatomy-masked-attention")
    batch = replace(batch, quality=torch.tensor([1.0, 0.0, 0.5, 0.1]))
    output = task(batch, 0.0)
    masks = torch.cat([batch.masks[:, 0], batch.masks[:, 1]])
    weights = batch.quality.repeat(2)
    wanted = float((weights * masks.float().mean(dim=(1, 2))).sum() / weights.sum())
    assert float(output.metrics["lung_share"]) == pytest.approx(wanted, abs=1e-5)


def test_the_logged_share_of_lung_is_that_of_the_crops(case) -> None:
    task, batch = case("guided-crop")
    found = float(task(batch, 0.0).metrics["lung_fraction"])
    assert found == pytest.approx(float(batch.masks[:, :2].float().mean()))
    assert found != pytest.approx(float(batch.masks.float().mean()), abs=1e-3)
