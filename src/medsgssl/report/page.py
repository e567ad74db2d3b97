"""Pages of every report: templates, how numbers are written, pictures inside the page."""

from __future__ import annotations

import base64
import functools
import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import jinja2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from medsgssl.files import write_text
from medsgssl.report.palette import variables

#: What stands where a number is absent.
NONE = "\N{EN DASH}"


def number(value: float | None, digits: int = 3) -> str:
    """Write a number with a fixed count of decimals; a dash where there is none."""
    return NONE if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def span(pair: Sequence[float] | None, digits: int = 3) -> str:
    """Write an interval as ``0.71-0.74`` with an en dash; a dash where there is none."""
    return NONE if pair is None else f"{pair[0]:.{digits}f}{NONE}{pair[1]:.{digits}f}"


def count(value: float | None) -> str:
    """Write a whole number with thin spaces between thousands."""
    return NONE if value is None else f"{int(value):,}".replace(",", "\u202f")


def percent(value: float | None) -> str:
    """Write a share as a percentage with as many decimals as it needs."""
    return NONE if value is None else f"{100 * value:.4g}\u202f%"


def duration(seconds: float | None) -> str:
    """Write seconds as people say them: ``3.2 s``, ``4 min 10 s``, ``2 h 5 min``."""
    if seconds is None:
        return NONE
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def size(octets: float) -> str:
    """Write the size of a file."""
    for unit in ("B", "kB", "MB"):
        if octets < 1000:
            return f"{octets:.0f} {unit}" if unit == "B" else f"{octets:.1f} {unit}"
        octets /= 1000
    return f"{octets:.1f} GB"


def words(name: str) -> str:
    """Write a name of the files for people: underscores become spaces."""
    return name.replace("_", " ")


def listed(texts: Sequence[str], most: int = 14) -> str:
    """Write texts with commas; of more than ``most`` the rest is only counted."""
    shown = ", ".join(texts[:most])
    return f"{shown} and {len(texts) - most} more" if len(texts) > most else shown


def png_uri(picture: NDArray[np.uint8]) -> str:
    """Return a grey or RGB picture as a ``data:`` address, PNG."""
    ordered = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR) if picture.ndim == 3 else picture
    encoded = cv2.imencode(".png", ordered, [cv2.IMWRITE_PNG_COMPRESSION, 9])[1]
    return f"data:image/png;base64,{base64.b64encode(encoded.tobytes()).decode()}"


@functools.cache
def templates() -> jinja2.Environment:
    """Return the environment of every page: templates, filters and colours."""
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
