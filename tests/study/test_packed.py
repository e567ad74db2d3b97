"""A packed study gives the same report, and goes on where it was packed."""

from __future__ import annotations

import filecmp
import shutil
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from medsgssl.errors import DataError
from medsgssl.report.results_page import write_results
from medsgssl.report.study_page import write_study_report
from medsgssl.runs.folder import RunFolder
from medsgssl.study.packed import is_packed, pack_study, unpack_study
from medsgssl.study.plan import StudyPlan, run_folder
from medsgssl.study.plan_builder import make_plan
from medsgssl.study.runner import is_complete
from medsgssl.utils.io import write_json, write_text
from tests.study.synthetic import write_run

METHODS = {"direct": 0.6, "simclr": 1.0, "masked-contrastive": 1.5}


def _finish(run: RunFolder) -> None:
    for stage in ("predict", "evaluate"):
        run.mark(stage, "key", 2.0)  # type: ignore[arg-type]


@pytest.fixture
def study(tmp_path: Path) -> Path:
    folder = tmp_path / "study"
    plan = make_plan(tmp_path / "data", list(METHODS), seeds=3)
    plan.save(folder)
    for planned in plan.runs:
        run = run_folder(folder, planned.name)
        if planned.pretrains:
            write_text(run.pretrain_log, f"epoch,contrast\n0,{planned.seed}.5\n")
            write_json(run.pretrain_warnings, [f"near chance in {planned.name}"])
            write_text(run.config, f"method_name: {planned.method}\n")
            continue
        settings = {"data": {"root": str(tmp_path / "data")}}
        write_run(
            run.path,
            planned.method,
            METHODS[planned.method],
            planned.seed,
            no_pretrain=planned.no_pretrain,
            settings=settings,
        )
        _finish(run)
    return folder


def test_the_report_of_a_packed_study_is_that_of_the_study(study: Path, tmp_path: Path) -> None:
    packed = tmp_path / "packed"
    pack_study(study, packed)
    assert is_packed(packed)
    assert not is_packed(study)
    write_study_report([study])
    write_study_report([packed])
    for name in ("comparisons.csv", "means.csv", "diseases.csv", "runs.csv"):
        assert filecmp.cmp(study / "report" / name, packed / "report" / name, shallow=False), name
    pages = [write_results([place], tmp_path / f"{place.name}.md") for place in (study, packed)]
    assert pages[0].read_text() == pages[1].read_text()


def test_a_packed_run_holds_predictions_configuration_and_logs_and_no_place(
    study: Path, tmp_path: Path
) -> None:
    packed = tmp_path / "packed"
    written = pack_study(study, packed)
    assert len(written) == 9
    table = pq.read_table(packed / "simclr-s1-f1.parquet")
    kept = {key.decode(): text.decode() for key, text in table.schema.metadata.items()}
    assert kept["medsgssl:pretrain/pretrain_log.csv"] == "epoch,contrast\n0,1.5\n"
    assert "near chance in simclr-s1-pretrain" in kept["medsgssl:pretrain/pretrain_warnings.json"]
    assert "method_name: simclr" in kept["medsgssl:config.yaml"]
    assert not [key for key, text in kept.items() if str(tmp_path) in text]
    expected = pd.read_parquet(run_folder(study, "simclr-s1-f1").predictions)
    pd.testing.assert_frame_equal(table.to_pandas(), expected)


def test_an_unpacked_study_is_complete_but_for_what_was_missing(
    study: Path, tmp_path: Path
) -> None:
    plan = StudyPlan.load(study)
    missing = run_folder(study, "simclr-s2-f1")
    missing.predictions.unlink()
    packed, again = tmp_path / "packed", tmp_path / "again"
    pack_study(study, packed)
    unpack_study(packed, again)
    complete = {
        planned.name: is_complete(run_folder(again, planned.name), planned)
        for planned in plan.runs
        if not planned.pretrains
    }
    assert [name for name, whole in complete.items() if not whole] == ["simclr-s2-f1"]
    # The data may lie elsewhere; nothing else may differ.
    moved = make_plan(tmp_path / "elsewhere", list(METHODS), seeds=3)
    assert moved.joined(again).data == str(tmp_path / "elsewhere")


def test_a_study_is_packed_piece_by_piece_but_not_over_another(study: Path, tmp_path: Path) -> None:
    packed = tmp_path / "packed"
    pack_study(study, packed)
    run_folder(study, "direct-s0-f1").metrics.unlink()
    assert len(pack_study(study, packed)) == 8
    assert (packed / "direct-s0-f1.parquet").is_file()
    other = tmp_path / "other"
    make_plan(tmp_path / "data", ["simclr"], seeds=4).save(other)
    with pytest.raises(DataError, match="another study"):
        pack_study(other, packed)


def test_a_packed_plan_names_no_place_and_goes_on_from_another(tmp_path: Path) -> None:
    def plan(place: str) -> StudyPlan:
        items = [f"data.cache_dir={tmp_path / place}", f"encoder.weights={tmp_path / place / 'w'}"]
        return make_plan(tmp_path / place, ["direct"], seeds=3, items=items)

    first = plan("here")
    first.save(tmp_path / "study")
    pack_study(tmp_path / "study", tmp_path / "packed")
    assert str(tmp_path) not in (tmp_path / "packed" / "study.json").read_text(encoding="utf-8")
    assert StudyPlan.load(tmp_path / "packed").hash == first.hash
    unpack_study(tmp_path / "packed", tmp_path / "again")
    going_on = plan("there").joined(tmp_path / "again")
    assert going_on.settings == plan("there").settings
    assert going_on.hash == first.hash


def test_a_study_that_was_extended_is_packed_over_what_it_was(study: Path, tmp_path: Path) -> None:
    packed, larger = tmp_path / "packed", tmp_path / "larger"
    pack_study(study, packed)
    shutil.copytree(study, larger)
    plan = StudyPlan.load(larger)
    more = make_plan(Path(plan.data), list(METHODS), seeds=3, fractions=(0.5, 1.0))
    more.joined(larger).save(larger)
    pack_study(larger, packed)
    assert StudyPlan.load(packed).earlier == (plan.hash,)
    with pytest.raises(DataError, match="another study"):
        pack_study(study, packed)  # the smaller plan would take the larger one's place


def test_a_damaged_file_is_named(study: Path, tmp_path: Path) -> None:
    packed = tmp_path / "packed"
    pack_study(study, packed)
    target = packed / "direct-s0-f1.parquet"
    target.write_bytes(target.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"direct-s0-f1\.parquet cannot be read"):
        write_study_report([packed])
