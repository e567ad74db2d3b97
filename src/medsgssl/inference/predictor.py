"""Scores and features of image files from a trained classifier: what `predict` and `embed` run.

The path of an image is that of the test split: the same reading, letterbox, mask and test view, so
that a file of the test split gets the score that ``predictions.parquet`` holds for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from medsgssl.data.letterbox import Letterbox
from medsgssl.data.synthetic.render import render_phantom
from medsgssl.errors import CheckpointError, ImageError
from medsgssl.evaluation.calibration import apply_temperature
from medsgssl.images.isolated_reading import IsolatedReader
from medsgssl.inference.bundle import Bundle, read_bundle
from medsgssl.inference.forward import round_scores
from medsgssl.inference.maps import saliency, to_image
from medsgssl.losses.region_contrast import cover_of_cells, weighted_pool
from medsgssl.masks.overlay import draw_overlay, overlay_heatmap
from medsgssl.masks.sources import DEFAULT_GRID, RecipeMaker
from medsgssl.masks.store import pack_row, unpack_mask
from medsgssl.masks.types import LungMask
from medsgssl.methods.registry import method_of
from medsgssl.runs.folder import RunFolder
from medsgssl.transforms.batch import ViewBatch
from medsgssl.transforms.view_spec import make_view
from medsgssl.utils.allocator import keep_freed_memory
from medsgssl.utils.rng import stable_hash

RESEARCH_ONLY = "research use only"

Floats = NDArray[np.float32]
UInt8 = NDArray[np.uint8]
Status = Literal["ok", "unreadable"]


@dataclass(frozen=True)
class ScoredImage:
    """One file, scored or set aside.

    Attributes:
        path: As it was given.
        status: ``unreadable`` where nothing else is known but ``problem``.
        problem: Why the file could not be read; empty otherwise.
        probabilities: (C,) calibrated probability per class; NaN where unreadable.
        scores: (C,) probability before calibration.
        features: (D,) pooled features of the encoder.
        region_features: (R * D,) features pooled over the method's regions, region by region;
            empty where the method has none.
        mask: The lung mask, None where the method does not look at one.
        image: (S, S) uint8, the letterboxed image; None where unreadable.
    """

    path: Path
    status: Status
    problem: str
    probabilities: Floats
    scores: Floats
    features: Floats
    region_features: Floats
    mask: LungMask | None = None
    image: NDArray[np.uint8] | None = None


class Predictor:
    """A trained classifier that scores image files.

    ``Predictor.load("runs/guided")`` takes a run folder, a folder written by
    ``medsgssl export --to hf``, or a ``classifier.safetensors``.

    Args:
        bundle: The classifier with its configuration, classes, thresholds and temperatures.
        device: Where it computes; a GPU where there is one when not given.
    """

    def __init__(self, bundle: Bundle, device: str | None = None) -> None:
        self.bundle = bundle
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._classifier = bundle.classifier.to(self.device).eval()
        config = bundle.config
        self._method = method_of(config)
        self._spec = self._method.test_views()[0]
        self._looks_at_masks = self._method.sees_masks and config.masks.source != "none"
        # The very masks of training: a student of one's own, and the region behind the heart, too.
        masks = config.masks
        self._mask_maker = RecipeMaker(
            bundle.mask_recipe, weights=masks.weights, heart=masks.heart == "include"
        )

    @classmethod
    def load(cls, path: str | Path, device: str | None = None) -> Predictor:
        """Read a trained classifier.

        Args:
            path: A run folder, an exported folder, or a ``classifier.safetensors``.
            device: E.g. ``"cpu"`` or ``"cuda:1"``.

        Raises:
            CheckpointError: There is no usable classifier.
        """
        return cls(read_bundle(Path(path)), device)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the scores."""
        return self.bundle.classes

    def predict(self, files: Iterable[str | Path]) -> pd.DataFrame:
        """Score image files (PNG, JPEG, TIFF, BMP, WebP, DICOM).

        Args:
            files: Paths of images; folders are not looked into.

        Returns:
            One row per file, in the order given, with ``file``, ``status``, ``problem``,
            ``mask_quality`` and ``mask_status`` (empty where no mask is used), then for each class
            ``CLASS`` (calibrated probability), ``CLASS_score`` (before calibration) and
            ``CLASS_positive`` (whether the validation threshold is reached; empty without one),
            and ``use``: research use only. Nothing is taken from DICOM headers.
        """
        return self.table([self.row(scored) for scored in self.score(files)])

    def table(self, rows: Sequence[dict[str, str | float | bool | None]]) -> pd.DataFrame:
        """Return the rows of files as a table; probabilities are float32, so short in CSV."""
        numbers = [name for each in self.classes for name in (each, f"{each}_score")]
        frame = pd.DataFrame(list(rows))
        return frame.astype(dict.fromkeys(numbers, "float32")) if len(frame) else frame

    def embed(self, files: Iterable[str | Path]) -> Floats:
        """Return the pooled features of image files, (N, D) float32; NaN rows where unreadable."""
        rows = [scored.features for scored in self.score(files)]
        width = int(self._classifier.encoder.num_features)
        return np.stack(rows) if rows else np.empty((0, width), np.float32)

    def feature_names(self) -> list[str]:
        """Return the names of the columns of ``features`` and ``region_features`` together."""
        width = int(self._classifier.encoder.num_features)
        names = [f"f{number}" for number in range(width)]
        side = self.bundle.config.data.img_size
        regions = self._method.test_regions(torch.ones(1, side, side, dtype=torch.bool))
        channels = self._spatial_channels(side) if regions is not None else 0
        region_names = regions[0] if regions is not None else ()
        return names + [f"{region}:f{n}" for region in region_names for n in range(channels)]

    def _spatial_channels(self, side: int) -> int:
        images = torch.zeros(1, 1, side, side, device=self.device)
        masks = torch.ones(1, side, side, dtype=torch.bool, device=self.device)
        with torch.inference_mode():
            return int(self._classifier.encoder(images, masks).spatial.shape[1])

    def score(self, files: Iterable[str | Path]) -> Iterator[ScoredImage]:
        """Yield the scores of each file in order; memory stays flat.

        Batches are as large as those of the run, and full, as in its evaluation: kernels round
        differently for batches of different sizes.
        """
        batch: list[Path] = []
        with IsolatedReader() as reader, keep_freed_memory():
            for file in files:
                batch.append(Path(file))
                if len(batch) == self.bundle.config.data.batch_size:
                    yield from self._score(batch, reader)
                    batch = []
            yield from self._score(batch, reader)

    def row(self, scored: ScoredImage) -> dict[str, str | float | bool | None]:
        """Return the row of the table of one file; see ``predict``."""
        mask = scored.mask
        row: dict[str, str | float | bool | None] = {
            "file": str(scored.path),
            "status": scored.status,
            "problem": scored.problem,
            "mask_quality": round(mask.quality, 4) if mask else None,
            "mask_status": mask.status if mask else "",
        }
        for number, name in enumerate(self.classes):
            threshold = self.bundle.thresholds.get(name)
            value = float(scored.scores[number])
            row[name] = float(scored.probabilities[number])
            row[f"{name}_score"] = value
            if threshold is None or not np.isfinite(value):
                row[f"{name}_positive"] = None
            else:
                row[f"{name}_positive"] = value >= threshold
        return row | {"use": RESEARCH_ONLY}

    def heatmap(self, scored: ScoredImage, name: str) -> Floats:
        """Return where the classifier looks for a class, on the letterboxed image.

        The map is (S, S) float32, not negative, and 0 where the test view does not reach.

        Args:
            scored: A readable file's result.
            name: One of ``classes``.

        Raises:
            CheckpointError: The network has neither a feature map nor attention to show.
        """
        if scored.image is None:
            raise CheckpointError(f"{scored.path} could not be read", "choose a readable file")
        batch = self.render([(scored.image, scored.mask, scored.path)])
        wanted = torch.tensor([self.classes.index(name)], device=self.device)
        regions = saliency(self._classifier, batch, wanted)[0].cpu().numpy().astype(np.float32)
        side, size = self.bundle.config.data.img_size, scored.image.shape[0]
        return to_image(regions, batch.affines[0, 0].cpu().numpy(), side, size)

    def _score(self, files: Sequence[Path], reader: IsolatedReader) -> Iterator[ScoredImage]:
        read = [self._read(path, reader) for path in files]
        usable = [one for one in read if one.image is not None]
        outputs: Iterator[tuple[Floats, ...]] = iter(())
        if usable:
            items = [(one.image, one.mask, one.path) for one in usable]
            items += items[:1] * (self.bundle.config.data.batch_size - len(items))
            batch = self.render(items)
            with torch.inference_mode():
                features = self._classifier.features(batch)
                values = (
                    self._classifier.scores(batch),
                    features.pooled,
                    self._region_features(features.spatial, batch),
                )
            scores, *features_of = (value.float().cpu().numpy() for value in values)
            outputs = zip(round_scores(scores), *features_of, strict=True)
        for one in read:
            if one.image is None:
                yield one
                continue
            raw, pooled, regions = next(outputs)
            yield replace(
                one,
                scores=raw,
                probabilities=self._calibrated(raw),
                features=pooled,
                region_features=regions,
            )

    def _region_features(self, spatial: Tensor, batch: ViewBatch) -> Tensor:
        regions = self._method.test_regions(batch.masks[:, 0])
        if regions is None or spatial.numel() == 0:
            return spatial.new_empty(batch.size, 0)
        height, width = spatial.shape[-2:]
        return weighted_pool(spatial, cover_of_cells(regions[1], (height, width))).flatten(1)

    def _calibrated(self, scores: Floats) -> Floats:
        values = scores.astype(np.float64)
        for number, name in enumerate(self.classes):
            temperature = self.bundle.temperatures.get(name)
            if temperature is not None:
                values[number] = apply_temperature(values[number : number + 1], temperature)[0]
        return values.astype(np.float32)

    def _read(self, path: Path, reader: IsolatedReader) -> ScoredImage:
        config = self.bundle.config
        nothing = np.full(len(self.classes), np.nan, np.float32)
        width = int(self._classifier.encoder.num_features)
        features = np.full(width, np.nan, np.float32)
        empty = ScoredImage(
            path, "unreadable", "", nothing, nothing, features, np.empty(0, np.float32)
        )
        try:
            gray = reader.read(path)
        except ImageError as error:
            return replace(empty, problem=f"{error.problem}; {error.fix}")
        size = config.data.cache_size or config.data.img_size
        mask = self._mask(gray, path) if self._looks_at_masks else None
        image = Letterbox.of(gray.shape, size).image(gray)
        return replace(empty, status="ok", mask=mask, image=image)

    def _mask(self, gray: NDArray[np.uint8], path: Path) -> LungMask:
        # Through the grid of the mask store, as in training.
        drawn = self._mask_maker.draw(gray)
        row = pack_row(path.name, gray.shape, drawn, DEFAULT_GRID)
        grid = unpack_mask(row.bits, (row.grid_height, row.grid_width))
        return LungMask(grid, drawn.quality, drawn.status, drawn.reason)

    def render(
        self, items: Sequence[tuple[NDArray[np.uint8] | None, LungMask | None, Path]]
    ) -> ViewBatch:
        """Render the test views of images.

        Args:
            items: Letterboxed image (S, S) uint8, its lung mask or None, and its path.

        Returns:
            A batch of one view each on the predictor's device.
        """
        config, side = self.bundle.config, self.bundle.config.data.img_size
        images, masks, affines, flips, qualities = [], [], [], [], []
        for image, lungs, path in items:
            assert image is not None
            size = image.shape[0]
            usable = lungs is not None and lungs.status != "failed"
            if lungs is not None and usable:
                shape = (lungs.mask.shape[0], lungs.mask.shape[1])
                mask = Letterbox.of(shape, size).mask(lungs.mask).astype(np.uint8)
            else:
                mask = np.ones((size, size), np.uint8)
            quality = lungs.quality if lungs is not None and usable else 0.0
            key = (config.seed, 0, stable_hash(path.name) % 2**63, 0)
            view = make_view(image, mask, quality, self._spec, side, key)
            images.append(view.image)
            masks.append(view.mask.astype(bool))
            affines.append(view.affine.astype(np.float32))
            flips.append(view.flipped)
            qualities.append(quality)
        count = len(items)
        return ViewBatch(
            images=torch.from_numpy(np.stack(images))[:, None, None],
            masks=torch.from_numpy(np.stack(masks))[:, None],
            affines=torch.from_numpy(np.stack(affines))[:, None],
            flipped=torch.tensor(flips)[:, None],
            quality=torch.tensor(qualities, dtype=torch.float32),
            rows=torch.arange(count),
            labels=torch.zeros(count, len(self.classes)),
            domains=torch.zeros(count, dtype=torch.int64),
        ).to_device(self.device)


