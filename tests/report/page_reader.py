"""Reads a page as a browser would: tags in order, text, table cells."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

#: Elements that have no end tag.
VOID = {"meta", "input", "br", "img", "link", "path", "use", "rect"}


@dataclass
class Page:
    raw: str
    tags: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    text: str = ""
    rows: dict[str, list[str]] = field(default_factory=dict)
    unclosed: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> Page:
        page = cls(path.read_text())
        reader = _Reader(page)
        reader.feed(page.raw)
        reader.close()
        page.unclosed = reader.open
        page.text = " ".join(page.text.split())
        return page

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


class _Reader(HTMLParser):
    def __init__(self, page: Page) -> None:
        super().__init__()
        self.page, self.open, self.cells = page, [], []
        self.in_sortable = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        self.page.tags.append((tag, attributes))
        if tag == "table":
            self.in_sortable = "sortable" in attributes.get("class", "")
        if tag == "tr":
            self.cells = []
        if tag in ("td", "th"):
            self.cells.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.page.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        assert self.open, f"</{tag}> closes nothing"
        assert self.open[-1] == tag, f"</{tag}> closes <{self.open[-1]}>"
        self.open.pop()
        self.page.text += " " if tag in ("td", "th") else ""
        if tag == "tr" and self.in_sortable:
            name, *values = (" ".join(cell.split()) for cell in self.cells)
            self.page.rows[name] = values

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("script", "style"):
            return
        self.page.text += data
        if self.cells and {"td", "th"} & set(self.open):
            self.cells[-1] += data
