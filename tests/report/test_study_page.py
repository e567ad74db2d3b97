from __future__ import annotations

import itertools
import re
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from medsgssl.data.labels import DISEASES
from medsgssl.report import study_charts, study_page
from medsgssl.report.page import Panel, Text
from medsgssl.report.study_page import report_folder, write_study_report
from medsgssl.report.tables import Table
from medsgssl.study.analysis import Analysis, analyze
from medsgssl.study.plan_builder import make_plan
from medsgssl.utils.formatting import signed
from tests.report.page_reader import Page
from tests.report.test_browser import CHROMIUM, FLAGS
from tests.study.synthetic import cohort, write_run


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reported study: a method, its control and its mask control, three seeds each."""
    folder = tmp_path_factory.mktemp("made") / "study"
    plan = make_plan(
        folder / "data", ["simclr", "mask-channel"], seeds=3, fractions=(0.1, 1.0),
        controls=["shuffled"],
    )  # fmt: skip
    plan.save(folder)
    skills = {"simclr": 1.0, "mask-channel": 1.5, "mask-channel-shuffled": 0.9}
    for (name, skill), fraction, seed in itertools.product(skills.items(), (0.1, 1.0), range(3)):
        write_run(
            folder / "runs" / f"{name}-s{seed}-f{fraction:g}", name.removesuffix("-shuffled"),
            skill * fraction**0.1, seed=seed, fraction=fraction, noise=name,
            masks="shuffled" if name.endswith("shuffled") else "rules",
        )  # fmt: skip
    write_study_report([folder])
    return folder


@pytest.fixture(scope="module")
def page(study: Path) -> Page:
    return Page.read(study / "report" / "report.html")


def test_page_is_well_formed_and_fetches_nothing(page: Page) -> None:
    assert not page.unclosed
    assert "http" not in page.raw.replace("http-equiv", "")
    assert not page.all("link")
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.tags:
        for name in ("src", "href", "xlink:href"):
            found = attributes.get(name, "#")
            assert found.startswith("#")
            assert found == "#" or found[1:] in ids


def test_verdict_leads_with_its_interval(page: Page, study: Path) -> None:
    table = pd.read_csv(study / "report" / "comparisons.csv")
    row = table[(table["verdict"] == "helps") & (table["labels"] == 1)].iloc[0]
    assert row["arm"] == "mask-channel"
    ends = f"{signed(row['simultaneous_low'])} to {signed(row['simultaneous_high'])}"
    assert row["simultaneous_low"] < row["difference_low"], "the interval of the whole family"
    assert (
        "mask-channel against simclr: helps with 100 % of the labels, mean AUC "
        f"{signed(row['difference'])} (simultaneous 95 % interval {ends})"
    ) in page.text
    for share in (100, 10):  # the gain at each share of the labels has tests of its own
        start = f"With {share} % of the labels: against masks without anatomy, each tested at"
        assert start in page.text
    assert page.text.count("so the anatomy itself helps") == 2
    assert "not judged with" not in page.text


def test_the_page_names_margin_and_family(page: Page, study: Path) -> None:
    assert "less than the margin, 0.01" in page.text
    assert "hash" in page.text or "No plan fixed these comparisons" in page.text
    assert (study / "report" / "interactions.csv").is_file()


def test_table_of_diseases_shows_the_numbers_of_the_csv(page: Page, study: Path) -> None:
    table = pd.read_csv(study / "report" / "diseases.csv")
    # The page reader keeps the last of equally named rows: the smallest fraction comes last.
    chosen = table[(table["kind"] == "control") & (table["arm"] == "mask-channel")]
    chosen = chosen[chosen["labels"] == 0.1].set_index("disease")
    for name in DISEASES:
        cells = page.rows[name.replace("_", " ")]
        row = chosen.loc[name]
        assert cells[0] == str(row["positives"])
        assert cells[1].startswith(f"{row['auc']:.3f}")
        assert cells[3].startswith(signed(row["difference"]))


def test_every_number_names_its_file(page: Page) -> None:
    for name in ("comparisons.csv", "means.csv", "diseases.csv", "subgroups.csv", "runs.csv"):
        assert name in page.text
    assert "mask-channel-s0-f0.1" in page.text


def test_mask_controls_are_tested_only_where_the_method_helps(study: Path, page: Page) -> None:
    table = pd.read_csv(study / "report" / "comparisons.csv").set_index("kind")
    control, masks = table.loc["control"], table.loc["masks"]
    assert control["p"].isna().tolist() == ["shuffled" in arm for arm in control["arm"]]
    helps = set(control[control["verdict"] == "helps"]["labels"])
    assert helps
    assert masks["p"].notna().tolist() == [labels in helps for labels in masks["labels"]]
    assert "tested only where the method helps" in page.text


@pytest.fixture(scope="module")
def folds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of three folds that nothing is known to help."""
    folder = tmp_path_factory.mktemp("folds") / "study"
    plan = make_plan(folder / "data", ["simclr", "mask-channel"], folds=3, controls=["shuffled"])
    plan.save(folder)
    table = cohort(360)
    for run in plan.runs:
        if not run.pretrains:
            here = table["patient_id"].astype(int) % 3 == run.fold
            tested = table.assign(split=np.where(here, "test", "val"))
            write_run(
                folder / "runs" / run.name, run.method, 1.0, seed=run.seed, table=tested,
                noise=run.arm, masks=run.masks, settings={"data": {"folds": 3, "fold": run.fold}},
            )  # fmt: skip
    return folder