def draw_prediction(predictor: Predictor, scored: ScoredImage, side: int = 512) -> UInt8:
    """Draw the lung outline beside the heat map of the class with the highest probability.

    Args:
        predictor: The model.
        scored: A readable file's result.
        side: Side of each of the two pictures in pixels.

    Returns:
        RGB, (side, 2 side, 3) uint8.

    Raises:
        CheckpointError: The file was not readable, or the network has nothing to show.
    """
    top = predictor.classes[int(np.nanargmax(scored.probabilities))]
    heat = predictor.heatmap(scored, top)
    assert scored.image is not None
    size = scored.image.shape[0]
    mask = np.zeros((size, size), bool)
    if scored.mask is not None and scored.mask.status != "failed":
        shape = (scored.mask.mask.shape[0], scored.mask.mask.shape[1])
        mask = Letterbox.of(shape, size).mask(scored.mask.mask)
    left = draw_overlay(scored.image, mask, long_side=side)
    right = overlay_heatmap(scored.image, heat, side)
    cv2.putText(right, top, (8, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (255, 255, 255), 1, cv2.LINE_AA)
    return np.hstack([left, right])


def check_views(bundle: Bundle, count: int = 6) -> tuple[Tensor, Tensor, str]:
    """Return test views and masks for the check of an export, and where they come from.

    The example images of the run folder are taken, or phantoms where there are none.

    Returns:
        Views (N, 1, S, S) uint8, masks (N, S, S) bool, and a phrase for messages.
    """
    predictor = Predictor(bundle, "cpu")
    path = RunFolder(bundle.origin.parent).examples
    if path.is_file():
        with np.load(path) as arrays:
            items = [
                (image, LungMask(mask, float(quality), "ok"), Path(str(name)))
                for image, mask, quality, name in zip(
                    arrays["images"], arrays["masks"], arrays["quality"], arrays["image_ids"],
                    strict=True,
                )
            ]  # fmt: skip
        origin = "images of the run"
    else:
        side = bundle.config.data.cache_size or bundle.config.data.img_size
        phantoms = [render_phantom(0, number, side) for number in range(count)]
        items = [
            (one.image, LungMask(one.lungs, 1.0, "ok"), Path(f"{number}.png"))
            for number, one in enumerate(phantoms)
        ]
        origin = "synthetic images"
    batch = predictor.render(items)
    return (batch.images[:, 0] * 255).round().to(torch.uint8), batch.masks[:, 0], origin
