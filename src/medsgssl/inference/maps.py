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
from typing import Any, Literal

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
from medsgssl.errors import ConfigError
from medsgssl.evaluation.localization import (
    THRESHOLDS,
    Map,
    box_mask,
    center_prior,
    energy_inside,
    score_box,
)
from medsgssl.methods.registry import method_of
from medsgssl.models.classifier import Classifier
from medsgssl.models.encoder import Encoder, MapLayout, in_eval_mode, required_map
from medsgssl.models.weights import load_weights, weights_identity, without_initial_weights
from medsgssl.transforms.batch import ViewBatch


def map_kind(encoder: Encoder) -> Literal["rollout", "grad-cam"]:
    """Return the map that fits a backbone, by trying both on one image.

    Rollout needs attention between all tokens in every block, Grad-CAM a last map whose cells the
    pooled features depend on (in a transformer that pools its class token, they do not).

    Raises:
        ConfigError: The backbone allows neither.
    """
    name = type(encoder.backbone).__name__
    if isinstance(encoder.layout, str):
        reason = encoder.layout
    elif _attends_everywhere(encoder):
        return "rollout"
    elif _depends_on_its_map(encoder):
        return "grad-cam"
    else:
        reason = f"the pooled features of {name} do not depend on its last map"
    raise ConfigError(
        f"no map can show where {name} looks: {reason}, and it has no plain attention",
        "choose another encoder.name, e.g. mobilenetv2_100 or vit_small_patch16_224",
    )


def _attends_everywhere(encoder: Encoder) -> bool:
    if not (isinstance(encoder.layout, MapLayout) and encoder.is_vit):
        return False
    layers = _attention_layers(encoder.backbone)
    if not layers:
        return False
    with torch.no_grad(), in_eval_mode(encoder), _attention(layers) as attention:
        encoder(*_blank(encoder))
    grid = encoder.layout.grid
    tokens = encoder.layout.prefix + grid[0] * grid[1]
    return len(attention) == len(layers) and all(
        weights.shape == (1, tokens, tokens) for weights in attention
    )


def _depends_on_its_map(encoder: Encoder) -> bool:
    with torch.enable_grad(), in_eval_mode(encoder):
        features = encoder(*_blank(encoder))
        # Uneven, or the normalization behind a mean over tokens would hide what depends on them.
        uneven = torch.linspace(0, 1, features.pooled.shape[1], device=features.pooled.device)
        pooled = (features.pooled * uneven).sum()
        (gradient,) = torch.autograd.grad(pooled, features.last, allow_unused=True)
    if gradient is None:
        return False
    return bool(required_map(features.layout).as_map(gradient).abs().sum() > 0)


def _blank(encoder: Encoder) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 1, encoder.size, encoder.size, generator=generator).to(encoder.mean)
    return image, torch.ones_like(image[:, 0], dtype=torch.bool)


def saliency(
    classifier: Classifier,
    batch: ViewBatch,
    diseases: Tensor,
    kind: Literal["rollout", "grad-cam"] | None = None,
) -> Tensor:
    """Return one map per image, whichever way fits the backbone; both are non-negative.

    Args:
        classifier: In eval mode.
        batch: Views on the classifier's device.
        diseases: (B,) int64, the disease to look for in each image. Rollout does not depend on
            it: a transformer's attention is the same for all diseases.
        kind: From ``map_kind``, which is asked when not given.

    Returns:
        float32, (B, h, w), on the grid of the last feature map or of the patches.

    Raises:
        ConfigError: No map fits the backbone.
    """
    if (kind or map_kind(classifier.encoder)) == "rollout":
        return attention_rollout(classifier, batch)
    return grad_cam(classifier, batch, diseases)


def grad_cam(classifier: Classifier, batch: ViewBatch, diseases: Tensor) -> Tensor:
    """Weigh the channels of the last map by their mean gradient; keep what speaks for a disease.

    Args:
        classifier: In eval mode, with a backbone whose features are pooled from its last map.
        batch: Views.
        diseases: (B,) int64.
    """
    with torch.enable_grad():
        features = classifier.features(batch)
        logits = classifier.head(features.pooled)
        chosen = logits.gather(1, diseases[:, None]).sum()
        (gradient,) = torch.autograd.grad(chosen, features.last)
    weights = required_map(features.layout).as_map(gradient).mean(dim=(2, 3), keepdim=True)
    return (weights * features.spatial).sum(dim=1).relu().detach().float()


@torch.no_grad()
def attention_rollout(classifier: Classifier, batch: ViewBatch) -> Tensor:
    """Follow attention from the class token through all layers to the patches.

    Each layer mixes as much as its attention (mean over the heads) and its skip connection, in
    equal parts. Backbones without class token are looked at from the mean of their patches.
    """
    encoder = classifier.encoder
    with _attention(_attention_layers(encoder.backbone)) as layers:
        grid = classifier.features(batch).spatial.shape[2:]
    prefix = required_map(encoder.layout).prefix
    flow: Tensor | None = None
    for attention in layers:
        mixed = attention + torch.eye(attention.shape[1], device=attention.device)
        mixed = mixed / mixed.sum(dim=2, keepdim=True)
        flow = mixed if flow is None else mixed @ flow
    assert flow is not None
    has_class_token = getattr(encoder.backbone, "cls_token", None) is not None
    start = flow[:, 0] if has_class_token else flow[:, prefix:].mean(dim=1)
    return start[:, prefix:].reshape(-1, *grid).float()


