"""Pictures for people: the mask drawn over its image, and self-contained HTML pages of them."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from medsgssl.masks.geometry import grid_shape, resize_mask, to_grid
from medsgssl.masks.types import Gray, Mask

CYAN, MAGENTA = (0, 229, 255), (255, 64, 200)

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 15px/1.45 system-ui, sans-serif; margin: 1.5rem;
  background: #14171a; color: #e8eaec }}
main {{ display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)) }}
figure {{ margin: 0; background: #1e2327; padding: .5rem; border-radius: .4rem }}
img {{ width: 100%; display: block }}
figcaption {{ padding-top: .4rem; overflow-wrap: anywhere }}
small {{ color: #aeb6bd }}
</style></head><body>
<h1>{title}</h1>
<p>{introduction}</p>
{sections}
</body></html>
"""


@dataclass(frozen=True)
class Figure:
    """One picture of a page.

    Attributes:
        picture: uint8 RGB, ``H x W x 3``.
        heading: First line of the caption.
        detail: Second line.
    """

    picture: NDArray[np.uint8]
    heading: str
    detail: str = ""


@dataclass(frozen=True)
class Section:
    """Pictures of one kind below a heading; either text may be empty."""

    title: str
    note: str
    figures: Iterable[Figure]


def draw_overlay(
    image: Gray, mask: Mask, reference: Mask | None = None, long_side: int = 320
) -> NDArray[np.uint8]:
    """Draw the outline of a mask (cyan), and of a reference (magenta), over the image.

    Args:
        image: uint8, ``H x W``.
        mask: bool, of any size with the aspect ratio of the image.
        reference: bool, likewise.
        long_side: Longer side of the picture in pixels.

    Returns:
        uint8 RGB, ``h x w x 3``.
    """
    shape = grid_shape((image.shape[0], image.shape[1]), long_side)
    picture = cv2.cvtColor(to_grid(image, shape), cv2.COLOR_GRAY2RGB)
    for outline, color in ((reference, MAGENTA), (mask, CYAN)):
        if outline is not None:
            drawn = resize_mask(outline, shape).astype(np.uint8)
            contours, _ = cv2.findContours(drawn, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
            cv2.drawContours(picture, contours, -1, color, 1)
    return np.asarray(picture, dtype=np.uint8)


def page(title: str, introduction: str, figures: Iterable[Figure]) -> str:
    """Return a self-contained HTML page; the pictures are inside it.

    Args:
        title: Heading of the page.
        introduction: One paragraph of plain text.
        figures: The pictures in order.
    """
    return sectioned_page(title, introduction, [Section("", "", figures)])


def sectioned_page(title: str, introduction: str, sections: Iterable[Section]) -> str:
    """Return a self-contained HTML page whose pictures lie in sections.

    Args:
        title: Heading of the page.
        introduction: One paragraph of plain text.
        sections: The sections in order.
    """
    return _PAGE.format(
        title=html.escape(title),
        introduction=html.escape(introduction),
        sections="\n".join(_section(section) for section in sections),
    )


def _section(section: Section) -> str:
    heading = f"<h2>{html.escape(section.title)}</h2>" if section.title else ""
    note = f"<p>{html.escape(section.note)}</p>" if section.note else ""
    figures = "\n".join(_figure(figure) for figure in section.figures)
    return f"{heading}{note}\n<main>\n{figures}\n</main>"


def _figure(figure: Figure) -> str:
    bgr = cv2.cvtColor(figure.picture, cv2.COLOR_RGB2BGR)
    _, encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 85])
    data = base64.b64encode(encoded.tobytes()).decode()
    heading, detail = html.escape(figure.heading), html.escape(figure.detail)
    return (
        f'<figure><img alt="{heading}" src="data:image/jpeg;base64,{data}">'
        f"<figcaption>{heading}<br><small>{detail}</small></figcaption></figure>"
    )


# How much of a pixel's color is the map's.
_OPACITY = 0.55


def overlay_heatmap(view: NDArray[np.uint8], heatmap: NDArray[Any], side: int) -> NDArray[np.uint8]:
    """Lay a map over a gray picture: bright where it is high, scaled to its own highest value.

    Args:
        view: (S, S), any S.
        heatmap: (h, w), not negative.
        side: Side of the result in pixels.

    Returns:
        RGB, (side, side, 3).
    """
    heat = cv2.resize(heatmap.astype(np.float32), (side, side), interpolation=cv2.INTER_LINEAR)
    levels = np.clip(255 * heat / max(float(heat.max()), 1e-12), 0, 255).astype(np.uint8)
    color = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    small = cv2.resize(view, (side, side), interpolation=cv2.INTER_AREA)
    gray = cv2.cvtColor(small, cv2.COLOR_GRAY2RGB)
    mixed = cv2.addWeighted(gray, 1 - _OPACITY, color, _OPACITY, 0)
    return np.asarray(mixed, dtype=np.uint8)
