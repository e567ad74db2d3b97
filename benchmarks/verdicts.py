"""How often verdicts and intervals are wrong, and what they can find: `make simulations`.

Scores are made up (`benchmarks.simulation`), patients and labels are real: the 1,903 test
images of 453 patients, and the 7,216 images of 1,812 patients in five folds, of a subset of NIH
ChestX-ray14 (Wang et al., CVPR 2017; NIH Clinical Center), kept in `nih128_structure.csv.gz` as
patient, test list, AP view and the 14 labels as bits. Everything is judged by the functions that
the pages call; `benchmarks/levels.py` has the numbers that are no verdicts. Studies are kept one by
one in a folder, so that the run can be interrupted.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import levels
from benchmarks.simulation import simulate_study
from medsgssl.data.labels import DISEASES
from medsgssl.data.splits import fold_of_patients
from medsgssl.data.stratify import patient_labels
from medsgssl.evaluation.multiplicity import holm
from medsgssl.evaluation.predictions import Split
from medsgssl.study.arms import gather_arms
from medsgssl.study.comparisons import Comparison, compare_arms
from medsgssl.study.score_model import ScoreModel, unscored
from medsgssl.study.statistics import ResampledTestSet
from medsgssl.study.strata import Strata
from medsgssl.study.verdict import judge
from medsgssl.utils.io import atomic_path, write_text

STRUCTURE = Path(__file__).with_name("nih128_structure.csv.gz")
TABLE = Path(__file__).parents[1] / "docs" / "results" / "simulations.md"
FOLDS = 5
MARGIN = 0.01
CHUNK = 25
# What fewer studies say of an interval is chance.
_FEWEST = 30


@dataclass(frozen=True)
class Cell:
    """One setting of the simulation."""

    name: str
    folds: bool
    methods: int
    fractions: tuple[float, ...] = (1.0,)
    gain: float = 0.0
    studies: int = 2000


NULL = [
    Cell("3 seeds, 7 methods x 2 label fractions", False, 7, (0.1, 1.0)),
    Cell("5 folds, 6 methods", True, 6),
]
POWER = [
    Cell(f"{name}, gain {gain:+.2f}", folds, methods, fractions, gain, 300)
    for name, folds, methods, fractions in (
        ("3 seeds, 7 methods x 2 label fractions", False, 7, (0.1, 1.0)),
        ("5 folds, 6 methods", True, 6, (1.0,)),
        ("5 folds, 2 methods", True, 2, (1.0,)),
    )
    for gain in (0.02, 0.03, 0.05)
]


def structure() -> tuple[Split, list[Split]]:
    """Return the test list, and the folds of everyone."""
    table = pd.read_csv(STRUCTURE)
    labels = ((table["findings"].to_numpy()[:, None] >> np.arange(len(DISEASES))) & 1).astype(bool)

    def part(rows: np.ndarray) -> Split:
        patients = table.loc[rows, "patient"].astype(str).str.zfill(8)
        split = unscored(DISEASES, labels[rows].astype(np.float32), patients)
        split.table["view_position"] = np.where(table.loc[rows, "view"], "AP", "PA")
        return split

    numbers, _, gathered = patient_labels(table["patient"].astype(str).str.zfill(8), labels)
    fold = fold_of_patients(gathered, FOLDS, 0)[numbers]
    return part(table["test"].to_numpy() == 1), [part(fold == f) for f in range(FOLDS)]


def one_study(cell: Cell, tests: Sequence[Split], number: int) -> list[dict[str, Any]]:
    """Simulate and judge one study; one row per number that a page would show."""
    random = np.random.default_rng([number, len(cell.name), round(1000 * cell.gain)])
    runs = simulate_study(
        tests,
        ScoreModel(),
        [cell.gain] * cell.methods,
        random,
        folds=cell.folds,
        fractions=cell.fractions,
    )
    bench = ResampledTestSet(tests, folds=range(FOLDS) if cell.folds else ())
    arms = gather_arms(runs, bench)
    comparisons = [c for c in compare_arms(arms, "simclr", bench) if c.kind == "control"]
    rows = []
    for verdict in judge(comparisons, bench, MARGIN):
        effect = verdict.comparison.effect
        assert effect is not None  # its patients are enough, and so are its seeds or folds
        rows.append(
            {
                "kind": "gain",
                "value": effect.value,
                "interval": effect.interval(0.05),
                "interval_90": effect.interval(0.1),
                "simultaneous": verdict.interval,
                "word": verdict.word,
                "p": verdict.p_holm,
                "detectable": verdict.detectable,
                "se": effect.standard_error,
            }
        )
    if cell.gain:
        return rows
    first = comparisons[-1]
    auc = first.disease_aucs
    corrected = holm({name: one.p for name, one in auc.items()})
    for name, one in auc.items():
        rows.append(
            {
                "kind": f"difference of {name}",
                "value": one.value,
                "interval": one.interval,
                "p": corrected[name],
            }
        )
    if number % (100 if cell.folds else 20) == 0:  # slower than all the others together
        rows.append(
            {
                "kind": "difference of mean AP",
                "value": first.mean_ap.value,
                "interval": first.mean_ap.interval,
            }
        )
    if number % 20 == 0:
        rows += _by_view(first, bench)
    among = bench.primary
    means = first.arm.each(lambda run: run.mean_auc(among))
    alone = {key: bench.estimate({key: one}) for key, one in list(means.items())[:1]}
    for kind, found in (
        ("mean AUC of an arm", bench.estimate(means)),
        *(("mean AUC of a run", one) for one in alone.values()),
    ):
        rows.append({"kind": kind, "value": found.value, "interval": found.interval})
    return rows


def _by_view(comparison: Comparison, bench: ResampledTestSet) -> list[dict[str, Any]]:
    """Return the intervals of the subgroup tables: within AP and PA, and of the interaction."""
    tests = Strata(bench).subgroups(comparison)
    points = [("difference within a view", part.difference) for part in tests.strata]
    points += [(f"mean AUC within {part.name}", part.auc) for part in tests.strata]
    points += [("interaction with the view", one.difference) for one in tests.interactions]
    return [{"kind": kind, "value": one.value, "interval": one.interval} for kind, one in points]


def simulate(
    cells: Sequence[Cell | levels.Levels],
    tests: Callable[[Cell | levels.Levels], Sequence[Split]],
    folder: Path,
    first: int = 0,
) -> None:
    """Simulate what is missing from a study on, the cells in turn, in chunks."""
    for start in range(first, max(cell.studies for cell in cells), CHUNK):
        for cell in cells:
            path = _place(cell, folder) / f"{start:05d}.parquet"
            if path.is_file() or start >= cell.studies:
                continue
            rows = [
                {"study": number, **_flat(row)}
                for number in range(start, min(start + CHUNK, cell.studies))
                for row in _rows(cell, tests(cell), number)
            ]
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(path) as temporary:
                pd.DataFrame(rows).to_parquet(temporary, index=False)


def _rows(cell: Cell | levels.Levels, tests: Sequence[Split], number: int) -> list[dict[str, Any]]:
    if isinstance(cell, levels.Levels):
        return list(levels.one_sample(cell, tests, number))
    return one_study(cell, tests, number)


def _place(cell: Cell | levels.Levels, folder: Path) -> Path:
    return folder / cell.name.replace(" ", "-").replace(",", "")


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    flat = {}
    for key, value in row.items():
        if key in ("interval", "interval_90", "simultaneous"):
            flat[f"{key}_low"], flat[f"{key}_high"] = value or (np.nan, np.nan)
        else:
            flat[key] = value
    return flat


def summarize(cells: Sequence[Cell | levels.Levels], folder: Path) -> list[str]:
    """Return the lines of the table: how often words and intervals are wrong, and the power."""
    lines = ["| setting | studies | quantity | value |", "|---|--:|---|--:|"]
    for cell in cells:
        paths = sorted(_place(cell, folder).glob("*.parquet"))
        if not paths:
            continue
        table = pd.concat([pd.read_parquet(path) for path in paths])
        if isinstance(cell, levels.Levels):
            count = int(table["study"].nunique())
            values = levels.coverage(table, _FEWEST)
            lines += [
                f"| {cell.name} | {count} | {name} | {one:.3f} |" for name, one in values.items()
            ]
            continue
        gains = table[table["kind"] == "gain"]
        studies = int(table["study"].nunique())
        found = gains["word"].isin(["helps", "hurts"])
        values = {"median standard error of a gain": gains["se"].median()}
        if cell.gain:
            values["gains found (helps)"] = (gains["word"] == "helps").mean()
        else:
            values["studies with a false helps or hurts"] = (
                found.groupby(gains["study"]).any().mean()
            )
            values["95 % intervals of one gain cover"] = _covers(gains, "interval").mean()
            values["90 % intervals of one gain cover"] = _covers(gains, "interval_90").mean()
            together = _covers(gains, "simultaneous").groupby(gains["study"]).all()
            values["simultaneous intervals cover jointly"] = together.mean()
            kinds = table["kind"].where(
                ~table["kind"].isin([f"difference of {name}" for name in DISEASES]),
                "difference of one disease",
            )
            for kind, rows in table[kinds != "gain"].groupby(kinds[kinds != "gain"], sort=False):
                drawn = rows[rows["interval_low"].notna()]
                if drawn["study"].nunique() < _FEWEST:
                    continue
                # The truth of a level is the mean over the studies; that of a difference is 0.
                truth = drawn["value"].mean() if kind.startswith("mean AUC") else 0.0
                name = f"95 % intervals cover: {kind} ({drawn['study'].nunique()} studies)"
                values[name] = _covers(drawn, "interval", truth).mean()
        values["median smallest detectable difference"] = gains["detectable"].median()
        lines += [
            f"| {cell.name} | {studies} | {name} | {one:.3f} |" for name, one in values.items()
        ]
    return lines


def _covers(rows: pd.DataFrame, name: str, truth: float = 0.0) -> pd.Series:
    return (rows[f"{name}_low"] <= truth) & (truth <= rows[f"{name}_high"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("simulations"))
    parser.add_argument("--cells", default="null,levels,power")
    parser.add_argument("--first", type=int, default=0, help="study to begin with")
    given = parser.parse_args()
    listed, folds = structure()
    for wanted in filter(None, given.cells.split(",")):  # none: write the table alone
        kinds: dict[str, Sequence[Cell | levels.Levels]]
        kinds = {"null": NULL, "power": POWER, "levels": levels.CELLS}
        cells = kinds[wanted]
        simulate(cells, lambda cell: folds if cell.folds else [listed], given.out, given.first)
    head = [
        "# Simulations of the verdicts",
        "",
        "Written by `make simulations`, on demand; it can be interrupted and continued, and this",
        "table holds the studies made so far. Scores are made up, patients and labels are those of",
        "the 1,903-image test list (453 patients) and of five folds of NIH ChestX-ray14 at 128",
        "pixels; everything is judged by the functions that the study page calls. Settings without",
        "a gain in their name have equal methods, so every *helps* or *hurts* is false. A share p",
        "of n studies is known to about the square root of p (1 - p) / n.",
        "",
        "Numbers that are no verdicts (calibration, reliability bands, one disease, average",
        "precision, shortcuts, localization) are simulated with patients redrawn, with",
        "replacement from the real ones, and scores whose true probabilities are known. Where the",
        "true value is not known (AUC of one disease; average precision of an arm), it is the mean",
        "over the studies. Of a debiased error whose true value is almost 0 no interval ends too",
        "high, so those of arms with calibrated scores cover more than 95 %. The trend with mask",
        "quality is computed as the interaction with the view position is.",
        "",
    ]
    write_text(
        TABLE, "\n".join([*head, *summarize([*NULL, *levels.CELLS, *POWER], given.out)]) + "\n"
    )
