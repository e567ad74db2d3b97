"""The badges of the README, drawn from pyproject.toml: what they say is true of this checkout.

They are files of the repository, so that the README fetches nothing: ``make pictures`` draws them.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
_CHARACTER = 6.6  # pixels of a character of 11 px; ``textLength`` makes it so in every font
_PADDING = 8
_HEIGHT = 20


def badges() -> dict[str, str]:
    """Return every badge as SVG by the name of its file."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    about, mypy = project["project"], project["tool"]["mypy"]
    typed = any(name.startswith("Typing :: Typed") for name in about["classifiers"])
    types = "mypy strict" if mypy["strict"] and typed else "partial"
    return {
        "license.svg": badge("license", about["license"], "#4c6a92"),
        "python.svg": badge("python", about["requires-python"].replace(">=", "\u2265 "), "#4c6a92"),
        "types.svg": badge("types", types, "#4c6a92"),
        "use.svg": badge("use", "research only", "#a4562a"),
    }


def badge(label: str, value: str, color: str) -> str:
    """Return one badge: a label on gray, a value on a color.

    Args:
        label: Left half.
        value: Right half.
        color: Of the right half.
    """
    left, right = (round(len(text) * _CHARACTER) + 2 * _PADDING for text in (label, value))
    texts = "".join(
        f'<text x="{x + _PADDING}" y="14" textLength="{width - 2 * _PADDING}">'
        f"{text.replace('<', '&lt;')}</text>"
        for x, width, text in ((0, left, label), (left, right, value))
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + right}" height="{_HEIGHT}" '
        f'role="img" aria-label="{label}: {value}"><title>{label}: {value}</title>'
        f'<clipPath id="r"><rect width="{left + right}" height="{_HEIGHT}" rx="3"/></clipPath>'
        f'<g clip-path="url(#r)"><rect width="{left}" height="{_HEIGHT}" fill="#454c54"/>'
        f'<rect x="{left}" width="{right}" height="{_HEIGHT}" fill="{color}"/></g>'
        f'<g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11">{texts}</g>'
        "</svg>\n"
    )


def write_badges(folder: Path) -> None:
    """Write every badge.

    Args:
        folder: Where to; made if it is not there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in badges().items():
        (folder / name).write_text(text, encoding="utf-8")
