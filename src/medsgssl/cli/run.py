"""`run`, `pretrain`, `finetune`, `evaluate`, `report` and `demo`: one run, or a part of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medsgssl.cli.options import (
    NoPretrain,
    Quiet,
    RunOptions,
    RunOut,
    Settings,
    with_run_options,
)

if TYPE_CHECKING:
    from medsgssl.runs.folder import RunFolder

Pretrained = Annotated[
    Path | None,
    typer.Option(
        "--from",
        help="Run folder or pretrained.safetensors of the same method to start from, instead of "
        "pretraining.",
    ),
]


@with_run_options
def run_command(
    options: RunOptions,
    out: RunOut,
    no_pretrain: NoPretrain = False,
    start: Pretrained = None,
    quiet: Quiet = False,
) -> None:
    """Run a method from data to report: masks, pretraining, fine-tuning, evaluation.

    After a crash or Ctrl-C, give the same command again: complete stages are skipped, and an
    interrupted one continues.
    """
    resolved = options.resolve(no_pretrain=no_pretrain)
    from medsgssl.pipeline.runner import run_method

    _report_and_show(run_method(resolved, out, pretrained=_weights(start)))


@with_run_options
def pretrain(options: RunOptions, out: RunOut, quiet: Quiet = False) -> None:
    """Run a method up to its pretrained encoder; `run` continues from there.

    With --set pretrain.epochs=0 it prepares catalog, decoded images and masks, and stops.
    """
    resolved = options.resolve()
    from medsgssl.pipeline.runner import run_method

    done = run_method(resolved, out, until="pretrain")
    if resolved.pretrain.epochs:
        typer.echo(f"Encoder: {done.pretrained}")
    else:
        typer.echo(f"Prepared: {done.path} (pretrain.epochs=0: nothing was trained)")


@with_run_options
def finetune(
    options: RunOptions,
    out: RunOut,
    no_pretrain: NoPretrain = False,
    start: Pretrained = None,
    quiet: Quiet = False,
) -> None:
    """Fine-tune a pretrained encoder (of this run folder, or --from another) and evaluate it."""
    resolved = options.resolve(no_pretrain=no_pretrain)
    from medsgssl.errors import CheckpointError
    from medsgssl.pipeline.runner import run_method
    from medsgssl.runs.folder import RunFolder

    weights = _weights(start)
    if weights is None and not resolved.no_pretrain and not RunFolder(out).pretrained.is_file():
        raise CheckpointError(
            f"{out} holds no pretrained encoder",
            f"run `medsgssl pretrain {options.method}` first, name one with --from, or give "
            "--no-pretrain",
        )
    _report_and_show(run_method(resolved, out, pretrained=weights))


def _weights(start: Path | None) -> Path | None:
    from medsgssl.runs.folder import RunFolder

    if start is not None and start.is_dir():
        return RunFolder(start).pretrained
    return start


def _report_and_show(done: RunFolder) -> None:
    from medsgssl.report.run_page import write_report
    from medsgssl.utils.ranks import rank

    if rank() == 0:
        write_report(done)
        show_result(done)


def show_result(done: RunFolder) -> None:
    """Print the mean AUC and where the report is."""
    from medsgssl.runs.metrics_file import read_metrics

    metrics = read_metrics(done.metrics)
    if metrics is not None and (auc := metrics["mean_auc"]) is not None:
        interval = metrics["mean_auc_interval"]
        asked = metrics["bootstrap"]["resamples"] > 0
        few = "too few patients for an interval" if asked else "no intervals: evaluate.bootstrap=0"
        spread = f"{interval[0]:.4f} to {interval[1]:.4f}" if interval else few
        typer.echo(f"Mean AUC on test: {auc:.4f} ({spread})")
        often, mean = metrics["mean_auc_20_interval"], metrics["mean_auc_20"]
        if interval is None and often is not None and mean is not None:
            count = len(metrics["diseases_in_mean_20"])
            typer.echo(
                f"Of the {count} diseases with 20 or more test patients of either class: "
                f"{mean:.4f} ({often[0]:.4f} to {often[1]:.4f})"
            )
    typer.echo(f"Report: {done.report}")


RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]


def evaluate(folder: RunArgument, settings: Settings = None, quiet: Quiet = False) -> None:
    """Recompute the metrics of a run from its predictions alone, and its report."""
    from medsgssl.config.loading import merge, parse_overrides
    from medsgssl.errors import ConfigError
    from medsgssl.methods.registry import configure
    from medsgssl.pipeline.runner import evaluate_run
    from medsgssl.report.run_page import write_report
    from medsgssl.runs.folder import RunFolder

    run = RunFolder(folder)
    stored = run.read_config()
    changes = parse_overrides(settings or [])
    if changes.keys() - {"evaluate"}:
        raise ConfigError(
            f"evaluate cannot change {', '.join(sorted(changes.keys() - {'evaluate'}))}",
            "give settings below evaluate., e.g. --set evaluate.bootstrap=2000",
        )
    config = configure(
        stored["method_name"], merge(stored, changes), no_pretrain=bool(stored["no_pretrain"])
    )
    evaluate_run(run, config)
    write_report(run)
    show_result(run)


def report(
    folder: RunArgument,
    figures: Annotated[
        bool, typer.Option("--figures", help="Also write the figures as SVG and PDF files.")
    ] = False,
) -> None:
    """Write the report of a run again; --figures adds its figures as SVG and PDF files."""
    from medsgssl.report.run_page import write_report
    from medsgssl.runs.folder import RunFolder

    run = RunFolder(folder)
    run.read_config()
    typer.echo(f"Report: {write_report(run, figures=figures)}")


def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for data, cache and runs.")] = Path(
        "demo"
    ),
    count: Annotated[int, typer.Option(help="Synthetic X-rays.", min=200)] = 600,
    quiet: Quiet = False,
) -> None:
    """Run everything once on synthetic X-rays: data, masks, pretraining, fine-tuning, report."""
    from medsgssl.pipeline.demo import run_demo
    from medsgssl.report.run_page import write_report

    for name, done in run_demo(out, count).items():
        typer.echo(f"Report of {name}: {write_report(done).absolute()}")
