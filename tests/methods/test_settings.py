"""The ranges of the methods' own settings, and what happens without one of their parts."""

from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError

from medsgssl.methods.masked_contrastive import MaskedContrastiveSettings, hide_lung_blocks
from medsgssl.methods.registry import all_methods

# [ and ] belong to the range, ( and ) do not.
SHARED = {
    "temperature": "(0, inf)",
    "projector_hidden": "[1, inf)",
    "projector_out": "[2, inf)",
    "projector_layers": "[2, 3]",
}
OWN = {
    "adaptive-pathology": {"saliency_temperature": "[0.2, inf)"},
    "anatomy-contrast": {
        "min_area": "(0, 1)", "min_quality": "[0, 1]", "saliency_temperature": "[0.2, inf)",
    },
    "anatomy-masked-attention": {
        "mask_ratio": "[0, 1]", "curriculum_start": "[0, 1]", "min_lung_fraction": "(0, 1]",
        "prior_floor": "(0, 1]", "gamma": "(0, 1)", "predictor_hidden": "[1, inf)",
        "teacher_momentum": "[0, 1]", "align_layers": "[1, inf)",
    },
    "attention-prior": {"stage_stride": "[2, 32]", "map_hidden": "[1, inf)"},
    "direct": {},
    "guided-crop": {
        "min_lung_fraction": "(0, 0.9]", "box_margin": "[0, 0.5]", "min_quality": "[0, 1]",
        "context.0": "[0, 0.1]", "context.1": "[0.05, 0.5]",
    },
    "mask-channel": {"mask_drop": "[0, 1]", "mask_noise": "[0, 0.2]", "min_quality": "[0, 1]"},
    "masked-contrastive": {
        "cells": "[2, inf)", "min_lung_fraction": "(0, 1]", "fill_noise": "[0, inf)",
        "quality_floor": "[0, 1]", "mask_ratio.0": "[0, 0.5]", "mask_ratio.1": "[0.2, 1]",
    },
    "multi-region": {"min_area": "(0, 1)"},
    "simclr": {"reconstruction_size": "[8, inf)"},
}  # fmt: skip
# Below this no range is so narrow.
STEP = 0.04


def ranges(name: str) -> dict[str, str]:
    fields = all_methods()[name].settings.model_fields
    weights = {field: "[0, inf)" for field in fields if field.startswith("lambda_")}
    shared = {} if name == "direct" else SHARED
    return shared | weights | OWN[name]


def accepted(name: str, setting: str, value: float) -> bool:
    method = all_methods()[name].settings
    field, _, place = setting.partition(".")
    given: object = value
    if place:
        both = list(getattr(method(), field))
        both[int(place)] = value
        given = tuple(both)
    try:
        method(**{field: given})
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize("name", OWN)
def test_settings_take_the_values_of_their_range_alone(name: str) -> None:
    fields = all_methods()[name].settings.model_fields
    numbers = {f for f, info in fields.items() if isinstance(info.default, (int, float, tuple))}
    numbers -= {f for f, info in fields.items() if isinstance(info.default, bool)}
    assert numbers <= {setting.partition(".")[0] for setting in ranges(name)}
    for setting, text in ranges(name).items():
        low, high = (float(end) for end in text[1:-1].split(","))
        whole = isinstance(fields[setting.partition(".")[0]].default, int)
        whole |= setting == "align_layers"
        step = 1 if whole else STEP
        ends = [(low, 1, text[0] == "[")]
        if high < math.inf:
            ends.append((high, -1, text[-1] == "]"))
        for end, inward, inside in ends:
            value = int(end) if whole else end
            assert accepted(name, setting, value) == inside, (setting, value)
            assert accepted(name, setting, value + inward * step), setting
            assert not accepted(name, setting, value - inward * step), setting
        assert not accepted(name, setting, math.inf), setting
        assert not accepted(name, setting, math.nan), setting


def test_every_method_has_its_ranges_here() -> None:
    assert OWN.keys() == all_methods().keys()


@pytest.mark.parametrize(
    ("name", "part"),
    [(n, p) for n, m in all_methods().items() for p in m.components],
)
def test_a_part_that_is_left_out_is_off(name: str, part: str) -> None:
    method = all_methods()[name]
    off = method.components[part].off
    changed = method.settings(**off)
    for key, value in off.items():
        assert getattr(changed, key) != getattr(method.settings(), key) or not value
        if key.startswith("lambda_") or key in ("mask_drop", "mask_noise"):
            assert getattr(changed, key) == 0
    assert method.components[part].several_sets == (part == "domains")


def test_the_parts_of_masked_contrastive_leave_images_and_weights_as_they_are(
    lung_batch, make_task
) -> None:
    parts = all_methods()["masked-contrastive"].components
    images, masks = torch.rand(2, 1, 64, 64), torch.ones(2, 64, 64, dtype=torch.bool)
    settings = MaskedContrastiveSettings(**parts["hiding"].off)
    assert torch.equal(hide_lung_blocks(images, masks, settings)[0], images)
    task = make_task("masked-contrastive", "test_efficientnet", **parts["weighting"].off)
    weights = task.image_weights(lung_batch(quality=[0, 0.2, 0.9, 1]))
    assert torch.equal(weights, torch.ones(4))


def test_the_prior_on_one_layer_is_that_on_the_last(lung_batch, make_task) -> None:
    off = all_methods()["anatomy-masked-attention"].components["layers"].off
    task = make_task("anatomy-masked-attention", "test_vit", **off)
    images, masks = lung_batch().view(0)
    del masks
    found = task.encoder.encode(images, align_layers=task._align_layers())
    assert found.extra["attention"].shape[1] == 1


def test_masks_may_be_left_to_the_network_in_each_way(make_task) -> None:
    parts = all_methods()["mask-channel"].components
    masks = (torch.arange(32) < 16).expand(4, 32, 32)
    encoders = {
        part: make_task("mask-channel", "test_efficientnet", 32, **parts[part].off).encoder
        for part in parts
    }
    kept = encoders["dropping"].train()._channel(masks)
    assert kept.flatten(1).any(dim=1).all()
    torch.manual_seed(0)
    unchanged = encoders["perturbing"].train()._channel(masks)
    seen = unchanged.flatten(1).any(dim=1)
    assert torch.equal(unchanged[seen], masks[seen])
    assert not encoders["test-mask"].eval()._channel(masks).any()
