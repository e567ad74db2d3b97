"""Predicts time, memory and disk space of a planned study from a calibration on this machine."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from medsgssl.config.schema import Config
from medsgssl.data.catalog import Catalog, current_catalog
from medsgssl.data.image_cache import cache_folder
from medsgssl.data.overlap import drop_overlap, extra_datasets
from medsgssl.data.paths import dataset_cache
from medsgssl.methods.registry import method_of
from medsgssl.models.weights import without_initial_weights
from medsgssl.study.plan import PlannedRun, StudyPlan, run_folder
from medsgssl.study.runner import is_complete
from medsgssl.study.status import seconds_of_runs_like
from medsgssl.study.timings import (
    Step,
    evaluating_seconds,
    largest_memory,
    preparing_seconds,
    seconds_per_image,
)
from medsgssl.utils.system import cpu_count

# Labels, scores, ids and splits of one image in predictions.parquet and split.parquet.
_ROW_BYTES = 120
_EXAMPLES_BYTES = 1_000_000


@dataclass(frozen=True)
class RunEstimate:
    """One run that is still to be done.

    Attributes:
        run: The run.
        seconds: About how long it takes, alone on this machine.
        basis: ``measured``: a few steps on made-up images of the same size; ``complete runs``:
            seconds that runs of the same method took in this study.
        num_bytes: About how much it leaves on the disk.
    """

    run: PlannedRun
    seconds: float
    basis: str
    num_bytes: int


@dataclass(frozen=True)
class Estimate:
    """What a study still needs.

    Attributes:
        runs: The runs to be done, in order.
        complete: Names of those that are complete.
        images: Usable images of each split.
        preparing: Seconds that masks and decoding take once, for all runs; 0 where they are there.
        memory_bytes: Largest memory of one run, on this machine: what the calibration took; 0
            where the system does not tell.
        cache_bytes: Decoded images and masks, shared by all runs; nothing where they are there.
        free_bytes: Free on the disk of the study.
    """

    runs: list[RunEstimate]
    complete: list[str]
    images: dict[str, int]
    preparing: float
    memory_bytes: int
    cache_bytes: int
    free_bytes: int

    @property
    def seconds(self) -> float:
        """Preparation, then training, prediction and evaluation of all runs to be done."""
        return self.preparing + sum(run.seconds for run in self.runs)

    @property
    def num_bytes(self) -> int:
        """Everything that will be written."""
        return sum(run.num_bytes for run in self.runs) + self.cache_bytes


def estimate(
    plan: StudyPlan, folder: Path, progress: Callable[[str], None] | None = None
) -> Estimate:
    """Estimate what is left of a plan; nothing is written.

    Args:
        plan: The plan.
        folder: The study's folder, which need not exist.
        progress: Called with a line of text before each step that takes seconds.

    Raises:
        DataError: The data set cannot be read.
    """
    say = progress or (lambda _: None)
    first = plan.config(plan.runs[0])
    say("reading the catalog")
    catalog = current_catalog(first.data)
    images = _images(catalog)
    further = [
        _images(drop_overlap(catalog, current_catalog(settings))[0])
        for settings in extra_datasets(first.data)
    ]
    unlabeled = sum(counts["train"] for counts in further)
    meter = _Meter(plan, folder, catalog, images, unlabeled, say)
    waiting, complete = [], []
    for planned in plan.runs:
        if is_complete(run_folder(folder, planned.name), planned):
            complete.append(planned.name)
        else:
            waiting.append(meter.run(planned))
    side = first.data.cache_size or first.data.img_size
    every = sum(sum(counts.values()) for counts in (images, *further))
    preparing = meter.preparing() * every / cpu_count() if waiting else 0.0
    existing = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    return Estimate(
        runs=waiting,
        complete=complete,
        images=images,
        preparing=preparing,
        memory_bytes=largest_memory() if meter.has_measured else 0,
        cache_bytes=int(every * side**2 * 9 / 8),
        free_bytes=shutil.disk_usage(existing).free,
    )


def _images(catalog: Catalog) -> dict[str, int]:
    counts = catalog.usable()["split"].value_counts()
    return {name: int(counts.get(name, 0)) for name in ("train", "val", "test")}


class _Meter:
    """Seconds per image of each method's stages, measured once or read from complete runs."""

    def __init__(
        self,
        plan: StudyPlan,
        folder: Path,
        catalog: Catalog,
        images: dict[str, int],
        further: int,
        say: Callable[[str], None],
    ) -> None:
        self._say = say
        self._plan, self._folder, self._images = plan, folder, images
        self._catalog = catalog
        self._unlabeled = images["train"] + further
        self._measured: dict[tuple[str, Step], float] = {}
        self._evaluating: float | None = None
        self._weights: dict[str, int] = {}

    @property
    def has_measured(self) -> bool:
        """Whether any step was timed here."""
        return bool(self._measured)

    def preparing(self) -> float:
        """Return the seconds of one image on one core; 0 where the cache is there."""
        configs = [self._plan.config(run) for run in self._plan.runs]
        first = configs[0]
        side = first.data.cache_size or first.data.img_size
        if cache_folder(dataset_cache(first.data), self._catalog, side).is_dir():
            return 0.0
        self._say("preparing a few images")
        masked = (config for config in configs if method_of(config).sees_masks)
        seen = next(masked, None)
        return preparing_seconds(seen or first, self._catalog, masks=seen is not None)

    def run(self, planned: PlannedRun) -> RunEstimate:
        config = self._plan.config(planned)
        weights = self._weight_bytes(config)
        if planned.pretrains:
            seconds = seconds_of_runs_like(self._plan, self._folder, planned)
            basis = "measured" if seconds is None else "complete runs"
            if seconds is None:
                per_image = self._per_image(config, "pretrain")
                seconds = per_image * self._unlabeled * config.pretrain.epochs
                seconds += self._probes(config)
            return RunEstimate(planned, seconds, basis, weights + _EXAMPLES_BYTES)
        seconds = seconds_of_runs_like(self._plan, self._folder, planned)
        basis = "measured" if seconds is None else "complete runs"
        read = self._images["val"] + self._images["test"]
        if seconds is None:
            # With finetune.steps=auto a label fraction is trained for as long as all labels are.
            share = planned.fraction if config.finetune.steps == "labeled" else 1.0
            train = self._images["train"] * share * self._per_image(config, "finetune")
            scored = self._per_image(config, "predict")
            seconds = (train + self._images["val"] * scored) * config.finetune.epochs
            seconds += read * scored + self._evaluate(config)
        kept = weights if planned.start is None else 2 * weights
        num_bytes = kept + _EXAMPLES_BYTES + _ROW_BYTES * (read + sum(self._images.values()))
        return RunEstimate(planned, seconds, basis, num_bytes)

    def _probes(self, config: Config) -> float:
        """Return the seconds of all k-NN probes of a pretraining."""
        settings = config.pretrain
        if not settings.probe_every or not self._images["val"]:
            return 0.0
        times = math.ceil(settings.epochs / settings.probe_every)
        read = min(self._images["train"], settings.probe_images) + self._images["val"]
        return times * read * self._per_image(config, "predict")

    def _evaluate(self, config: Config) -> float:
        if self._evaluating is None:
            self._say("timing the evaluation")
            self._evaluating = evaluating_seconds(config, self._catalog)
        return self._evaluating

    def _weight_bytes(self, config: Config) -> int:
        if config.method_name not in self._weights:
            encoder = method_of(without_initial_weights(config)).encoder()
            self._weights[config.method_name] = sum(
                value.numel() * value.element_size() for value in encoder.state_dict().values()
            )
        return self._weights[config.method_name]

    def _per_image(self, config: Config, stage: Step) -> float:
        key = (config.method_name, stage)
        if key not in self._measured:
            self._say(f"timing {stage} steps of {config.method_name}")
            self._measured[key] = seconds_per_image(config, stage)
        return self._measured[key]
