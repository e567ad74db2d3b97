"""`study`: plan, run and report several runs that are compared."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medsgssl.cli.options import (
    CLUSTER_JOBS,
    AsJson,
    ConfigFile,
    DataOnlySettings,
    Launcher,
    LauncherName,
    MaskSource,
    MethodName,
    Quiet,
    Split,
)
from medsgssl.cli.output import print_json

if TYPE_CHECKING:
    from medsgssl.study.cost import Estimate
    from medsgssl.study.launcher import Launcher as RunLauncher
    from medsgssl.study.plan import StudyPlan


StudyData = Annotated[Path, typer.Option("--data", help="Folder of the data set.")]
StudyFolder = Annotated[Path, typer.Option("--out", help="Folder of the study.")]
Seeds = Annotated[int | None, typer.Option(help="How many seeds: 0, 1, ...; 3 by default.", min=1)]
Folds = Annotated[
    int | None,
    typer.Option(
        help="Cross-validation instead of seeds: every patient outside a selection group of 10 % "
        "is tested once. Replaces list files.",
        min=3,
    ),
]
LabelFractions = Annotated[str, typer.Option(help="Shares of the labeled patients, with commas.")]
StudySettings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="[METHOD:]KEY=VALUE",
        help="Change one setting, of all runs or of one method's; repeat for more.",
    ),
]


Jobs = Annotated[
    int | None,
    typer.Option(
        help="Runs at a time. local: 1 does them one after another in this process, more in "
        "processes of their own with their share of the processors. submitit: 100 by default.",
        min=1,
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show the plan, its time and disk space; write nothing.")
]


study_app = typer.Typer(
    no_args_is_help=True,
    help="Plan and run several runs that are compared, and report them.",
)


@study_app.command()
def run(
    data: StudyData,
    out: StudyFolder,
    methods: Annotated[str, typer.Option(help="Names of methods, with commas.")],
    seeds: Seeds = None,
    folds: Folds = None,
    label_fractions: LabelFractions = "1",
    controls: Annotated[
        str,
        typer.Option(help="Mask controls of every method: none,shuffled,random-blob,..."),
    ] = "",
    baselines: Annotated[
        bool,
        typer.Option("--baselines", help="Also run the no-pretraining baseline of each method."),
    ] = False,
    split: Split = None,
    mask_source: MaskSource = None,
    config: ConfigFile = None,
    settings: StudySettings = None,
    launcher: Launcher = LauncherName.LOCAL,
    jobs: Jobs = None,
    dry_run: DryRun = False,
    quiet: Quiet = False,
) -> None:
    """Plan and run a study; the same command continues an interrupted one.

    All runs share masks and decoded images, and all label fractions share one pretraining.
    A run that fails is recorded, the others continue, and the exit status is 1.
    """
    from medsgssl.config.loading import read_yaml
    from medsgssl.study.plan_builder import make_plan
    from medsgssl.study.variants import without_controls

    plan = make_plan(
        data,
        split_list(methods),
        seeds=seeds,
        folds=folds,
        fractions=numbers(label_fractions),
        controls=split_list(controls),
        baselines=baselines,
        items=[*(settings or []), *_named_settings(split, mask_source)],
        file=read_yaml(config) if config else None,
    )
    if note := without_controls(split_list(methods), split_list(controls)):
        typer.echo(f"Warning: {note}", err=True)
    carry_out(plan, out, dry_run=dry_run, launcher=launcher, jobs=jobs)


def _named_settings(split: str | None, mask_source: str | None) -> list[str]:
    """Return the settings that have options of their own, as items of ``--set``."""
    named = {"data.split": split, "masks.source": mask_source}
    return [f"{key}={value}" for key, value in named.items() if value is not None]


def carry_out(
    plan: StudyPlan,
    out: Path,
    *,
    dry_run: bool,
    launcher: LauncherName = LauncherName.LOCAL,
    jobs: int | None = None,
) -> None:
    """Run a study and print how its runs ended, or show what it would take.

    Args:
        plan: What to run.
        out: The study's folder.
        dry_run: Show the plan with its time and disk space, and write nothing.
        launcher: Where the runs are done.
        jobs: Runs at a time.
    """
    from medsgssl.report.run_page import write_report
    from medsgssl.report.study_page import write_study_report
    from medsgssl.study.cost import estimate
    from medsgssl.study.mask_students import fix_masks
    from medsgssl.study.plan_builder import fix_primary_diseases
    from medsgssl.study.runner import run_study
    from medsgssl.utils.formatting import plural
    from medsgssl.utils.progress import new_console

    if dry_run:
        plan = fix_masks(fix_primary_diseases(plan))
        plan.joined(out)  # raises now what running it would refuse
        log = new_console(stderr=True)
        _show_plan(plan, estimate(plan, out, lambda text: log.print(f"{text} ...")))
        return
    outcomes = run_study(
        plan, out, on_run_end=write_report, launcher=_launcher(plan, launcher, jobs)
    )
    failed = [outcome for outcome in outcomes if outcome.problem]
    evaluated = {planned.name for planned in plan.runs if not planned.pretrains}
    typer.echo(
        f"{len(outcomes) - len(failed)} of {len(outcomes)} "
        f"{plural(len(outcomes), 'run is', 'runs are')} complete."
    )
    for outcome in failed:
        typer.echo(f"{outcome.status}: {outcome.name}: {outcome.problem.splitlines()[0]}")
    if any(not outcome.problem and outcome.name in evaluated for outcome in outcomes):
        page = write_study_report([out])
        typer.echo(f"Report: {page}")
        _track_verdicts(plan, page.with_name("comparisons.csv"), out)
    if failed:
        raise typer.Exit(1)


def _track_verdicts(plan: StudyPlan, table: Path, out: Path) -> None:
    """Show the table of comparisons and verdicts on the trackers of the study's runs."""
    import csv

    from medsgssl.training.trackers import log_table

    if table.is_file():
        with table.open(encoding="utf-8", newline="") as stream:
            columns, *rows = csv.reader(stream)
        log_table(plan.config(plan.runs[0]), out, "verdicts", columns, rows)


