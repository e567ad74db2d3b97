"""The results of a study as one Markdown page: verdicts, tables, compute and commands."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from medsgssl.config.loading import dump, flatten
from medsgssl.data.mask_cache import CONTROLS
from medsgssl.errors import ConfigError
from medsgssl.methods.registry import all_methods, configure
from medsgssl.report import study_tables
from medsgssl.report.tables import Column, Row, Table
from medsgssl.report.verdict_rows import family_text
from medsgssl.runs.folder import WITHOUT_EFFECT, RunFolder
from medsgssl.runs.stage_files import read_stage_records
from medsgssl.study.analysis import Analysis, analyze
from medsgssl.study.arms import Arm
from medsgssl.study.collect import FinishedRun
from medsgssl.study.packed import opened_studies
from medsgssl.study.plan import PLAN_FILE, StudyPlan, run_folder
from medsgssl.study.variants import CONTROL
from medsgssl.study.verdict import RULE
from medsgssl.utils.formatting import counted, duration, join_names, percent, plural, words
from medsgssl.utils.io import write_text

# Settings that decide how large a study is.
_SCALE = (
    "encoder.name",
    "encoder.pretrained",
    "data.img_size",
    "data.batch_size",
    "pretrain.epochs",
    "finetune.epochs",
)
# Settings that a run without pretraining never looks at.
_PRETRAINING = ("pretrain.", "views.pretrain.", "data.extra_roots")


def write_results(folders: Sequence[Path], path: Path, control: str = CONTROL) -> Path:
    """Write the results of a study, or of several run folders, as Markdown.

    Args:
        folders: One study, packed or not, or run folders.
        path: The file.
        control: Label of the arm that guided methods are judged against.

    Raises:
        ConfigError: A folder holds no run.
        DataError: A file is damaged, or the runs do not compare.
    """
    with opened_studies(folders) as opened:
        analysis = analyze(opened, control=control)
        sections = [
            _head(analysis),
            _verdicts(analysis),
            _arms(analysis),
            _comparisons(analysis),
            _diseases(analysis),
            _unmeasured(analysis),
            _commands(analysis),
        ]
    write_text(path, "\n\n".join(section for section in sections if section) + "\n")
    return path


def _head(analysis: Analysis) -> str:
    first, bench = analysis.collected.runs[0], analysis.bench
    # Packed runs leave out where their images lay; the plan names the folder.
    root = first.settings["data.root"] if analysis.plan is None else analysis.plan.data
    data = Path(str(root)).name
    unit = study_tables.unit(analysis)
    diseases = [
        words(name) for name, kept in zip(bench.test.names, bench.judged_on, strict=True) if kept
    ]
    repeats = max(len(arm.runs) for arm in analysis.arms)
    text = (
        f"# Results on {data}, {first.settings['data.img_size']} pixels\n\n"
        "`medsgssl study table` writes this page from result files alone. "
        f"{counted(len(bench.test), 'test image')} of {counted(bench.patients, 'patient')}, "
        f"{counted(len(analysis.collected.runs), 'run')}, {repeats} {unit}. The mean AUC is over "
        f"{counted(len(diseases), 'disease')}: {join_names(diseases)}. Intervals are "
        f"{percent(bench.confidence)}."
    )
    if analysis.collected.missing:
        missing = len(analysis.collected.missing)
        text += f" {missing} planned {plural(missing, 'run is', 'runs are')} missing."
    return text


def _verdicts(analysis: Analysis) -> str:
    lines = ["## Verdicts", family_text(analysis)]
    for one in (*analysis.verdicts, *analysis.baseline_verdicts):
        lines.append(f"- **{one.sentence}** {' '.join(one.caveats)}".rstrip())
    lines.append(RULE)
    return "\n\n".join(lines[:2]) + "\n\n" + "\n".join(lines[2:-1]) + f"\n\n{lines[-1]}"


def _arms(analysis: Analysis) -> str:
    means = study_tables.means(analysis)
    by_arm = {(arm.label, arm.fraction): arm for arm in analysis.arms}
    rows: list[Row] = [
        {**row, **_compute(by_arm[str(row["arm"]), float(str(row["labels"]))])}
        for row in means.rows
    ]
    keys = ("arm", "labels", "seeds", "auc", "auc_sd", "ap")
    columns = (
        *(column for column in means.columns if column.key in keys),
        Column("backbone", "backbone", "text"),
        Column("epochs", "epochs", "text"),
        Column("seconds", "time of a run", "text"),
    )
    table = Table("results", "Every arm", columns, rows)
    total = duration(sum(_seconds(run) for arm in analysis.arms for run in arm.runs))
    text = (
        "Mean over runs with its interval, standard deviation between runs, and the median time of "
        f"pretraining, fine-tuning and prediction of one run. All runs together took {total}; "
        "several may have shared a machine."
    )
    return f"## Every arm\n\n{text}\n\n{table.markdown().rstrip()}"


def _compute(arm: Arm) -> dict[str, str]:
    epochs = str(arm.settings["finetune.epochs"])
    if not arm.no_pretrain:
        epochs = f"{arm.settings['pretrain.epochs']} + {epochs}"
    seconds = pd.Series([_seconds(run) for run in arm.runs]).median()
    return {
        "backbone": str(arm.settings["encoder.name"]),
        "epochs": epochs,
        "seconds": duration(seconds) if seconds else "not recorded",
    }


def _comparisons(analysis: Analysis) -> str:
    table = study_tables.comparisons(analysis)
    if not table:
        return ""
    text = (
        "Paired differences in mean AUC. Intervals of this table are those of each difference "
        "alone; verdicts rest on the wider simultaneous ones. Mask controls are tested only where "
        "their method helps."
    )
    question = Column("asks", "question", "text")
    columns = (*(column for column in table.columns if column.page), question)
    printed = Table(table.name, table.caption, columns, table.rows)
    return f"## Differences\n\n{text}\n\n{printed.markdown().rstrip()}"


def _diseases(analysis: Analysis) -> str:
    table = study_tables.diseases(analysis)
    parts = [
        f"**{comparison.arm.label} against {comparison.against.label}, "
        f"{percent(comparison.arm.fraction)} of the labels**\n\n"
        + study_tables.rows_of(table, comparison, "").markdown().rstrip()
        for comparison in analysis.with_control()
        if not comparison.arm.is_mask_control
    ]
    if not parts:
        return ""
    text = "Holm's p value is corrected over the diseases of one table."
    return "\n\n".join(["## Diseases", text, *parts])


def _unmeasured(analysis: Analysis) -> str:
    """Say which options and which defaults of the package no run of this page has."""
    guided_methods = {name for name, method in all_methods().items() if method.pretrains} - {
        CONTROL
    }
    guided = {arm.method: arm for arm in analysis.arms if arm.method in guided_methods}
    lines = []
    if absent := sorted(guided_methods - set(guided)):
        lines.append(f"- No run of {join_names(absent)}.")
    methods_of: dict[str, list[str]] = {}
    for name, arm in sorted(guided.items()):
        usual = flatten(dump(configure(name)))
        changed = [
            f"`{key}={_plain(usual[key])}` (here {_plain(arm.settings[key])})"
            for key in _SCALE
            if arm.settings[key] != usual[key]
        ]
        if changed:
            methods_of.setdefault(join_names(changed), []).append(name)
    lines += [f"- Defaults of {join_names(names)}: {text}." for text, names in methods_of.items()]
    if not lines:
        return ""
    options = ",".join(["direct", CONTROL, *sorted(guided_methods)])
    asked = (
        f"medsgssl study run --data DATA --out STUDY --methods {options} --folds 5 --baselines "
        f"--controls {','.join(CONTROLS)}"
    )
    return "\n\n".join(
        [
            "## What was not measured",
            "\n".join(lines),
            f"One command measures all of it:\n\n```bash\n{asked}\n```",
        ]
    )


def _commands(analysis: Analysis) -> str:
    first = [min(arm.runs, key=lambda run: run.repeat) for arm in analysis.arms]
    lines = "\n".join(command(run) for run in first)
    folds = bool(analysis.bench.folds)
    others = "`seed` and `data.fold`" if folds else "`seed`"
    text = (
        f"One command per arm; the other runs of an arm differ in {others} alone. The same numbers "
        "to the last digit take the same versions, device and number of threads."
    )
    return f"## Commands\n\n{text}\n\n```bash\n{lines}\n```"


def command(run: FinishedRun) -> str:
    """Return the command line that makes a run: every setting that is not its method's default."""
    name, no_pretrain = str(run.settings["method_name"]), bool(run.settings["no_pretrain"])
    try:
        usual = flatten(dump(configure(name, no_pretrain=no_pretrain)))
    except ConfigError:  # a method that is not installed here
        usual = {}
    changed = {
        key: value
        for key, value in run.settings.items()
        if value != usual.get(key)
        and key not in (*WITHOUT_EFFECT, "method_name", "no_pretrain")
        and not (no_pretrain and key.startswith(_PRETRAINING))
    }
    data = Path(str(run.settings["data.root"])).name
    parts = [
        "medsgssl",
        "run",
        name,
        *(["--no-pretrain"] if no_pretrain and name != "direct" else []),
    ]
    parts += ["--data", data, "--out", f"runs/{run.name}"]
    if not no_pretrain and not _pretraining(run).pretrain_log.is_file():
        parts += ["--from", "WEIGHTS"]  # it was pretrained elsewhere
    for key, value in changed.items():
        parts += ["--set", f"{key}={_plain(value)}"]
    return shlex.join(parts)


def _plain(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(str, value))}]"
    return str(value)


def _seconds(run: FinishedRun) -> float:
    """Seconds of all stages of a run, with those of the pretraining that it starts from."""
    folders = dict.fromkeys([run.folder.stages, _pretraining(run).stages])
    records = [record for path in folders for record in read_stage_records(path).values()]
    return sum(record["seconds"] for record in records)


def _pretraining(run: FinishedRun) -> RunFolder:
    """Return the folder of the pretraining that a run of a study starts from, else its own."""
    study = run.folder.path.absolute().parents[1]
    if not (study / PLAN_FILE).is_file():
        return run.folder
    starts = {planned.name: planned.start for planned in StudyPlan.load(study).runs}
    start = starts.get(run.name)
    return run.folder if start is None else run_folder(study, start)