def test_a_page_of_folds_never_speaks_of_seeds(
    folds: Path, tmp_path: Path, undrawn: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study_page, "write_figure", lambda *args, **named: [])
    text = Page.read(write_study_report([folds], tmp_path)).text
    assert "each tested once in 3 folds" in text
    written = {path.name: path.read_text() for path in tmp_path.glob("*.md")}
    for name, words in {"page": text, **written}.items():
        rest = words.replace("seeds or folds", "").replace("trained with seed f", "")
        assert not re.search(r"\bseeds?\b", rest), name
    # Nothing helps, so no control is tested.
    table = pd.read_csv(tmp_path / "comparisons.csv").set_index("kind")
    assert "helps" not in table["verdict"].tolist()
    assert table.loc["control", "p"].notna().tolist() == [True, False]
    assert table.loc[["masks"], "p"].isna().all()


def test_the_figure_of_differences_draws_what_verdicts_rest_on(folds: Path) -> None:
    analysis = analyze([folds])
    chart = study_charts.difference_chart(analysis)
    assert chart is not None
    figure = Figure()
    chart.draw(figure.add_subplot())
    (axes,) = figure.axes
    drawn = [tuple(line.get_xdata()) for line in axes.lines if len(line.get_xdata()) == 2]
    (verdict,) = analysis.primary
    plain = [one.mean.interval for one in analysis.with_control()]
    assert verdict.interval in drawn
    assert len(plain) == 2, "the method, and its mask control, which belongs to no family"
    assert all(interval in drawn for interval in plain)
    texts = [text.get_text() for text in axes.texts]
    assert sum("(" in text for text in texts) == 1, "one kind of interval in the column"


def test_warnings_and_what_is_missing_are_said(page: Page) -> None:
    assert "2 images were set aside: a.png" in page.text
    assert "No strata by mask quality" in page.text


def test_tables_and_figures_lie_beside_the_page(study: Path) -> None:
    report = study / "report"
    for name in ("means", "comparisons", "diseases", "subgroups"):
        assert (report / f"{name}.csv").is_file()
        assert (report / f"{name}.tex").is_file()
    for name in ("difference", "efficiency", "calibration"):
        assert (report / "figures" / f"{name}.svg").is_file()
        assert (report / "figures" / f"{name}.pdf").stat().st_size > 1000


def test_figures_follow_the_theme(page: Page) -> None:
    figures = re.findall(r"<svg viewBox[^>]+role=\"img\".*?</svg>", page.raw, re.DOTALL)
    assert len(figures) >= 4
    for figure in figures:
        assert not re.search(r"#[0-9a-f]{6}\b", figure)
        assert 'aria-label="' in figure