def _launcher(plan: StudyPlan, name: LauncherName, jobs: int | None) -> RunLauncher | None:
    from medsgssl.study.cluster import SubmititLauncher
    from medsgssl.study.launcher import LocalLauncher

    if name is LauncherName.SUBMITIT:
        return SubmititLauncher(plan.config(plan.runs[0]).slurm, jobs or CLUSTER_JOBS)
    return LocalLauncher(jobs) if jobs is not None and jobs > 1 else None


@study_app.command()
def one(
    folder: Annotated[Path, typer.Argument(metavar="STUDY", help="Folder of a study.")],
    name: Annotated[str, typer.Argument(metavar="RUN", help="Name of a run of its plan.")],
    quiet: Quiet = False,
) -> None:
    """Do one run of a study that was planned before: what launchers and job scripts call."""
    import os

    from medsgssl.report.run_page import write_report
    from medsgssl.study.runner import do_run
    from medsgssl.utils.interrupts import END_WITH_PARENT, exit_with_parent

    if END_WITH_PARENT in os.environ:
        exit_with_parent(int(os.environ[END_WITH_PARENT]))
    done = do_run(folder, name, on_run_end=write_report)
    typer.echo(f"Run: {done.path}")


@study_app.command()
def status(
    folder: Annotated[Path, typer.Argument(metavar="STUDY", help="Folder of a study.")],
    as_json: AsJson = False,
) -> None:
    """Show how far a study is: each run's state, last line and time left, and the expected end."""
    from collections import Counter
    from dataclasses import asdict

    from medsgssl.study.status import study_status
    from medsgssl.utils.formatting import counted, duration

    status = study_status(folder)
    if as_json:
        print_json(asdict(status))
        return
    width = max(len(run.name) for run in status.runs)
    # Plain text, one line per run: neither a narrow terminal nor a pipe cuts any of it.
    for run in status.runs:
        parts = [f"{run.name:<{width}}  {run.state:<11}"]
        if run.state in {"running", "interrupted", "waiting"}:
            left = "?" if run.seconds_left is None else duration(run.seconds_left)
            parts.append(f"{left} left")
        text = run.problem if run.state == "failed" else run.last_line
        if run.state != "complete" and text:
            parts.append(text.splitlines()[0])
        if run.process:
            parts.append(run.process)
        typer.echo("  ".join(parts).rstrip())
    counts = Counter(run.state for run in status.runs)
    summary = ", ".join(f"{count} {state}" for state, count in counts.items())
    end = f"; expected end: {status.expected_end}" if status.expected_end else ""
    typer.echo(f"{counted(len(status.runs), 'run')}: {summary}{end}")


