"""One definition of a table, four ways to write it."""

from __future__ import annotations

import io

import pandas as pd
import pytest

from medsgssl.report.page import templates
from medsgssl.report.tables import Column, Table, write_tables
from medsgssl.study.statistics import PointEstimate
from medsgssl.utils.formatting import number, signed


@pytest.fixture
def table() -> Table:
    columns = (
        Column("arm", "arm", "text", "Method"),
        Column("labels", "labels", "percent", "Labels"),
        Column("gain", "gain", "change", "Gain"),
        Column("p", "p", "p", "$p$"),
        Column("seed", "seed", "count", page=False),
    )
    small = PointEstimate(-0.0002, (-0.03, 0.02))
    rows = [
        {"arm": "a_b", "labels": 0.1, "gain": small, "p": 1e-9, "seed": 7},
        {"arm": "<b>", "labels": 1.0, "gain": PointEstimate(None), "p": None, "seed": 8},
    ]
    return Table("gains", "Gains", columns, rows)


def test_csv_holds_every_column_with_full_precision(table: Table) -> None:
    read = pd.read_csv(io.StringIO(table.csv()))
    assert list(read) == ["arm", "labels", "gain", "gain_low", "gain_high", "p", "seed"]
    assert read.loc[0, "gain"] == -0.0002
    assert read.loc[0, "gain_high"] == 0.02
    assert read.loc[1, ["gain", "gain_low", "p"]].isna().all()


def test_people_see_rounded_numbers_without_a_negative_zero(table: Table) -> None:
    assert (
        "| a_b | 10\u202f% | 0.000 (\N{MINUS SIGN}0.030 to +0.020) | <\u202f0.001 |"
        in table.markdown()
    )
    assert "seed" not in table.markdown()
    assert number(-0.0001) == signed(-0.0001) == "0.000"
    assert signed(-0.0006) == "\N{MINUS SIGN}0.001"


def test_print_has_its_own_columns_and_escapes_signs(table: Table) -> None:
    lines = table.latex().splitlines()
    assert lines[0] == r"\begin{tabular}{lrrr}"
    assert lines[2] == r"Method & Labels & Gain & $p$ \\"
    assert lines[4] == r"a\_b & 10\,\% & 0.000 [$-$0.030, 0.020] & $<$\,0.001 \\"


def test_a_page_escapes_cells_and_leaves_hidden_columns_out(table: Table) -> None:
    html = str(templates().get_template("parts.html.jinja").module.table(table))  # type: ignore[attr-defined]
    assert "&lt;b&gt;" in html
    assert "<b>" not in html
    assert ">7<" not in html
    assert html.count("<tr") == 3


def test_columns_and_rows_are_chosen_from_the_same_definition(table: Table) -> None:
    part = table.where(lambda row: row["labels"] == 1).select("arm", "seed")
    assert part.markdown() == "| arm | seed |\n| --- | --: |\n| <b> | 8 |\n"


def test_files_of_a_table_that_is_empty_now_are_removed(table: Table, tmp_path) -> None:
    names = {path.name for path in write_tables([table], tmp_path)}
    assert names == {"gains.csv", "gains.md", "gains.tex"}
    assert write_tables([table.where(lambda row: False)], tmp_path) == []
    assert not list(tmp_path.iterdir())
