from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from medsgssl.data.labels import DISEASES
from medsgssl.errors import ConfigError, DataError
from medsgssl.evaluation.metrics import auc_per_class
from medsgssl.report.study_tables import build_study_tables
from medsgssl.report.tables import write_tables
from medsgssl.report.verdict_rows import family_text
from medsgssl.runs.folder import RunFolder
from medsgssl.study.analysis import Analysis, analyze
from medsgssl.study.plan import StudyPlan
from medsgssl.study.plan_builder import make_plan
from medsgssl.study.verdict import anatomy
from medsgssl.utils.io import write_json
from tests.study.synthetic import RARE, cohort, write_run

SEEDS = 3


def _analyze(*runs: RunFolder) -> Analysis:
    return analyze([run.path for run in runs])


def _arm(place: Path, method: str, skill: float, **options: object) -> list[RunFolder]:
    """Write one run per seed; scores of equal skill differ by noise alone."""
    seeds = range(int(options.pop("seeds", SEEDS)))  # type: ignore[call-overload]
    return [write_run(place / f"{method}-{s}", method, skill, s, **options) for s in seeds]  # type: ignore[arg-type]


def test_better_scores_help_worse_ones_hurt_and_equal_ones_do_neither(tmp_path: Path) -> None:
    runs = _arm(tmp_path, "simclr", 1.0)
    for method, skill in (("masked-contrastive", 1.5), ("multi-region", 0.5), ("mask-channel", 1)):
        runs += _arm(tmp_path, method, skill, noise=method)
    found = _analyze(*runs)
    words = {verdict.label: verdict.word for verdict in found.verdicts}
    assert words["masked-contrastive"] == "helps"
    assert words["multi-region"] == "hurts"
    assert words["mask-channel"] in ("undecided", "equivalent")
    sentence = next(v.sentence for v in found.verdicts if v.label == "masked-contrastive")
    assert sentence.startswith("masked-contrastive against simclr: helps with 100\u202f% of the")
    for verdict in found.primary:
        alone = verdict.comparison.mean.interval
        assert verdict.interval is not None
        assert alone is not None
        # What a word rests on is wider than the interval of one comparison.
        assert verdict.interval[0] < alone[0] < alone[1] < verdict.interval[1]


def test_equal_scores_are_equivalent_within_a_margin_that_they_can_show(tmp_path: Path) -> None:
    runs = [
        *_arm(tmp_path, "simclr", 1.0, noise="a"),
        *_arm(tmp_path, "mask-channel", 1.0, noise="b"),
    ]
    folders = [run.path for run in runs]
    wide, narrow = (analyze(folders, margin=margin) for margin in (0.1, 0.0001))
    assert wide.verdicts[0].word == "equivalent"
    assert narrow.verdicts[0].word == "undecided"
    assert "could have found" in narrow.verdicts[0].sentence


def test_a_gain_inside_the_margin_is_said_to_be_small(tmp_path: Path) -> None:
    runs = [*_arm(tmp_path, "simclr", 1.0), *_arm(tmp_path, "mask-channel", 1.2)]
    (verdict,) = analyze([run.path for run in runs], margin=0.3).verdicts
    assert verdict.word == "helps"
    assert "helps (by less than the margin)" in verdict.sentence


@pytest.mark.parametrize("seeds", [1, 2])
def test_fewer_than_three_seeds_are_not_judged(tmp_path: Path, seeds: int) -> None:
    runs = [
        *_arm(tmp_path, "simclr", 1.0, seeds=seeds),
        *_arm(tmp_path, "mask-channel", 3.0, seeds=seeds),
    ]
    found = _analyze(*runs)
    assert found.verdicts[0].word == "not judged"
    assert found.primary[0].interval is None
    mean, mass = found.primary[0].comparison.mean, found.primary[0].comparison.disease_aucs["Mass"]
    for one in (mean, mass):  # an interval would hold other variances than that of three seeds
        assert one.value is not None
        assert (one.interval, one.p) == (None, None)
    assert any("fewer than 3 common seeds" in text for text, _ in found.warnings)


