"""Draws the pictures of README and docs: ``python -m docsite.pictures docs/images``."""

from __future__ import annotations

import io
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch
from numpy.typing import NDArray
from PIL import Image

from docsite.badges import write_badges
from medsgssl.config.schema import Config
from medsgssl.data.loader import BatchDataset
from medsgssl.data.prepare import PreparedData, prepare_data
from medsgssl.data.sampler import EpochSampler
from medsgssl.data.synthetic.dataset import generate_phantoms
from medsgssl.data.synthetic.render import render_phantom
from medsgssl.masks import segment_lungs
from medsgssl.masks.overlay import overlay_heatmap
from medsgssl.methods.anatomy_contrast import AnatomyContrastTask
from medsgssl.methods.registry import all_methods, configure, method_of
from medsgssl.pipeline.examples import write_examples
from medsgssl.utils.progress import new_console

LUNGS = "#00b8d4"
INK, FAINT = "#1c2a35", "#5b6b78"
PANEL = 1.35  # inches
Gray = NDArray[Any]
# A caption, the picture, and the mask, or the numbers of zones, to outline.
Panel = tuple[str, Gray, NDArray[Any] | None]


def panels_of(name: str, folder: Path) -> list[Panel]:
    """Return what the network sees of one phantom: image, pretraining views, fine-tuning, test.

    Args:
        name: The method.
        folder: Holds the phantoms in ``data``; caches and arrays are written beside them.
    """
    config = configure(
        name,
        {
            "data": {"root": str(folder / "data"), "cache_dir": str(folder / "cache")},
            "encoder": {"pretrained": False},
        },
    )
    data = prepare_data(config, new_console(), needs_masks=True)
    path = folder / f"{name}.npz"
    write_examples(path, config, data)
    arrays = np.load(path)
    row = int(np.argmax(arrays["quality"]))
    panels: list[Panel] = [("image and mask", arrays["images"][row], arrays["masks"][row])]
    views = arrays.get("pretrain_views")
    if views is not None:
        shown = arrays["prepared"][row] if "prepared" in arrays else views[row]
        masks = arrays["pretrain_masks"][row]
        for number, view in enumerate(shown):
            caption = f"view {number + 1}"
            if number == 2:
                caption = "lung box" if config.views.frame == "lung-box" else "whole image"
            panels.append((caption, view, masks[number]))
        panels += extra_panels(config, data, masks[0], row)
    panels.append(("fine-tuning", arrays["finetune_views"][row], None))
    panels.append(("test", arrays["test_views"][row], None))
    return panels


def extra_panels(
    config: Config, data: PreparedData, mask: NDArray[np.bool_], row: int
) -> list[Panel]:
    """Return what a method makes of its first view besides the picture."""
    if config.method_name == "mask-channel":
        return [("view 1: mask channel", mask.astype(np.uint8) * 255, None)]
    if config.method_name not in ("adaptive-pathology", "anatomy-contrast"):
        return []
    # Neither saliency nor zones need training.
    method, rows = method_of(config), data.source.examples(config.seed)
    order = EpochSampler(rows, len(rows), config.seed, shuffle=False)
    views = BatchDataset(
        data.source, method.pretrain_views(), order, config.data.img_size, config.seed
    ).render(0, rows)
    batch, task = views.to_device(torch.device("cpu")), method.task(method.encoder())
    gray = np.asarray(batch.images[row, 0, 0].numpy() * 255, np.uint8)
    if isinstance(task, AnatomyContrastTask):
        zones = task.region_maps(batch, 1)[row].numpy()
        return [("view 1: zones", gray, np.argmax([np.full_like(gray, 0.5, float), *zones], 0))]
    heat = task.attention_maps(batch)["saliency"][row].detach().numpy()
    return [("view 1: saliency", overlay_heatmap(gray, heat, len(gray)), None)]


def draw_panel(axes: Axes, panel: Panel) -> None:
    """Draw one picture with its caption and its lungs."""
    caption, image, mask = panel
    axes.imshow(image, cmap="gray", vmin=0, vmax=255 if image.dtype == np.uint8 else 1)
    if mask is not None and not mask.all():
        axes.contour(mask, levels=np.arange(0.5, max(1, mask.max())), colors=LUNGS, linewidths=0.9)
    axes.set_title(caption, fontsize=7.5, color=FAINT, pad=2)
    axes.axis("off")


def draw_methods(rows: dict[str, list[Panel]], path: Path) -> None:
    """Draw one row per method and write it as PNG; several rows have the names before them.

    Args:
        rows: The panels of each method.
        path: The picture.
    """
    named = len(rows) > 1
    columns = max(map(len, rows.values())) + named
    figure, grid = plt.subplots(
        len(rows),
        columns,
        figsize=(PANEL * columns, (PANEL + 0.2) * len(rows)),
        squeeze=False,
        layout="constrained",
    )
    for axes_row, (name, panels) in zip(grid, rows.items(), strict=True):
        for axes in axes_row:
            axes.axis("off")
        if named:
            lines = name.replace("-", "-\n")
            axes_row[0].text(0, 0.5, lines, fontsize=9, color=INK, weight="bold", va="center")
        for axes, panel in zip(axes_row[named:], panels, strict=False):
            draw_panel(axes, panel)
    save(figure, path)


