from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medsgssl.data.labels import DISEASES
from medsgssl.errors import DataError, LeakError
from medsgssl.evaluation.predictions import (
    Predictions,
    differing_rows,
    label_columns,
    score_columns,
)
from medsgssl.evaluation.resampled_auc import RankedScores


def test_columns_are_those_of_the_contract(make_table):
    shuffled = make_table().sample(frac=1, axis=1, random_state=0)
    predictions = Predictions(shuffled)
    names = list(predictions.names)
    assert list(predictions.table.columns) == [
        *("image_id", "patient_id", "split", "view_position", "sex", "age"),
        *(f"label_{name}" for name in names),
        *(f"score_{name}" for name in names),
    ]
    assert [f"label_{name}" for name in names] == [
        name for name in shuffled.columns if name.startswith("label_")
    ]


def test_the_old_name_of_the_view_position_is_read(tmp_path: Path, make_table):
    table = make_table()
    table.rename(columns={"view_position": "view"}).to_parquet(tmp_path / "old.parquet")
    read = Predictions.read(tmp_path / "old.parquet").table
    assert read["view_position"].tolist() == table["view_position"].tolist()
    assert "view" not in read


def test_round_trip(tmp_path: Path, make_table):
    table = make_table()
    table.loc[3, "age"] = pd.NA
    Predictions(table).write(tmp_path / "p.parquet")
    again = Predictions.read(tmp_path / "p.parquet").table
    pd.testing.assert_frame_equal(again[table.columns], table, check_dtype=False)
    assert {str(again[name].dtype) for name in label_columns(DISEASES)} == {"uint8"}
    assert {str(again[name].dtype) for name in score_columns(DISEASES)} == {"float32"}


def test_split_shapes_and_order(make_table):
    predictions = Predictions(make_table())
    val = predictions.split("val")
    assert len(val) == 80
    assert val.labels.shape == val.scores.shape == (80, 14)
    assert val.labels.dtype == np.float32
    assert val.scores.dtype == np.float64
    expected = predictions.table.query("split == 'val'")["score_Hernia"].to_numpy()
    np.testing.assert_array_equal(val.scores[:, 13], expected.astype(np.float64))
    assert sorted(set(val.patients)) == list(range(20))


def test_patient_codes_do_not_depend_on_row_order(make_table):
    table = make_table()
    shuffled = table.sample(frac=1, random_state=1)
    one, two = (Predictions(t).split("test") for t in (table, shuffled))
    codes = dict(zip(one.table["image_id"], one.patients, strict=True))
    assert [codes[name] for name in two.table["image_id"]] == two.patients.tolist()


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("score_Mass", 1.5, "probability"),
        ("score_Mass", -0.1, "probability"),
        ("score_Mass", np.nan, "probability"),
        ("label_Mass", 2, "0, 1 or missing"),
        ("split", "holdout", "split"),
        ("view_position", "pa", "view_position"),
        ("sex", "X", "sex"),
        ("patient_id", "", "patient_id"),
        ("image_id", "00000001_000.png", "more than once"),
    ],
)
def test_bad_values_are_named(make_table, column, value, message):
    table = make_table()
    table.loc[0, column] = value
    with pytest.raises(DataError, match=message):
        Predictions(table)


def test_text_in_a_score_is_named(make_table):
    table = make_table()
    table["score_Mass"] = table["score_Mass"].astype(str)
    with pytest.raises(DataError, match="not a number"):
        Predictions(table)


@pytest.mark.parametrize("name", ["score_Hernia", "age"])
def test_missing_column_is_named(make_table, name):
    with pytest.raises(DataError, match=name):
        Predictions(make_table().drop(columns=name))


def test_unexpected_column_is_named(make_table):
    with pytest.raises(DataError, match="score_Covid"):
        Predictions(make_table().assign(label_Covid=0))


def test_empty_table(make_table):
    with pytest.raises(DataError, match="no image"):
        Predictions(make_table().iloc[:0])


def test_patient_in_two_splits_is_a_leak(make_table):
    table = make_table()
    table.loc[0, "split"] = "test"
    with pytest.raises(LeakError, match="1 patient has"):
        Predictions(table)


def test_missing_file_and_damaged_file(tmp_path: Path):
    with pytest.raises(DataError, match="does not exist"):
        Predictions.read(tmp_path / "none.parquet")
    (tmp_path / "bad.parquet").write_bytes(b"not parquet")
    with pytest.raises(DataError, match="not a Parquet table"):
        Predictions.read(tmp_path / "bad.parquet")


def test_absent_split_is_named(make_table):
    predictions = Predictions(make_table())
    assert not predictions.has("train")
    with pytest.raises(DataError, match="'train'"):
        predictions.split("train")


def test_unknown_labels_have_no_part_in_a_class_and_stay_unknown(tmp_path: Path, make_table):
    table = make_table()
    rows = table.index[table["split"] == "test"][::3]
    table["label_Mass"] = table["label_Mass"].astype(float)
    table.loc[rows, "label_Mass"] = np.nan
    Predictions(table).write(tmp_path / "p.parquet")
    test = Predictions.read(tmp_path / "p.parquet").split("test")
    place = test.names.index("Mass")
    column = test.column(place)
    assert test.unknown()[place] == len(rows) == (~column.known).sum()
    assert len(column.labels) == len(test) - len(rows)
    ranked = RankedScores(test.labels, test.scores).auc()[0, place]
    alone = RankedScores(column.labels[:, None], column.scores[:, None]).auc()[0, 0]
    assert ranked == alone
    assert differing_rows(test.table["label_Mass"], test.table["label_Mass"]) == 0
