"""Where the curves of a run go: TensorBoard always, Weights & Biases and MLflow on request.

A tracker is opened by the first process, when it is first written to, under an identity that the
run folder keeps: a resumed run continues its own record.
"""

from __future__ import annotations

import importlib
import os
import uuid
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning_fabric import Fabric
from lightning_fabric.loggers.logger import Logger
from lightning_fabric.loggers.tensorboard import TensorBoardLogger
from lightning_fabric.utilities.rank_zero import rank_zero_only
from numpy.typing import NDArray

from medsgssl.config.cluster_settings import TrackerName
from medsgssl.config.loading import dump, flatten
from medsgssl.config.schema import Config
from medsgssl.errors import ConfigError
from medsgssl.utils.io import read_json, write_json

_IDENTITIES = "trackers.json"


def open_trackers(config: Config, folder: Path) -> list[Logger]:
    """Return the loggers of a run; nothing is opened before something is written.

    Args:
        config: The run's configuration; ``tracking`` names the trackers.
        folder: The run folder.
    """
    board = TensorBoardLogger(folder / "logs", name="tensorboard", version="")
    others = [_KINDS[name](config, folder) for name in config.tracking.loggers]
    return [board, *others]


def check_trackers(config: Config) -> None:
    """Check, before any work, that the packages of the trackers are there.

    Raises:
        ConfigError: One is not installed.
    """
    for name in config.tracking.loggers:
        _package(name)


def log_picture(fabric: Fabric, name: str, picture: NDArray[np.uint8], step: int) -> None:
    """Show a picture, (H, W, 3) uint8, on every logger of this process."""
    for logger in fabric.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(name, picture, step, dataformats="HWC")
        elif isinstance(logger, _Tracker):
            logger.log_picture(name, picture, step)


def log_table(
    config: Config, folder: Path, name: str, columns: Sequence[str], rows: Sequence[Sequence[str]]
) -> None:
    """Write a table of texts to the trackers that the settings name, under the folder's identity.

    Args:
        config: ``tracking`` names the trackers; nothing is written where there are none.
        folder: Of the study, which keeps the identity of its record.
        name: What the table is called there.
        columns: Headings.
        rows: One text per column.
    """
    for kind in config.tracking.loggers:
        tracker = _KINDS[kind](config, folder)
        tracker.log_table(name, columns, rows)
        tracker.close()


def _package(name: TrackerName) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"the logger {name} needs the package {name}",
            f"install it with `pip install medsgssl[{name}]`, or leave --logger out",
        ) from error


class _Tracker(Logger):
    """What both trackers share: the run's name, settings and lasting identity."""

    kind: TrackerName

    def __init__(self, config: Config, folder: Path) -> None:
        self._project = config.tracking.project
        self._folder = folder.absolute()
        self._settings = {key: str(value) for key, value in flatten(dump(config)).items()}
        self._opened: Any = None

    def __getstate__(self) -> dict[str, object]:
        """Travel to spawned processes unopened."""
        return {**self.__dict__, "_opened": None}

    @property
    def name(self) -> str:
        """The name of the run."""
        return self._folder.name

    @property
    def version(self) -> str | None:
        """The lasting identity of the run, None before it was first written to."""
        path = self._folder / _IDENTITIES
        return read_json(path).get(self.kind) if path.is_file() else None

    def _remember(self, identity: str) -> str:
        path = self._folder / _IDENTITIES
        known = read_json(path) if path.is_file() else {}
        write_json(path, {**known, self.kind: identity})
        return identity

    @rank_zero_only
    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """Do nothing: the settings are written when the run is opened."""

    @abstractmethod
    def log_picture(self, name: str, picture: NDArray[np.uint8], step: int) -> None:
        """Show a picture, (H, W, 3) uint8."""

    @abstractmethod
    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Show a table of texts."""

    def close(self) -> None:
        """Hand over what is still waiting to be written."""


class WandbTracker(_Tracker):
    """Weights & Biases; ``WANDB_MODE=offline`` works without a network."""

    kind: TrackerName = "wandb"

    @property
    def experiment(self) -> Any:
        """The open run of wandb."""
        if self._opened is None:
            (self._folder / "logs").mkdir(parents=True, exist_ok=True)
            self._opened = _package("wandb").init(
                project=self._project,
                id=self.version or self._remember(uuid.uuid4().hex[:12]),
                resume="allow",
                name=self.name,
                dir=str(self._folder / "logs"),
                config=self._settings,
            )
            # The steps of each stage begin at 0; wandb's own counter would drop the second stage.
            for stage in ("pretrain", "finetune"):
                self._opened.define_metric(f"{stage}/step")
                self._opened.define_metric(f"{stage}/*", step_metric=f"{stage}/step")
        return self._opened

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Write the values of an epoch; their names begin with the stage."""
        stages = {name.partition("/")[0] for name in metrics}
        steps = {f"{stage}/step": step for stage in stages}
        self.experiment.log({**metrics, **steps})

    @rank_zero_only
    def log_picture(self, name: str, picture: NDArray[np.uint8], step: int) -> None:
        """Show a picture beside the step of its stage."""
        self.experiment.log({name: _package("wandb").Image(picture), "pretrain/epoch_shown": step})

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Show a table of texts."""
        table = _package("wandb").Table(columns=list(columns), data=[list(row) for row in rows])
        self.experiment.log({name: table})

    def close(self) -> None:
        """End the process of wandb, which writes what is waiting."""
        self.experiment.finish()


class MlflowTracker(_Tracker):
    """MLflow, at ``MLFLOW_TRACKING_URI``; ``logs/mlruns`` of the run where that is not set."""

    kind: TrackerName = "mlflow"

    @property
    def experiment(self) -> Any:
        """The client of MLflow; `version` is the run."""
        if self._opened is None:
            mlflow = _package("mlflow")
            if not mlflow.environment_variables.MLFLOW_TRACKING_URI.get():
                # MLflow would write into the folder that the command was typed in. Without a
                # database it asks to be told that files are meant.
                os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
                mlflow.set_tracking_uri((self._folder / "logs" / "mlruns").as_uri())
            client = mlflow.MlflowClient()
            if self.version is None:
                experiment = client.get_experiment_by_name(self._project)
                number = (
                    experiment.experiment_id
                    if experiment
                    else client.create_experiment(self._project)
                )
                run = client.create_run(number, run_name=self.name).info.run_id
                for key, value in self._settings.items():
                    client.log_param(run, key, value[:500])
                self._remember(run)
            self._opened = client
        return self._opened

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Write the values of an epoch; their names begin with the stage."""
        client = self.experiment
        for name, value in metrics.items():
            client.log_metric(self.version, name, float(value), step=step or 0)

    @rank_zero_only
    def log_picture(self, name: str, picture: NDArray[np.uint8], step: int) -> None:
        """Show a picture."""
        self.experiment.log_image(self.version, picture, f"{name}/{step:05d}.png")

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Show a table of texts; a later one of the same name takes its place."""
        cells = {column: [row[n] for row in rows] for n, column in enumerate(columns)}
        self.experiment.log_dict(self.version, cells, f"{name}.json")


_KINDS: dict[TrackerName, type[_Tracker]] = {"wandb": WandbTracker, "mlflow": MlflowTracker}
