"""The run folder: the name of every file a run leaves, and which stages are complete."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from medsgssl.config.cluster_settings import SlurmSettings, TrackingSettings
from medsgssl.config.loading import FlatSettings, SettingsTree, dump, flatten, read_yaml, to_yaml
from medsgssl.config.renamed import with_new_names
from medsgssl.config.schema import Config
from medsgssl.errors import ConfigError
from medsgssl.runs.recovery import RECOVERY_SETTINGS, diverged_path, record_recovery
from medsgssl.runs.stage_files import OutputRecord, StageRecord, read_stage_records
from medsgssl.utils.io import file_hash, write_json, write_text
from medsgssl.utils.system import environment

StageName = Literal["data", "pretrain", "maps", "finetune", "predict", "evaluate"]

#: Settings that change where or how fast a run computes, but not what.
WITHOUT_EFFECT = (
    "data.root",
    "data.cache_dir",
    "data.num_workers",
    "data.cache_masks",
    "data.pin_memory",
    "pretrain.checkpoint_minutes",
    "finetune.checkpoint_minutes",
    "study.margin",
    *(f"slurm.{name}" for name in SlurmSettings.model_fields),
    *(f"tracking.{name}" for name in TrackingSettings.model_fields),
)
#: Settings that came later, with the value that does what runs without them did.
_ADDED_SETTINGS = {"data.render": "cpu", "pretrain.compile": False, "finetune.compile": False}
#: Settings that only the evaluation looks at; it is cheap, and repeated when they change.
EVALUATION_ONLY = "evaluate."


def deciding_settings(tree: SettingsTree) -> FlatSettings:
    """Return the settings that decide a result, by dotted key.

    Args:
        tree: A configuration as nested plain values, also one of an earlier version.
    """
    return {
        key: value
        for key, value in flatten(tree).items()
        if key not in WITHOUT_EFFECT
        and not (key in _ADDED_SETTINGS and value == _ADDED_SETTINGS[key])
    }


@dataclass(frozen=True)
class RunFolder:
    """One run's folder.

    Attributes:
        path: The folder.
    """

    path: Path

    @property
    def config(self) -> Path:
        """The resolved configuration, YAML."""
        return self.path / "config.yaml"

    @property
    def environment(self) -> Path:
        """Versions and machine, JSON."""
        return self.path / "environment.json"

    @property
    def stages(self) -> Path:
        """Which stages are complete, with their keys and seconds, JSON."""
        return self.path / "stages.json"

    @property
    def data(self) -> Path:
        """Audit of the catalog and of the masks: counts and warnings, JSON."""
        return self.path / "data.json"

    @property
    def set_aside(self) -> Path:
        """Data set, image id and reason of every image that is not used, CSV; absent where none."""
        return self.path / "set_aside.csv"

    @property
    def split(self) -> Path:
        """Image id, patient id and split of every image, parquet."""
        return self.path / "split.parquet"

    @property
    def examples(self) -> Path:
        """Some images, masks and views as the network saw them, npz."""
        return self.path / "examples.npz"

    @property
    def maps(self) -> Path:
        """Where the method looks before and after pretraining, npz; not every method has it."""
        return self.path / "maps.npz"

    @property
    def pretrained_on(self) -> Path:
        """Name, patient and kind of every image that pretraining saw, parquet."""
        return self.path / "pretrained_on.parquet"

    @property
    def pretrained(self) -> Path:
        """The pretrained encoder."""
        return self.path / "pretrained.safetensors"

    @property
    def pretrain_log(self) -> Path:
        """One row per epoch of pretraining, CSV."""
        return self.path / "pretrain_log.csv"

    @property
    def pretrain_warnings(self) -> Path:
        """Warnings about collapse, saturation and chance, JSON list."""
        return self.path / "pretrain_warnings.json"

    @property
    def finetune_log(self) -> Path:
        """One row per epoch of fine-tuning, CSV."""
        return self.path / "finetune_log.csv"

    @property
    def kept_epoch(self) -> Path:
        """Which epoch of fine-tuning became the classifier, and why, JSON."""
        return self.path / "kept_epoch.json"

    @property
    def classifier(self) -> Path:
        """The classifier that fine-tuning kept."""
        return self.path / "classifier.safetensors"

    @property
    def predictions(self) -> Path:
        """Labels and scores of validation and test images, parquet."""
        return self.path / "predictions.parquet"

    @property
    def metrics(self) -> Path:
        """The metrics, JSON."""
        return self.path / "metrics.json"

    @property
    def report(self) -> Path:
        """The report, one self-contained HTML page."""
        return self.path / "report.html"

    def check_place(self) -> None:
        """Check that this can be a run's folder, before anything is computed or written.

        Raises:
            ConfigError: It holds files of something else, or is no folder.
        """
        if self.config.is_file() or not self.path.exists():
            return
        if not self.path.is_dir():
            raise ConfigError(f"{self.path} is a file", "choose a folder for --out")
        if any(not path.name.startswith(".") for path in self.path.iterdir()):
            raise ConfigError(
                f"{self.path} is not empty and holds no run", "choose another --out folder"
            )

    def initialize(self, config: Config) -> None:
        """Make this the folder of ``config``; a folder of another configuration is refused.

        Raises:
            ConfigError: The folder holds a run whose result-relevant settings differ, or files of
                something else.
        """
        self.check_place()
        if self.config.is_file():
            self._require_same(config)
        write_text(self.config, to_yaml(config))
        write_json(self.environment, environment())

    def read_config(self) -> SettingsTree:
        """Return the stored configuration as nested plain values.

        Raises:
            ConfigError: There is none.
        """
        if not self.config.is_file():
            raise ConfigError(f"{self.path} holds no run", "give the --out folder of a run")
        with warnings.catch_warnings():
            # An older run's names are not the reader's concern.
            warnings.simplefilter("ignore", FutureWarning)
            return with_new_names(read_yaml(self.config))

    def _require_same(self, config: Config) -> None:
        old, new = (by_name(deciding_settings(tree)) for tree in (self.read_config(), dump(config)))
        changed = {
            key: [old.get(key), new.get(key)]
            for key in sorted(old.keys() | new.keys())
            if old.get(key) != new.get(key) and not key.startswith(EVALUATION_ONLY)
        }
        if not changed:
            return
        for stage in ("pretrain", "finetune"):
            allowed = {f"{stage}.{name}" for name in RECOVERY_SETTINGS}
            if changed.keys() <= allowed and self._diverged(stage):
                record_recovery(self.path, stage, changed)
                return
        if not self.has_results():
            # Nothing that the settings decide was computed yet: a corrected command goes on.
            self._forget("data")
            return
        raise ConfigError(
            f"{self.path} holds a run of another configuration:\n"
            + "\n".join(f"  - {key}: {a!r} -> {b!r}" for key, (a, b) in changed.items()),
            "choose another --out folder, or take these changes back",
        )

    def has_results(self) -> bool:
        """Return whether a stage beyond ``data`` is complete or has got as far as a checkpoint."""
        beyond = read_stage_records(self.stages).keys() - {"data"}
        return bool(beyond) or any(self.checkpoint(s).is_file() for s in ("pretrain", "finetune"))

    def _forget(self, stage: StageName) -> None:
        stages = dict(read_stage_records(self.stages))
        if stages.pop(stage, None) is not None:
            write_json(self.stages, stages)

    def _diverged(self, stage: Literal["pretrain", "finetune"]) -> bool:
        return diverged_path(self.path, stage).is_file() and self.key_of(stage) is None

    def missing_outputs(self, stage: StageName) -> list[str]:
        """Return the names of the files that a complete stage leaves and that are not there."""
        outputs: dict[StageName, tuple[Path, ...]] = {
            "data": (self.data, self.split, self.examples),
            "pretrain": (self.pretrained,),
            "maps": (),  # not every method has them
            "finetune": (self.classifier,),
            "predict": (self.predictions,),
            "evaluate": (self.metrics,),
        }
        return [path.name for path in outputs[stage] if not path.is_file()]

    def key_of(self, stage: StageName) -> str | None:
        """Return the key under which a stage was completed, or None where it was not."""
        record = read_stage_records(self.stages).get(stage)
        return None if record is None else record["key"]

    def mark(self, stage: StageName, key: str, seconds: float) -> None:
        """Record that a stage is complete, with size and hash of what it left, and tidy up.

        Args:
            stage: Its name.
            key: Fingerprint of all that decided its result.
            seconds: How long it took this time.
        """
        finished = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        outputs: dict[str, OutputRecord] = {
            path.name: {"size": path.stat().st_size, "hash": file_hash(path)}
            for path in self.outputs(stage)
            if path.is_file()
        }
        record: StageRecord = {
            "key": key,
            "finished": finished,
            "seconds": round(seconds, 2),
            "outputs": outputs,
        }
        write_json(self.stages, {**read_stage_records(self.stages), stage: record})
        self.tidy(stage)

    def tidy(self, stage: StageName) -> None:
        """Remove what a complete stage needs no longer: its checkpoint and its mark of failure."""
        if stage in {"pretrain", "finetune"}:
            self.checkpoint(stage).unlink(missing_ok=True)
            diverged_path(self.path, stage).unlink(missing_ok=True)

    def outputs(self, stage: StageName) -> tuple[Path, ...]:
        """Return the files that a stage leaves and later ones rest on; not all have ``maps``."""
        return {
            "data": (self.data, self.split, self.examples),
            "pretrain": (self.pretrained, self.pretrained_on),
            "maps": (self.maps,),
            "finetune": (self.classifier,),
            "predict": (self.predictions,),
            "evaluate": (self.metrics,),
        }[stage]

    def checkpoint(self, stage: str) -> Path:
        """The state of an unfinished training stage."""
        return self.path / f"{stage}.checkpoint"

    def changed_output(self, stage: StageName) -> str | None:
        """Return what is wrong with the outputs of a complete stage, or None where all is well.

        Files are compared with the size and hash that were recorded when the stage ended.
        """
        record = read_stage_records(self.stages).get(stage)
        outputs = {} if record is None else record.get("outputs", {})
        for name, recorded in outputs.items():
            path = self.path / name
            if not path.is_file():
                return f"{name} is gone"
            if path.stat().st_size != recorded["size"] or file_hash(path) != recorded["hash"]:
                return f"{name} has changed since it was written"
        return None

    def complete(self, stage: StageName) -> bool:
        """Return whether a stage is complete and its outputs are as they were written."""
        return self.key_of(stage) is not None and self.changed_output(stage) is None


def by_name(flat: FlatSettings) -> FlatSettings:
    """Return settings by dotted key with further data sets by the names of their folders.

    Folders may move: where they lie changes no result, and what they hold is in the stage's key.
    """
    named = [Path(str(folder)).name for folder in flat.get("data.extra_roots") or ()]
    return flat | {"data.extra_roots": named}