def test_differences_are_paired_by_seed(tmp_path: Path) -> None:
    """Seeds that both arms have count; their differences are the unit."""
    ours = _arm(tmp_path, "masked-contrastive", 1.2, seeds=4)
    theirs = _arm(tmp_path, "simclr", 1.0, seeds=3)
    found = _analyze(*ours, *theirs)
    (comparison,) = found.with_control()
    assert comparison.repeats == 3

    def means(arm: str) -> np.ndarray:
        (wanted,) = [one for one in found.arms if one.label == arm]
        return np.array(
            [auc_per_class(run.test.labels, run.test.scores).mean() for run in wanted.runs]
        )

    pairs = means("masked-contrastive")[:3] - means("simclr")
    effect = comparison.effect
    assert effect is not None
    assert list(effect.values) == pytest.approx(pairs)
    assert effect.training == pytest.approx(pairs.var(ddof=1) / 3)
    assert comparison.mean.value == pytest.approx(pairs.mean())
    reach = stats.t.ppf(0.975, effect.df) * effect.standard_error
    assert comparison.mean.interval == pytest.approx((pairs.mean() - reach, pairs.mean() + reach))
    assert any("differ in seeds" in text for text, _ in found.warnings)


def test_anatomy_is_claimed_against_mask_controls_alone(tmp_path: Path) -> None:
    def caveats(shuffled: float | None, name: str, skill: float = 1.6) -> str:
        place = tmp_path / name
        runs = [*_arm(place, "simclr", 1.0), *_arm(place, "masked-contrastive", skill)]
        if shuffled is not None:
            runs += _arm(place / "c", "masked-contrastive", shuffled, masks="shuffled")
        verdict = next(v for v in _analyze(*runs).verdicts if v.label == "masked-contrastive")
        return " ".join(verdict.caveats)

    assert "No mask control was run" in caveats(None, "without")
    assert "no gain may be attributed to anatomy" in caveats(1.6, "equal")
    assert "so the anatomy itself helps" in caveats(1.0, "worse")
    # Only after a gain over the control: nothing is tested where there is none to attribute.
    assert "not tested" in caveats(0.5, "no gain", skill=1.0)


def test_every_mask_control_has_to_be_there_and_one_has_to_be_a_mask(tmp_path: Path) -> None:
    runs = [*_arm(tmp_path, "simclr", 1.0), *_arm(tmp_path, "masked-contrastive", 1.6)]
    for masks in ("none", "shuffled", "random-blob"):
        runs += _arm(tmp_path / masks, "masked-contrastive", 1.0, masks=masks)
    found = _analyze(*runs)
    (verdict,) = [one for one in found.primary if one.word == "helps"]

    def told(*masks: str, listed: tuple[str, ...] = ()) -> str:
        kept = [
            one for one in found.comparisons if one.kind != "masks" or one.against.masks in masks
        ]
        return anatomy(verdict, kept, found.bench, listed)

    assert told("none", "shuffled", "random-blob").endswith("so the anatomy itself helps.")
    assert "random-blob masks, the strictest control, were not run" in told("shuffled")
    assert "no gain may be attributed to anatomy" in told("none")
    both = ("shuffled", "random-blob")
    assert "but random-blob, in the plan, has no results" in told("shuffled", listed=both)
    assert told(*both, listed=both).endswith("so the anatomy itself helps.")


