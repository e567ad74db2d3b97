"""`study`: plan, run and report several runs that are compared."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from medsgssl.cli.options import ConfigFile, MethodName

if TYPE_CHECKING:
    from medsgssl.study.cost import Estimate
    from medsgssl.study.plan import StudyPlan


StudyData = Annotated[Path, typer.Option("--data", help="Folder of the data set.")]
StudyFolder = Annotated[Path, typer.Option("--out", help="Folder of the study.")]
Seeds = Annotated[int, typer.Option(help="How many seeds: 0, 1, ...", min=1)]
LabelFractions = Annotated[str, typer.Option(help="Shares of the labeled patients, with commas.")]
StudySettings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="[METHOD:]KEY=VALUE",
        help="Change one setting, of all runs or of one method's; repeat for more.",
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show the plan, its time and room; write nothing.")
]


class StudyByDefault(TyperGroup):
    """Take `compare --data DATA ...` for `compare run --data DATA ...`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put `run` before everything that does not start with a command or with --help."""
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["run", *args]
        return super().parse_args(ctx, args)


compare_app = typer.Typer(
    cls=StudyByDefault,
    no_args_is_help=True,
    help="Compare methods: plan and run a study (`compare --data DATA ...`), and report it.",
)


@compare_app.command()
def run(
    data: StudyData,
    out: StudyFolder,
    methods: Annotated[str, typer.Option(help="Names of methods, with commas.")],
    seeds: Seeds = 3,
    label_fractions: LabelFractions = "1",
    controls: Annotated[
        str,
        typer.Option(help="Mask controls of every method: none,shuffled,random-blob,..."),
    ] = "",
    twins: Annotated[
        bool, typer.Option("--twins", help="Also run each method without pretraining.")
    ] = False,
    config: ConfigFile = None,
    settings: StudySettings = None,
    dry_run: DryRun = False,
) -> None:
    """Plan and run a study; given again, it goes on where it stopped.

    Masks and decoded images are shared by all runs, and one pretraining by all label fractions.
    A run that fails is recorded, the others go on, and the exit status is 1.
    """
    from medsgssl.config.loading import read_yaml
    from medsgssl.study.planning import make_plan

    plan = make_plan(
        data,
        split_list(methods),
        seeds=seeds,
        fractions=numbers(label_fractions),
        controls=split_list(controls),
        twins=twins,
        items=settings or [],
        file=read_yaml(config) if config else None,
    )
    carry_out(plan, out, dry_run=dry_run)


def carry_out(plan: StudyPlan, out: Path, *, dry_run: bool) -> None:
    """Run a study and say what became of it, or show what it would take.

    Args:
        plan: What to run.
        out: The study's folder.
        dry_run: Show the plan with its time and room, and write nothing.
    """
    from medsgssl.report.run_page import write_report
    from medsgssl.study.cost import estimate
    from medsgssl.study.runner import run_study

    if dry_run:
        plan.joined(out)  # says now what running it would refuse
        _show_plan(plan, estimate(plan, out))
        return
    outcomes = run_study(plan, out, on_run_end=write_report)
    failed = [outcome for outcome in outcomes if outcome.problem]
    typer.echo(f"{len(outcomes) - len(failed)} of {len(outcomes)} runs are complete.")
    for outcome in failed:
        typer.echo(f"{outcome.status}: {outcome.name}: {outcome.problem.splitlines()[0]}")
    typer.echo(f"Report it: medsgssl compare report {out}")
    if failed:
        raise typer.Exit(1)


@compare_app.command()
def report(
    folders: Annotated[
        list[Path], typer.Argument(metavar="STUDY | RUN RUN ...", help="A study, or run folders.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder; STUDY/report or ./comparison by default.")
    ] = None,
    control: Annotated[str, typer.Option(help="The arm to compare with.")] = "simclr",
    resamples: Annotated[int, typer.Option(help="Resamples of patients.", min=100)] = 2000,
    confidence: Annotated[float, typer.Option(help="Of the intervals.", min=0.5, max=0.999)] = 0.95,
) -> None:
    """Report a study, or run folders made anywhere, from their result files alone.

    Writes one page that needs nothing but itself, the tables as CSV and LaTeX, and the figures
    as SVG and PDF.
    """
    from medsgssl.report.study_page import write_study_report

    page = write_study_report(
        folders, out, control=control, resamples=resamples, confidence=confidence
    )
    typer.echo(f"Report: {page}")


@compare_app.command()
def table(
    folders: Annotated[
        list[Path], typer.Argument(metavar="STUDY | RUN RUN ...", help="A study, or run folders.")
    ],
    out: Annotated[Path, typer.Option("--out", help="The Markdown file.")],
    control: Annotated[str, typer.Option(help="The arm to compare with.")] = "simclr",
    measure: Annotated[
        bool, typer.Option("--measure", help="Time a pretraining step of every arm now.")
    ] = False,
) -> None:
    """Write each method beside its twin without pretraining: Markdown, with every command.

    Mean AUC on test, what pretraining brings, and what an epoch costs, from result files alone.
    """
    from medsgssl.report.results_page import write_results

    typer.echo(f"Table: {write_results(folders, out, control=control, measure=measure)}")


@compare_app.command()
def look(
    folders: Annotated[
        list[Path], typer.Argument(metavar="STUDY | RUN RUN ...", help="A study, or run folders.")
    ],
    boxes: Annotated[
        Path | None, typer.Option(help="Box list; BBox_List_2017.csv of the data by default.")
    ] = None,
) -> None:
    """Score where the classifiers look against boxes and lungs; `report` then shows it."""
    from medsgssl.study.collect import run_folders
    from medsgssl.study.localize import look_all

    for path in look_all(run_folders(folders), boxes):
        typer.echo(f"Localization: {path}")


@compare_app.command()
def card(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
) -> None:
    """Write the model card of a run (Markdown) from its result files."""
    from medsgssl.report.model_card import write_card
    from medsgssl.runs.folder import RunFolder

    typer.echo(f"Model card: {write_card(RunFolder(folder))}")


def split_list(text: str) -> list[str]:
    """Return the parts of a list with commas."""
    return [part.strip() for part in text.split(",") if part.strip()]


def numbers(text: str) -> list[float]:
    """Return the numbers of a list with commas."""
    try:
        return [float(part) for part in split_list(text)]
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a list of numbers such as 0.1,1") from None


def _show_plan(plan: StudyPlan, found: Estimate) -> None:
    from rich.console import Console
    from rich.table import Table

    from medsgssl.utils.formatting import duration, size

    table = Table("run", "time", "from", "room")
    for item in found.runs:
        table.add_row(item.run.name, duration(item.seconds), item.basis, size(item.num_bytes))
    console = Console()
    console.print(table)
    splits = ", ".join(f"{count} {name}" for name, count in found.images.items())
    console.print(f"Images: {splits}. {len(found.complete)} of {len(plan.runs)} runs are complete.")
    console.print(
        f"Time: about {duration(found.seconds)} on this machine, as busy as it is "
        "now, all epochs counted; drawing masks and decoding images come once on top, unless they "
        "are in the cache."
    )
    console.print(
        f"Room: about {size(found.num_bytes)}, of it {size(found.cache_octets)} for decoded images "
        f"and masks; {size(found.free_octets)} are free."
    )
    if found.num_bytes > found.free_octets:
        console.print("Warning: the disk is too small for this study.", style="yellow")


def ablate(
    method: MethodName,
    data: StudyData,
    out: StudyFolder,
    seeds: Seeds = 3,
    label_fractions: LabelFractions = "1",
    config: ConfigFile = None,
    settings: StudySettings = None,
    dry_run: DryRun = False,
) -> None:
    """Leave out the parts of a method one by one: a study with its leave-one-out table.

    Runs the method, its twin without pretraining, the control simclr with the same backbone, and
    the method without each of its parts. `medsgssl compare report` then shows what each brings.
    """
    from medsgssl.config.loading import read_yaml
    from medsgssl.study.planning import make_ablation

    plan = make_ablation(
        data,
        method,
        seeds=seeds,
        fractions=numbers(label_fractions),
        items=settings or [],
        file=read_yaml(config) if config else None,
    )
    carry_out(plan, out, dry_run=dry_run)
