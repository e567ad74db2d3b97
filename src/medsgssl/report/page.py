"""Pages of every report: templates, how numbers are written, pictures inside the page."""

from __future__ import annotations

import base64
import functools
import hashlib
from pathlib import Path
from typing import Any

import cv2
import jinja2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from medsgssl.report.theme import variables
from medsgssl.utils.formatting import count, duration, number, percent, size, span, words
from medsgssl.utils.io import write_text


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
    filters = (number, span, count, percent, duration, size, words)
    environment.filters |= {function.__name__: function for function in filters}
    environment.globals |= {"light": variables(dark=False), "dark": variables(dark=True)}
    environment.globals |= {"raw_file": _raw_file, "raw_hash": _raw_hash}
    return environment


def _raw_file(name: str) -> Markup:
    """Return a style sheet or script of this package as it is, for the inside of a page."""
    loader = templates().loader
    assert loader is not None
    return Markup(loader.get_source(templates(), name)[0])


def _raw_hash(name: str) -> str:
    """Return what a content security policy calls the one script it allows."""
    digest = hashlib.sha256(_raw_file(name).encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def write_page(target: Path, template: str, content: dict[str, Any]) -> Path:
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
