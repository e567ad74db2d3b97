"""The functions that a notebook needs; ``import medsgssl`` offers them by name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from medsgssl.config.schema import Config

if TYPE_CHECKING:
    import pandas as pd

    from medsgssl.config.loading import Settings, SettingsTree
    from medsgssl.data.catalog import Catalog
    from medsgssl.methods.index import MethodEntry
    from medsgssl.pipeline.runner import Until
    from medsgssl.runs.folder import RunFolder
    from medsgssl.study.runner import Outcome

# Torch, Lightning and pandas are imported inside the functions, so that `import medsgssl` and the
# functions that do without them stay fast.
AnyPath = str | PathLike[str]


def load_config(
    method: str,
    *,
    data: AnyPath | None = None,
    file: AnyPath | None = None,
    settings: Settings | None = None,
    no_pretrain: bool = False,
) -> Config:
    """Build the configuration of a run and check it.

    Args:
        method: Name of the method, e.g. ``"guided-crop"``; see `list_methods`.
        data: Folder of the data set, for ``data.root``.
        file: YAML file with settings, as ``medsgssl config METHOD`` prints it.
        settings: Settings that override the file, nested or by dotted key, e.g.
            ``{"data.img_size": 128, "pretrain": {"epochs": 10}}``.
        no_pretrain: Configure the no-pretraining baseline of the method.

    Returns:
        The configuration; it cannot be changed.

    Raises:
        ConfigError: The method or a setting is unknown, or a value is out of range; every mistake
            is listed.
    """
    from medsgssl.config.loading import merge, nest, nested, read_yaml
    from medsgssl.methods.registry import configure

    layers = [read_yaml(Path(file)) if file is not None else {}]
    layers.append(nested(settings or {}))
    if data is not None:
        layers.append(nest("data.root", str(Path(data).expanduser().absolute())))
    merged: SettingsTree = {}
    for layer in layers:
        merged = merge(merged, layer)
    no_pretrain = no_pretrain or bool(merged.get("no_pretrain", False))
    return configure(method, merged, no_pretrain=no_pretrain, check_names=True)


def run(
    config: Config,
    out: AnyPath,
    *,
    until: Until = "evaluate",
    pretrained: AnyPath | None = None,
    quiet: bool = False,
) -> RunFolder:
    """Run a method from data to report: masks, pretraining, fine-tuning, evaluation.

    Args:
        config: What to run; see `load_config`.
        out: The run folder. A complete stage is skipped, an interrupted one continues.
        until: The last stage: ``"data"``, ``"pretrain"``, ``"finetune"`` or ``"evaluate"``. The
            report is written after the last of them.
        pretrained: ``pretrained.safetensors`` of another run of the same method, to start from
            instead of pretraining.
        quiet: Show no progress.

    Returns:
        The run folder, with the path of each result (``metrics``, ``report``, ``predictions``).

    Raises:
        MedsgsslError: Anything the user can fix.
    """
    from medsgssl.pipeline.runner import run_method
    from medsgssl.report.run_page import write_report
    from medsgssl.utils.progress import quietly
    from medsgssl.utils.ranks import rank

    start = Path(pretrained) if pretrained is not None else None
    with quietly(quiet):
        done = run_method(config, Path(out), until=until, pretrained=start)
        if until == "evaluate" and rank() == 0:
            write_report(done)
    return done


def run_study(
    data: AnyPath,
    out: AnyPath,
    methods: Sequence[str],
    *,
    seeds: int | None = None,
    folds: int | None = None,
    label_fractions: Sequence[float] = (1.0,),
    controls: Sequence[str] = (),
    baselines: bool = False,
    settings: Sequence[str] = (),
    jobs: int = 1,
    quiet: bool = False,
) -> list[Outcome]:
    """Plan and run a study of several methods; the same call continues an interrupted one.

    Args:
        data: Folder of the data set.
        out: Folder of the study.
        methods: Names of the methods to compare.
        seeds: How many seeds; they are 0, 1, ...; three where no folds are asked for.
        folds: Cross-validation with so many folds instead of seeds.
        label_fractions: Shares of the labeled training patients, each in (0, 1].
        controls: Mask controls to run every method with masks with, e.g. ``["shuffled"]``.
        baselines: Also run the no-pretraining baseline of every method.
        settings: Settings of all runs as ``"KEY=VALUE"``, or of one method's as
            ``"METHOD:KEY=VALUE"``.
        jobs: Runs at a time, each in a process of its own; 1: one after another in this process.
        quiet: Show no progress.

    Returns:
        How each run ended; a failed run does not stop the others. `report_study` reports them.

    Raises:
        MedsgsslError: Anything the user can fix.
    """
    from medsgssl.report.run_page import write_report
    from medsgssl.study.launcher import LocalLauncher
    from medsgssl.study.plan_builder import make_plan
    from medsgssl.study.runner import run_study as run_plan
    from medsgssl.utils.progress import quietly

    plan = make_plan(
        Path(data),
        methods,
        seeds=seeds,
        folds=folds,
        fractions=label_fractions,
        controls=controls,
        baselines=baselines,
        items=settings,
    )
    launcher = LocalLauncher(jobs) if jobs > 1 else None
    with quietly(quiet):
        return run_plan(plan, Path(out), on_run_end=write_report, launcher=launcher)


def report_study(*folders: AnyPath, out: AnyPath | None = None, control: str = "simclr") -> Path:
    """Write the report of a study, or of several run folders.

    Args:
        *folders: The folder of a study, or run folders of the same images and split.
        out: Folder of the report; ``STUDY/report`` or ``./comparison`` by default.
        control: The arm that the others are compared with.

    Returns:
        The HTML page; tables and figures lie beside it.

    Raises:
        DataError: A folder holds no results, or the runs cannot be compared.
    """
    from medsgssl.report.study_page import write_study_report

    paths = [Path(folder) for folder in folders]
    return write_study_report(paths, Path(out) if out is not None else None, control=control)


def load_catalog(data: AnyPath, settings: Settings | None = None) -> Catalog:
    """Read and check a data set: images, labels, patients, splits.

    Args:
        data: Folder of the data set.
        settings: Settings below ``data.``, e.g. ``{"split": "random"}``.

    Returns:
        The catalog; its ``table`` has one row per image, its ``summary`` is the audit.

    Raises:
        DataError: Tables or lists are malformed, or no image was found.
        ConfigError: A setting is unknown or out of range.
    """
    from medsgssl.config.loading import build
    from medsgssl.config.method_settings import MethodSettings
    from medsgssl.data.catalog import load_or_build

    tree = {**(settings or {}), "root": str(Path(data).expanduser().absolute())}
    resolved = build({"method_name": "METHOD", "data": tree}, MethodSettings).data
    return load_or_build(resolved)


def predict(model: AnyPath, files: Iterable[AnyPath], *, device: str | None = None) -> pd.DataFrame:
    """Score image files with a trained classifier.

    Args:
        model: A run folder, an exported folder, or a ``classifier.safetensors``.
        files: Paths of images (PNG, JPEG, TIFF, BMP, WebP, DICOM).
        device: E.g. ``"cpu"``; a GPU where there is one when not given.

    Returns:
        One row per file, as `Predictor.predict` describes it.

    Raises:
        CheckpointError: There is no usable classifier.
    """
    from medsgssl.inference.predictor import Predictor

    return Predictor.load(Path(model), device).predict(Path(file) for file in files)


def list_methods() -> dict[str, MethodEntry]:
    """Return every known method by name: summary, source, backbone and settings."""
    from medsgssl.methods.index import method_index

    return method_index()
