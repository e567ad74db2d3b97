"""Results as a Markdown page: each method beside its twin, with the commands that made them."""

from __future__ import annotations

import shlex
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from medsgssl.config.loading import dump
from medsgssl.config.schema import Config
from medsgssl.errors import ConfigError
from medsgssl.methods.registry import configure, find_method
from medsgssl.runs.folder import WITHOUT_EFFECT, RunFolder, flatten
from medsgssl.study.analysis import Analysis, analyze
from medsgssl.study.arms import Arm
from medsgssl.study.collect import FinishedRun
from medsgssl.study.cost import seconds_per_image
from medsgssl.study.plan import PLAN_FILE, StudyPlan, run_folder
from medsgssl.study.statistics import PointEstimate
from medsgssl.study.variants import CONTROL
from medsgssl.utils.formatting import percent
from medsgssl.utils.io import write_text

_NONE = "-"
# Settings that a no_pretrain run never looks at.
_PRETRAINING = ("pretrain.", "views.pretrain.", "data.extra_roots")
# Settings that a twin shares.
_FINE_TUNING = ("encoder.", "finetune.", "views.finetune.", "data.img_size", "data.batch_size")
# What an arm shares with the control that its cost is compared with.
_SAME_NETWORK = ("encoder.name", "encoder.patch_size", "data.img_size", "data.label_fraction")
# Rounds of timing; the median counts.
_ROUNDS = 3


def write_results(
    folders: Sequence[Path], path: Path, control: str = CONTROL, *, measure: bool = False
) -> Path:
    """Write the results of a study, or of several run folders, as Markdown.

    Args:
        folders: One study, or run folders.
        path: The file.
        control: Label of the arm whose cost is 1.
        measure: Time a pretraining step of every arm now, side by side in this process; else costs
            are those of the logs, which other processes may have disturbed.

    Raises:
        ConfigError: A folder holds no run.
        DataError: A file is damaged, or the runs do not compare.
    """
    analysis = analyze(folders, control=control)
    seconds = _measured(analysis) if measure else _logged(analysis)
    sections = [_head(analysis, measure), _table(analysis, seconds), _commands(analysis)]
    write_text(path, "\n\n".join(sections) + "\n")
    return path


def _head(analysis: Analysis, measured: bool) -> str:
    first = analysis.collected.runs[0]
    data = Path(str(first.settings["data.root"])).name
    bench = analysis.bench
    diseases = [name for name, kept in zip(bench.test.names, bench.judged_on, strict=True) if kept]
    return (
        f"# Results on {data}, {first.settings['data.img_size']} pixels\n\n"
        "Made by `medsgssl study table` from result files. Mean AUC on the "
        f"{len(bench.test.table):,} test images of {bench.patients:,} patients, the mean of the "
        f"diseases {', '.join(diseases)}; {bench.confidence:.0%} intervals over patients, each "
        "left out in turn, and over seeds where there are several.\n\n"
        "*Gain* is the paired difference to the same network and input path without pretraining, "
        "where that was run; with * a side has one seed alone, and the interval does not tell how "
        "another training would differ. "
        "*s/epoch* is the fastest pretraining epoch of the log; other processes may have shared "
        f"the machine. *Cost* is relative to `{analysis.control}` with the same backbone: "
        + (
            "pretraining steps timed in turn with those of the control, in one process."
            if measured
            else "of the column before it."
        )
    )


def _table(analysis: Analysis, costs: dict[str, float]) -> str:
    rows = [
        ["method", "backbone", "labels", "seeds", "epochs", "mean AUC", "gain", "s/epoch", "cost"],
    ]
    for arm in analysis.arms:
        seconds, cost = _epoch_seconds(arm), costs.get(arm.label)
        epochs = str(arm.settings["finetune.epochs"])
        if not arm.no_pretrain:
            epochs = f"{arm.settings['pretrain.epochs']} + {epochs}"
        rows.append(
            [
                arm.label.partition(" (")[0],  # the backbone stands beside it
                str(arm.settings["encoder.name"]),
                percent(arm.fraction),
                str(len(arm.runs)),
                epochs,
                _number(analysis.means[arm.key].auc),
                _gain(arm, analysis),
                _NONE if seconds is None else f"{seconds:.0f}",
                _NONE if cost is None else f"{cost:.2f}",
            ]
        )
    rule = ["---"] * 3 + ["--:"] * (len(rows[0]) - 3)
    lines = [rows[0], rule, *rows[1:]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _commands(analysis: Analysis) -> str:
    runs = [run for arm in analysis.arms for run in arm.runs]
    lines = "\n".join(command(run) for run in runs)
    told = "The same numbers bit for bit take the same versions and the same number of threads."
    return f"## Commands\n\n{told}\n\n```bash\n{lines}\n```"


def command(run: FinishedRun) -> str:
    """Return the command line that makes a run: every setting that is not its method's default."""
    name, no_pretrain = str(run.settings["method_name"]), bool(run.settings["no_pretrain"])
    try:
        usual = flatten(dump(configure(name, no_pretrain=no_pretrain)))
    except ConfigError:  # a method that is not installed here
        usual = {}
    apart = {
        key: value
        for key, value in run.settings.items()
        if value != usual.get(key)
        and key not in (*WITHOUT_EFFECT, "method_name", "no_pretrain")
        and not (no_pretrain and key.startswith(_PRETRAINING))
    }
    data = Path(str(run.settings["data.root"])).name
    words = [
        "medsgssl",
        "run",
        name,
        *(["--no-pretrain"] if no_pretrain and name != "direct" else []),
    ]
    words += ["--data", data, "--out", f"runs/{run.name}"]
    if not no_pretrain and not _pretraining(run).pretrain_log.is_file():
        words += ["--from", "WEIGHTS"]  # it was pretrained elsewhere
    for key, value in apart.items():
        words += ["--set", f"{key}={_plain(value)}"]
    return shlex.join(words)


def _plain(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(str, value))}]"
    return str(value)


