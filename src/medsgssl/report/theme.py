"""The colors of pages and figures: one set of names, a light and a dark value for each.

Figures are drawn with the light values; on a page every one of them becomes the CSS variable of
its name, so figures follow the theme without being drawn twice. The series colors are told apart
with red-green and blue-yellow color blindness (after Okabe and Ito, "Color universal design",
2008), and lines that share a panel differ in dash or marker too.
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
    "warn": ("#fff4dd", "#342a12"),
    "warn-edge": ("#b97a00", "#e0a63a"),
}

_NAMES = {light: name for name, (light, _) in COLORS.items()}


def variables(dark: bool) -> dict[str, str]:
    """Return the CSS variables of one theme, name to color."""
    return {f"--{name}": pair[int(dark)] for name, pair in COLORS.items()}


def follow_theme(svg: str) -> str:
    """Replace every color of the palette in an SVG by its CSS variable."""
    return re.sub(
        r"#[0-9a-f]{6}\b",
        lambda found: f"var(--{_NAMES[found[0]]})" if found[0] in _NAMES else found[0],
        svg,
    )