def _attention_layers(backbone: Any) -> list[Any]:
    """Return the attention of each block, as far as it computes its weights in the open."""
    blocks = list(getattr(backbone, "blocks", []))
    layers = [getattr(block, "attn", None) for block in blocks]
    if not all(isinstance(getattr(layer, "attn_drop", None), nn.Module) for layer in layers):
        return []
    return layers


@contextmanager
def _attention(layers: list[Any]) -> Iterator[list[Tensor]]:
    """Gather the attention (B, T, T), mean over the heads, that each layer itself computes.

    Fused attention never holds its weights, so it is switched off meanwhile; what then enters the
    layer's own drop-out are the weights.
    """
    gathered: list[Tensor] = []

    def note(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        gathered.append(inputs[0].float().mean(dim=1))

    fused = [getattr(layer, "fused_attn", None) for layer in layers]
    hooks = [layer.attn_drop.register_forward_pre_hook(note) for layer in layers]
    try:
        for layer, before in zip(layers, fused, strict=True):
            if before is not None:
                layer.fused_attn = False
        yield gathered
    finally:
        for layer, before, hook in zip(layers, fused, hooks, strict=True):
            hook.remove()
            if before is not None:
                layer.fused_attn = before


_BATCH = 32


@dataclass(frozen=True)
class LocalizedBoxes:
    """Where a classifier looked.

    Attributes:
        table: One row per box: ``image_id``, ``disease``, ``pointing``, ``iou_25``, ``iou_50``,
            ``iou_75``, ``energy``, ``area`` (share of the image that the box covers),
            ``center_pointing`` and ``center_energy`` (of a map of the middle of the image),
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
    heatmaps, grid = _maps(config, source, weights, rows, diseases, size)
    table = []
    middle = center_prior(size)
    for index, (row, seen) in enumerate(zip(rows, heatmaps, strict=True)):
        x, y, width, height = (float(boxes[name].iloc[index]) for name in _BOX)
        box = box_mask((x, y, width, height), size)
        scores, blind = score_box(seen, box), score_box(middle, box)
        usable = bool(lungs.usable[row])
        lung = lungs.mask(int(row)).astype(bool)
        table.append(
            {
                "image_id": boxes["image_id"].iloc[index],
                "disease": boxes["disease"].iloc[index],
                "pointing": scores.pointing,
                **{
                    f"iou_{round(100 * share)}": overlap
                    for share, overlap in zip(THRESHOLDS, scores.iou, strict=True)
                },
                "energy": scores.energy,
                "area": scores.area,
                "center_pointing": blind.pointing,
                "center_energy": blind.energy,
                "lung_energy": energy_inside(seen, lung) if usable else np.nan,
                "lung_area": float(lung.mean()) if usable else np.nan,
            }
        )
    examples = np.flatnonzero(~boxes["disease"].duplicated().to_numpy())
    shares = boxes.loc[examples, list(_BOX)].to_numpy(np.float64) / BOX_FRAME
    return LocalizedBoxes(
        pd.DataFrame(table), heatmaps[examples], examples, rows[examples], shares, grid
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
    classifier = Classifier(
        method_of(without_initial_weights(config)).encoder(), len(source.label_set)
    )
    load_weights(weights, classifier, weights_identity(config))
    gpu = torch.cuda.is_available() and config.finetune.accelerator != "cpu"
    device = torch.device("cuda" if gpu else "cpu")
    classifier.to(device).eval()
    side = config.data.img_size
    order = EpochSampler(rows, _BATCH, config.seed, shuffle=False)
    steps = BatchDataset(source, method.test_views(), order, side, config.seed)
    heatmaps = np.zeros((len(rows), size, size), np.float32)
    grid, kind = (0, 0), map_kind(classifier.encoder)
    for start in range(0, len(rows), _BATCH):
        part = slice(start, start + _BATCH)
        batch = steps.render(0, rows[part]).to_device(device)
        wanted = torch.from_numpy(diseases[part]).to(device)
        maps = saliency(classifier, batch, wanted, kind).cpu().numpy()
        grid = maps.shape[1:]
        for index, (one, affine) in enumerate(
            zip(maps, batch.affines[:, 0].cpu().numpy(), strict=True)
        ):
            heatmaps[start + index] = to_image(one, affine, side, size)
    return heatmaps, grid


def to_image(heatmap: Map, affine: NDArray[np.float32], side: int, size: int) -> Map:
    """Bring a map from the grid of a view into the frame of the cached image.

    Args:
        heatmap: (h, w) on the view's grid.
        affine: View pixels to image pixels, (2, 3).
        side: Side of the view in pixels.
        size: Side of the cached image in pixels.

    Returns:
        (size, size); zero where the view does not reach.
    """
    large = cv2.resize(heatmap, (side, side), interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.warpAffine(large, affine.astype(np.float64), (size, size)), np.float32)
