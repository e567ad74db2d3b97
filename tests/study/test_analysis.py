from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medsgssl.config.schema import EvaluateSettings
from medsgssl.data.labels import DISEASES
from medsgssl.errors import ConfigError, DataError
from medsgssl.evaluation.paired import compare
from medsgssl.evaluation.predictions import Predictions
from medsgssl.evaluation.seeds import compare_methods, summarize
from medsgssl.report.study_tables import study_tables
from medsgssl.report.tables import write_tables
from medsgssl.runs.folder import RunFolder
from medsgssl.study.analysis import Analysis, analyze
from medsgssl.study.planning import make_plan
from medsgssl.utils.io import write_json
from tests.study.synthetic import RARE, cohort, write_run

DRAWS = 200


def _analyze(*runs: RunFolder) -> Analysis:
    return analyze([run.path for run in runs], resamples=DRAWS)


def test_better_scores_help_worse_ones_hurt_and_equal_ones_show_nothing(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / f"simclr{s}", "simclr", 1.0, s) for s in range(3)]
    for method, skill in (("masked-contrastive", 1.5), ("multi-region", 0.5), ("mask-channel", 1)):
        runs += [write_run(tmp_path / f"{method}{s}", method, skill, 3 + s) for s in range(3)]
    found = _analyze(*runs)
    words = {verdict.label: verdict.word for verdict in found.verdicts}
    assert words == {
        "masked-contrastive": "helps",
        "multi-region": "hurts",
        "mask-channel": "no difference shown",
    }
    sentence = next(v.sentence for v in found.verdicts if v.label == "masked-contrastive")
    assert sentence.startswith("masked-contrastive against simclr: helps with 100\u202f% of the")
    low, high = next(c for c in found.comparisons if c.arm.label == "mask-channel").mean.interval  # type: ignore[misc]
    assert low < 0 < high


def test_one_seed_equals_the_paired_evaluation(tmp_path: Path) -> None:
    a = write_run(tmp_path / "a", "masked-contrastive", 1.2, 1)
    b = write_run(tmp_path / "b", "simclr", 1.0, 0)
    found = _analyze(a, b)
    (comparison,) = found.comparisons
    wanted = compare(
        Predictions.read(a.predictions), Predictions.read(b.predictions),
        EvaluateSettings(bootstrap=DRAWS), seed=0,
    )  # fmt: skip
    assert comparison.mean.value == pytest.approx(wanted["mean_auc_difference"], abs=1e-12)
    assert comparison.mean.interval == pytest.approx(wanted["interval"], abs=1e-12)
    assert comparison.mean.p == wanted["p"]
    for name in DISEASES:
        entry, pair = wanted["per_disease"][name], comparison.diseases[name]
        assert pair.difference.value == pytest.approx(entry["difference"], abs=1e-12)
        assert pair.difference.p == pytest.approx(entry["p"])
        assert pair.holm == pytest.approx(entry["p_holm"])
    assert any("One seed" in text for text in found.verdicts[0].cautions)


def test_several_seeds_equal_the_evaluation_over_seeds(tmp_path: Path) -> None:
    ours = [write_run(tmp_path / f"a{s}", "masked-contrastive", 1.2, s) for s in range(3)]
    theirs = [write_run(tmp_path / f"b{s}", "simclr", 1.0, s) for s in range(3)]
    found = _analyze(*ours, *theirs)
    test = found.bench.test
    scores = [[run.test.scores for run in arm.runs] for arm in found.arms]
    assert [arm.label for arm in found.arms] == ["masked-contrastive", "simclr"]
    kwargs = {"resamples": DRAWS, "confidence": 0.95, "seed": 0}
    both = compare_methods(test.labels, scores[0], scores[1], test.patients, **kwargs)  # type: ignore[arg-type]
    (comparison,) = found.comparisons
    assert comparison.mean.value == pytest.approx(both.difference, abs=1e-12)
    assert comparison.mean.interval == pytest.approx(both.interval.pair(), abs=1e-12)
    assert comparison.mean.p == pytest.approx(both.p)
    alone = summarize(test.labels, scores[0], test.patients, **kwargs)  # type: ignore[arg-type]
    mean = found.means["masked-contrastive", 1.0]["auc"]
    assert mean.value == pytest.approx(alone.mean, abs=1e-12)
    assert mean.sd == pytest.approx(alone.sd)
    assert mean.interval == pytest.approx(alone.interval.pair(), abs=1e-12)
    assert set(comparison.diseases["Mass"].delong) == {0, 1, 2}


