"""MkDocs hooks: add the pages that are written from the code, and the list of results."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from docsite import reference  # noqa: E402 - MkDocs loads this file by its path
from medsgssl.methods.registry import all_methods  # noqa: E402


def pages() -> dict[str, str]:
    """Return the Markdown of every generated page by its path in the site."""
    written = {
        "index.md": _from_root("README.md"),
        "contributing.md": _from_root("CONTRIBUTING.md"),
        "changelog.md": _from_root("CHANGELOG.md"),
        "methods/index.md": reference.methods_page(),
        "reference/command-line.md": reference.command_line_page(),
        "reference/settings.md": reference.settings_page(),
        "reference/run-folder.md": reference.run_folder_page(),
        "reference/api.md": reference.api_page(),
    }
    for name, method in all_methods().items():
        written[f"methods/{name}.md"] = reference.method_page(method)
    for path in sorted((ROOT / "docs" / "notebooks").glob("*.ipynb")):
        written[f"notebooks/{path.stem}.md"] = notebook_page(path)
    return written


def _from_root(name: str) -> str:
    """Return a page of the repository's root with links that hold inside the site."""
    text = (ROOT / name).read_text()
    text = text.replace("](docs/", "](").replace("](README.md", "](index.md")
    text = text.replace("](CHANGELOG.md", "](changelog.md").replace(
        "](CONTRIBUTING.md", "](contributing.md"
    )
    text = re.sub(r"\]\(([\w-]+)/\)", r"](\1/index.md)", text)
    # Files that are no page are named, not linked.
    return re.sub(
        r"\[([^\]]+)\]\((?:LICENSE|CITATION\.cff|compose\.yaml|Dockerfile)\)", r"`\1`", text
    )


def notebook_page(path: Path) -> str:
    """Return a notebook's cells and what they printed as Markdown.

    Args:
        path: The notebook.
    """
    cells = json.loads(path.read_text())["cells"]
    parts = []
    for cell in cells:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        parts += [_shown(output) for output in cell.get("outputs", ())]
    return "\n\n".join(parts) + f"\n\nAs a notebook: `docs/notebooks/{path.name}`.\n"


def _shown(output: dict[str, Any]) -> str:
    """Return an output of a cell: a picture, a table, or text."""
    data = output.get("data", {"text/plain": output.get("text", "")})
    if "image/png" in data:
        encoded = "".join(data["image/png"]).replace("\n", "")
        return f'<img alt="output of the cell above" src="data:image/png;base64,{encoded}">'
    if "text/html" in data:
        markup = re.sub(r"<style.*?</style>", "", "".join(data["text/html"]), flags=re.DOTALL)
        return "\n".join(re.sub(r' (?:border|class|style)="[^"]*"', "", markup).split("\n"))
    return f"```text\n{''.join(data['text/plain']).rstrip()}\n```"


def results_pages() -> list[str | dict[str, str]]:
    """Return the pages of results; those of studies, whose headings are alike, by their names."""
    entries: list[str | dict[str, str]] = []
    for path in sorted((ROOT / "docs/results").glob("*.md")):
        place = f"results/{path.name}"
        of_study = path.read_text(encoding="utf-8").startswith("# Results on ")
        name = re.sub(r"(\d)px", r"\1 px", path.stem.replace("-", " "))
        entries.append({f"Study: {name}": place} if of_study else place)
    return entries


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Fill in the parts of the navigation that the code knows."""
    filled = {
        "METHODS": [f"methods/{name}.md" for name in all_methods()],
        "RESULTS": results_pages(),
    }
    config.nav = [_filled(entry, filled) for entry in config.nav or []]
    # A page that nobody put into mkdocs.yml is found all the same.
    named = set(_paths(config.nav))
    more = [name for path in (ROOT / "docs").glob("*.md") if (name := path.name) not in named]
    if more:
        config.nav.append({"More": sorted(more)})
    return config


def _paths(entry: Any) -> Iterator[str]:
    """Yield the pages of a navigation."""
    if isinstance(entry, str):
        yield entry
    else:
        for below in entry.values() if isinstance(entry, dict) else entry:
            yield from _paths(below)


def _filled(entry: Any, filled: dict[str, list[str]]) -> Any:
    if isinstance(entry, dict):
        return {title: _filled(below, filled) for title, below in entry.items()}
    if isinstance(entry, list):
        items = []
        for below in entry:
            items += (
                filled[below]
                if isinstance(below, str) and below in filled
                else [_filled(below, filled)]
            )
        return items
    return entry


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Let links to files of the repository's root point to their pages."""
    markdown = markdown.replace("](../CHANGELOG.md", "](changelog.md")
    return markdown.replace("](../README.md", "](index.md")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    for path, text in pages().items():
        files.append(File.generated(config, path, content=text))
    return files
