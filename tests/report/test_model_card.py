from __future__ import annotations

from pathlib import Path

from medsgssl.report.checklist import write_checklist
from medsgssl.report.model_card import write_card
from medsgssl.study.analysis import analyze
from medsgssl.utils.formatting import number
from medsgssl.utils.io import read_json
from tests.study.synthetic import write_run


def test_card_holds_the_numbers_of_its_run(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", "simclr", 1.0, settings={"evaluate": {"bootstrap": 20}})
    text = write_card(run).read_text()
    metrics = read_json(run.metrics)
    assert f"Mean AUC {number(metrics['mean_auc'])}" in text
    for name, found in metrics["per_disease"].items():
        assert f"| {name.replace('_', ' ')} | {found['positives']} | {number(found['auc'])}" in text
    assert "2 images were set aside: a.png" in text
    assert "To be filled in by the author" in text
    assert "must not guide care" in text


def test_card_of_a_run_that_is_not_evaluated(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", "simclr", 1.0)
    run.metrics.unlink()
    assert "Not evaluated yet" in write_card(run).read_text()


def test_checklist_tells_what_files_tell_and_leaves_the_rest_open(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / "one", "simclr", 1.0),
        write_run(tmp_path / "two", "mask-channel", 1.3, 4),
    ]
    analysis = analyze([run.path for run in runs])
    text = write_checklist(analysis, tmp_path).read_text()
    assert f"{len(analysis.bench.test)} images, {analysis.bench.patients} patients" in text
    assert "| Seeds | 0, 4 |" in text
    assert "mask-channel; simclr" in text
    assert text.count("To be filled in by the author") >= 4
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert all(line.count("|") == 3 for line in rows)