def test_baselines_controls_and_plain_training_are_compared(tmp_path: Path) -> None:
    def run(
        name: str, method: str, epochs: int = 15, frame: str | None = None, **options: object
    ) -> RunFolder:
        tree: dict[str, object] = {"pretrain": {"epochs": epochs}}
        tree |= {"views": {"frame": frame}} if frame else {}
        return write_run(tmp_path / name, method, 1.0, settings=tree, **options)  # type: ignore[arg-type]

    found = _analyze(
        # Three views of an image, where the others see two.
        run("a", "guided-crop", epochs=10),
        run("b", "guided-crop", epochs=10, no_pretrain=True),
        run("c", "guided-crop", epochs=10, masks="random-blob"),
        run("d", "simclr"),
        run("e", "direct"),
        run("f", "masked-contrastive"),
        run("g", "simclr", frame="lung-box"),
    )
    pairs = {(item.kind, item.arm.label, item.against.label) for item in found.comparisons}
    method, other = "guided-crop", "masked-contrastive"
    blobs = f"{method}, random-blob masks"
    assert pairs == {
        # Each is judged in its own frame.
        ("control", method, "simclr (lung-box)"),
        ("control", blobs, "simclr (lung-box)"),
        ("control", other, "simclr (image)"),
        ("baseline", method, f"{method} without pretraining"),
        ("baseline", other, "direct"),
        ("baseline", "simclr (image)", "direct"),
        ("masks", method, blobs),
    }
    assert {verdict.label for verdict in found.verdicts} == {method, other}
    assert {verdict.label for verdict in found.baseline_verdicts} == {
        method,
        other,
        "simclr (image)",
    }


def test_each_method_is_judged_against_the_control_of_its_own_network(tmp_path: Path) -> None:
    vit = {"encoder": {"name": "vit_tiny_patch16_224"}}
    found = _analyze(
        write_run(tmp_path / "a", "simclr", 1.0),
        write_run(tmp_path / "b", "simclr", 1.0, settings=vit),
        write_run(tmp_path / "c", "mask-channel", 1.0),
        write_run(tmp_path / "d", "mask-channel", 1.0, settings=vit),
    )
    pairs = {(one.arm.label, one.against.label) for one in found.with_control()}
    tiny, usual = "vit_tiny_patch16_224", "mobilenetv2_100"
    assert pairs == {(f"mask-channel ({net})", f"simclr ({net})") for net in (tiny, usual)}


@pytest.mark.parametrize(
    "settings",
    [
        {"encoder": {"name": "vit_tiny_patch16_224"}},
        {"data": {"img_size": 64}},
        {"finetune": {"epochs": 7}},
        {"pretrain": {"epochs": 7}},
    ],
)
def test_arms_that_differ_in_more_than_the_method_are_never_judged(
    tmp_path: Path, settings: dict[str, object]
) -> None:
    found = _analyze(
        write_run(tmp_path / "a", "simclr", 1.0),
        write_run(tmp_path / "b", "mask-channel", 1.0, settings=settings),
    )
    assert found.comparisons == []
    (text,) = [text for text, _ in found.warnings if text.startswith("Not judged, because no")]
    assert text.endswith("): mask-channel")
    ((part, below),) = settings.items()
    assert f"{part}.{next(iter(below))}" in text  # type: ignore[call-overload]


def test_the_control_sees_as_many_views(tmp_path: Path) -> None:
    """guided-crop sees three views of an image where simclr sees two."""

    def judged(epochs: int) -> bool:
        place = tmp_path / str(epochs)
        tree = {"pretrain": {"epochs": epochs}, "views": {"frame": "lung-box"}}
        runs = (
            write_run(place / "a", "simclr", 1.0, settings=tree),
            write_run(place / "b", "guided-crop", 1.0, settings={"pretrain": {"epochs": 10}}),
        )
        return bool(_analyze(*runs).with_control())

    assert judged(15)
    assert not judged(10)


def test_a_tuned_learning_rate_is_judged_and_said(tmp_path: Path) -> None:
    found = _analyze(
        write_run(tmp_path / "a", "simclr", 1.0, settings={"pretrain": {"lr": 0.001}}),
        write_run(tmp_path / "b", "mask-channel", 1.0, settings={"pretrain": {"lr": 0.01}}),
    )
    assert "Tuned for each of the two: pretrain.lr." in found.verdicts[0].caveats


