"""Where a classifier looks: Grad-CAM of convolutional networks, attention rollout of transformers.

Sources:
    Selvaraju et al., "Grad-CAM: visual explanations from deep networks via gradient-based
    localization", ICCV 2017.
    Abnar and Zuidema, "Quantifying attention flow in transformers", ACL 2020.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medsgssl.config.schema import Config
from medsgssl.data.boxes import BOX_FRAME
from medsgssl.data.dataset import ImageMaskDataset
from medsgssl.data.loader import BatchDataset
from medsgssl.data.mask_cache import MaskArray
from medsgssl.data.sampler import EpochSampler
from medsgssl.evaluation.localization import THRESHOLDS, Map, box_mask, energy_inside, score_box
from medsgssl.methods.registry import method_of
from medsgssl.models.classifier import Classifier
from medsgssl.models.weights import load_weights, weights_identity
from medsgssl.transforms.batch import ViewBatch


def saliency(classifier: Classifier, batch: ViewBatch, diseases: Tensor) -> Tensor:
    """Return one map per image, whichever way fits the backbone; both are non-negative.

    Args:
        classifier: In eval mode.
        batch: Views on the classifier's device.
        diseases: (B,) int64, the disease to look for in each image. Rollout does not depend on
            it: a transformer's attention is the same for all diseases.

    Returns:
        float32, (B, h, w), on the grid of the last feature map or of the patches.
    """
    if classifier.encoder.is_vit:
        return attention_rollout(classifier, batch)
    return grad_cam(classifier, batch, diseases)


def grad_cam(classifier: Classifier, batch: ViewBatch, diseases: Tensor) -> Tensor:
    """Weigh the channels of the last map by their mean gradient; keep what speaks for a disease.

    Args:
        classifier: In eval mode, with a convolutional backbone.
        batch: Views.
        diseases: (B,) int64.
    """
    with torch.enable_grad():
        features = classifier.features(batch)
        logits = classifier.head(features.pooled)
        chosen = logits.gather(1, diseases[:, None]).sum()
        (gradient,) = torch.autograd.grad(chosen, features.spatial)
    weights = gradient.mean(dim=(2, 3), keepdim=True)
    return (weights * features.spatial).sum(dim=1).relu().detach().float()


@torch.no_grad()
def attention_rollout(classifier: Classifier, batch: ViewBatch) -> Tensor:
    """Follow attention from the class token through all layers to the patches.

    Each layer mixes as much as its attention (mean over the heads) and its skip connection, in
    equal parts. Backbones without class token are looked at from the mean of their patches.
    """
    backbone = classifier.encoder.backbone
    with _attention(backbone) as layers:
        grid = classifier.features(batch).spatial.shape[2:]
    prefix: int = backbone.num_prefix_tokens
    flow: Tensor | None = None
    for attention in layers:
        mixed = attention + torch.eye(attention.shape[1], device=attention.device)
        mixed = mixed / mixed.sum(dim=2, keepdim=True)
        flow = mixed if flow is None else mixed @ flow
    assert flow is not None
    start = flow[:, 0] if prefix else flow.mean(dim=1)
    return start[:, prefix:].reshape(-1, *grid).float()


@contextmanager
def _attention(backbone: Any) -> Iterator[list[Tensor]]:
    """Gather the attention (B, T, T) of each block while the block is open."""
    found: list[Tensor] = []

    def note(layer: nn.Module, inputs: tuple[Tensor, ...], options: dict[str, Any]) -> None:
        found.append(_weights(layer, inputs[0], options.get("attn_mask")))

    hooks = [
        block.attn.register_forward_pre_hook(note, with_kwargs=True) for block in backbone.blocks
    ]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def _weights(layer: Any, tokens: Tensor, bias: Tensor | None) -> Tensor:
    """Compute what timm's fused attention does not hand out, mean over the heads."""
    count, length, _ = tokens.shape
    parts = layer.qkv(tokens).reshape(count, length, 3, layer.num_heads, layer.head_dim)
    query, key, _ = parts.permute(2, 0, 3, 1, 4)
    logits = layer.q_norm(query) @ layer.k_norm(key).mT * layer.scale
    if bias is not None:
        logits = logits + bias
    weights: Tensor = logits.float().softmax(dim=3).mean(dim=1)
    return weights


_BATCH = 32


@dataclass(frozen=True)
class LocalizedBoxes:
    """Where a classifier looked.

    Attributes:
        table: One row per box: ``image_id``, ``disease``, ``pointing``, ``iou_25``, ``iou_50``,
            ``iou_75``, ``energy``, ``area`` (share of the image that the box covers),
            ``lung_energy`` and ``lung_area`` (NaN without a usable lung mask).
        maps: (E, S, S) float32 of one example per disease, in the frame of the cached images.
        examples: (E,) their rows of the table: the first box of each disease in the list, so that
            nobody picks them, and every classifier shows the same.
        rows: (E,) their positions in the decoded cache.
        boxes: (E, 4) x, y, width and height of their boxes as shares of the image's side.
        grid: Height and width of the maps before they were enlarged to the image: no map tells
            more than that.
    """

    table: pd.DataFrame
    maps: Map
    examples: NDArray[np.int64]
    rows: NDArray[np.int64]
    boxes: NDArray[np.float64]
    grid: tuple[int, int]