@study_app.command()
def power(
    data: StudyData,
    seeds: Annotated[int | None, typer.Option(help="How many seeds.", min=3)] = None,
    folds: Annotated[int | None, typer.Option(help="How many folds, instead.", min=3)] = None,
    seed_sd: Annotated[
        float | None,
        typer.Option(
            help="Standard deviation of the mean AUC between seeds of one method; by default that "
            "of the runs behind docs/defaults.md.",
            min=0,
        ),
    ] = None,
    auc: Annotated[
        float | None, typer.Option(help="Mean AUC to be expected.", min=0.5, max=0.99)
    ] = None,
    comparisons: Annotated[
        str, typer.Option(help="How many guided methods times label fractions, with commas.")
    ] = "1,2,4,6",
    settings: DataOnlySettings = None,
    as_json: AsJson = False,
) -> None:
    """Say which difference a study on this test set could find, before anything is trained.

    Studies with equal methods are simulated on the patients and labels that would be tested, and
    judged as `study report` judges. Takes about half a minute.
    """
    from dataclasses import asdict

    from medsgssl.config.loading import parse_overrides
    from medsgssl.config.schema import DataSettings
    from medsgssl.data.catalog import current_catalog
    from medsgssl.errors import ConfigError
    from medsgssl.study.power import SEED_SD, describe_power, study_power
    from medsgssl.study.score_model import ScoreModel
    from medsgssl.study.tested_images import study_images

    if (seeds is None) == (folds is None):
        raise ConfigError("a study has either seeds or folds", "give --seeds 3, or --folds 5")
    given = parse_overrides(settings or []).get("data", {})
    images = DataSettings.model_validate({**given, "root": str(data)})
    result = study_power(
        study_images(current_catalog(images), folds, images.split_seed),
        seeds=seeds,
        seed_sd=SEED_SD if seed_sd is None else seed_sd,
        auc=ScoreModel.auc if auc is None else auc,
        comparisons=[round(count) for count in numbers(comparisons)],
    )
    if as_json:
        print_json(asdict(result))
        return
    for line in describe_power(result):
        typer.echo(line)


@study_app.command()
def ablate(
    method: MethodName,
    data: StudyData,
    out: StudyFolder,
    seeds: Seeds = None,
    folds: Folds = None,
    label_fractions: LabelFractions = "1",
    config: ConfigFile = None,
    settings: StudySettings = None,
    launcher: Launcher = LauncherName.LOCAL,
    jobs: Jobs = None,
    dry_run: DryRun = False,
    quiet: Quiet = False,
) -> None:
    """Leave out the components of a method one by one: a study with a leave-one-out table.

    Runs the method, its no-pretraining baseline, the control simclr with the same backbone, and
    the method without each of its components. `medsgssl study report` then shows their effects.
    """
    from medsgssl.config.loading import read_yaml
    from medsgssl.study.plan_builder import make_ablation

    plan = make_ablation(
        data,
        method,
        seeds=seeds,
        folds=folds,
        fractions=numbers(label_fractions),
        items=settings or [],
        file=read_yaml(config) if config else None,
    )
    carry_out(plan, out, dry_run=dry_run, launcher=launcher, jobs=jobs)


def split_list(text: str) -> list[str]:
    """Return the parts of a list with commas."""
    return [part.strip() for part in text.split(",") if part.strip()]


def numbers(text: str) -> list[float]:
    """Return the numbers of a list with commas."""
    try:
        return [float(part) for part in split_list(text)]
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a list of numbers such as 0.1,1") from None


def _show_plan(plan: StudyPlan, needs: Estimate) -> None:
    from medsgssl.study.plan_summary import describe_plan, plan_table
    from medsgssl.utils.formatting import duration, plural, size
    from medsgssl.utils.progress import new_console

    # Plain text, one line per run: neither a narrow terminal nor a pipe cuts any of it.
    for line in (*plan_table(plan), "", *describe_plan(plan)):
        typer.echo(line)
    console = new_console(always=True)
    splits = ", ".join(f"{count} {name}" for name, count in needs.images.items())
    are = plural(len(plan.runs), "run is", "runs are")
    console.print(f"Images: {splits}. {len(needs.complete)} of {len(plan.runs)} {are} complete.")
    once = f", including {duration(needs.preparing)} once for images and masks"
    console.print(
        f"Time: about {duration(needs.seconds)} on this machine under its present load, all epochs "
        f"counted{once if needs.preparing else ''}."
    )
    if needs.memory_bytes:
        console.print(f"Memory: about {size(needs.memory_bytes)} for one run at a time.")
    console.print(
        f"Disk space: about {size(needs.num_bytes)}, including {size(needs.cache_bytes)} for "
        f"decoded images and masks; {size(needs.free_bytes)} are free."
    )
    if needs.num_bytes > needs.free_bytes:
        console.print("Warning: the disk is too small for this study.", style="yellow")