def test_fractions_are_one_family(tmp_path: Path) -> None:
    runs = []
    for fraction, skill in ((0.1, 1.6), (1.0, 1.0)):
        place = tmp_path / str(fraction)
        runs += _arm(place, "simclr", 1.0, fraction=fraction)
        runs += _arm(place, "mask-channel", skill, fraction=fraction, noise="m")
    found = _analyze(*runs)
    (verdict,) = found.verdicts
    assert [part.comparison.arm.fraction for part in verdict.parts] == [1.0, 0.1]
    assert verdict.parts[1].word == "helps"
    assert "; helps with 10\u202f% of the labels" in verdict.sentence
    assert len(found.primary) == 2


def test_folds_are_tested_on_their_own_patients(tmp_path: Path) -> None:
    table = cohort(patients=400)
    codes = table["patient_id"].astype(int)
    runs = []
    for fold in range(4):
        part = table.copy()
        part["split"] = np.where(codes % 5 == fold, "test", "val")
        for method, skill in (("simclr", 1.0), ("mask-channel", 1.6)):
            runs.append(
                write_run(
                    tmp_path / f"{method}{fold}", method, skill, fold, table=part,
                    settings={"data": {"folds": 5, "fold": fold}},
                )
            )  # fmt: skip
    found = _analyze(*runs)
    assert found.bench.folds == (0, 1, 2, 3)
    assert found.bench.patients == 320
    assert len(found.arms) == 2
    (verdict,) = found.verdicts
    assert verdict.word == "helps"
    again = table.assign(split=np.where(codes % 5 < 2, "test", "val"))
    settings = {"data": {"folds": 5, "fold": 4}}
    wrong = write_run(tmp_path / "wrong", "simclr", 1.0, 4, table=again, settings=settings)
    with pytest.raises(DataError, match="both tested the patient"):
        _analyze(*runs, wrong)


def test_the_family_of_the_plan_counts_what_is_missing(tmp_path: Path) -> None:
    """Three comparisons were planned; where two failed, the third is judged as one of three."""
    methods = ["mask-channel", "multi-region", "masked-contrastive"]
    plan = make_plan(tmp_path / "data", methods, seeds=SEEDS, baselines=True)
    plan.save(tmp_path / "study")
    for method, skill in (("simclr", 1.0), ("mask-channel", 1.3), ("direct", 0.98)):
        for seed in range(SEEDS):
            write_run(
                tmp_path / "study" / "runs" / f"{method}-s{seed}-f1", method, skill, seed,
                no_pretrain=method == "direct", noise=method,
            )  # fmt: skip
    found = analyze([tmp_path / "study"])
    assert (found.family, found.planned, len(found.primary)) == ("plan", 3, 1)
    alone = analyze(sorted((tmp_path / "study" / "runs").iterdir()))
    assert (alone.family, alone.planned) == ("runs", 1)
    wide, narrow = found.primary[0].interval, alone.primary[0].interval
    assert wide is not None
    assert narrow is not None
    assert np.ptp(wide) > np.ptp(narrow)
    assert found.primary[0].p_holm == pytest.approx(3 * alone.primary[0].p_holm)  # type: ignore[operator]
    baselines = sum(one.kind == "baseline" for one in plan.family)
    (beside,) = found.secondary
    assert beside.comparison.effect is not None
    assert beside.p_holm == pytest.approx(min(1, baselines * beside.comparison.effect.p))
    assert baselines > 1

    assert found.plan is not None
    assert f"before anything ran (hash {plan.hash})" in family_text(found)
    later = replace(found, plan=replace(found.plan, earlier=("abc",)))
    assert "extended once after its first version (hash abc)" in family_text(later)
    assert "before anything ran" not in family_text(later)


def test_a_plan_changed_afterwards_is_refused(tmp_path: Path) -> None:
    plan = make_plan(tmp_path / "data", ["mask-channel"], seeds=SEEDS)
    plan.save(tmp_path)
    text = (tmp_path / "study.json").read_text()
    (tmp_path / "study.json").write_text(text.replace('"margin": 0.01', '"margin": 0.05'))
    with pytest.raises(ConfigError, match="was changed after it was written"):
        StudyPlan.load(tmp_path)


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
    assert [arm.label for arm in found.arms] == [
        "simclr (method.temperature=0.2)", "simclr (method.temperature=0.5)"
    ]  # fmt: skip