def test_run_folders_made_elsewhere_are_reported(study: Path, tmp_path: Path) -> None:
    runs = [study / "runs" / f"{name}-s0-f1" for name in ("simclr", "mask-channel")]
    target = write_study_report(runs, tmp_path / "out")
    text = Page.read(target).text
    row = pd.read_csv(tmp_path / "out" / "comparisons.csv").iloc[0]
    assert row["verdict"] == "not judged"
    assert (
        "mask-channel against simclr: not judged with 100 % of the labels "
        f"(1 common seed, fewer than 3), mean AUC {signed(row['difference'])}"
    ) in text
    assert "helps with" not in text
    assert "One label fraction only" in text
    assert "No mask control was run" in text
    assert report_folder(runs) == Path("comparison")
    assert report_folder([study]) == study / "report"


def test_a_panel_is_a_function_and_a_line_of_the_page(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undrawn: None
) -> None:
    def panel(analysis: Analysis, tables: dict[str, Table]) -> Panel:
        return Panel("extra", "An extra panel", (Text(f"{len(analysis.arms)} arms in `means`"),))

    monkeypatch.setattr(study_page, "PANELS", (*study_page.PANELS[:1], panel))
    monkeypatch.setattr(study_page, "write_figure", lambda *args, **named: [])
    page = Page.read(write_study_report([study], tmp_path))
    assert "An extra panel 6 arms in means" in page.text
    assert "#extra" in [link["href"] for link in page.all("a")]


def test_without_the_control_the_page_says_so(study: Path, tmp_path: Path) -> None:
    run = study / "runs" / "simclr-s0-f1"
    text = Page.read(write_study_report([run], tmp_path, control="direct")).text
    assert "no arm is the control direct" in text


def test_subgroups_are_shown_without_a_common_seed(
    study: Path, tmp_path: Path, undrawn: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study_page, "write_figure", lambda *args, **named: [])
    runs = [study / "runs" / "simclr-s0-f1", study / "runs" / "mask-channel-s1-f1"]
    text = Page.read(write_study_report(runs, tmp_path)).text
    table = pd.read_csv(tmp_path / "subgroups.csv")
    assert table["difference"].isna().all()
    assert "subgroups.csv" in text
    known = table["auc"].dropna()
    assert len(known)
    for value in known:
        assert f"{value:.3f}" in text
    assert "No difference can be shown within subgroups" in text


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH")
@pytest.mark.parametrize(("theme", "low", "high"), [("dark", 0, 60), ("light", 200, 255)])
def test_both_themes_are_drawn(
    study: Path, tmp_path: Path, theme: str, low: int, high: int
) -> None:
    assert CHROMIUM is not None
    shot = tmp_path / "shot.png"
    address = f"{(study / 'report' / 'report.html').as_uri()}#{theme}"
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    size = "--window-size=1200,2400"
    subprocess.run(
        [CHROMIUM, *FLAGS, profile, f"--screenshot={shot}", size, address],
        capture_output=True, timeout=120, check=True,
    )  # fmt: skip
    picture = cv2.imread(str(shot))
    assert picture is not None
    assert low <= np.median(picture) <= high
    assert picture.std() > 10


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH")
def test_table_of_diseases_sorts(study: Path, tmp_path: Path) -> None:
    # The policy admits the page's own script alone, so the copy that clicks goes without it.
    raw = (study / "report" / "report.html").read_text()
    raw = re.sub(r"<meta http-equiv[^>]+>", "", raw)
    head = re.search(r'<table class="sortable.*?</thead>', raw, re.DOTALL)
    assert head is not None
    column = re.findall(r"<button[^>]*>([^<]*)</button>", head[0]).index("difference")
    click = f"document.querySelectorAll('.sortable thead button')[{column}].click()"
    click = f"<script>{click}</script>"
    copy = tmp_path / "copy.html"
    copy.write_text(raw.replace("</body>", f"{click}</body>"))
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    assert CHROMIUM is not None
    found = subprocess.run(
        [CHROMIUM, *FLAGS, profile, "--dump-dom", copy.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    body = re.search(r'<table class="sortable.*?</tbody>', found.stdout, re.DOTALL)
    assert body is not None
    rows = re.findall(r"<tr.*?</tr>", body[0].split("<tbody>")[1], re.DOTALL)
    values = [float(re.findall(r'data-value="([^"]*)"', row)[column]) for row in rows]
    assert len(set(values)) == len(DISEASES)
    assert values == sorted(values, reverse=True)
    shutil.rmtree(tmp_path / "profile", ignore_errors=True)
