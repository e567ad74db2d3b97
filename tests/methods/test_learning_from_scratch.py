"""A fresh backbone learns to tell real images apart: the loss leaves chance."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from medsgssl.config.schema import AugmentSettings
from medsgssl.images.reading import read_image
from medsgssl.losses.nt_xent import nt_xent_loss
from medsgssl.methods.registry import configure, method_of
from medsgssl.transforms.crops import RandomCrop
from medsgssl.transforms.view_spec import ViewSpec, make_view

BATCH, STEPS, SIDE = 64, 60, 64


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mobilenetv2_100", "resnet18"])
def test_contrast_from_scratch_falls_below_chance_on_views_never_seen_before(
    real_data: Path, name: str
) -> None:
    paths = sorted((real_data / "nih128").rglob("*.png"))[: BATCH * 8]
    images = [read_image(path) for path in paths]
    everywhere = np.ones_like(images[0])
    spec = ViewSpec(RandomCrop(AugmentSettings()), AugmentSettings())

    torch.manual_seed(0)
    method = method_of(
        configure(
            "simclr",
            {"data": {"img_size": SIDE}, "encoder": {"name": name, "pretrained": False}},
        )
    )
    task = method.task(method.encoder()).train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(task.parameters(), lr=3e-3, weight_decay=0.05)
    losses = []
    for step in range(STEPS):
        start = step * BATCH % len(images)
        pairs = [
            [
                make_view(image, everywhere, 1.0, spec, SIDE, (0, step, start + i, view)).image
                for view in range(2)
            ]
            for i, image in enumerate(images[start : start + BATCH])
        ]
        views = torch.from_numpy(np.array(pairs)).float().div(255)
        both = torch.cat([views[:, 0], views[:, 1]]).unsqueeze(1)
        projections = task.projector(task.encoder(both, torch.empty(0)).pooled)
        loss = nt_xent_loss(*projections.chunk(2), 0.2)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(task.parameters(), 3.0)
        optimizer.step()
        losses.append(loss.item())

    chance = math.log(2 * BATCH - 1)
    assert np.mean(losses[-15:]) < chance - 0.1
