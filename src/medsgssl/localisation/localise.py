"""Maps of a whole list of boxes, brought back from the views to the cached images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from medsgssl.cache import MaskArray
from medsgssl.config import Config
from medsgssl.localisation.maps import saliency
from medsgssl.localisation.scores import THRESHOLDS, Map, box_mask, energy_inside, score_box
from medsgssl.methods import method_of
from medsgssl.sources import BOX_FRAME, DISEASES
from medsgssl.training import Classifier, encoder_facts, load_weights
from medsgssl.views import EpochOrder, ViewSource, ViewSteps

_BATCH = 32


@dataclass(frozen=True)
class Looked:
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


def localise(
    config: Config,
    source: ViewSource,
    image_ids: list[str],
    weights: Path,
    boxes: pd.DataFrame,
    lungs: MaskArray,
) -> Looked:
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
    diseases = np.array([DISEASES.index(name) for name in boxes["disease"]], dtype=np.int64)
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
    return Looked(pd.DataFrame(table), found[examples], examples, rows[examples], shares, grid)


_BOX = ("x", "y", "width", "height")


def _maps(
    config: Config,
    source: ViewSource,
    weights: Path,
    rows: NDArray[np.int64],
    diseases: NDArray[np.int64],
    size: int,
) -> tuple[Map, tuple[int, int]]:
    method = method_of(config)
    classifier = Classifier(method.encoder())
    load_weights(weights, classifier, encoder_facts(config))
    gpu = torch.cuda.is_available() and config.finetune.accelerator != "cpu"
    device = torch.device("cuda" if gpu else "cpu")
    classifier.to(device).eval()
    side = config.data.img_size
    order = EpochOrder(rows, _BATCH, config.seed, shuffle=False)
    steps = ViewSteps(source, method.test_views(), order, side, config.seed)
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
