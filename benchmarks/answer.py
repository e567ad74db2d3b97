"""The study behind docs/results/plan.md: packs its images to travel, screens the options, decides.

    python benchmarks/answer.py pack DATA FILE.zip --size 112     every image, lossless
    python benchmarks/answer.py unpack FILE.zip DATA
    python benchmarks/answer.py run DATA WEIGHTS OUT --jobs 12    screen, choice, decision
    python benchmarks/answer.py run DATA WEIGHTS OUT --options guided-crop    decision alone

What is done already below OUT is not done again; a decision that was packed
(`medsgssl study unpack PACKED --out OUT/decision`) goes on with the runs that are missing.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shutil
import statistics
import time
import zipfile
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from medsgssl.config.loading import parse_overrides
from medsgssl.evaluation.few_patients import count_patients
from medsgssl.evaluation.metrics import auc_per_class
from medsgssl.evaluation.predictions import Predictions
from medsgssl.methods.registry import configure
from medsgssl.pipeline.runner import run_method
from medsgssl.study.packed import pack_study
from medsgssl.study.plan import PlannedRun, StudyPlan, run_folder
from medsgssl.study.plan_builder import fix_primary_diseases, make_plan
from medsgssl.study.runner import is_complete
from medsgssl.utils.io import write_text

QUIET = Console(quiet=True)
#: What every run of the screen and of the decision shares; docs/results/plan.md gives the reasons.
SHARED = (
    "data.img_size=96",
    "data.cache_size=112",
    "data.num_workers=1",
    "pretrain.epochs=10",
    "pretrain.warmup_epochs=1",
    "pretrain.probe_every=0",
    "finetune.epochs=8",
    "finetune.lr=5e-4",
    "finetune.warmup_epochs=1",
    "evaluate.bootstrap=0",
    "study.margin=0.02",
)
#: The backbone of every convolutional arm.
CNN = ("encoder.name=tf_efficientnet_lite0", "encoder.output_stride=16")
_VIT = (
    "encoder.name=vit_tiny_patch16_224",
    "encoder.patch_size=8",
    "encoder.pretrained=false",
)
_BOX = ("views.frame=lung-box",)
#: Arms of the screen: the method, its settings beyond ``SHARED``, and the arm it is compared with.
#: Methods with three views of an image have fewer epochs than those with two: as many views.
ARMS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "anatomy-contrast": ("anatomy-contrast", CNN, "simclr, lung box"),
    "guided-crop": ("guided-crop", CNN, "simclr, lung box"),
    "simclr, lung box": ("simclr", (*CNN, *_BOX, "pretrain.epochs=15"), ""),
    "masked-contrastive": ("masked-contrastive", CNN, "simclr"),
    "multi-region": ("multi-region", CNN, "simclr"),
    "adaptive-pathology": ("adaptive-pathology", (*CNN, "pretrain.epochs=7"), "simclr"),
    "attention-prior": ("attention-prior", CNN, "simclr"),
    "mask-channel": ("mask-channel", CNN, "simclr"),
    "simclr": ("simclr", CNN, ""),
    "direct, lung box": ("direct", (*CNN, *_BOX), ""),
    "direct": ("direct", CNN, ""),
    "direct, as many epochs as both stages": ("direct", (*CNN, "finetune.epochs=18"), ""),
    "anatomy-masked-attention": ("anatomy-masked-attention", _VIT, "simclr, ViT"),
    "simclr, ViT": ("simclr", _VIT, ""),
}
#: How the encoder of an arm is judged: label fraction and ``finetune.mode``.
JUDGED = (
    (1.0, "finetune"),
    (1.0, "linear"),
    (0.1, "linear"),
    (1.0, "knn"),
    (0.1, "knn"),
)
#: Their mean is the score of an arm.
SCORED = ((1.0, "finetune"), (1.0, "linear"), (0.1, "linear"))
#: Options that may be chosen: those of the CNN. The transformer is screened alone.
CHOSEN = 2
#: A disease counts in the screen where so many patients of the selection group have it.
MIN_POSITIVE_PATIENTS = 10
FOLDS = 5
#: So many complete folds make a page.
LEAST_FOLDS = 3
#: Masks without anatomy; the mean template only for options that use the lung box.
CONTROLS = ("random-blob", "mean-template")
_TABLES = ("*.csv", "*.txt")


def pack(data: Path, archive: Path, size: int) -> None:
    """Write every image at ``size`` pixels as lossless WebP, with the tables of the data set."""
    files = sorted((data / "images").glob("*.png"))
    with ProcessPoolExecutor() as pool, zipfile.ZipFile(archive, "w") as target:
        for table in sorted(path for kind in _TABLES for path in data.glob(kind)):
            target.write(table, table.name, compress_type=zipfile.ZIP_DEFLATED)
        jobs = ((file, size) for file in files)
        for file, content in zip(files, pool.map(_encode, jobs, chunksize=64), strict=True):
            target.writestr(f"images/{file.stem}.webp", content)


def _encode(job: tuple[Path, int]) -> bytes:
    file, size = job
    # As the package's cache does it, so that training sees the pixels it would have seen.
    image = cv2.resize(_read(file.read_bytes()), (size, size), interpolation=cv2.INTER_AREA)
    return cv2.imencode(".webp", image, [cv2.IMWRITE_WEBP_QUALITY, 101])[1].tobytes()


def _read(content: bytes) -> NDArray[np.uint8]:
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise SystemExit("an image cannot be decoded")
    return np.asarray(image, np.uint8)


def unpack(archive: Path, data: Path) -> None:
    """Write a packed data set as PNG files and tables."""
    (data / "images").mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(archive) as source, ThreadPoolExecutor() as pool:
        for name in source.namelist():
            if not name.startswith("images/"):
                (data / name).write_bytes(source.read(name))
        images = [name for name in source.namelist() if name.startswith("images/")]
        contents = ((data / name, source.read(name)) for name in images)
        for _ in pool.map(_decode, contents):
            pass


def _decode(job: tuple[Path, bytes]) -> None:
    path, content = job
    cv2.imwrite(str(path.with_suffix(".png")), _read(content))


class Work:
    """One place of work: data, weights, results, and settings of this machine.

    Args:
        data: The unpacked data set.
        weights: ImageNet weights of the backbone.
        out: Folder of everything that comes out.
        extra: Settings that change no result, e.g. ``data.cache_dir``.
    """

    def __init__(self, data: Path, weights: Path, out: Path, extra: Sequence[str]) -> None:
        self.data, self.weights, self.out, self.extra = data, weights, out, tuple(extra)

    def screened(self, arm: str) -> Path:
        """Return the file of an arm's results."""
        return self.out / "screen" / f"{_slug(arm)}.json"

    def settings(self, *items: str) -> list[str]:
        """Return all settings of a run, the weights where the network has them."""
        every = [*SHARED, *items, *self.extra]
        if "encoder.pretrained=false" not in every:
            every.append(f"encoder.weights={self.weights}")
        return every

    def screen(self, arm: str) -> str:
        """Pretrain one arm once, judge its encoder in every way, and return its name."""
        method, own, _ = ARMS[arm]
        rows: list[dict[str, Any]] = []
        first: Path | None = None
        for fraction, mode in JUDGED:
            started = time.perf_counter()
            items = self.settings(*own, f"finetune.mode={mode}", f"data.root={self.data}")
            items += [f"data.label_fraction={fraction}", f"data.folds={FOLDS}"]
            items += ["data.fold=selection"]
            config = configure(method, parse_overrides(items))
            folder = self.out / "screen" / "runs" / f"{_slug(arm)}-{mode}-{fraction:g}"
            start = None if config.no_pretrain else first
            run = run_method(config, folder, pretrained=start, console=QUIET)
            first = first or run.pretrained
            auc, seconds = _selection_auc(run.predictions), time.perf_counter() - started
            rows.append(
                {
                    "arm": arm,
                    "labels": fraction,
                    "mode": mode,
                    "auc": auc,
                    "seconds": round(seconds, 1),
                }
            )
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        write_text(self.screened(arm), lines)
        return arm

    def score(self, arm: str) -> float | None:
        """Return the score of an arm; None where it was not screened."""
        path = self.screened(arm)
        if not path.is_file():
            return None
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        scored = [row for row in rows if (row["labels"], row["mode"]) in SCORED]
        return statistics.mean(float(row["auc"]) for row in scored)

    def gains(self) -> dict[str, float]:
        """Return the score of each option minus that of its control, the largest first."""
        gains = {}
        for arm, (_, _, control) in ARMS.items():
            own, other = self.score(arm), self.score(control) if control else None
            if own is not None and other is not None:
                gains[arm] = own - other
        return dict(sorted(gains.items(), key=lambda item: -item[1]))

    def chosen(self) -> list[str]:
        """Return the options that the screen chose."""
        return [arm for arm in self.gains() if ARMS[arm][1][: len(CNN)] == CNN][:CHOSEN]

    def plan(self, options: Sequence[str], fractions: Sequence[float]) -> StudyPlan:
        """Return the plan of the decision on some options."""
        plan = make_plan(
            self.data,
            ["direct", "simclr", *options],
            folds=FOLDS,
            fractions=fractions,
            controls=CONTROLS,
            baselines=True,
            items=self.settings(*CNN),
        )
        boxed = {name for name in options if plan_frame(plan, name) == "lung-box"}
        runs = [run for run in plan.runs if run.masks != "mean-template" or run.method in boxed]
        plan = fix_primary_diseases(replace(plan, runs=tuple(runs)))
        return plan.joined(self.out / "decision")

    def take_encoders(self, plan: StudyPlan, other: Path) -> None:
        """Copy the pretrained encoders of another place of work that the plan asks for, too."""
        for planned in plan.runs:
            source = run_folder(other / "decision", planned.name)
            target = run_folder(self.out / "decision", planned.name).path
            if planned.pretrains and is_complete(source, planned) and not target.exists():
                shutil.copytree(source.path, target)

    def chain(self, names: Sequence[str]) -> str:
        """Do the runs of one arm in one fold, the pretraining first; return the last one's name."""
        folder = self.out / "decision"
        plan = StudyPlan.load(folder)
        for planned in plan.runs:
            run = run_folder(folder, planned.name)
            if planned.name not in names or is_complete(run, planned):
                continue
            start = None if planned.start is None else run_folder(folder, planned.start).pretrained
            run_method(
                plan.config(planned),
                run.path,
                until="pretrain" if planned.pretrains else "evaluate",
                pretrained=start,
                console=QUIET,
            )
        return names[-1]

    def chains(self, plan: StudyPlan) -> list[list[str]]:
        """Return the runs that are missing, those that need each other together.

        What the answer needs least comes first, fold by fold, then everything else, fold by fold.
        """
        folder = self.out / "decision"
        runs = sorted(plan.runs, key=lambda run: _turn(plan, run))
        todo = []
        for planned in runs:
            if planned.pretrains or is_complete(run_folder(folder, planned.name), planned):
                continue
            todo.append([*([planned.start] if planned.start else []), planned.name])
        return todo


