"""How long a planned study will take, and how much room it wants on the disk."""

from __future__ import annotations

import shutil
import statistics
from dataclasses import dataclass
from pathlib import Path

from medsgssl.catalog import Catalog, current_catalog, further_sets, without_shared
from medsgssl.config import Config
from medsgssl.files import read_json
from medsgssl.methods import method_of
from medsgssl.runs import StageName
from medsgssl.study.plan import PlannedRun, StudyPlan, run_folder
from medsgssl.study.run import is_complete
from medsgssl.study.timing import Step, seconds_per_image, without_weights

# Labels, scores, ids and splits of one image in predictions.parquet and split.parquet.
_ROW_BYTES = 120
_EXAMPLES_BYTES = 1_000_000


@dataclass(frozen=True)
class RunEstimate:
    """One run that is still to be done.

    Attributes:
        run: The run.
        seconds: About how long it takes; masks and decoding come once on top, see ``Estimate``.
        basis: ``measured``: a few steps on made-up images of the same size; ``complete runs``:
            seconds that runs of the same method took in this study.
        octets: About how much it leaves on the disk.
    """

    run: PlannedRun
    seconds: float
    basis: str
    octets: int


@dataclass(frozen=True)
class Estimate:
    """What a study still needs.

    Attributes:
        runs: The runs to be done, in order.
        complete: Names of those that are complete.
        images: Usable images of each split.
        cache_octets: Decoded images and masks, shared by all runs; nothing where they are there.
        free_octets: Free on the disk of the study.
    """

    runs: list[RunEstimate]
    complete: list[str]
    images: dict[str, int]
    cache_octets: int
    free_octets: int

    @property
    def seconds(self) -> float:
        """Training, prediction and evaluation of all runs to be done."""
        return sum(run.seconds for run in self.runs)

    @property
    def octets(self) -> int:
        """Everything that will be written."""
        return sum(run.octets for run in self.runs) + self.cache_octets


def estimate(plan: StudyPlan, folder: Path) -> Estimate:
    """Estimate what is left of a plan; nothing is written.

    Args:
        plan: The plan.
        folder: The study's folder, which need not exist.

    Raises:
        DataError: The data set cannot be read.
    """
    first = plan.config(plan.runs[0])
    catalog = current_catalog(first.data, first.data.labels)
    images = _images(catalog)
    further = [
        _images(without_shared(catalog, current_catalog(settings))[0])
        for settings in further_sets(first.data)
    ]
    meter = _Meter(plan, folder, images, sum(counts["train"] for counts in further))
    waiting, complete = [], []
    for planned in plan.runs:
        if is_complete(run_folder(folder, planned.name), planned):
            complete.append(planned.name)
        else:
            waiting.append(meter.run(planned))
    side = first.data.cache_size or first.data.img_size
    existing = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    return Estimate(
        runs=waiting,
        complete=complete,
        images=images,
        cache_octets=int(sum(sum(c.values()) for c in (images, *further)) * side**2 * 9 / 8),
        free_octets=shutil.disk_usage(existing).free,
    )


def _images(catalog: Catalog) -> dict[str, int]:
    counts = catalog.usable()["split"].value_counts()
    return {name: int(counts.get(name, 0)) for name in ("train", "val", "test")}


class _Meter:
    """Seconds per image of each method's stages, measured once or read from complete runs."""

    def __init__(self, plan: StudyPlan, folder: Path, images: dict[str, int], further: int) -> None:
        self._plan, self._folder, self._images = plan, folder, images
        self._unlabelled = images["train"] + further
        self._measured: dict[tuple[str, Step], float] = {}
        self._weights: dict[str, int] = {}

    def run(self, planned: PlannedRun) -> RunEstimate:
        config = self._plan.config(planned)
        weights = self._weight_octets(config)
        if planned.pretrains:
            seconds = self._from_runs(planned, ("pretrain",))
            basis = "measured" if seconds is None else "complete runs"
            if seconds is None:
                per_image = self._per_image(config, "pretrain")
                seconds = per_image * self._unlabelled * config.pretrain.epochs
            return RunEstimate(planned, seconds, basis, weights + _EXAMPLES_BYTES)
        seconds = self._from_runs(planned, ("finetune", "predict", "evaluate"))
        basis = "measured" if seconds is None else "complete runs"
        read = self._images["val"] + self._images["test"]
        if seconds is None:
            train = self._images["train"] * planned.fraction * self._per_image(config, "finetune")
            scored = self._per_image(config, "predict")
            seconds = (train + self._images["val"] * scored) * config.finetune.epochs
            seconds += read * scored
        kept = weights if planned.start is None else 2 * weights
        octets = kept + _EXAMPLES_BYTES + _ROW_BYTES * (read + sum(self._images.values()))
        return RunEstimate(planned, seconds, basis, octets)

    def _from_runs(self, planned: PlannedRun, stages: tuple[StageName, ...]) -> float | None:
        """Median seconds of complete runs that differ from this one in seed or masks alone."""
        found = []
        for other in self._plan.runs:
            like = (other.method, other.direct, other.fraction, other.pretrains)
            if like != (planned.method, planned.direct, planned.fraction, planned.pretrains):
                continue
            run = run_folder(self._folder, other.name)
            if is_complete(run, other):
                written = read_json(run.stages)
                found.append(sum(float(written[stage]["seconds"]) for stage in stages))
        return statistics.median(found) if found else None

    def _weight_octets(self, config: Config) -> int:
        if config.name not in self._weights:
            encoder = method_of(without_weights(config)).encoder()
            self._weights[config.name] = sum(
                value.numel() * value.element_size() for value in encoder.state_dict().values()
            )
        return self._weights[config.name]

    def _per_image(self, config: Config, stage: Step) -> float:
        key = (config.name, stage)
        if key not in self._measured:
            self._measured[key] = seconds_per_image(config, stage)
        return self._measured[key]
