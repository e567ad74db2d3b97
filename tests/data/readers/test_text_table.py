"""Tables as spreadsheets write them: encodings, separators, quotes, line ends, names."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pandas as pd
import pytest

from medsgssl.config.schema import DataSettings
from medsgssl.data.readers.columns import age_column
from medsgssl.data.readers.registry import find_source
from medsgssl.data.readers.text_table import read_header, read_text_table
from medsgssl.errors import DataError
from tests.data.readers.files import write_images

ROWS = ["image,patient,TB", "a.png,1,1", '"b, c.png",2,0']


@pytest.mark.parametrize(
    "content",
    [
        "\r\n".join(ROWS).encode("utf-8-sig"),
        "\r".join(ROWS).encode(),
        "\n".join(["", *ROWS, ""]).encode(),
        "\n".join(["sep=,", *ROWS]).encode(),
        "\n".join(['image,"patient",TB', *ROWS[1:]]).encode(),
        "\n".join([f"{row},," for row in ROWS]).encode(),
    ],
    ids=["mark", "carriage returns", "blank lines", "Excel's separator line", "quotes", "commas"],
)
def test_what_spreadsheets_write_is_read(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes(content)
    table = read_text_table(path)
    assert table.text.to_numpy().tolist() == [["a.png", "1", "1"], ["b, c.png", "2", "0"]]
    assert read_header(path)[:3] == list(table.text.columns) == ["image", "patient", "TB"]
    lines = content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    assert [lines[line - 1][:2] for line in table.lines] == ["a.", '"b']


def test_a_name_of_a_column_may_have_a_line_break(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text('image,"patient\nid",TB\na.png,1,1\n')
    table = read_text_table(path)
    assert table.column("patient") == "patient id"
    assert table.where(0) == f"{path}, line 3"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("image,patient,TB\na.png,1,1\nMüller.png,2,0\n".encode("cp1252"),
         r"line 3 is not UTF-8; as Windows-1252 it reads 'Müller.png,2,0'"),
        ("\n".join(ROWS).encode("utf-16"), "is in UTF-16"),
        (b"PK\x03\x04\x14\x00\x06\x00\x80\xff", "is an Excel workbook"),
        (b'image,patient,TB\na.png,1,1\n"b.png,2,0\nc.png,3,1\nd.png,4,1\n',
         "line 3: a quote is opened and not closed before line 5"),
        (b'image,patient,TB\n"a.png,1,1\n"b.png",2,0\nc.png,3,1\n',
         "line 2: a quote is opened and not closed before line 3"),
        (b'image,patient,TB\na.png,1,1\n"b.png,2,0\n' + b"c.png,3,1\n" * 20_000,
         "line 3: a quote is opened and not closed"),
        (b'image,"patient,TB\na.png,1,1\n', "line 1: a quote is opened"),
        (b"sep=;\nimage;patient;TB\na.png;1;1\n", "by semicolons"),
    ],
    ids=["Windows-1252", "UTF-16", "workbook", "open quote", "closed later", "large", "header",
         "semicolons"],
)  # fmt: skip
def test_what_cannot_be_read_says_what_it_is_and_where(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_text_table(path)


def test_names_are_found_in_other_letters_and_below_folders_of_another_machine(
    tmp_path: Path,
) -> None:
    names = ["Müller 1.png", "b.png", "images/c.png", "x/d.png", "y/d.png"]
    write_images(tmp_path, *(unicodedata.normalize("NFC", name) for name in names))
    cells = [
        unicodedata.normalize("NFD", "Müller 1.png"),
        "b.PNG",
        "/home/me/cxr/images/c.png",
        "C:\\cxr\\x\\d.png",
        "elsewhere/y/d",
        "/home/me/other/c.png",
    ]
    rows = [f"{cell},{number},1" for number, cell in enumerate(cells)]
    (tmp_path / "labels.csv").write_text("\n".join(["image,patient,TB", *rows, "e.png,9,0"]))
    table = find_source(tmp_path, DataSettings(labels="labels.csv")).rows().table
    assert table["path"].tolist() == [*names, "", ""]


def test_ages_may_be_fractions_of_years() -> None:
    ages, lost = age_column(pd.Series(["63.5", "0.5", "070Y", "18.0M", "1.2.3"]))
    assert ages.tolist()[:4] == [63, 0, 70, 1]
    assert lost == 1
