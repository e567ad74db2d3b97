"""The stages of one run in order; each is skipped when complete and resumed when interrupted."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console

from medsgssl import __version__
from medsgssl.config.loading import dump, without_paths
from medsgssl.config.schema import Config
from medsgssl.data.labels import label_array
from medsgssl.data.prepare import PreparedData, prepare_data
from medsgssl.errors import ConfigError
from medsgssl.evaluation.evaluate import evaluate_predictions
from medsgssl.evaluation.predictions import Predictions
from medsgssl.images.intensity import INTENSITY
from medsgssl.inference.forward import predict_splits
from medsgssl.methods.registry import method_of
from medsgssl.models.hub import find_hub_model
from medsgssl.models.weights import weights_identity
from medsgssl.pipeline.checks import (
    blank_warnings,
    check_apart,
    check_before_work,
    folder_of_weights,
)
from medsgssl.pipeline.examples import write_examples, write_maps
from medsgssl.pipeline.stages import run_stage_if_needed, stage_keys
from medsgssl.runs.data_summary import LabelsUsed
from medsgssl.runs.folder import RunFolder
from medsgssl.runs.metrics_file import Metrics
from medsgssl.runs.recovery import read_recovered
from medsgssl.runs.weights_header import WeightsHeader
from medsgssl.training.distributed import (
    Team,
    join_processes,
    open_fabric,
    require_same_data,
)
from medsgssl.training.finetuning import check_labels, finetune, labeled_rows
from medsgssl.training.pretraining import pretrain
from medsgssl.training.processes import resolve_processes
from medsgssl.training.trackers import check_trackers
from medsgssl.utils.io import atomic_path, csv_text, write_json, write_text
from medsgssl.utils.locks import exclusive
from medsgssl.utils.progress import new_console
from medsgssl.utils.resources import clear_resource_errors
from medsgssl.utils.system import loader_workers, shared_memory_warning

Until = Literal["data", "pretrain", "finetune", "evaluate"]


def run_method(
    config: Config,
    out: Path,
    until: Until = "evaluate",
    pretrained: Path | None = None,
    console: Console | None = None,
) -> RunFolder:
    """Run a method from data to metrics; the caller writes the report.

    Args:
        config: What to run.
        out: The run folder. A complete stage is skipped, an interrupted one goes on.
        until: The last stage to run.
        pretrained: ``pretrained.safetensors`` of another run of the same method, to start from
            instead of pretraining.
        console: Shows progress.

    Returns:
        The run folder.

    Raises:
        MedsgsslError: Anything the user can fix.
    """
    run = RunFolder(out)
    until = _until(config, until, pretrained)
    with clear_resource_errors(), join_processes() as team:
        console = console if team.rank == 0 and console else new_console(mute=team.rank > 0)
        config = resolve_processes(config)
        with _claimed(run, config, until, pretrained, team) as caveats:
            _run(config, run, until, pretrained, console, caveats, team)
    return run


@contextlib.contextmanager
def _claimed(
    run: RunFolder, config: Config, until: Until, pretrained: Path | None, team: Team
) -> Iterator[list[str]]:
    """Lock the run folder and check what a run needs, in the first process for all.

    Yields:
        What the user should be warned of.
    """
    with contextlib.ExitStack() as held:

        def initialize() -> list[str]:
            run.check_place()
            held.enter_context(exclusive(run.path, "the run folder"))
            check_trackers(config)
            warnings = check_before_work(
                config, pretrained, fine_tunes=get_args(Until).index(until) >= 2
            )
            run.initialize(config)
            return warnings

        yield team.first(initialize) or []


def _until(config: Config, until: Until, pretrained: Path | None) -> Until:
    """Return the last stage that can be run: without epochs, pretraining ends with the data."""
    trains = config.pretrain.epochs > 0 or config.no_pretrain or pretrained is not None
    if trains or until == "data":
        return until
    if until == "pretrain":
        return "data"
    raise ConfigError(
        "pretrain.epochs=0 leaves nothing to fine-tune",
        "give --no-pretrain for the baseline without pretraining, or at least one epoch; "
        "`medsgssl pretrain` with 0 epochs prepares the data alone",
    )


def _run(
    config: Config,
    run: RunFolder,
    until: Until,
    pretrained: Path | None,
    console: Console,
    caveats: list[str],
    team: Team,
) -> None:
    last = get_args(Until).index(until)
    data = _prepare(config, console, team)
    if pretrained is not None and not config.no_pretrain:
        caveats += team.first(lambda: check_apart(data, pretrained)) or []
    data.summary["warnings"] += [*caveats, *blank_warnings(data)]
    keys = stage_keys(config, data, pretrained)

    def begin() -> None:
        _say_warnings(config, data, console)
        _write_data(run, config, data, keys, console)

    team.first(begin)
    if last >= 2:
        # Before hours of pretraining rather than after them.
        check_labels(config, data.source)
    if last >= 1 and not config.no_pretrain:
        header = _header(config, run, data, keys["pretrain"])
        _pretrain(run, config, data, header, pretrained, console, team)
    if last >= 2:
        header = _header(config, run, data, keys["finetune"])

        def tune() -> None:
            finetune(config, data.source, run.path, header)

        run_stage_if_needed(run, "finetune", keys, tune, console, team)
    if last >= 3:

        def score() -> None:
            _predict(run, config, data, team)

        run_stage_if_needed(run, "predict", keys, score, console, team)

        def judge() -> None:
            run_stage_if_needed(run, "evaluate", keys, lambda: evaluate_run(run, config), console)

        team.first(judge)


def _prepare(config: Config, console: Console, team: Team) -> PreparedData:
    """Prepare the data once per machine; locks see to it that shared storage is written once."""

    def prepare() -> PreparedData:
        return prepare_data(config, console, needs_masks=method_of(config).sees_masks)

    data = prepare() if team.leads_machine else None
    team.gather(None)
    data = data or prepare()
    require_same_data(team, data.key, len(data.catalog.usable()))
    return data


def evaluate_run(run: RunFolder, config: Config) -> Metrics:
    """Recompute ``metrics.json`` from the predictions alone, and return it."""
    metrics = evaluate_predictions(Predictions.read(run.predictions), config.evaluate, config.seed)
    write_json(run.metrics, metrics)
    return metrics


def _header(config: Config, run: RunFolder, data: PreparedData, key: str) -> WeightsHeader:
    identity = weights_identity(config)
    header: WeightsHeader = {
        "method": identity["method"],
        "encoder": identity["encoder"],
        "direct": config.no_pretrain,
        "img_size": config.data.img_size,
        "intensity": INTENSITY,
        "label_revision": data.catalog.summary["label_revision"],
        "masks": data.summary["masks"],
        "diseases": list(data.catalog.label_set.names),
        "data": data.key,
        # Where files lie on this machine is nobody else's concern.
        "config": without_paths(dump(config)),
        "recovered": read_recovered(run.path),
        "version": __version__,
        "key": key,
    }
    if (hub := find_hub_model(config.encoder.name)) is not None:
        header["backbone"] = hub.to_json()
    return header


def _say_warnings(config: Config, data: PreparedData, console: Console) -> None:
    workers = loader_workers(config.data.num_workers)
    batch = config.data.batch_size * 2 * 2 * config.data.img_size**2
    memory = shared_memory_warning(batch, workers)
    for text in [*data.summary["warnings"], *([memory] if memory else [])]:
        console.print(f"Warning: {text}", style="yellow", highlight=False, markup=False)


def _write_data(
    run: RunFolder, config: Config, data: PreparedData, keys: dict[str, str], console: Console
) -> None:
    def write() -> None:
        write_json(run.data, {**data.summary, "labels_used": _labels_used(config, data)})
        with atomic_path(run.split) as temporary:
            data.split_table().to_parquet(temporary, index=False)
        if data.set_aside.empty:
            run.set_aside.unlink(missing_ok=True)
        else:
            write_text(run.set_aside, csv_text(data.set_aside))
        write_examples(run.examples, config, data)

    run_stage_if_needed(run, "data", keys, write, console)


def _labels_used(config: Config, data: PreparedData) -> LabelsUsed:
    """Count what ``data.label_fraction`` leaves of the training split."""
    if not data.catalog.summary["labeled"]:
        return {"patients": 0, "images": 0}
    rows = labeled_rows(config, data.source)
    return {"patients": len(set(data.source.patients[rows])), "images": len(rows)}


def _pretrain(
    run: RunFolder,
    config: Config,
    data: PreparedData,
    header: WeightsHeader,
    pretrained: Path | None,
    console: Console,
    team: Team,
) -> None:
    def write_images() -> None:
        with atomic_path(run.pretrained_on) as temporary:
            data.pretrained_on.to_parquet(temporary, index=False)

    def copy(weights: Path) -> None:
        with atomic_path(run.pretrained) as temporary:
            shutil.copyfile(weights, temporary)
        _copy_along(folder_of_weights(weights).pretrained_on, run.pretrained_on)

    def work() -> None:
        if pretrained is not None:
            team.first(lambda: copy(pretrained))
            return
        team.first(write_images)
        pretrain(config, data.source, run.path, header, data.more)

    def maps() -> None:
        if pretrained is None:
            write_maps(run.maps, config, data, run.pretrained)
        else:
            _copy_along(folder_of_weights(pretrained).maps, run.maps)

    run_stage_if_needed(run, "pretrain", {"pretrain": header["key"]}, work, console, team)
    # Apart, so that a run killed here need not pretrain again.
    team.first(lambda: run_stage_if_needed(run, "maps", {"maps": header["key"]}, maps, console))


def _copy_along(source: Path, target: Path) -> None:
    """Copy a file that belongs to other weights, where there is one; else there is none here."""
    target.unlink(missing_ok=True)
    if source.is_file():
        with atomic_path(target) as temporary:
            shutil.copyfile(source, temporary)


def _predict(run: RunFolder, config: Config, data: PreparedData, team: Team) -> None:
    # On one device as before, unless a launcher has started processes: each scores its share.
    fabric = open_fabric(config.finetune) if team.size > 1 else None
    rows, scores = predict_splits(config, data.source, run.classifier, fabric=fabric)
    team.first(lambda: _write_predictions(run, data, rows, scores))


def _write_predictions(
    run: RunFolder, data: PreparedData, rows: NDArray[np.int64], scores: NDArray[np.float32]
) -> None:
    table = data.catalog.table.iloc[rows]
    frame = table[["image_id", "patient_id", "split", "view_position", "sex", "age"]].reset_index(
        drop=True
    )
    for number, disease in enumerate(data.catalog.label_set.names):
        frame[f"label_{disease}"] = label_array(table, [disease])[:, 0]
        frame[f"score_{disease}"] = scores[:, number]
    Predictions(pd.DataFrame(frame)).write(run.predictions)
