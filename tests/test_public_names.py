"""``import medsgssl`` is light, offers what a notebook needs, and works in a plain script."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

import medsgssl
from medsgssl.data.synthetic.dataset import generate_phantoms

# The script has no `__main__` guard.
SCRIPT = """
from pathlib import Path
print("started")
from medsgssl.masks.build import build_store
items = [(path.name, path) for path in sorted(Path("data/images").glob("*.png"))]
store = build_store(Path("masks"), items, workers=2)
print(len(store), "masks")
"""


def test_every_public_name_is_there_and_documented() -> None:
    assert set(medsgssl.__all__) <= set(dir(medsgssl))
    for name in medsgssl.__all__:
        value = getattr(medsgssl, name)
        assert inspect.getdoc(value), name
        assert value.__name__ == name


def test_the_import_loads_no_other_module() -> None:
    code = "import sys, medsgssl; print([m for m in sys.modules if m.startswith('medsgssl.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'segment_lung'"):
        medsgssl.segment_lung  # noqa: B018


def test_mask_workers_live_in_a_script_without_a_main_guard(tmp_path: Path) -> None:
    generate_phantoms(tmp_path / "data", 20, size=32)
    (tmp_path / "script.py").write_text(SCRIPT)
    source = str(Path(medsgssl.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": source},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["started", "20 masks"]


def test_settings_are_given_nested_or_by_dotted_key() -> None:
    config = medsgssl.load_config(
        "simclr",
        data="images",
        settings={"data.img_size": 64, "data": {"batch_size": 8}, "pretrain.epochs": 3},
    )
    assert config.data.root == Path("images").absolute()
    assert (config.data.img_size, config.data.batch_size, config.pretrain.epochs) == (64, 8, 3)


def test_a_catalog_is_loaded_with_its_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    data = generate_phantoms(tmp_path / "data", 40, size=32)
    made = medsgssl.load_catalog(data, {"split": "random", "split_seed": 5})
    assert len(made.table) == 40
    assert made.summary["split"]["seed"] == 5
