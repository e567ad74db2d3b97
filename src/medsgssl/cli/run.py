"""`run`, `pretrain` and `finetune`: a method from data to report, or a part of the way."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medsgssl.cli.options import (
    AlsoFolders,
    ConfigFile,
    DataFolder,
    Direct,
    MaskSource,
    MethodName,
    RunOut,
    Settings,
    resolve,
)

if TYPE_CHECKING:
    from medsgssl.runs import RunFolder

Pretrained = Annotated[
    Path | None,
    typer.Option(
        "--from",
        help="Run folder or pretrained.safetensors of the same method to start from, instead of "
        "pretraining.",
    ),
]


def run(
    method: MethodName,
    out: RunOut,
    data: DataFolder = None,
    also: AlsoFolders = None,
    direct: Direct = False,
    mask_source: MaskSource = None,
    start: Pretrained = None,
    config: ConfigFile = None,
    settings: Settings = None,
) -> None:
    """Run a method from data to report: masks, pretraining, fine-tuning, evaluation.

    A complete stage is skipped and an interrupted one goes on, so that the same command can be
    given again after a crash.
    """
    from medsgssl.pipeline import run_method

    resolved = resolve(
        method, config, settings, data=data, also=also, mask_source=mask_source, direct=direct
    )
    show_result(run_method(resolved, out, pretrained=_weights(start)))


def pretrain(
    method: MethodName,
    out: RunOut,
    data: DataFolder = None,
    also: AlsoFolders = None,
    mask_source: MaskSource = None,
    config: ConfigFile = None,
    settings: Settings = None,
) -> None:
    """Run a method up to its pretrained encoder; `run` goes on from there."""
    from medsgssl.pipeline import run_method

    resolved = resolve(method, config, settings, data=data, also=also, mask_source=mask_source)
    done = run_method(resolved, out, until="pretrain")
    typer.echo(f"Encoder: {done.pretrained}")


def finetune(
    method: MethodName,
    out: RunOut,
    data: DataFolder = None,
    also: AlsoFolders = None,
    direct: Direct = False,
    mask_source: MaskSource = None,
    start: Pretrained = None,
    config: ConfigFile = None,
    settings: Settings = None,
) -> None:
    """Fine-tune a pretrained encoder (of this run folder, or --from another) and evaluate it."""
    from medsgssl.errors import CheckpointError
    from medsgssl.pipeline import run_method
    from medsgssl.runs import RunFolder

    resolved = resolve(
        method, config, settings, data=data, also=also, mask_source=mask_source, direct=direct
    )
    weights = _weights(start)
    if weights is None and not resolved.direct and not RunFolder(out).pretrained.is_file():
        raise CheckpointError(
            f"{out} holds no pretrained encoder",
            f"run `medsgssl pretrain {method}` first, name one with --from, or give --direct",
        )
    show_result(run_method(resolved, out, pretrained=weights))


def _weights(start: Path | None) -> Path | None:
    if start is not None and start.is_dir():
        return start / "pretrained.safetensors"
    return start


def show_result(done: RunFolder) -> None:
    """Print the mean AUC and where the report is."""
    from medsgssl.files import read_json

    metrics = read_json(done.metrics)
    auc, interval = metrics["mean_auc"], metrics.get("mean_auc_interval")
    if auc is not None:
        spread = f" ({interval[0]:.4f} to {interval[1]:.4f})" if interval else ""
        typer.echo(f"Mean AUC on test: {auc:.4f}{spread}")
    typer.echo(f"Report: {done.report}")
