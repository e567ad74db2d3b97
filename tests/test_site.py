"""The pages that the documentation site writes from the code, and the site as a whole."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from docsite import hooks, reference
from docsite.badges import badges
from typer.main import get_command

import medsgssl
from medsgssl.cli.app import app
from medsgssl.config.loading import dump, flatten
from medsgssl.methods.registry import all_methods, configure
from medsgssl.runs.data_summary import DataSummary
from medsgssl.runs.folder import RunFolder
from medsgssl.runs.metrics_file import Metrics
from medsgssl.runs.stage_files import KeptEpoch, StageRecord
from tests.test_conventions import problem_of

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return hooks.pages()


def leaves(command: Any, path: tuple[str, ...] = ()) -> list[tuple[str, Any]]:
    below = getattr(command, "commands", None)
    if below is None:
        return [(" ".join(path), command)]
    return [
        leaf
        for name, child in below.items()
        if not child.hidden
        for leaf in leaves(child, (*path, name))
    ]


def test_the_command_line_page_has_every_command_and_option(pages: dict[str, str]) -> None:
    text = pages["reference/command-line.md"]
    sections = dict(re.findall(r"^### medsgssl ([^\n]+)\n(.*?)(?=^#|\Z)", text, re.DOTALL | re.M))
    for name, command in leaves(get_command(app)):
        for parameter in command.params:
            if parameter.opts[0].startswith("-") and not parameter.hidden:
                assert parameter.opts[0] in sections[name], (name, parameter.opts)
        arguments = sum(not parameter.opts[0].startswith("-") for parameter in command.params)
        rows = re.findall(r"^\| `([^`]+)`", sections[name], re.MULTILINE)
        assert sum(not row.startswith("-") for row in rows) == arguments, (name, rows)


def test_the_settings_page_has_every_setting_with_its_meaning(pages: dict[str, str]) -> None:
    text = pages["reference/settings.md"]
    rows = {line.split("`")[1]: line for line in text.splitlines() if line.startswith("| `")}
    wanted = {key for key in flatten(dump(configure("simclr"))) if not key.startswith("method.")}
    assert wanted <= rows.keys()
    without = [key for key in wanted if not rows[key].split(" | ")[1].strip()]
    assert not without, f"no description: {without}"


@pytest.mark.parametrize("name", sorted(all_methods()))
def test_every_method_has_a_page_with_its_loss_its_parts_and_its_picture(
    name: str, pages: dict[str, str]
) -> None:
    method, text = all_methods()[name], pages[f"methods/{name}.md"]
    assert "<math" in text
    symbols = re.findall(r"^- \*([^*]+)\*: \S", text, re.MULTILINE)
    assert len(symbols) == method.symbols.count("; ") + 1
    assert not [symbol for symbol in symbols if "_" in symbol or "^" in symbol]
    assert reference.cell(method.citation) in text
    assert all(f"`{part}`" in text for part in method.components)
    assert all(f"`method.{key}`" in text for key in configure(name).method.model_dump())
    assert (ROOT / "docs" / "images" / "methods" / f"{name}.png").is_file()


def test_the_page_of_the_run_folder_names_every_file_and_key(pages: dict[str, str]) -> None:
    text = pages["reference/run-folder.md"]
    folder = RunFolder(Path())
    for name, member in vars(RunFolder).items():
        if isinstance(member, property):
            assert f"`{getattr(folder, name).name}`" in text
    for kind in (Metrics, DataSummary, StageRecord, KeptEpoch):
        assert all(f"| `{key}` |" in text for key in kind.__annotations__), kind


def test_the_badges_of_the_readme_say_what_the_project_file_says() -> None:
    folder = ROOT / "docs" / "images" / "badges"
    drawn = badges()
    assert drawn.keys() == {path.name for path in folder.iterdir()}
    for name, text in drawn.items():
        assert (folder / name).read_text(encoding="utf-8") == text, f"{name}: run `make pictures`"
        said = re.findall(r'aria-label="([^"]+)"', text)[0]
        shown = f"![{said}](docs/images/badges/{name})"
        assert shown in (ROOT / "README.md").read_text(encoding="utf-8"), shown


def test_the_api_page_has_every_public_name(pages: dict[str, str]) -> None:
    named = re.findall(r"^::: .*\.(\w+)$", pages["reference/api.md"], re.M)
    assert sorted(named) == sorted(medsgssl.__all__)
    classes = [name for name in named if not name.islower()]
    assert named[-len(classes) :] == classes


def test_what_public_functions_return_is_not_taken_for_a_type() -> None:
    objects = [getattr(medsgssl, name) for name in medsgssl.__all__]
    members = [m for kind in objects if isinstance(kind, type) for m in vars(kind).values()]
    for each in [*objects, *members]:
        # In this style of docstrings a colon ends the name of a type.
        for line in re.findall(
            r"^ *Returns:\n +([^\n]*)", getattr(each, "__doc__", "") or "", re.M
        ):
            assert ": " not in line, line


def test_generated_command_lines_are_right(pages: dict[str, str]) -> None:
    lines = [
        line
        for name, text in pages.items()
        if name != "changelog.md"
        for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
        for line in block.replace("\\\n", " ").splitlines()
        if line.startswith("medsgssl ")
    ]
    assert len(lines) > len(all_methods())
    wrong = [(line, problem_of(re.split(r"\s#|\s>\s", line)[0])) for line in lines]
    assert not [(line, found) for line, found in wrong if found]


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_fetches_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(tmp_path)],
        cwd=ROOT, env={"PATH": "/usr/bin:/bin", "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not done.stdout + done.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        text = page.read_text()
        fetched = re.findall(r"<(?:script|img|iframe|source)[^>]*\ssrc=\"?(https?:[^\s>\"]+)", text)
        fetched += re.findall(
            r"<link[^>]*rel=\"?(?:stylesheet|icon|preconnect)[^>]*(https?:\S+)", text
        )
        assert not fetched, (page.name, fetched)
