"""A study in one small file per run: what its report is made from, without weights and images.

``PACKED/study.json`` is the plan; ``PACKED/RUN.parquet`` has the predictions of a run as its rows
and the small text files of its folder (configuration, audit, metrics, logs) as UTF-8 text in the
metadata of the file, below keys that begin with ``medsgssl:``. Files of the pretraining that the
run started from stand below ``medsgssl:pretrain/``. Any Parquet reader shows all of it.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from medsgssl.config.loading import without_paths
from medsgssl.errors import DataError
from medsgssl.runs.folder import RunFolder
from medsgssl.runs.stage_files import read_stage_records
from medsgssl.study.plan import PLAN_FILE, PlannedRun, StudyPlan, run_folder
from medsgssl.study.runner import is_complete
from medsgssl.utils.io import atomic_path, file_hash, write_json, write_text

_KEY = "medsgssl:"
_PRETRAIN = "pretrain/"
# Stages whose outputs a packed run still has.
_KEPT_STAGES = ("predict", "evaluate")


def pack_study(study: Path, out: Path) -> list[Path]:
    """Write the plan and every complete run of a study as small files.

    Runs that were packed before and are not complete in ``study`` stay as they are, so that a study
    can be packed piece by piece, from several machines.

    Args:
        study: Folder of the study.
        out: Folder of the packed study.

    Returns:
        The files of the runs that were written.

    Raises:
        DataError: ``study`` holds no study, or ``out`` holds another one.
    """
    plan = StudyPlan.load(study)
    packed = replace(
        plan,
        data=Path(plan.data).name,
        settings=without_paths(plan.settings),
        own_settings={name: without_paths(tree) for name, tree in plan.own_settings.items()},
    )
    lineage = {plan.hash, *plan.earlier}  # a study may have been extended since
    if (out / PLAN_FILE).is_file() and StudyPlan.load(out).hash not in lineage:
        raise DataError(
            f"{out} holds another study than {study}: the hashes of their plans differ",
            "choose another --out folder",
        )
    out.mkdir(parents=True, exist_ok=True)
    packed.save(out)
    written = []
    for planned in plan.runs:
        run = run_folder(study, planned.name)
        if planned.pretrains or not is_complete(run, planned):
            continue
        texts = _texts(run)
        if planned.start is not None:
            before = _texts(run_folder(study, planned.start))
            texts |= {f"{_PRETRAIN}{name}": text for name, text in before.items()}
        target = out / f"{planned.name}.parquet"
        table = pq.read_table(run.predictions)
        known = table.schema.metadata or {}
        table = table.replace_schema_metadata(
            known | {f"{_KEY}{name}": text for name, text in texts.items()}
        )
        with atomic_path(target) as temporary:
            _write_small(table, temporary)
        written.append(target)
    return written


def unpack_study(packed: Path, out: Path) -> list[Path]:
    """Write a packed study as run folders again; runs that are there already stay as they are.

    ``study run`` with the same settings and ``--out`` goes on from there: it does the runs that
    are missing.

    Args:
        packed: Folder that ``pack_study`` wrote.
        out: Folder of the study.

    Returns:
        The run folders that were written.

    Raises:
        DataError: ``packed`` holds no packed study, or a file is damaged.
    """
    plan = StudyPlan.load(packed)
    if not (out / PLAN_FILE).is_file():
        out.mkdir(parents=True, exist_ok=True)
        plan.save(out)
    written = []
    for planned in plan.runs:
        source = packed / f"{planned.name}.parquet"
        run = run_folder(out, planned.name)
        if planned.pretrains or not source.is_file() or is_complete(run, planned):
            continue
        _unpack(source, planned, run, out)
        written.append(run.path)
    return written


def is_packed(folder: Path) -> bool:
    """Return whether a folder holds a packed study."""
    return (folder / PLAN_FILE).is_file() and not (folder / "runs").is_dir()


@contextmanager
def opened_studies(folders: Sequence[Path]) -> Iterator[list[Path]]:
    """Yield the folders, a packed study among them as run folders that last for the context."""
    with tempfile.TemporaryDirectory(prefix="medsgssl-") as scratch:
        opened = []
        for folder in folders:
            if is_packed(folder):
                target = Path(scratch) / folder.absolute().name
                unpack_study(folder, target)
                opened.append(target)
            else:
                opened.append(folder)
        yield opened


def _text_files(run: RunFolder) -> tuple[Path, ...]:
    """Return the small files that tell how a run was made and what came out."""
    return (
        run.config,
        run.environment,
        run.stages,
        run.data,
        run.metrics,
        run.kept_epoch,
        run.pretrain_log,
        run.pretrain_warnings,
        run.finetune_log,
    )


def _texts(run: RunFolder) -> dict[str, str]:
    texts = {path.name: path.read_text("utf-8") for path in _text_files(run) if path.is_file()}
    if run.config.is_file():
        # Where files lay on the machine that ran it is nobody else's concern.
        texts[run.config.name] = yaml.safe_dump(without_paths(run.read_config()), sort_keys=False)
    return {name: _small(name, text) for name, text in texts.items()}


def _small(name: str, text: str) -> str:
    return json.dumps(json.loads(text), separators=(",", ":")) if name.endswith(".json") else text


def _write_small(table: pa.Table, path: Path) -> None:
    """Write a table in half of the space: bytes of scores by their rank, and metadata once."""
    scores = [field.name for field in table.schema if pa.types.is_floating(field.type)]
    with pq.ParquetWriter(
        path,
        table.schema,
        compression="zstd",
        compression_level=9,
        use_dictionary=[name for name in table.column_names if name not in scores],
        column_encoding=dict.fromkeys(scores, "BYTE_STREAM_SPLIT"),
        # Arrow's copy of the schema would hold all metadata a second time.
        store_schema=False,
    ) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata(table.schema.metadata)


def _unpack(source: Path, planned: PlannedRun, run: RunFolder, study: Path) -> None:
    try:
        table = pq.read_table(source)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{source} cannot be read: {error}", "pack the study again, or fetch the file again"
        ) from error
    metadata = {key.decode(): text.decode() for key, text in (table.schema.metadata or {}).items()}
    texts = {key.removeprefix(_KEY): text for key, text in metadata.items() if key.startswith(_KEY)}
    if run.config.name not in texts:
        raise DataError(f"{source} holds no packed run", "pack the study again")
    run.path.mkdir(parents=True, exist_ok=True)
    plain = {key: text for key, text in metadata.items() if not key.startswith(_KEY)}
    with atomic_path(run.predictions) as temporary:
        pq.write_table(table.replace_schema_metadata(plain), temporary)
    before = None if planned.start is None else run_folder(study, planned.start)
    for name, text in texts.items():
        if not name.startswith(_PRETRAIN):
            write_text(run.path / Path(name).name, text)
        elif before is not None:
            before.path.mkdir(parents=True, exist_ok=True)
            write_text(before.path / Path(name).name, text)
    _keep_records(run)
    if before is not None:
        _keep_records(before)


def _keep_records(run: RunFolder) -> None:
    """Record the outputs that are there; the hash of rewritten predictions is that of the file."""
    records = read_stage_records(run.stages)
    for stage, record in records.items():
        names = record.get("outputs", {}) if stage in _KEPT_STAGES else {}
        record["outputs"] = {
            name: {"size": (run.path / name).stat().st_size, "hash": file_hash(run.path / name)}
            for name in names
        }
    write_json(run.stages, records)
