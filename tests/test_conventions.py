"""Conventions that no linter checks: spelling, names, and documents that match the code."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.main import get_command

import medsgssl
from medsgssl.cli.app import app

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "medsgssl"
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
PYTHON = sorted([*(ROOT / "src").rglob("*.py"), *(ROOT / "tests").rglob("*.py")])

# In two parts, so that this list is not found itself.
BRITISH = re.compile(
    r"\b\w*(" + "|".join(
        f"{stem}{ending}" for stem, ending in (
            ("colo", "ur"), ("behavio", "ur"), ("neighbo", "ur"), ("favo", "ur"), ("gr", "eys?\\b"),
            ("norm", "alis"), ("optim", "is(?!tic|m)"), ("general", "is"), ("initial", "is"),
            ("regular", "is"), ("summar", "is"), ("local", "is"), ("recogn", "is"),
            ("organ", "is(?!m)"), ("random", "is"), ("standard", "is"), ("visual", "is"),
            ("min", "imis"), ("max", "imis"), ("cent", "re(s|d)?\\b"), ("met", "res?\\b"),
            ("lab", "ell"), ("mod", "elling"), ("cancel", "led"), ("ana", "lys(e|ed|ing)\\b"),
            ("cata", "logue"), ("arte", "fact"), ("lic", "ence\\b"), ("def", "ence\\b"),
        )
    ) + ")", re.IGNORECASE,
)  # fmt: skip


# A module of the first version, in what docs/field.md shows of that.
OLD_MODULE = "medsgssl.localisation"


@pytest.mark.parametrize("word", ["colour", "normalise", "greyscale grey", "unlabelled", "analyse"])
def test_the_word_list_finds_british_spelling(word: str) -> None:
    assert BRITISH.search(word)


def test_spelling_is_american() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {match.group()}"
        for path in [*PYTHON, *DOCUMENTS]
        if path not in (Path(__file__), SOURCE / "config" / "renamed.py")  # the old names
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        for match in BRITISH.finditer(line.replace(OLD_MODULE, ""))
    ]
    assert not found, "\n".join(found)


def test_importing_a_module_by_its_path_gives_the_module() -> None:
    """No package binds a name that one of its modules has."""
    shadowed = []
    for package in SOURCE.rglob("__init__.py"):
        modules = {path.stem for path in package.parent.glob("*.py")}
        modules |= {path.parent.name for path in package.parent.glob("*/__init__.py")}
        bound = set()
        for node in ast.parse(package.read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                bound.add(node.name)
            elif isinstance(node, ast.ImportFrom | ast.Import):
                bound |= {alias.asname or alias.name for alias in node.names}
            elif isinstance(node, ast.Assign):
                bound |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        shadowed += [f"{package.relative_to(ROOT)}: {name}" for name in bound & modules]
    assert not shadowed, shadowed


def test_no_function_or_class_has_the_name_of_its_module() -> None:
    same = [
        str(path.relative_to(ROOT))
        for path in SOURCE.rglob("*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == path.stem
    ]
    assert not same, same


def test_no_public_name_is_that_of_a_package() -> None:
    packages = {path.stem for path in SOURCE.iterdir()}
    assert not set(medsgssl.__all__) & packages


def test_every_path_in_the_architecture_page_exists() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    named = re.findall(r"`((?:[a-z_]+/)+(?:[a-z_]+\.(?:py|json))?|[a-z_]+\.py)`", page)
    assert len(named) > 40
    places = (SOURCE, ROOT)
    absent = [name for name in named if not any((place / name).exists() for place in places)]
    assert not absent, absent


def test_the_first_lines_of_files_lead_to_the_answers_that_the_architecture_page_lists() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    ways = [re.findall(r"`([^`]+)`", line) for line in page.splitlines() if " → " in line]
    assert len(ways) > 6
    for way in ways:
        known = ""
        for file in way:
            assert (SOURCE / file).exists(), file
            assert not known or Path(file).name in known, f"{way[0]} does not lead to {file}"
            if file.endswith(".py"):
                known += ast.get_docstring(ast.parse((SOURCE / file).read_text())) or ""


def test_every_file_that_a_comment_or_docstring_names_exists() -> None:
    named = [
        (path, name)
        for path in SOURCE.rglob("*.py")
        for name in re.findall(r"``([\w/]+\.py)``", path.read_text())
    ]
    assert len(named) > 40
    absent = [
        f"{path.relative_to(ROOT)}: {name}"
        for path, name in named
        if not any((place / name).is_file() for place in (path.parent, SOURCE, ROOT))
    ]
    assert not absent, absent


def commands() -> Iterator[tuple[str, str]]:
    """Yield (document, command line) for every `medsgssl ...` in the documents."""
    for path in DOCUMENTS:
        if path.name in {"CHANGELOG.md", "newcomer.md"}:  # old words, and mistakes
            continue
        text = path.read_text()
        for block in re.findall(r"```(?:bash|sh|text)?\n(.*?)```", text, re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                if line.strip().startswith("medsgssl "):
                    yield path.name, re.split(r"\s#|\s{2,}[a-z]|\s>\s", line.strip())[0]
        prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
        for line in re.findall(r"`(medsgssl [^`\n]+)`", prose):
            yield path.name, line


# Typer brings click along in some versions, and imports it in others.
UsageError: Any = typer.BadParameter.__base__


def problem_of(line: str) -> str | None:
    """Parse a line as the command line does, without running it; return what is wrong.

    A bare `medsgssl study run` in a sentence only names the command, and `...` stands for whatever
    else it needs.
    """
    # [--json] may be left out, or given.
    given = re.sub(r"\[(--[a-z-]+)\]", r"\1", line)
    words = shlex.split(given, comments=True)[1:]
    command: Any = get_command(app)
    context = command.context_class(command, info_name="medsgssl")
    while words and hasattr(command, "commands") and not words[0].startswith("-"):
        if words[0] == "...":
            return None
        if words[0] not in command.commands:
            return f"no command {words[0]}"
        name = words.pop(0)
        command = command.commands[name]
        context = command.context_class(command, info_name=name, parent=context)
    if not words:
        return None
    if "..." in words:
        known = {"--help", "-h"}
        for parameter in command.params:
            known |= {*parameter.opts, *parameter.secondary_opts}
        unknown = [word for word in words if re.match(r"--?[a-z]", word) and word not in known]
        return f"no option {unknown[0]}" if unknown else None
    try:
        command.make_context(command.name, words)
    except typer.Exit:
        return None  # --help, --version
    except UsageError as error:
        return str(error.format_message())
    return None


@pytest.mark.parametrize(
    "line",
    [
        "medsgssl stduy run --data DATA",
        "medsgssl run simclr --twins --out a",
        "medsgssl run --data DATA --out OUT",
        "medsgssl study run --data DATA --out OUT",
        "medsgssl study run --data DATA --out OUT --methods simclr --seeds few",
        "medsgssl masks build ... --pages x.html",
    ],
)
def test_the_parser_of_documents_finds_what_is_wrong(line: str) -> None:
    assert problem_of(line)


def test_the_parser_of_documents_takes_what_is_right() -> None:
    assert problem_of("medsgssl study run --data DATA --out OUT --methods simclr,direct") is None
    assert problem_of("medsgssl run simclr --set data.img_size=64 ...") is None
    assert problem_of("medsgssl study run") is None


def test_every_command_line_of_the_documents_is_one() -> None:
    lines = list(commands())
    assert len(lines) > 15
    wrong = [(name, line, found) for name, line in lines if (found := problem_of(line))]
    assert not wrong, wrong