def _turn(plan: StudyPlan, run: PlannedRun) -> tuple[bool, float, bool]:
    """Put the smallest answer first, then all labels before few, then pretrained arms of few."""
    late = run.no_pretrain and run.fraction < 1
    return not is_needed_least(plan, run), -run.fraction, late


def is_needed_least(plan: StudyPlan, run: PlannedRun) -> bool:
    """Return whether the smallest answer needs a run.

    It needs each option with its control and its baseline in the first folds, with all labels also
    ``direct`` and the option's random-blob masks.
    """
    options = {pair.arm for pair in plan.family if pair.kind == "control"}
    needed = {pair.against for pair in plan.family if pair.arm in options} | options
    blob = run.method in options and run.masks == "random-blob"
    beside = run.fraction == 1 and (blob or run.arm == "direct")
    return (run.fold or 0) < LEAST_FOLDS and (run.arm in needed or beside)


def plan_frame(plan: StudyPlan, method: str) -> str:
    """Return the frame in which a method of a plan sees the image."""
    return plan.config(next(run for run in plan.runs if run.method == method)).views.frame


def run_all(
    work: Work,
    options: Sequence[str],
    fractions: Sequence[float],
    jobs: int,
    deadline: float,
    encoders: Path | None,
) -> None:
    """Screen, choose and decide, ``jobs`` runs at a time; stop ``deadline`` seconds from now.

    Options that are named beforehand are decided on without a screen.
    """
    ends = time.monotonic() + deadline
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=spawn) as pool:
        waiting = [arm for arm in ARMS if not (options or work.screened(arm).is_file())]
        last = [arm for arm in waiting if ARMS[arm][1] == _VIT]  # no part of the choice
        _finish([pool.submit(work.screen, arm) for arm in waiting if arm not in last], ends)
        for arm, gain in work.gains().items():
            print(f"{arm}: {gain:+.4f}", flush=True)
        plan = work.plan(options or work.chosen(), fractions)
        plan.save(work.out / "decision")
        if encoders is not None:
            work.take_encoders(plan, encoders)
        print(f"plan {plan.hash}: {len(plan.runs)} runs", flush=True)
        tasks = [pool.submit(work.chain, names) for names in work.chains(plan)]
        tasks += [pool.submit(work.screen, arm) for arm in last]
        whole = _finish(tasks, ends)
        if not whole:
            for process in pool._processes.values():
                process.kill()
    pack_study(work.out / "decision", work.out / "packed")


