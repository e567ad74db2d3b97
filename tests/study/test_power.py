"""The smallest difference that a study could find, told before anything is trained."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medsgssl.cli.app import app
from medsgssl.data.synthetic.dataset import generate_phantoms
from medsgssl.errors import ConfigError, DataError
from medsgssl.evaluation.jackknife import Statistic
from medsgssl.evaluation.spread import pooled_spread
from medsgssl.study.power import SEED_SD, describe_power, study_power
from medsgssl.study.score_model import ScoreModel, draw_runs, unscored
from medsgssl.study.statistics import ResampledTestSet, paired
from medsgssl.study.tested_images import StudyImages

MEASURED = Path(__file__).parents[2] / "docs" / "results" / "defaults" / "results.jsonl"


def _tested(patients: int = 300, folds: int = 0, share: float = 0.2) -> StudyImages:
    """Two images of each patient, three classes."""
    rng = np.random.default_rng(0)
    owner = np.repeat(np.arange(patients), 2)
    labels = (rng.random((len(owner), 3)) < share).astype(np.float32)
    parts = [owner % folds == fold for fold in range(folds)] or [np.ones(len(owner), bool)]
    names = pd.Series(owner).astype(str)
    return StudyImages(("a", "b", "c"), labels, names, tuple(parts))


def test_more_is_found_with_more_patients_fewer_comparisons_and_steadier_training() -> None:
    few, many = (study_power(_tested(count), seeds=3, studies=4) for count in (200, 800))
    shaky = study_power(_tested(200), seeds=3, studies=4, seed_sd=0.05)
    for one in (few, many):
        found = [family.detectable for family in one.families]
        assert found == sorted(found)
    for ours, more, loose in zip(few.families, many.families, shaky.families, strict=True):
        assert more.detectable < 0.7 * ours.detectable
        assert loose.detectable > ours.detectable
        assert ours.margin > ours.standard_error


@pytest.mark.parametrize("folds", [0, 5])
def test_four_of_five_studies_find_the_difference_that_is_told(folds: int) -> None:
    tested = _tested(folds=folds)
    seeds = None if folds else 3
    told = study_power(tested, seeds=seeds, comparisons=[1], studies=20).families[0].detectable
    tests = [
        unscored(tested.names, tested.labels[part], tested.patients[part]) for part in tested.parts
    ]
    bench = ResampledTestSet(tests, folds=range(folds), primary=tested.primary)
    model = ScoreModel(run_sd=SEED_SD, disease_sd=0.0)
    hits = 0
    for number in range(100):
        arms: list[dict[int, Statistic]] = [{}, {}]
        random = np.random.default_rng(number)
        for run in draw_runs(tests, model, [told], random, seeds=3, folds=folds > 0):
            scores = bench.jackknife(run.scores, run.repeat if folds else None)
            arms[run.arm][run.repeat] = scores.mean_auc(tested.primary)
        interval = bench.effect(paired(arms[1], arms[0]), pooled=bench.spread(arms)).interval(0.05)
        hits += interval is not None and interval[0] > 0
    assert 0.68 <= hits / 100 <= 0.92


def test_folds_are_tested_apart() -> None:
    found = study_power(_tested(folds=4), comparisons=[2], studies=2)
    assert (found.repeats, found.folds, found.patients) == (4, True, 300)
    assert "4 folds" in describe_power(found)[0]


def test_what_is_not_judged_is_refused() -> None:
    with pytest.raises(ConfigError, match="2 seeds"):
        study_power(_tested(), seeds=2)
    with pytest.raises(DataError, match="no disease has 20"):
        study_power(_tested(patients=60, share=0.02), seeds=3)


def test_the_assumed_spread_is_that_of_the_committed_runs() -> None:
    rows = [json.loads(line) for line in MEASURED.read_text().splitlines()]
    arms: dict[str, dict[int, Statistic]] = {}
    for row in rows:
        if row["job"]["phase"] == "finetune-views":
            score = row["epochs"][-1]["raw"]["score"]
            arm = arms.setdefault(row["job"].get("views", "no pretraining"), {})
            arm[row["job"]["seed"]] = Statistic(score, np.zeros(1))
    spread = pooled_spread(list(arms.values()), folds=False)
    assert spread is not None
    assert len(arms) == 3
    assert np.sqrt(spread.variance / 2) == pytest.approx(SEED_SD, abs=5e-5)


def test_the_command_says_why_nothing_could_be_found(tmp_path: Path) -> None:
    data = generate_phantoms(tmp_path / "data", 40, size=32)
    with pytest.raises(DataError, match="no disease has 20 positive test patients"):
        app(["study", "power", "--data", str(data), "--seeds", "3"], standalone_mode=False)
    with pytest.raises(ConfigError, match="either seeds or folds"):
        app(["study", "power", "--data", str(data)], standalone_mode=False)