def localize(
    config: Config,
    source: ImageMaskDataset,
    image_ids: list[str],
    weights: Path,
    boxes: pd.DataFrame,
    lungs: MaskArray,
) -> LocalizedBoxes:
    """Score the maps of a classifier against boxes and lungs.

    The maps are those of the method's own test view, so a method that crops is scored where its
    view lies; what it does not see has no energy.

    Args:
        config: The configuration the classifier was made with.
        source: Images and masks as the run saw them.
        image_ids: Image of each row of the source.
        weights: ``classifier.safetensors``.
        boxes: As ``read_boxes`` gives them; boxes of images outside the test split are left out.
        lungs: Lung masks, whatever masks the run saw.

    Raises:
        CheckpointError: The weights are unusable or of another method.
    """
    size = lungs.size
    test = {image_ids[row]: int(row) for row in source.rows("test")}
    boxes = boxes[boxes["image_id"].isin(test.keys())].reset_index(drop=True)
    rows = np.array([test[name] for name in boxes["image_id"]], dtype=np.int64)
    names = source.label_set.names
    diseases = np.array([names.index(name) for name in boxes["disease"]], dtype=np.int64)
    found, grid = _maps(config, source, weights, rows, diseases, size)
    table = []
    for place, (row, seen) in enumerate(zip(rows, found, strict=True)):
        x, y, width, height = (float(boxes[name].iloc[place]) for name in _BOX)
        scores = score_box(seen, box_mask((x, y, width, height), size))
        usable = bool(lungs.usable[row])
        lung = lungs.mask(int(row)).astype(bool)
        table.append(
            {
                "image_id": boxes["image_id"].iloc[place],
                "disease": boxes["disease"].iloc[place],
                "pointing": scores.pointing,
                **{
                    f"iou_{round(100 * share)}": overlap
                    for share, overlap in zip(THRESHOLDS, scores.iou, strict=True)
                },
                "energy": scores.energy,
                "area": scores.area,
                "lung_energy": energy_inside(seen, lung) if usable else np.nan,
                "lung_area": float(lung.mean()) if usable else np.nan,
            }
        )
    examples = np.flatnonzero(~boxes["disease"].duplicated().to_numpy())
    shares = boxes.loc[examples, list(_BOX)].to_numpy(np.float64) / BOX_FRAME
    return LocalizedBoxes(
        pd.DataFrame(table), found[examples], examples, rows[examples], shares, grid
    )


_BOX = ("x", "y", "width", "height")


def _maps(
    config: Config,
    source: ImageMaskDataset,
    weights: Path,
    rows: NDArray[np.int64],
    diseases: NDArray[np.int64],
    size: int,
) -> tuple[Map, tuple[int, int]]:
    method = method_of(config)
    classifier = Classifier(method.encoder(), len(source.label_set))
    load_weights(weights, classifier, weights_identity(config))
    gpu = torch.cuda.is_available() and config.finetune.accelerator != "cpu"
    device = torch.device("cuda" if gpu else "cpu")
    classifier.to(device).eval()
    side = config.data.img_size
    order = EpochSampler(rows, _BATCH, config.seed, shuffle=False)
    steps = BatchDataset(source, method.test_views(), order, side, config.seed)
    found = np.zeros((len(rows), size, size), np.float32)
    grid = (0, 0)
    for start in range(0, len(rows), _BATCH):
        part = slice(start, start + _BATCH)
        batch = steps.render(0, rows[part]).to_device(device)
        wanted = torch.from_numpy(diseases[part]).to(device)
        maps = saliency(classifier, batch, wanted).cpu().numpy()
        grid = maps.shape[1:]
        for place, (one, affine) in enumerate(
            zip(maps, batch.affines[:, 0].cpu().numpy(), strict=True)
        ):
            found[start + place] = to_image(one, affine, side, size)
    return found, grid


def to_image(found: Map, affine: NDArray[np.float32], side: int, size: int) -> Map:
    """Bring a map from the grid of a view into the frame of the cached image.

    Args:
        found: (h, w) on the view's grid.
        affine: View pixels to image pixels, (2, 3).
        side: Side of the view in pixels.
        size: Side of the cached image in pixels.

    Returns:
        (size, size); zero where the view does not reach.
    """
    large = cv2.resize(found, (side, side), interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.warpAffine(large, affine.astype(np.float64), (size, size)), np.float32)
