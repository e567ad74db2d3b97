"""What only looks things up imports neither torch nor what builds on it, and takes a second."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from medsgssl.data.synthetic.dataset import generate_phantoms

HEAVY = ("torch", "timm", "lightning_fabric", "torchvision", "sklearn", "torchmetrics")
# Where other work slows the machine down, CPU time grows a little with it.
MOST_CPU_SECONDS = 1.5


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate_phantoms(tmp_path_factory.mktemp("light") / "data", 40, size=32)


def heavy_modules(code: str, cache: Path) -> list[str]:
    """Run code in a fresh interpreter and return the heavy modules that it imported."""
    report = f"import sys, json; print(json.dumps(sorted({{*{HEAVY!r}}} & set(sys.modules))))"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env={**os.environ, "XDG_CACHE_HOME": str(cache)},
    )
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize(
    "command",
    ["--help", "--version", "methods", "methods --json", "config simclr", "catalog DATA",
     "catalog DATA --json", "config guided-crop --set data.img_size=64 --data DATA",
     "config guided-crop --set method.context=[0.1,0.2] --set encoder.drop_path=0.1"],
)  # fmt: skip
def test_light_commands_import_nothing_heavy(command: str, data: Path, tmp_path: Path) -> None:
    words = [str(data) if word == "DATA" else word for word in command.split()]
    code = f"""
import sys
from medsgssl.cli.app import app
try:
    app({words!r})
except SystemExit as end:
    assert not end.code
"""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert heavy_modules(code, tmp_path) == []
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert seconds < MOST_CPU_SECONDS


@pytest.mark.parametrize(
    "module", ["data.catalog", "data.readers.registry", "data.prepare", "images.reading",
               "masks", "masks.build", "masks.recipes.registry", "methods.index",
               "study.power"],
)  # fmt: skip
def test_packages_that_read_data_never_import_torch(module: str, tmp_path: Path) -> None:
    assert heavy_modules(f"import medsgssl.{module}", tmp_path) == []


def test_the_guard_sees_what_is_heavy(tmp_path: Path) -> None:
    assert "timm" in heavy_modules("import medsgssl.methods.simclr", tmp_path)


_MISTAKES = ("method.lambda_crops=-1", "method.temperature=warm", "method.context=[0.3,0.1]",
             "method.context=[0.1,0.7]", "method.cover_of=body", "method.hue=red",
             "method.projector_layers=9", "method.min_quality=[1]")  # fmt: skip


def test_settings_of_a_method_are_refused_by_the_index_as_by_the_class(tmp_path: Path) -> None:
    from medsgssl.config.loading import parse_overrides
    from medsgssl.errors import ConfigError
    from medsgssl.methods.registry import configure

    trees = [parse_overrides([item]) for item in _MISTAKES]
    trees.append({"method": {"lambda_crops": 0, "lambda_global": 0}})
    code = f"""
import json
from medsgssl.errors import ConfigError
from medsgssl.methods.index import configure_from_index
problems = []
for tree in {trees!r}:
    try:
        configure_from_index("guided-crop", tree)
    except ConfigError as error:
        problems.append(str(error))
print(json.dumps(problems))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    expected = []
    for tree in trees:
        with pytest.raises(ConfigError) as raised:
            configure("guided-crop", tree)
        expected.append(str(raised.value))
    assert json.loads(done.stdout) == expected


@pytest.mark.parametrize("command", ["run simclr", "pretrain simclr", "finetune simclr"])
def test_a_folder_that_is_not_there_is_said_before_anything_heavy(
    command: str, tmp_path: Path
) -> None:
    words = [*command.split(), "--data", str(tmp_path / "absent"), "--out", str(tmp_path / "run")]
    code = f"""
from medsgssl.cli.app import app
from medsgssl.errors import DataError
try:
    app({words!r}, standalone_mode=False)
except DataError as error:
    assert "absent is not a folder" in str(error)
else:
    raise AssertionError("no error")
"""
    assert heavy_modules(code, tmp_path) == []


def test_python_does_not_search_for_cycles_when_the_process_ends() -> None:
    # Whatever is registered first runs last.
    code = """
import atexit, gc, sys
atexit.register(lambda: print(gc.get_freeze_count(), len(gc.get_objects())))
sys.argv = ["medsgssl", "--version"]
from medsgssl.cli.app import main
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    frozen, left = map(int, done.stdout.splitlines()[-1].split())
    assert left < 0.01 * frozen
