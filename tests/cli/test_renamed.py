"""Last release's commands and options still work, and name their successors."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from medsgssl.cli.app import app
from medsgssl.cli.renamed import with_new_words
from medsgssl.config.renamed import RenamedWarning

MASKS = ["build", "page"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("compare --data d --twins", "study run --data d --baselines"),
        ("compare run --data d", "study run --data d"),
        ("compare look s", "study localize s"),
        ("compare report s --out o", "study report s --out o"),
        ("compare --help", "study --help"),
        ("ablate guided-crop --data d", "study ablate guided-crop --data d"),
        ("masks folder --own m", "masks build folder --masks-dir m"),
        ("run simclr --direct --also=a", "run simclr --no-pretrain --extra-data=a"),
    ],
)
def test_old_words_become_new_ones_with_a_warning(old: str, new: str) -> None:
    with pytest.warns(RenamedWarning, match="is now called"):
        assert with_new_words(old.split(), MASKS) == new.split()


@pytest.mark.parametrize(
    "words", ["study run --data d", "masks build d", "masks --help", "masks", "run simclr", ""]
)
def test_present_words_stay_and_raise_no_warning(
    words: str, recwarn: pytest.WarningsRecorder
) -> None:
    assert with_new_words(words.split(), MASKS) == words.split()
    assert not recwarn.list


def test_an_old_command_runs_its_successor(tmp_path: Path) -> None:
    with pytest.warns(RenamedWarning, match="medsgssl compare report is now called"):
        result = CliRunner().invoke(app, ["compare", "report", "--help"])
    assert result.exit_code == 0
    assert "Report a study" in result.output


def test_groups_show_their_commands_and_not_the_old_ones() -> None:
    shown = CliRunner().invoke(app, ["--help"]).output
    assert not re.search(r"^\W*(compare|ablate)\s", shown, re.MULTILINE)
    assert re.search(r"^\W*study\s", shown, re.MULTILINE)
    group = CliRunner().invoke(app, ["study", "-h"]).output
    for command in ("run", "status", "report", "localize", "table", "card", "ablate"):
        assert command in group
