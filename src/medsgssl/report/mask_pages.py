"""Pages about lung masks: quality control of a store, a benchmark, and one mask step by step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from matplotlib.figure import Figure as Plot
from numpy.typing import NDArray

from medsgssl.errors import ImageError
from medsgssl.images.isolated_reading import IsolatedReader
from medsgssl.images.reading import read_image
from medsgssl.masks.benchmark import GOOD_DICE, Scores, find_pairs, scored_images
from medsgssl.masks.overlay import (
    CYAN,
    MAGENTA,
    Figure,
    Section,
    draw_overlay,
    page,
    sectioned_page,
)
from medsgssl.masks.recipes.anatomic.frame import FloatImage
from medsgssl.masks.recipes.anatomic.quality import MEANINGS
from medsgssl.masks.recipes.anatomic.recipe import Trace, draw, trace
from medsgssl.masks.recipes.anatomic.template import Outline
from medsgssl.masks.recipes.registry import DISTILLED
from medsgssl.masks.regions import Region, label_regions
from medsgssl.masks.store import MaskStore
from medsgssl.masks.types import STATUSES, Gray, LungMask
from medsgssl.utils.io import atomic_path, csv_text, write_json, write_text
from medsgssl.utils.rng import stable_hash


def write_quality_page(
    store: MaskStore, paths: Mapping[str, Path], out: Path, count: int = 24
) -> Path:
    """Write a self-contained HTML file: histogram, then random, doubtful and failed masks.

    Masks of the distilled recipe are shown beside the rules' own where the two differ most.
    Within each kind the images are drawn at random, of as many patients as possible.

    Args:
        store: The masks.
        paths: Path of every image, by image id; images without one are left out.
        out: The HTML file.
        count: Number of overlays of each kind at most.

    Returns:
        ``out``.
    """
    summary = store.summary
    counts = store.counts
    statuses = ", ".join(f"{counts.get(status, 0)} {status}" for status in STATUSES)
    introduction = (
        f"{len(store)} images, recipe {store.header.recipe} (version "
        f"{store.header.recipe_version}): {statuses}. Each section shows at most {count} images, "
        "drawn at random with as many patients as possible. Cyan: the mask."
    )
    known = summary[summary["image_id"].isin(list(paths))]
    sections = [Section("Quality of all masks", "", [_histogram(summary)])]
    kinds = {"Random masks": known["status"] == "ok"}
    kinds |= {f"{name.capitalize()} masks": known["status"] == name for name in STATUSES[1:]}
    for title, chosen in kinds.items():
        ids = _spread(known.loc[chosen, "image_id"].tolist(), count)
        note = f"{len(ids)} of {int(chosen.sum())}"
        sections.append(Section(title, note, _figures(store, paths, ids)))
    if store.header.recipe == DISTILLED:
        usable = known[known["status"] != "failed"].sort_values(["quality", "image_id"])
        ids = _first_of_patients(usable["image_id"].tolist(), count)
        note = "The lowest agreement. Cyan: the student; magenta: the rules."
        sections.append(
            Section("Where rules and student differ", note, _figures(store, paths, ids, True))
        )
    write_text(out, sectioned_page("Lung masks", introduction, sections))
    return out


def _spread(ids: list[str], count: int) -> list[str]:
    """Choose images in an order drawn by hash, those of patients not yet shown first."""
    drawn = sorted(ids, key=lambda image_id: stable_hash("quality page", image_id))
    return _first_of_patients(drawn, count)


def _first_of_patients(ids: list[str], count: int) -> list[str]:
    """Choose images in the order given, those of patients not yet shown first."""
    repeats: Counter[str] = Counter()
    ranked: list[tuple[int, int, str]] = []
    for image_id in ids:
        # NIH, folders of patients: what stands before the last number names the patient.
        patient = image_id.rpartition("/")[0] or image_id.rpartition("_")[0] or image_id
        ranked.append((repeats[patient], len(ranked), image_id))
        repeats[patient] += 1
    return [image_id for _, _, image_id in sorted(ranked)[:count]]


def _histogram(summary: pd.DataFrame) -> Figure:
    """Return the histogram of the quality, by status."""
    plot = Plot(figsize=(6, 3.4), dpi=110, layout="constrained")
    axes = plot.subplots()
    values = [summary.loc[summary["status"] == status, "quality"] for status in STATUSES]
    axes.hist(values, bins=20, range=(0, 1), stacked=True, label=list(STATUSES))
    axes.set(xlabel="quality", ylabel="images")
    axes.legend()
    png = BytesIO()
    plot.savefig(png, format="png")
    encoded = np.frombuffer(png.getvalue(), np.uint8)
    bgr = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), dtype=np.uint8)
    return Figure(
        np.ascontiguousarray(bgr[..., ::-1]), f"{len(summary)} masks", "quality by status"
    )


def _figures(
    store: MaskStore, paths: Mapping[str, Path], ids: list[str], rules: bool = False
) -> Iterator[Figure]:
    with IsolatedReader() as reader:
        for image_id, lungs in zip(ids, store.read(ids), strict=True):
            path = paths[image_id]
            try:
                # A mask may have failed because the decoder crashed.
                failed = lungs.status == "failed"
                gray = reader.read_in_worker(path)[0] if failed else read_image(path)
                reference = draw(gray).mask if rules else None
                picture = draw_overlay(gray, lungs.mask, reference)
            except ImageError:
                picture = np.zeros((320, 320, 3), dtype=np.uint8)
            heading = f"{image_id}: {lungs.status}, quality {lungs.quality:.2f}"
            yield Figure(picture, heading, lungs.reason)


WORST = 20


def write_scores(scores: Scores, images: Path, references: Path, out: Path) -> None:
    """Write ``scores.json``, ``scores.csv``, ``worst.html`` and ``quality.png``.

    Args:
        scores: The scores of a recipe on these folders.
        images: Folder of the images.
        references: Folder of the reference masks.
        out: Folder to write to; created.
    """
    write_json(out / "scores.json", scores.summary())
    write_text(out / "scores.csv", csv_text(scores.table))
    write_text(out / "worst.html", _worst_page(scores, images, references))
    with atomic_path(out / "quality.png") as temporary:
        plot_quality(scores).savefig(temporary, format="png", dpi=120)


def plot_quality(scores: Scores) -> Plot:
    """Return the plot of quality against Dice, one dot per image."""
    figure = Plot(figsize=(5.5, 4.5), layout="constrained")
    axes = figure.subplots()
    for status, group in scores.table.groupby("status"):
        axes.scatter(group["quality"], group["dice"], s=14, alpha=0.6, label=str(status))
    axes.axhline(GOOD_DICE, color="gray", linewidth=0.8, linestyle="--")
    axes.set(xlabel="quality score", ylabel="Dice", xlim=(-0.02, 1.02), ylim=(0.0, 1.02))
    totals = scores.summary()
    auc = totals["quality_auc_dice_below_0.8"]
    text = "undefined" if auc is None else f"{auc:.3f}"
    axes.set_title(f"{totals['images']} images, recipe {scores.recipe}: AUC {text}")
    axes.legend(title="status")
    return figure


def _worst_page(scores: Scores, images: Path, references: Path) -> str:
    worst = scores.table.nsmallest(WORST, "dice")["image_id"].tolist()
    pairs = {pair[0]: pair for pair in find_pairs(images, references)}
    figures = [
        Figure(
            draw_overlay(read_image(scored.path), scored.mask, scored.reference),
            f"{scored.image_id}: Dice {scored.row()['dice']:.3f}",
            f"{scored.lungs.status}, quality {scored.lungs.quality:.2f}. {scored.lungs.reason}",
        )
        for scored in scored_images(
            [pairs[image_id] for image_id in worst],
            scores.recipe,
            scores.weights,
            scores.heart,
            scores.labels,
        )
    ]
    totals = scores.summary()
    introduction = (
        f"The {len(figures)} lowest of {totals['images']} images, recipe {scores.recipe}, "
        f"mean Dice {totals['dice_mean']:.3f}. Cyan: the recipe; magenta: the reference."
    )
    return page("Lung masks against references", introduction, figures)


Picture = NDArray[np.uint8]

_SIDE = 384
_COLORS = {
    Region.RIGHT_UPPER: (90, 180, 250), Region.RIGHT_MIDDLE: (60, 130, 220),
    Region.RIGHT_LOWER: (40, 80, 180), Region.LEFT_UPPER: (250, 200, 90),
    Region.LEFT_MIDDLE: (230, 150, 50), Region.LEFT_LOWER: (190, 100, 30),
    Region.MEDIASTINUM: (200, 80, 150),
}  # fmt: skip


def write_explanation(image: Path, out: Path) -> LungMask:
    """Write a self-contained HTML page of all steps.

    Args:
        image: An image file.
        out: The page.

    Returns:
        The mask, on the working grid.

    Raises:
        ImageError: The image cannot be read.
    """
    gray = read_image(image)
    lungs = draw(gray)
    steps = trace(gray)
    introduction = (
        f"{image.name}: {lungs.status}, quality {lungs.quality:.2f}. {lungs.reason}".rstrip()
    )
    figures = [] if steps is None else list(step_figures(steps))
    result = draw_overlay(gray, lungs.mask, long_side=_SIDE)
    heading = "Result: the mask for the image as stored"
    figures.append(Figure(result, heading, f"{lungs.status} {lungs.reason}"))
    if lungs.mask.any():
        figures.append(Figure(_regions(gray, lungs), "Regions", "zones and mediastinum"))
    write_text(out, page("How the lungs were found", introduction, figures))
    return lungs


def step_figures(steps: Trace) -> Iterator[Figure]:
    """Yield a picture of every step, in order.

    Args:
        steps: What `medsgssl.masks.recipes.anatomic.recipe.trace` found.
    """
    fine, refined = steps.frame.fine, steps.refined
    yield Figure(_large(_rgb(fine)), "1. Frame", "uniform borders are cut away")
    flat = _rgb(_stretched(steps.frame.flat))
    cv2.line(flat, (steps.spine, 0), (steps.spine, flat.shape[0] - 1), MAGENTA, 1)
    yield Figure(_large(flat), "2. Flattened image", "background removed; line: the spine")
    evidence = draw_overlay(fine, steps.evidence, long_side=_SIDE)
    score = f"score {steps.pair.score:.1f}"
    yield Figure(evidence, "3. The pair of dark regions most like lungs", score)
    placed = _with_outlines(fine, refined.rounds[0], MAGENTA)
    yield Figure(placed, "4. Template drawn by code, in its boxes")
    for number, outlines in enumerate(refined.rounds[1:], start=1):
        drawn = _with_outlines(fine, outlines, CYAN)
        yield Figure(drawn, f"5. Led to the borders, round {number} of {len(refined.rounds) - 1}")
    yield Figure(_with_edges(steps), "6. Visible border", "green: clear; red: none seen")
    signs = "; ".join(
        f"{MEANINGS[name]}: {value:.1f}" for name, value in steps.appraisal.troubles.items()
    )
    heading = f"7. Appraisal: quality {steps.appraisal.quality:.2f}"
    yield Figure(draw_overlay(fine, steps.mask, long_side=_SIDE), heading, signs)


def _rgb(image: Gray) -> Picture:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2RGB), dtype=np.uint8)


def _stretched(image: FloatImage) -> Gray:
    low, high = np.percentile(image, (1, 99))
    return np.asarray(np.clip((image - low) / (high - low + 1e-6) * 255, 0, 255), dtype=np.uint8)


def _large(picture: Picture) -> Picture:
    scale = _SIDE / max(picture.shape)
    size = (round(picture.shape[1] * scale), round(picture.shape[0] * scale))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def _with_outlines(fine: Gray, outlines: Outline, color: tuple[int, int, int]) -> Picture:
    picture = _large(_rgb(fine))
    points = np.round((outlines + 0.5) * (_SIDE / max(fine.shape))).astype(np.int32)
    cv2.polylines(picture, list(points), isClosed=True, color=color, lineType=cv2.LINE_AA)
    return picture


def _with_edges(steps: Trace) -> Picture:
    picture = _large(_rgb(steps.frame.fine))
    scale = _SIDE / max(steps.frame.fine.shape)
    for outline, edges in zip(steps.refined.outlines, steps.refined.edges, strict=True):
        for (x, y), edge in zip((outline + 0.5) * scale, np.clip(edges, 0, 1), strict=True):
            color = (int(255 * (1 - edge)), int(255 * edge), 40)
            cv2.circle(picture, (round(x), round(y)), 3, color, cv2.FILLED, cv2.LINE_AA)
    return picture


def _regions(gray: Gray, lungs: LungMask) -> Picture:
    labels = label_regions(lungs.mask)
    size = (labels.shape[1], labels.shape[0])
    picture = _rgb(np.asarray(cv2.resize(gray, size, interpolation=cv2.INTER_AREA), np.uint8))
    for region, color in _COLORS.items():
        here = labels == region
        picture[here] = picture[here] // 2 + np.array(color, np.uint8) // 2
    return _large(picture)