def draw_flow(guided: list[Panel], path: Path) -> None:
    """Draw the way from X-ray to verdict; the verdict is an example without numbers.

    Args:
        guided: The panels of guided-crop.
        path: The picture.
    """
    panels = {panel[0]: panel for panel in guided}
    _, image, mask = panels["image and mask"]
    figure, grid = plt.subplots(1, 6, figsize=(11, 1.95), layout="constrained")
    draw_panel(grid[0], ("", image, None))
    draw_panel(grid[1], ("", image, mask))
    draw_panel(grid[2], ("", *panels["view 1"][1:]))
    draw_panel(grid[3], ("", *panels["view 2"][1:]))
    titles = (
        "X-ray",
        "lung mask",
        "guided view",
        "another one",
        "encoder",
        "verdict",
    )
    for axes, title in zip(grid, titles, strict=True):
        axes.set_title(title, fontsize=9.5, color=INK, pad=5)
    for axes in grid[4:]:
        axes.set_box_aspect(1)
    draw_encoder(grid[4])
    draw_verdict(grid[5])
    for axes in grid[1:]:
        arrow = FancyArrowPatch(
            (-0.13, 0.5), (-0.01, 0.5), transform=axes.transAxes, arrowstyle="-|>",
            mutation_scale=9, color=FAINT, clip_on=False,
        )  # fmt: skip
        axes.add_patch(arrow)
    save(figure, path)


def draw_encoder(axes: Axes) -> None:
    """Draw a stack of shrinking maps, and the two stages that train it."""
    for number in range(4):
        height = 0.72 - 0.15 * number
        axes.add_patch(
            plt.Rectangle(
                (0.12 + 0.2 * number, 0.58 - height / 2), 0.13, height,
                facecolor="#cfe3ef", edgecolor=INK, linewidth=0.8,
            )
        )  # fmt: skip
    axes.text(
        0.5, 0.05, "pretrained, then\nfine-tuned on labels", fontsize=7.5, color=FAINT, ha="center"
    )
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.axis("off")


def draw_verdict(axes: Axes) -> None:
    """Draw differences to the control with intervals, as a study shows them; no real numbers."""
    rows = (("simclr", -0.05, 0.35), ("shuffled masks", 0.0, 0.4), ("no pretraining", 0.55, 0.3))
    for y, (name, middle, half) in enumerate(rows[::-1]):
        # Zero is drawn beside each interval alone, so that it crosses no words.
        axes.plot([0, 0], [y - 0.2, y + 0.13], color=FAINT, linewidth=0.9)
        axes.plot([middle - half, middle + half], [y, y], color=INK, linewidth=1.6)
        axes.plot(middle, y, "o", color=INK, markersize=4)
        axes.text(-1.0, y + 0.25, f"against {name}", fontsize=6.5, color=FAINT)
    axes.text(0, -0.85, "difference in AUC (example)", fontsize=7, color=FAINT, ha="center")
    axes.set(xlim=(-1, 1), ylim=(-0.9, 2.6))
    axes.axis("off")


def draw_masks(path: Path) -> None:
    """Draw masks of good, faint and impossible images with their status and quality."""
    good = render_phantom(seed=0, index=1, size=256).image
    dense = render_phantom(seed=0, index=4, size=256, findings=("Effusion", "Consolidation")).image
    cut = np.ascontiguousarray(good[:, 60:])
    turned = np.ascontiguousarray(np.rot90(good))
    inverted = np.asarray(255 - good, np.uint8)
    noise = np.random.default_rng(0).integers(0, 255, (256, 256), dtype=np.uint8)
    images: Sequence[tuple[str, Gray]] = (
        ("upright", good), ("effusion", dense), ("cropped", cut), ("turned", turned),
        ("inverted", inverted), ("noise", noise),
    )  # fmt: skip
    figure, grid = plt.subplots(1, len(images), figsize=(11, 2.3), layout="constrained")
    for axes, (title, image) in zip(grid, images, strict=True):
        lungs = segment_lungs(image)
        text = f"{title}\n{lungs.status}, quality {lungs.quality:.2f}"
        draw_panel(axes, (text, image, lungs.mask if lungs.mask.any() else None))
    save(figure, path)


# Gray levels and a few hues: more cannot be seen, and the files are half as large. Refining the
# palette keeps colors that few pixels have, such as those of a heat map.
_COLORS, _REFINED = 160, 3


def save(figure: plt.Figure, path: Path) -> None:
    """Write a figure as PNG of few colors without the date: equal pictures are equal files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=110, facecolor="white", format="png")
    plt.close(figure)
    few = Image.open(drawn).convert("RGB").quantize(_COLORS, Image.Quantize.MEDIANCUT, _REFINED)
    few.save(path, optimize=True)


def main(target: Path) -> None:
    """Draw everything.

    Args:
        target: Folder of the pictures.
    """
    mpl.use("agg")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        generate_phantoms(folder / "data", 60, size=320)
        rows = {method: panels_of(method, folder) for method in all_methods()}
    draw_flow(rows["guided-crop"], target / "flow.png")
    # The grid shows pretraining and test; fine-tuning is on the page of each method.
    grid = {name: [p for p in panels if p[0] != "fine-tuning"] for name, panels in rows.items()}
    draw_methods(grid, target / "views.png")
    for method, panels in rows.items():
        draw_methods({method: panels}, target / "methods" / f"{method}.png")
    draw_masks(target / "mask-status.png")
    write_badges(target / "badges")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
