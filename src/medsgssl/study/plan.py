"""The plan of a study: which runs it needs, what is compared, and in which order.

``plan_builder.py`` makes one from what a user asks for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from medsgssl.config.loading import (
    FlatSettings,
    Settings,
    SettingsTree,
    flatten,
    nested,
    without_paths,
)
from medsgssl.config.schema import Config, StudySettings
from medsgssl.errors import ConfigError
from medsgssl.methods.registry import configure
from medsgssl.runs.artifact import read_artifact
from medsgssl.runs.folder import WITHOUT_EFFECT, RunFolder, by_name
from medsgssl.study.variants import part_of
from medsgssl.utils.io import fingerprint, read_json, write_json

PLAN_FILE = "study.json"
_FORMAT = 2
#: Margin of equivalence where no plan names one.
MARGIN = StudySettings().margin


@dataclass(frozen=True)
class PlannedRun:
    """One run of a study.

    Attributes:
        name: Name of its folder below ``runs/``.
        arm: Name of its arm: runs that differ in seed, fold and label fraction alone share it.
        method: What it runs.
        no_pretrain: Whether it is the no-pretraining baseline of the method.
        masks: Mask source; the study's own, or one of the controls.
        seed: Its seed; with folds the number of its fold.
        fraction: Share of the training patients whose labels are used.
        without: Name of the method's component that is left out; empty for the whole method.
        pretrains: Whether it ends with the pretrained encoder, for others to start from.
        start: Name of the pretraining that it starts from, None for a run without pretraining.
        fold: The fold that it tests; None outside of cross-validation.
        overrides: Settings by dotted key that match it with what is judged against it.
    """

    name: str
    arm: str
    method: str
    no_pretrain: bool
    masks: str
    seed: int
    fraction: float
    without: str = ""
    pretrains: bool = False
    start: str | None = None
    fold: int | None = None
    overrides: FlatSettings = field(default_factory=dict)


@dataclass(frozen=True)
class PlannedComparison:
    """One comparison that is fixed before anything runs.

    Attributes:
        kind: ``control`` (the primary family) or ``baseline`` (the second one).
        arm: Name of the arm that is judged.
        against: Name of the arm that it is judged against.
        fraction: Share of the labels.
    """

    kind: str
    arm: str
    against: str
    fraction: float


@dataclass(frozen=True)
class StudyPlan:
    """All runs of a study, each after the pretraining that it starts from.

    Attributes:
        data: Absolute folder of the data set.
        settings: Nested settings of every run.
        own_settings: Nested settings of the runs of one method, by its name.
        runs: In the order in which they are done: seed by seed (fold by fold), so that a study
            that is stopped early has whole ones.
        family: Every comparison that verdicts will be given on.
        margin: Differences in mean AUC below it are equivalent.
        folds: How many folds; None for a study over seeds.
        primary_diseases: The diseases of the primary mean, fixed from labels alone before anything
            runs; None before that.
        mask_recipe: What ``masks.recipe=auto`` stands for in every run, fixed before anything
            runs; None before that, and where no run asks for ``auto``.
        earlier: Hashes of the plans that this one was added to.
    """

    data: str
    settings: SettingsTree
    own_settings: dict[str, SettingsTree] = field(default_factory=dict)
    runs: tuple[PlannedRun, ...] = ()
    family: tuple[PlannedComparison, ...] = ()
    margin: float = MARGIN
    folds: int | None = None
    primary_diseases: tuple[str, ...] | None = None
    mask_recipe: str | None = None
    earlier: tuple[str, ...] = ()

    @property
    def hash(self) -> str:
        """Fingerprint of everything that was fixed: comparisons, margin, means, runs, settings.

        Places on a machine and settings that change no result are no part of it.
        """
        return fingerprint(self._fixed() | {"settings": _flat(self), "own_settings": {}})

    def _fixed(self) -> dict[str, object]:
        fixed = asdict(replace(self, data="", earlier=()))
        if self.mask_recipe is None:
            del fixed["mask_recipe"]
        return fixed

    def config(self, run: PlannedRun, *, check_names: bool = False) -> Config:
        """Return the configuration of one run.

        Args:
            run: The run.
            check_names: As for ``configure``.

        Raises:
            ConfigError: A setting is unknown to the method, or out of range.
        """
        decided: SettingsTree = {
            "seed": run.seed,
            "data": {
                "root": self.data,
                "label_fraction": run.fraction,
                "folds": self.folds,
                "fold": run.fold,
            },
            "masks": {"source": run.masks},
        }
        method_settings = self.own_settings.get(run.method, {})
        without_component = part_of(run.method, run.without).settings() if run.without else {}
        layers = (
            self.settings,
            method_settings,
            nested(run.overrides),
            nested(without_component),
            decided,
        )
        config = configure(
            run.method, *layers, no_pretrain=run.no_pretrain, check_names=check_names
        )
        if self.mask_recipe is not None and config.masks.recipe == "auto":
            masks = config.masks.model_copy(update={"recipe": self.mask_recipe})
            config = config.model_copy(update={"masks": masks})
        return config

    def save(self, folder: Path) -> None:
        """Write ``study.json``."""
        write_json(folder / PLAN_FILE, {"format": _FORMAT, "hash": self.hash, **asdict(self)})

    @classmethod
    def load(cls, folder: Path) -> StudyPlan:
        """Read ``study.json``.

        Raises:
            DataError: There is none, or it is damaged.
            ConfigError: It is of another format.
        """
        path = folder / PLAN_FILE
        tree = read_json(path)
        if not isinstance(tree, dict) or tree.get("format") != _FORMAT:
            raise ConfigError(
                f"{path} is not a plan of this version",
                "choose another --out folder for the study",
            )
        plan = read_artifact(path, cls, "`medsgssl study run` in an empty folder")
        # Earlier plans hashed the places on the machine too.
        if tree.get("hash") not in {plan.hash, fingerprint(plan._fixed())}:
            raise ConfigError(
                f"{path} was changed after it was written: its hash is {plan.hash}, "
                f"not {tree.get('hash')}",
                "take the change back, or choose another --out folder for another plan",
            )
        return plan

    def joined(self, folder: Path) -> StudyPlan:
        """Return this plan with the runs that the folder's plan has beside its own.

        Methods, seeds, fractions and controls may be added to a study, and the folder of the data
        may move; its settings may not change, or the runs would not compare.

        Raises:
            ConfigError: The folder holds a study of other settings, or something else.
        """
        if not (folder / PLAN_FILE).is_file():
            if folder.is_dir() and any(not p.name.startswith(".") for p in folder.iterdir()):
                raise ConfigError(
                    f"{folder} is not empty and holds no study", "choose another --out folder"
                )
            return self
        old = StudyPlan.load(folder)
        changed = [
            f"{key}: {before!r} -> {now!r}"
            for key, before, now in _changes(_flat(old), _flat(self))
        ]
        if self.primary_diseases not in (None, old.primary_diseases):
            changed.append("the test labels")
        if self.mask_recipe not in (None, old.mask_recipe):
            changed.append(
                f"masks.recipe=auto stands for {self.mask_recipe} now, for "
                f"{old.mask_recipe or 'anatomic'} before"
            )
        if changed:
            raise ConfigError(
                f"{folder} holds a study of other settings:\n"
                + "\n".join(f"  - {line}" for line in changed),
                "choose another --out folder, or take these changes back",
            )
        added = [run for run in self.runs if run.name not in {known.name for known in old.runs}]
        more = [one for one in self.family if one not in old.family]
        # Places on a machine may differ.
        here = replace(old, data=self.data, settings=self.settings, own_settings=self.own_settings)
        if not added and not more:
            return here
        return replace(
            here,
            runs=(*old.runs, *added),
            family=(*old.family, *more),
            earlier=(*old.earlier, old.hash),
        )


def run_folder(folder: Path, name: str) -> RunFolder:
    """Return the folder of one run of a study."""
    return RunFolder(folder / "runs" / name)


def _flat(plan: StudyPlan) -> FlatSettings:
    flat = by_name(flatten(without_paths(plan.settings)))
    for name, tree in plan.own_settings.items():
        method_settings = by_name(flatten(without_paths(tree)))
        flat |= {f"{name}:{key}": value for key, value in method_settings.items()}
    flat = {key: value for key, value in flat.items() if key not in WITHOUT_EFFECT}
    return flat | {"study.margin": plan.margin, "data.folds": plan.folds}


def _changes(old: Settings, new: Settings) -> Iterator[tuple[str, object, object]]:
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) != new.get(key):
            yield key, old.get(key), new.get(key)