def _has_plain_input(method: str) -> bool:
    try:
        return find_method(method).plain_input()
    except ConfigError:  # a method that is not installed here
        return False


def _logged(analysis: Analysis) -> dict[str, float]:
    """Return the seconds per epoch of each arm beside those of its control."""
    found = {arm.label: _epoch_seconds(arm) for arm in analysis.arms}
    costs = {}
    for arm, control in _pairs(analysis):
        own, other = found[arm.label], found[control.label]
        if own is not None and other:
            costs[arm.label] = own / other
    return costs


def _measured(analysis: Analysis) -> dict[str, float]:
    """Return the cost of a pretraining image of each arm beside one of its control, timed now."""
    costs = {}
    for arm, control in _pairs(analysis):
        if arm is control:
            costs[arm.label] = 1.0
            continue
        # In pairs, because other processes and the processor's clock disturb single times.
        both = [_config(one) for one in (control, arm)]
        pairs = [[seconds_per_image(config, "pretrain") for config in both] for _ in range(_ROUNDS)]
        costs[arm.label] = statistics.median(own / other for other, own in pairs)
    return costs


def _pairs(analysis: Analysis) -> Iterator[tuple[Arm, Arm]]:
    """Yield each pretrained arm with the control of its backbone and label fraction."""
    pretrained = [arm for arm in analysis.arms if not arm.no_pretrain]
    controls = [arm for arm in pretrained if analysis.control in (arm.method, arm.label)]
    for arm in pretrained:
        for control in controls:
            if all(arm.settings.get(key) == control.settings.get(key) for key in _SAME_NETWORK):
                yield arm, control
                break


def _config(arm: Arm) -> Config:
    stored = arm.runs[0].folder.read_config()
    return configure(str(stored["method_name"]), stored)


def _epoch_seconds(arm: Arm) -> float | None:
    """Seconds of the fastest pretraining epoch of an arm, None where there is no log."""
    found = []
    for run in arm.runs:
        path = _pretraining(run).pretrain_log
        if path.is_file():
            found.append(float(pd.read_csv(path)["seconds"].min()))
    return min(found, default=None)


def _pretraining(run: FinishedRun) -> RunFolder:
    """Return the folder of the pretraining that a run of a study starts from, else its own."""
    study = run.folder.path.absolute().parents[1]
    if not (study / PLAN_FILE).is_file():
        return run.folder
    starts = {planned.name: planned.start for planned in StudyPlan.load(study).runs}
    start = starts.get(run.name)
    return run.folder if start is None else run_folder(study, start)


def _gain(arm: Arm, analysis: Analysis) -> str:
    twins = [other for other in analysis.arms if _is_twin(other, arm)]
    if not twins:
        return _NONE
    # Its own where that was run; for others `no_pretrain` is the same.
    twin = next((other for other in twins if other.method == arm.method), twins[0])
    bench = analysis.bench
    sides = [a.each(lambda run: run.mean_auc(bench.judged_on)) for a in (arm, twin)]
    found = bench.difference(sides[0], sides[1])
    return _number(found, signed=True) + ("" if found.seeds_included else " *")


def _is_twin(other: Arm, arm: Arm) -> bool:
    """Tell whether one arm is the other without pretraining: same network, same input path."""
    if arm.no_pretrain or not other.no_pretrain or other.fraction != arm.fraction:
        return False
    if other.method != arm.method and not _has_plain_input(arm.method):
        return False
    like = [key for key in arm.settings if key.startswith(_FINE_TUNING)]
    if any(arm.settings[key] != other.settings.get(key) for key in like):
        return False
    return other.method in (arm.method, "direct") and other.masks in (arm.masks, "")


def _number(estimate: PointEstimate, signed: bool = False) -> str:
    if estimate.value is None:
        return _NONE
    sign = "+" if signed else ""
    text = f"{estimate.value:{sign}.3f}"
    if estimate.interval is None:
        return text
    low, high = estimate.interval
    return f"{text} ({low:{sign}.3f} to {high:{sign}.3f})"