def test_anatomy_is_claimed_against_mask_controls_alone(tmp_path: Path) -> None:
    def cautions(shuffled: float | None, name: str) -> str:
        place = tmp_path / name
        runs = [
            write_run(place / "s", "simclr", 1.0),
            write_run(place / "m", "masked-contrastive", 1.6),
        ]
        if shuffled is not None:
            control = write_run(place / "c", "masked-contrastive", shuffled, 5, masks="shuffled")
            runs.append(control)
        verdict = next(v for v in _analyze(*runs).verdicts if v.label == "masked-contrastive")
        assert verdict.word == "helps"
        return " ".join(verdict.cautions)

    assert "No mask control was run" in cautions(None, "without")
    assert "no gain may be put down to anatomy" in cautions(1.6, "equal")
    assert "so the anatomy itself helps" in cautions(1.0, "worse")


def test_twins_controls_and_plain_training_are_compared(tmp_path: Path) -> None:
    found = _analyze(
        write_run(tmp_path / "a", "masked-contrastive", 1.2),
        write_run(tmp_path / "b", "masked-contrastive", 1.1, no_pretrain=True),
        write_run(tmp_path / "c", "masked-contrastive", 1.1, masks="random-blob"),
        write_run(tmp_path / "d", "simclr", 1.0),
        write_run(tmp_path / "e", "direct", 0.9),
    )
    pairs = {(item.kind, item.arm.label, item.against.label) for item in found.comparisons}
    method = "masked-contrastive"
    assert pairs == {
        ("control", method, "simclr"),
        ("control", f"{method} direct", "simclr"),
        ("control", f"{method}, random-blob masks", "simclr"),
        ("control", "direct", "simclr"),
        ("twin", method, f"{method} direct"),
        ("masks", method, f"{method}, random-blob masks"),
        ("direct", "simclr", "direct"),
    }
    assert {verdict.label for verdict in found.verdicts} == {method, "simclr"}


def test_fractions_are_compared_one_by_one(tmp_path: Path) -> None:
    runs = []
    for fraction, skill in ((0.1, 1.6), (1.0, 1.0)):
        runs += [
            write_run(tmp_path / f"s{fraction}", "simclr", 1.0, fraction=fraction),
            write_run(tmp_path / f"m{fraction}", "mask-channel", skill, 1, fraction=fraction),
        ]
    (verdict,) = _analyze(*runs).verdicts
    assert [part.word for part in verdict.parts] == ["no difference shown", "helps"]
    assert "; helps with 10\u202f% of the labels" in verdict.sentence


@pytest.mark.parametrize("what", ["images", "labels", "patients", "split", "revision"])
def test_runs_that_do_not_compare_are_refused(tmp_path: Path, what: str) -> None:
    other = cohort()
    if what == "images":
        other = other.iloc[:-1]
    if what == "labels":
        row = other.index[other["split"] == "test"][0]
        other.loc[row, "label_Mass"] = 1 - other.loc[row, "label_Mass"]
    if what == "patients":
        other.loc[other["patient_id"] == "1", "patient_id"] = "x"
    a = write_run(tmp_path / "one", "simclr", 1.0)
    revision = "2020" if what == "revision" else "2017"
    b = write_run(tmp_path / "two", "mask-channel", 1.0, table=other, revision=revision)
    if what == "split":
        table = pd.read_parquet(b.split)
        table.loc[table["split"] == "val", "split"] = "train"
        table.to_parquet(b.split)
    with pytest.raises(DataError) as error:
        _analyze(a, b)
    assert str(a.path) in error.value.problem
    assert str(b.path) in error.value.problem