def test_a_rare_disease_has_no_interval_and_no_part_in_the_primary_mean(tmp_path: Path) -> None:
    table = cohort(rare=True)
    table.loc[table["patient_id"].isin(["1"]), f"label_{RARE}"] = 1
    found = _analyze(
        *_arm(tmp_path, "simclr", 1.0, table=table),
        *_arm(tmp_path, "mask-channel", 2.0, table=table),
    )
    assert int(found.bench.primary.sum()) == 13
    assert found.verdicts[0].word == "helps"
    (comparison,) = found.with_control()
    rare = comparison.diseases[RARE]
    assert rare.difference.value is not None
    assert rare.difference.interval is None
    assert rare.holm is None
    assert "fewer than 20" in rare.note
    assert comparison.diseases["Mass"].difference.interval is not None
    # The mean of all is shown, but nothing is said of its uncertainty.
    assert comparison.mean_all.value is not None
    assert comparison.mean_all.interval is None
    assert any(RARE in text and "13 diseases" in text for text, _ in found.warnings)


def test_without_a_frequent_disease_nothing_is_judged(tmp_path: Path) -> None:
    table = cohort(patients=32)
    found = _analyze(
        *_arm(tmp_path, "simclr", 1.0, table=table),
        *_arm(tmp_path, "mask-channel", 3.0, table=table),
    )
    (verdict,) = found.verdicts
    assert verdict.word == "not judged"
    assert "no disease has 20 positive test patients" in verdict.sentence
    assert found.primary[0].comparison.mean.interval is None


def test_a_study_says_what_is_missing(tmp_path: Path) -> None:
    plan = make_plan(tmp_path / "data", ["mask-channel"], seeds=1)
    plan.save(tmp_path)
    write_run(tmp_path / "runs" / "simclr-s0-f1", "simclr", 1.0)
    write_json(
        tmp_path / "failures.json",
        {
            "mask-channel-s0-f1": {
                "problem": "no room",
                "when": "2020-01-01T00:00:00Z",
                "traceback": "",
            }
        },
    )
    found = analyze([tmp_path])
    assert found.collected.missing == {"mask-channel-s0-f1": "no room"}
    assert any("mask-channel-s0-f1 is missing: no room" in text for text, _ in found.warnings)


def test_nothing_to_compare_is_an_error(tmp_path: Path) -> None:
    make_plan(tmp_path / "data", ["simclr"], seeds=1).save(tmp_path)
    with pytest.raises(ConfigError, match="no finished run"):
        analyze([tmp_path])


def test_tables_hold_the_numbers_of_the_analysis(tmp_path: Path) -> None:
    found = _analyze(*_arm(tmp_path, "simclr", 1.0), *_arm(tmp_path, "mask-channel", 1.3))
    tables = build_study_tables(found)
    row = tables["comparisons"].frame().iloc[0]
    assert (row["difference_low"], row["difference_high"]) == found.comparisons[0].mean.interval
    diseases = tables["diseases"].frame()
    assert diseases["disease"].tolist() == list(DISEASES)
    mean = diseases["difference"].mean()
    assert mean == pytest.approx(row["difference"], abs=1e-12)
    assert set(tables["subgroups"].frame()["of"]) == {"sex", "age", "view_position"}
    written = {path.name for path in write_tables(list(tables.values()), tmp_path / "report")}
    assert {"means.csv", "means.tex", "diseases.csv", "diseases.tex", "runs.csv"} <= written
    again = pd.read_csv(tmp_path / "report" / "diseases.csv")
    assert np.allclose(again["difference"], diseases["difference"])
    lines = (tmp_path / "report" / "diseases.tex").read_text().splitlines()
    assert sum(line.endswith(r"\\") for line in lines) == 15
    assert all(line.count("&") == 7 for line in lines if line.endswith(r"\\"))
    assert "Pleural Thickening" in "\n".join(lines)
