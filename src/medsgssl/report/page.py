"""Pages of every report: what they are built of, templates, pictures inside the page.

``run_page.py`` draws the report of a run, ``study_page.py`` that of a study, ``mask_pages.py``
those about masks. A page is a list of panels, and a panel is a list of blocks. To add one, write a
function that returns a ``Panel`` and name it in the page's list.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import cv2
import jinja2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from medsgssl.report.charts import Chart
from medsgssl.report.prose import to_prose
from medsgssl.report.tables import Table
from medsgssl.report.theme import variables
from medsgssl.utils.formatting import (
    count,
    counted,
    duration,
    format_interval,
    number,
    percent,
    size,
    words,
)
from medsgssl.utils.io import write_text


@dataclass(frozen=True)
class Picture:
    """One picture of a strip.

    Attributes:
        caption: What it is.
        alt: The same with the image's name, for those who do not see it.
        address: The picture itself, as a ``data:`` address.
        side: Length of either side in pixels.
        lungs: Outline of the lung mask as SVG path data; empty where there is none.
        hidden: Outline of what the method changed, likewise.
        box: Outline of a finding, likewise.
    """

    caption: str
    alt: str
    address: str
    side: int
    lungs: str = ""
    hidden: str = ""
    box: str = ""


@dataclass(frozen=True)
class Example:
    """All pictures of one image, side by side.

    Attributes:
        image_id: Its name.
        note: What else is to be known of it, e.g. the quality of its mask.
        pictures: In the order in which a run makes them.
    """

    image_id: str
    note: str
    pictures: list[Picture] = field(repr=False)


@dataclass(frozen=True)
class Text:
    """A paragraph; back-ticks mark code.

    Attributes:
        text: What it says; markup is escaped unless it is ``Markup``.
        role: ``absent`` says why there is nothing to show, ``source`` where numbers come from.
    """

    text: str
    role: Literal["plain", "absent", "source", "heading"] = "plain"


@dataclass(frozen=True)
class Grid:
    """Blocks side by side where the page is wide enough.

    Attributes:
        blocks: From left to right.
        width: Of each at least.
        figure: Name of the one file that holds its charts.
    """

    blocks: tuple[Block, ...]
    width: str
    figure: str


@dataclass(frozen=True)
class Details:
    """Blocks behind a summary that opens on a click."""

    summary: str
    blocks: tuple[Block, ...]
    open: bool = False


Block = Text | Table | Chart | Example | Grid | Details


@dataclass(frozen=True)
class Panel:
    """One section of a page.

    Attributes:
        anchor: Its id.
        title: Its heading.
        blocks: What it shows, from top to bottom.
        nav: Its name in the bar of sections; the title by default.
    """

    anchor: str
    title: str
    blocks: tuple[Block, ...]
    nav: str = ""

    def figures(self) -> Iterator[tuple[str, list[Chart]]]:
        """Yield the name of each figure file of the panel, and the charts in it."""
        yield from _figures(self.blocks)


def _figures(blocks: tuple[Block, ...]) -> Iterator[tuple[str, list[Chart]]]:
    for block in blocks:
        if isinstance(block, Chart):
            yield block.name, [block]
        elif isinstance(block, Grid):
            charts = [one for _, ones in _figures(block.blocks) for one in ones]
            if charts:
                yield block.figure, charts
        elif isinstance(block, Details):
            yield from _figures(block.blocks)


def _kind(block: Block) -> str:
    return type(block).__name__


def png_uri(picture: NDArray[np.uint8]) -> str:
    """Return a gray or RGB picture as a ``data:`` address, PNG."""
    ordered = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR) if picture.ndim == 3 else picture
    encoded = cv2.imencode(".png", ordered, [cv2.IMWRITE_PNG_COMPRESSION, 9])[1]
    return f"data:image/png;base64,{base64.b64encode(encoded.tobytes()).decode()}"


@functools.cache
def templates() -> jinja2.Environment:
    """Return the environment of every page: templates, filters and colors."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("medsgssl.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = (number, format_interval, count, counted, percent, duration, size, words)
    environment.filters |= {function.__name__: function for function in filters}
    environment.filters |= {"kind": _kind, "prose": _prose}
    environment.globals |= {"light": variables(dark=False), "dark": variables(dark=True)}
    environment.globals |= {"raw_file": _raw_file, "raw_hash": _raw_hash}
    return environment


def _prose(text: str) -> Markup:
    return text if isinstance(text, Markup) else to_prose(text)


def _raw_file(name: str) -> Markup:
    """Return a style sheet or script of this package as it is, for the inside of a page."""
    loader = templates().loader
    assert loader is not None
    return Markup(loader.get_source(templates(), name)[0])


def _raw_hash(name: str) -> str:
    """Return what a content security policy calls the one script it allows."""
    digest = hashlib.sha256(_raw_file(name).encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def write_page(target: Path, template: str, content: Mapping[str, object]) -> Path:
    """Fill a template that extends ``base.html.jinja`` and write the page.

    Args:
        target: The HTML file.
        template: Name of the template below ``templates/``.
        content: What the template names; all text is escaped, ``Markup`` is not.

    Returns:
        ``target``.
    """
    write_text(target, templates().get_template(template).render(content))
    return target
