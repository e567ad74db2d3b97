"""Gives package indexes the README with absolute links, where ``project.urls`` names a home."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

# A link or image whose target is a file: neither an address nor a place in the page itself.
_LINK = re.compile(r"(!?)(\[[^\]]*\])\((?![a-z]+:|#)([^)\s]+)\)")


def absolute_links(text: str, home: str | None) -> str:
    """Make the links of a page absolute.

    Args:
        text: Markdown with links relative to the root of the repository.
        home: Address of the repository; None leaves the text as it is.

    Returns:
        The text, with images below ``HOME/raw/HEAD/`` and other files below ``HOME/blob/HEAD/``.
    """
    if home is None:
        return text
    home = home.rstrip("/")

    def replaced(match: re.Match[str]) -> str:
        image, label, target = match.groups()
        return f"{image}{label}({home}/{'raw' if image else 'blob'}/HEAD/{target})"

    return _LINK.sub(replaced, text)


class ReadmeHook(MetadataHookInterface):
    """Fills in ``project.readme``."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Read README.md and resolve its links against ``project.urls.Source``."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        home = metadata.get("urls", {}).get("Source")
        text = absolute_links(text, home)
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
