"""The colors of pages and figures: one set of names, a light and a dark value for each.

Figures are drawn with the light values; on a page every one of them becomes the CSS variable of
its name, so figures follow the theme without being drawn twice. The first four
series colors stay distinct with red-green and blue-yellow color blindness (after Okabe and Ito,
"Color universal design", 2008); lines that share a panel differ in their markers too.
"""

from __future__ import annotations

import re

INK, MUTED, GRID, CARD = "#1b2127", "#5a6672", "#dbe1e7", "#fefefe"
FIRST, SECOND, THIRD, FOURTH = "#0a67a8", "#c2510c", "#12805c", "#a3478a"

#: Name of each color with its light and its dark value; the light ones are all different.
COLORS: dict[str, tuple[str, str]] = {
    "ink": (INK, "#e9edf1"),
    "muted": (MUTED, "#a3afbb"),
    "grid": (GRID, "#39434d"),
    "card": (CARD, "#1b2228"),
    "page": ("#f3f5f8", "#12171b"),
    "first": (FIRST, "#5db4f0"),
    "second": (SECOND, "#f0934a"),
    "third": (THIRD, "#3fc79b"),
    "fourth": (FOURTH, "#d98cc4"),
    "fifth": ("#806600", "#d8c04a"),
    "sixth": ("#5b4bb5", "#a79af0"),
    "seventh": ("#b3243c", "#f0808f"),
    "eighth": ("#0b7a86", "#4bd0dc"),
    "ninth": ("#7a4a21", "#c99868"),
    "tenth": ("#4f7a12", "#9ecb54"),
    "eleventh": ("#33415c", "#b4c2d6"),
    "twelfth": ("#9a2ad0", "#cf8af5"),
    "warn": ("#fff4dd", "#342a12"),
    "warn-edge": ("#b97a00", "#e0a63a"),
}

_ORDINALS = (
    "first", "second", "third", "fourth", "fifth", "sixth",
    "seventh", "eighth", "ninth", "tenth", "eleventh", "twelfth",
)  # fmt: skip
#: Colors of lines that share a panel, in the order in which they are used.
SERIES = tuple(COLORS[name][0] for name in _ORDINALS)
#: A marker for each of them: no two lines share a marker, so color is not needed to tell them.
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "*", "<", ">", "p", "h")

_NAMES = {light: name for name, (light, _) in COLORS.items()}


def variables(dark: bool) -> dict[str, str]:
    """Return the CSS variables of one theme, name to color."""
    return {f"--{name}": pair[int(dark)] for name, pair in COLORS.items()}


def follow_theme(svg: str) -> str:
    """Replace every color of the palette in an SVG by its CSS variable."""
    return re.sub(
        r"#[0-9a-f]{6}\b",
        lambda color: f"var(--{_NAMES[color[0]]})" if color[0] in _NAMES else color[0],
        svg,
    )