def test_a_run_given_twice_is_no_second_seed(tmp_path: Path) -> None:
    a = write_run(tmp_path / "one", "simclr", 1.0)
    b = write_run(tmp_path / "two", "simclr", 1.0)
    with pytest.raises(DataError, match="same configuration with the same seed"):
        _analyze(a, b)


def test_runs_that_differ_in_a_setting_are_two_arms(tmp_path: Path) -> None:
    warmer = {"method": {"temperature": 0.5}}
    found = _analyze(
        write_run(tmp_path / "one", "simclr", 1.0),
        write_run(tmp_path / "two", "simclr", 1.0, 1, settings=warmer),
    )
    assert len(found.arms) == 2
    assert found.arms[1].label == "simclr (method.temperature=0.5)"
    assert any("no arm 'simclr'" in text for text, _ in found.warnings)


def test_unequal_budgets_are_said(tmp_path: Path) -> None:
    found = _analyze(
        write_run(tmp_path / "one", "simclr", 1.0),
        write_run(tmp_path / "two", "mask-channel", 1.0, settings={"finetune": {"epochs": 7}}),
    )
    assert any("finetune.epochs: 7 against 50" in text for text in found.verdicts[0].cautions)


def test_a_disease_too_rare_for_intervals_leaves_the_mean(tmp_path: Path) -> None:
    table = cohort(rare=True)
    table.loc[table["patient_id"].isin(["1"]), f"label_{RARE}"] = 1
    found = _analyze(
        write_run(tmp_path / "one", "simclr", 1.0, table=table),
        write_run(tmp_path / "two", "mask-channel", 2.0, table=table),
    )
    assert int(found.bench.headline.sum()) == 13
    assert found.verdicts[0].word == "helps"
    assert any("Means are over the 13 diseases" in text for text, _ in found.warnings)


def test_a_study_says_what_is_missing(tmp_path: Path) -> None:
    plan = make_plan(tmp_path / "data", ["simclr", "mask-channel"], seeds=1)
    plan.save(tmp_path)
    write_run(tmp_path / "runs" / "simclr-s0-f1", "simclr", 1.0)
    write_json(tmp_path / "failures.json", {"mask-channel-s0-f1": {"problem": "no room"}})
    found = analyze([tmp_path], resamples=DRAWS)
    assert found.collected.missing == {"mask-channel-s0-f1": "no room"}
    assert any("mask-channel-s0-f1 is missing: no room" in text for text, _ in found.warnings)


def test_nothing_to_compare_is_an_error(tmp_path: Path) -> None:
    make_plan(tmp_path / "data", ["simclr"], seeds=1).save(tmp_path)
    with pytest.raises(ConfigError, match="no finished run"):
        analyze([tmp_path])


def test_tables_hold_the_numbers_of_the_analysis(tmp_path: Path) -> None:
    found = _analyze(
        write_run(tmp_path / "one", "simclr", 1.0),
        write_run(tmp_path / "two", "mask-channel", 1.3, 1),
    )
    tables = study_tables(found)
    row = tables["comparisons"].frame().iloc[0]
    assert (row["difference_low"], row["difference_high"]) == found.comparisons[0].mean.interval
    diseases = tables["diseases"].frame()
    assert diseases["disease"].tolist() == list(DISEASES)
    mean = diseases["difference"].mean()
    assert mean == pytest.approx(row["difference"], abs=1e-12)
    assert set(tables["subgroups"].frame()["of"]) == {"sex", "age", "view"}
    written = {path.name for path in write_tables(list(tables.values()), tmp_path / "report")}
    assert {"means.csv", "means.tex", "diseases.csv", "diseases.tex", "runs.csv"} <= written
    again = pd.read_csv(tmp_path / "report" / "diseases.csv")
    assert np.allclose(again["difference"], diseases["difference"])
    lines = (tmp_path / "report" / "diseases.tex").read_text().splitlines()
    assert sum(line.endswith(r"\\") for line in lines) == 15
    assert all(line.count("&") == 7 for line in lines if line.endswith(r"\\"))
    assert "Pleural Thickening" in "\n".join(lines)
