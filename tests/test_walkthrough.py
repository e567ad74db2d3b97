"""The commands of README and docs run in the order in which they stand, on phantoms."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from medsgssl.cli.app import app
from medsgssl.data.synthetic.dataset import generate_phantoms

ROOT = Path(__file__).parents[1]
# What makes minutes of hours: appended to what trains.
TINY = [
    "data.img_size=32", "data.batch_size=8", "data.num_workers=0", "encoder.pretrained=false",
    "encoder.name=test_efficientnet", "pretrain.epochs=1", "finetune.epochs=1",
    "evaluate.bootstrap=20",
]  # fmt: skip
TRAINS = ("run", "pretrain", "finetune", "study run", "study ablate")


def lines_of(document: str, heading: str) -> list[str]:
    """Return the command lines below a heading, without their comments."""
    text = (ROOT / document).read_text()
    (section,) = re.findall(
        rf"^#+ {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE
    )
    prose = re.sub(r"```.*?```", "", section, flags=re.DOTALL)
    blocks = re.findall(r"```(?:bash|text)\n(.*?)```", section, re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    lines += re.findall(r"^`(medsgssl \w+ [^`]+)`", prose, re.MULTILINE)
    return [
        re.split(r"\s#|\s{2,}(?=[A-Za-z])|\s>\s", line.strip())[0].strip()
        for line in lines
        if line.startswith("medsgssl ")
    ]


@pytest.fixture
def invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Run one line in a folder of its own, small where it trains; return what it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def run(line: str) -> str:
        words = line.replace("--seeds 5", "--seeds 1").split()[1:]
        if " ".join(words).startswith(TRAINS):
            words += [word for setting in TINY for word in ("--set", setting)]
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, (line, done.output, done.exception)
        return done.output

    return run


@pytest.mark.slow
def test_the_commands_for_your_data_run(invoke: Callable[[str], str], tmp_path: Path) -> None:
    data = generate_phantoms(tmp_path / "nih", 120, size=48)
    lines = [line.replace("/data/nih", str(data)) for line in lines_of("README.md", "Your data")]
    assert [line.split()[1] for line in lines] == ["catalog", "masks", "run", "run", "run"]
    printed = [invoke(line) for line in lines]
    # The README quotes what a run ends with; so few images have no interval.
    for text in printed[2:]:
        assert re.search(r"^Mean AUC on test: 0\.\d{4}", text, re.MULTILINE), text[-300:]
    assert all("report.html" in text for text in printed[2:])


@pytest.mark.slow
def test_the_commands_of_a_study_run(invoke: Callable[[str], str], tmp_path: Path) -> None:
    data = generate_phantoms(tmp_path / "nih", 80, size=64)
    lines = lines_of("README.md", "Does it help?")
    assert len(lines) == 3
    for line in lines:
        invoke(line.replace("/data/nih", str(data)))
    assert (tmp_path / "study" / "report" / "report.html").is_file()


@pytest.mark.slow
def test_a_table_of_ones_own_is_trained_on(invoke: Callable[[str], str], tmp_path: Path) -> None:
    films = generate_phantoms(tmp_path / "phantoms", 80, size=64) / "images"
    data = tmp_path / "mine"
    shutil.copytree(films, data)
    names = sorted(path.name for path in data.iterdir())
    page = (ROOT / "docs" / "data.md").read_text()
    (example,) = re.findall(r"```\n(image,patient,.*?)```", page, re.DOTALL)
    head = example.splitlines()[0]
    rows = [
        f"{name},P-{n // 2},{n // 2 % 2},{n // 4 % 2},{n // 8 % 2}" for n, name in enumerate(names)
    ]
    (data / "labels.csv").write_text("\n".join([head, *rows]) + "\n")
    line, *_ = lines_of("docs/data.md", "A table of your own")
    shown = invoke(line.replace("/data/mine", str(data)) + " --set data.split=random")
    assert "Mean AUC on test" in shown
    scores = pd.read_parquet(tmp_path / "runs" / "mine" / "predictions.parquet")
    classes = head.split(",")[2:]
    assert {f"score_{name}" for name in classes} <= set(scores)


@pytest.mark.slow
def test_the_commands_for_masks_run(invoke: Callable[[str], str], tmp_path: Path) -> None:
    data = generate_phantoms(tmp_path / "DATA", 24, size=64)
    image = next((data / "images").glob("*.png"))
    shutil.copytree(data / "lung_masks", tmp_path / "FOLDER_OF_PNG")
    lines = lines_of("docs/masks.md", "Commands")
    assert len(lines) > 5
    for line in lines:
        if "--shard 1/4" in line:
            for shard in "1234":
                invoke(line.replace("MASKS-1", f"MASKS-{shard}").replace("1/4", f"{shard}/4"))
            continue
        # Each line of the list stands for itself: three write the same folder.
        if "masks merge" in line or "--masks-dir" in line:
            shutil.rmtree(tmp_path / "MASKS")
        given = line.replace("IMAGE", str(image))
        if "masks score" in line:
            for name, path in (("A", "DATA/images"), ("B", "DATA/lung_masks"), ("C", "scores")):
                given = given.replace(f" {name}", f" {path}")
        invoke(given)
    assert (tmp_path / "masks.html").is_file()
    assert (tmp_path / "steps.html").is_file()
    assert (tmp_path / "scores" / "scores.json").is_file()
