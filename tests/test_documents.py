"""Every Python block of README and docs runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import save_file

import medsgssl
from medsgssl.config.schema import Config, EncoderSettings
from medsgssl.inference.export import export_model
from medsgssl.inference.predictor import Predictor, check_views
from medsgssl.methods import registry
from medsgssl.methods.registry import find_method
from medsgssl.models.encoder import build_encoder
from medsgssl.models.weights import state_of
from tests.conftest import TrainedRun

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
BLOCKS = [
    pytest.param(match.group(1), id=f"{path.stem}-{number}")
    for path in DOCUMENTS
    if path.name != "after-training.md"
    for number, match in enumerate(BLOCK.finditer(path.read_text()))
]


@pytest.mark.parametrize("block", BLOCKS)
def test_python_blocks_run(
    block: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, phantom_set: Path
) -> None:
    # A run takes hours on the data it names: the block's own names and settings are what is tested.
    done: list[Config] = []

    def pretend(config: Config, out: Path, **_: Any) -> Any:
        done.append(config)
        metrics = tmp_path / "metrics.json"
        metrics.write_text("{}")
        return type("Run", (), {"metrics": metrics})()

    monkeypatch.setattr("medsgssl.pipeline.runner.run_method", pretend)
    monkeypatch.setattr("medsgssl.report.run_page.write_report", lambda run: run)
    monkeypatch.setattr(
        "medsgssl.report.study_page.write_study_report", lambda folders: folders[0] / "page"
    )
    registry.all_methods()
    monkeypatch.setattr(registry, "_METHODS", dict(registry._METHODS))
    monkeypatch.chdir(tmp_path)
    Path("DATA").symlink_to(phantom_set)
    if "pretrained.safetensors" in block:
        encoder = build_encoder(EncoderSettings(pretrained=False), 224)
        Path("runs/simclr").mkdir(parents=True)
        save_file(state_of(encoder), "runs/simclr/pretrained.safetensors")
    exec(compile(block, "block", "exec"), {"__name__": "block"})


def test_python_blocks_of_after_training_run_on_a_run(
    trained_run: TrainedRun, phantom_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = trained_run("simclr")
    Path("runs").mkdir()
    Path("runs/guided").symlink_to(run.path)
    Path("films").mkdir()
    first, second = sorted((phantom_set / "images").glob("*.png"))[:2]
    Path("films/a.png").symlink_to(first)
    # Content decides what a file is, so a PNG may be called .dcm here.
    Path("films/b.dcm").symlink_to(second)
    bundle = Predictor.load(run.path).bundle
    views, masks, _ = check_views(bundle)
    export_model(bundle, "timm", Path("encoder"), views, masks)
    text = (ROOT / "docs" / "after-training.md").read_text()
    text = text.replace("mobilenetv2_100", bundle.config.encoder.name)
    blocks = BLOCK.findall(text)
    assert len(blocks) == 2
    scope: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, "block", "exec"), scope)
    assert len(scope["table"]) == 2
    assert scope["model"].num_features == bundle.classifier.encoder.num_features


def test_the_methods_of_the_readme_are_those_of_the_package() -> None:
    table = re.findall(r"^\| `([a-z-]+)` \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    known = registry.all_methods()
    assert sorted(set(table)) == sorted(
        name for name in known if known[name].__module__.startswith("medsgssl.")
    )
    assert all(find_method(name) for name in table)


def test_the_readme_cites_what_the_citation_file_and_the_package_say() -> None:
    entry = (ROOT / "README.md").read_text().split("```bibtex\n")[1].split("```")[0]
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert f"title = {{{cited['title']}}}," in entry
    assert f"author = {{{{{cited['authors'][0]['name']}}}}}," in entry
    assert f"version = {{{cited['version']}}}," in entry
    assert cited["version"] == medsgssl.__version__


def test_every_file_that_a_document_names_exists() -> None:
    for document in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_the_page_of_mistakes_names_the_tests_that_there_are() -> None:
    named = re.findall(r"`(test_\d\d_\w+)`", (ROOT / "docs" / "mistakes.md").read_text())
    code = (ROOT / "tests" / "test_mistakes.py").read_text()
    assert named == re.findall(r"^def (test_\d\d_\w+)", code, re.MULTILINE)
