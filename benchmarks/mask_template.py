"""Where the constants of the template come from: outlines, and margins.

`outlines` draws the masks of every n-th image of a folder, takes the outlines of the good ones and
prints their point-wise median beside the template in use (no label takes part). The template was
drawn by hand first and then replaced by the mean of two such rounds. `margins` measures on the half
of the development images for constants how far outside the recipe's steepest edge people drew the
border, per point of the template.

Run: python -m benchmarks.mask_template outlines FOLDER_OF_IMAGES [--every 4]
     python -m benchmarks.mask_template margins IMAGES REFERENCES
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np

from benchmarks.masks import half_of
from medsgssl.images.reading import read_image
from medsgssl.masks.benchmark import find_pairs
from medsgssl.masks.mask_files import read_mask
from medsgssl.masks.recipes.anatomic.outline import outward_normals, sample
from medsgssl.masks.recipes.anatomic.recipe import Trace, analyze
from medsgssl.masks.recipes.anatomic.template import margins, resampled, unit_outlines

GOOD = 0.7
REACH = 12.0


def traced(path: Path) -> Trace | None:
    """The steps of an image that was good as stored."""
    found = analyze(read_image(path))
    good = found.lungs.status == "ok" and found.lungs.quality >= GOOD and not found.turn.reason
    return found.trace if good else None


def print_outlines(folder: Path, every: int) -> None:
    units = []
    for path in sorted(folder.glob("*.png"))[::every]:
        trace = traced(path)
        if trace is None:
            continue
        outlines = trace.refined.outlines
        low, high = outlines.min(axis=1, keepdims=True), outlines.max(axis=1, keepdims=True)
        unit = (outlines - low) / (high - low)
        unit[1, :, 0] = 1.0 - unit[1, :, 0]
        units.append(unit)
    print(f"{len(units)} good outlines")
    for side, used in zip(np.median(units, axis=0), unit_outlines(), strict=True):
        corners = resampled(tuple(map(tuple, side)))
        print("median   ", ", ".join(f"({x:.3f}, {y:.3f})" for x, y in corners[::2]))
        away = np.linalg.norm(corners - used[:, :2], axis=1)
        print(f"from the template in use: mean {away.mean():.3f}, greatest {away.max():.3f}")


def print_margins(images: Path, references: Path) -> None:
    offsets = np.arange(-REACH, REACH, 0.5, dtype=np.float32)
    found = []
    for image_id, path, reference in find_pairs(images, references):
        gray, drawn = read_image(path), read_mask(reference)
        analysis = analyze(gray)
        if half_of(image_id) != 0 or analysis.turn.reason or analysis.trace is None:
            continue
        frame, outlines = analysis.trace.frame, analysis.trace.refined.outlines
        rows, columns = (drawn.shape[axis] / gray.shape[axis] for axis in (0, 1))
        kept = drawn[
            round(frame.top * rows) : round(frame.bottom * rows),
            round(frame.left * columns) : round(frame.right * columns),
        ]
        fine = frame.fine.shape[::-1]
        share = cv2.resize(kept.astype(np.float32), fine, interpolation=cv2.INTER_AREA)
        inside = (share > 0.5).astype(np.uint8)
        to_edge = [cv2.distanceTransform(part, cv2.DIST_L2, 5) for part in (inside, 1 - inside)]
        away = np.asarray(to_edge[0] - to_edge[1], np.float32)
        across = outward_normals(outlines)[:, :, None, :] * offsets[:, None]
        depth = sample(away, (outlines[:, :, None, :] + across).astype(np.float32))
        leaves = (depth[..., :-1] > 0) & (depth[..., 1:] <= 0)
        near = np.where(leaves, np.abs(offsets[:-1]), np.inf)
        best = offsets[near.argmin(axis=-1)] + 0.25
        found.append(np.where(np.isfinite(near.min(axis=-1)), best, np.nan))
    print(f"{len(found)} images; pixels of the fine grid, from the apex along the mediastinum")
    for side, used in zip(np.nanmedian(found, axis=0), margins()[..., 0], strict=True):
        print("people  ", " ".join(f"{value:5.1f}" for value in side[::2]))
        print("template", " ".join(f"{value:5.1f}" for value in used[::2]))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    drawing = commands.add_parser("outlines")
    drawing.add_argument("folder", type=Path)
    drawing.add_argument("--every", type=int, default=4)
    measuring = commands.add_parser("margins")
    measuring.add_argument("images", type=Path)
    measuring.add_argument("references", type=Path)
    options = parser.parse_args()
    if options.command == "outlines":
        print_outlines(options.folder, options.every)
    else:
        print_margins(options.images, options.references)


if __name__ == "__main__":
    main()