def _finish(futures: Sequence[Future[str]], ends: float) -> bool:
    """Wait for tasks until ``ends``; print each as it ends, and return whether all did."""
    try:
        for future in as_completed(futures, timeout=max(ends - time.monotonic(), 0.1)):
            error = future.exception()
            print(f"{time.strftime('%H:%M:%S')} {error or future.result()}", flush=True)
    except TimeoutError:
        for future in futures:
            future.cancel()
        return False
    return True


def _slug(name: str) -> str:
    return name.replace(", ", "-").replace(" ", "-").lower()


def _selection_auc(predictions: Path) -> float:
    """Mean AUC over the diseases that enough patients of the selection group have."""
    test = Predictions.read(predictions).split("test")
    positive, _ = count_patients(test.labels, test.patients, int(test.patients.max()) + 1)
    enough = positive >= MIN_POSITIVE_PATIENTS
    return float(np.mean(auc_per_class(test.labels[:, enough], test.scores[:, enough])))


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("pack")
    one.add_argument("data", type=Path)
    one.add_argument("archive", type=Path)
    one.add_argument("--size", type=int, default=112)
    one = commands.add_parser("unpack")
    one.add_argument("archive", type=Path)
    one.add_argument("data", type=Path)
    one = commands.add_parser("run")
    one.add_argument("data", type=Path)
    one.add_argument("weights", type=Path)
    one.add_argument("out", type=Path)
    one.add_argument("--options", nargs="*", default=[], help="decide on these, without a screen")
    one.add_argument("--fractions", nargs="*", type=float, default=[1.0], help="of the labels")
    one.add_argument("--encoders", type=Path, help="OUT of another run, for its encoders")
    one.add_argument("--jobs", type=int, default=1)
    one.add_argument("--seconds", type=float, default=1e9, help="stop after so long")
    one.add_argument("--set", action="append", default=[])
    asked = parser.parse_args()
    if asked.command == "pack":
        pack(asked.data, asked.archive, asked.size)
    elif asked.command == "unpack":
        unpack(asked.archive, asked.data)
    else:
        work = Work(asked.data, asked.weights.absolute(), asked.out, asked.set)
        options, fractions = asked.options, asked.fractions
        run_all(work, options, fractions, asked.jobs, asked.seconds, asked.encoders)


if __name__ == "__main__":
    main()
