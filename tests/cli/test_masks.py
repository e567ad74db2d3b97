"""The commands of the masks."""

import re
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
from typer.testing import CliRunner

from medsgssl.cli.app import app
from medsgssl.data.synthetic.dataset import generate_phantoms
from medsgssl.data.synthetic.render import render_phantom
from medsgssl.masks.recipes.distilled.recipe import SHIPPED
from medsgssl.masks.recipes.distilled.student_weights import read_seen
from medsgssl.masks.store import MaskStore


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return generate_phantoms(tmp_path_factory.mktemp("phantoms") / "set", 6, 96)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def call(*words):
    result = CliRunner().invoke(app, ["masks", *map(str, words)])
    assert result.exit_code == 0, result.output + repr(result.exception)
    return result.output


def test_masks_are_built_with_a_page_and_shards_merge(data, tmp_path):
    shown = call(
        "build", data, "--out", tmp_path / "all", "--workers", 1, "--page", tmp_path / "p.html"
    )
    last = shown.strip().splitlines()[-1]
    assert re.fullmatch(rf"6 masks in {tmp_path / 'all'}: \d ok, \d doubtful, \d failed", last)
    assert "<figure>" in (tmp_path / "p.html").read_text()
    for i in (1, 2):
        call("build", data, "--out", tmp_path / f"{i}", "--workers", 1, "--shard", f"{i}/2")
    call("merge", tmp_path / "1", tmp_path / "2", "--out", tmp_path / "joined")
    joined, whole = MaskStore.open(tmp_path / "joined"), MaskStore.open(tmp_path / "all")
    assert joined.fingerprint == whole.fingerprint
    call("page", data, tmp_path / "all", "--out", tmp_path / "q.html", "--count", 2)
    # The histogram, at most two masks of each status, and two where rules and student differ.
    assert whole.header.recipe == "distilled"
    usable = len(whole) - whole.counts.get("failed", 0)
    shown = sum(min(2, number) for number in whole.counts.values()) + min(2, usable)
    assert (tmp_path / "q.html").read_text().count("<figure>") == 1 + shown


def test_the_student_draws_what_it_saw_where_the_split_is_for_training_alone(data, tmp_path):
    names = read_seen(SHIPPED)["name"].drop_duplicates().iloc[:12]
    (tmp_path / "seen").mkdir()
    for number, name in enumerate(names):
        image = render_phantom(0, number, 96).image
        cv2.imwrite(str(tmp_path / "seen" / Path(name).with_suffix(".png").name), image)
    words = ["build", tmp_path / "seen", "--out", tmp_path / "store", "--recipe", "distilled"]
    words += ["--workers", 1]
    refused = CliRunner().invoke(app, ["masks", *map(str, words)])
    assert "saw" in str(refused.exception)
    assert not (tmp_path / "store").exists()
    assert "12 masks in" in call(*words, "--set", "data.split=train")


def test_score_and_explain(data, tmp_path):
    shown = call("score", "--images", data / "images", "--reference", data / "lung_masks",
                 "--out", tmp_path / "scores")  # fmt: skip
    assert "dice_mean" in shown
    assert (tmp_path / "scores" / "quality.png").is_file()
    cv2.imwrite(str(tmp_path / "one.png"), render_phantom(0, 1, 128).image)
    assert "quality" in call("explain", tmp_path / "one.png", "--out", tmp_path / "e.html")
    assert "Template" in (tmp_path / "e.html").read_text()


@pytest.mark.parametrize("option", ["--shard=2", "--shard=\u00b2/4", "--labels=\u00b2=right"])
def test_numbers_must_be_numbers(data, tmp_path, option):
    result = CliRunner().invoke(
        app, ["masks", "build", str(data), "--out", str(tmp_path / "store"), option]
    )
    assert result.exit_code == 2
    assert "is not of the form" in result.output


def test_help_imports_no_heavy_library():
    code = (
        "import sys; from typer.testing import CliRunner\n"
        "from medsgssl.cli.app import app\n"
        "assert CliRunner().invoke(app, ['masks', 'build', '--help']).exit_code == 0\n"
        "assert not {'torch', 'cv2', 'pandas', 'numpy'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
