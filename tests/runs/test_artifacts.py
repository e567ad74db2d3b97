"""Files of a run folder are read as what they are, or refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from medsgssl.errors import DataError
from medsgssl.runs.data_summary import read_data_summary
from medsgssl.runs.metrics_file import read_metrics
from medsgssl.utils.io import read_json, write_json
from tests.study.synthetic import write_run


def test_what_a_run_writes_is_what_is_read(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", "simclr", 1.0)
    assert read_metrics(run.metrics) == read_json(run.metrics)
    assert read_data_summary(run.data) == read_json(run.data)


def test_a_metric_of_a_newer_version_is_kept(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", "simclr", 1.0)
    written = read_json(run.metrics)
    for disease in written["per_disease"].values():
        disease["net_benefit"] = 0.125
    write_json(run.metrics, written)
    assert read_metrics(run.metrics) == written


def test_the_old_name_of_the_view_position_is_read(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", "simclr", 1.0)
    written = read_json(run.metrics)
    old = read_json(run.metrics)
    for part in ("subgroups", "shortcuts"):
        assert "view_position" in old[part]
        old[part]["view"] = old[part].pop("view_position")
    write_json(run.metrics, old)
    assert read_metrics(run.metrics) == written


def test_absent_files_are_none(tmp_path: Path) -> None:
    assert read_metrics(tmp_path / "metrics.json") is None
    assert read_data_summary(tmp_path / "data.json") is None


def test_a_file_of_another_version_is_refused_in_one_line(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", "simclr", 1.0)
    written = read_json(run.metrics)
    for disease in written["per_disease"].values():
        del disease["auc_interval"]
    write_json(run.metrics, written)
    with pytest.raises(DataError) as raised:
        read_metrics(run.metrics)
    text = str(raised.value)
    assert str(run.metrics) in text
    assert "auc_interval" in text
    assert "medsgssl evaluate" in text
    assert "\n" not in text.splitlines()[0]
    assert "pydantic" not in text
