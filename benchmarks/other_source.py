"""Scores another hospital's images with every complete run of a study, and describes the result.

    python -m benchmarks.other_source score STUDY IMAGES OUT.parquet --jobs 12
    python -m benchmarks.other_source page FOLDER PAGE.md

The images are those of the Shenzhen set: the last character of a file's name is 1 where the patient
has tuberculosis. The score of an image is the probability of any finding: one minus the product of
the complements of all calibrated probabilities. Nothing was trained or chosen on these images.
"""

from __future__ import annotations

import argparse
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score

from medsgssl.inference.predictor import Predictor
from medsgssl.study.plan import StudyPlan, run_folder
from medsgssl.study.runner import is_complete
from medsgssl.utils.io import atomic_path, write_text


def score(study: Path, images: Path, out: Path, jobs: int) -> None:
    """Write one row per run and image: run, arm, labels, repeat, file, any_finding."""
    files = sorted(path for path in images.iterdir() if path.stem[-2:] in ("_0", "_1"))
    tasks = []
    for planned in StudyPlan.load(study).runs:
        run = run_folder(study, planned.name)
        if not planned.pretrains and is_complete(run, planned):
            repeat = planned.seed if planned.fold is None else planned.fold
            tasks.append((planned.arm, planned.fraction, repeat, run.path, files))
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=spawn) as pool:
        table = pd.concat(pool.map(_score_run, tasks), ignore_index=True)
    with atomic_path(out) as temporary:
        table.to_parquet(temporary, compression="zstd", index=False)


def _score_run(task: tuple[str, float, int, Path, list[Path]]) -> pd.DataFrame:
    arm, labels, repeat, folder, files = task
    torch.set_num_threads(1)
    scored = Predictor.load(folder).score(files)
    any_finding = [float(1 - np.prod(1 - one.probabilities)) for one in scored]
    columns = {"run": folder.name, "arm": arm, "labels": labels, "repeat": repeat}
    names = [path.stem for path in files]
    return pd.DataFrame(columns | {"file": names, "any_finding": any_finding})


def aucs(table: pd.DataFrame) -> pd.DataFrame:
    """Return the AUC of tuberculosis against normal, one row per arm, labels and repeat."""
    table = table.dropna(subset=["any_finding"])
    sick = table["file"].str.endswith("_1")
    found = [
        (*key, roc_auc_score(sick[rows.index], rows["any_finding"]))
        for key, rows in table.groupby(["arm", "labels", "repeat"])
    ]
    return pd.DataFrame(found, columns=["arm", "labels", "repeat", "auc"])


def page(folder: Path, out: Path) -> None:
    """Write the tables of all arms as Markdown, one for each file of scores: a study's name."""
    tables = {path.stem: pd.read_parquet(path) for path in sorted(folder.glob("*.parquet"))}
    images = pd.concat(tables.values())["file"].drop_duplicates()
    sick = int(images.str.endswith("_1").sum())
    lines = [
        "# Another hospital: tuberculosis in the Shenzhen set",
        "",
        f"`python -m benchmarks.other_source` scored {len(images)} images ({sick} with "
        "tuberculosis) with networks that never saw this hospital, and wrote this page. The score "
        "is the probability of any finding. This describes; it is no test, and no verdict rests "
        "on it: networks of different folds share most of their training patients.",
    ]
    for study, table in tables.items():
        lines += [
            "",
            f"## Networks of [{study}]({study}.md)",
            "",
            "| arm | labels | networks | AUC, mean | lowest | highest |",
            "| --- | --: | --: | --: | --: | --: |",
        ]
        arms = aucs(table).groupby(["arm", "labels"])["auc"].agg(["size", "mean", "min", "max"])
        for row in arms.sort_values("mean", ascending=False).reset_index().to_dict("records"):
            lines.append(
                f"| {row['arm']} | {row['labels']:.0%} | {row['size']} | {row['mean']:.3f} "
                f"| {row['min']:.3f} | {row['max']:.3f} |"
            )
    write_text(out, "\n".join(lines) + "\n")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("score")
    one.add_argument("study", type=Path)
    one.add_argument("images", type=Path)
    one.add_argument("out", type=Path)
    one.add_argument("--jobs", type=int, default=1)
    one = commands.add_parser("page")
    one.add_argument("folder", type=Path)
    one.add_argument("out", type=Path)
    asked = parser.parse_args()
    if asked.command == "score":
        score(asked.study, asked.images, asked.out, asked.jobs)
    else:
        page(asked.folder, asked.out)


if __name__ == "__main__":
    main()
