"""`study`: what is made from finished runs: reports, tables, maps against boxes, packed studies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medsgssl.cli.study import StudyFolder


def report(
    folders: Annotated[
        list[Path], typer.Argument(metavar="STUDY | RUN", help="A study, or run folders.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder; STUDY/report or ./comparison by default.")
    ] = None,
    control: Annotated[str, typer.Option(help="The arm to compare with.")] = "simclr",
    confidence: Annotated[float, typer.Option(help="Of the intervals.", min=0.5, max=0.999)] = 0.95,
) -> None:
    """Report a study, or any run folders, from their result files alone.

    Writes one self-contained page, the tables as CSV and LaTeX, and the figures as SVG and PDF.
    """
    from medsgssl.report.study_page import write_study_report

    page = write_study_report(folders, out, control=control, confidence=confidence)
    typer.echo(f"Report: {page}")


def pack(
    folder: Annotated[Path, typer.Argument(metavar="STUDY", help="Folder of a study.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the packed study.")],
) -> None:
    """Write a study as one small file per run, to share: all that its report is made from.

    Each file holds predictions, configuration, audit and logs, and no weights or images.
    `medsgssl study report` and `study table` take the packed folder.
    """
    from medsgssl.study.packed import pack_study
    from medsgssl.utils.formatting import counted, size

    written = pack_study(folder, out)
    num_bytes = sum(path.stat().st_size for path in written)
    typer.echo(f"{counted(len(written), 'run')} in {out}, {size(num_bytes)}")


def unpack(
    folder: Annotated[Path, typer.Argument(metavar="PACKED", help="A packed study.")],
    out: StudyFolder,
) -> None:
    """Write a packed study as run folders again; `study run` then does what is missing."""
    from medsgssl.study.packed import unpack_study
    from medsgssl.utils.formatting import counted

    typer.echo(f"{counted(len(unpack_study(folder, out)), 'run')} in {out}")


def table(
    folders: Annotated[
        list[Path], typer.Argument(metavar="STUDY | RUN", help="A study, or run folders.")
    ],
    out: Annotated[Path, typer.Option("--out", help="The Markdown file.")],
    control: Annotated[str, typer.Option(help="The arm to compare with.")] = "simclr",
) -> None:
    """Write the results as one Markdown page: verdicts, tables, compute and commands.

    From result files alone, of a study (packed or not) or of run folders.
    """
    from medsgssl.report.results_page import write_results

    typer.echo(f"Table: {write_results(folders, out, control=control)}")


def localize(
    folders: Annotated[
        list[Path], typer.Argument(metavar="STUDY | RUN", help="A study, or run folders.")
    ],
    boxes: Annotated[
        Path | None, typer.Option(help="Box list; BBox_List_2017.csv of the data by default.")
    ] = None,
) -> None:
    """Score the classifiers' maps against boxes and lungs; `study report` then shows the scores."""
    from medsgssl.study.collect import run_folders
    from medsgssl.study.run_localization import localize_runs

    for path in localize_runs(run_folders(folders), boxes):
        typer.echo(f"Localization: {path}")


def card(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
) -> None:
    """Write the model card of a run (Markdown) from its result files."""
    from medsgssl.report.model_card import write_card
    from medsgssl.runs.folder import RunFolder

    typer.echo(f"Model card: {write_card(RunFolder(folder))}")


COMMANDS = (report, table, localize, card, pack, unpack)
