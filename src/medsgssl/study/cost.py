"""Predicts time and disk space of a planned study, from timings on synthetic images."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from medsgssl.config.schema import Config
from medsgssl.data.catalog import Catalog, current_catalog
from medsgssl.data.dataset import ImageMaskDataset
from medsgssl.data.image_cache import DecodedCache
from medsgssl.data.loader import BatchDataset
from medsgssl.data.mask_cache import MaskArray
from medsgssl.data.overlap import drop_overlap, extra_datasets
from medsgssl.data.sampler import EpochSampler
from medsgssl.losses.multilabel import build_loss
from medsgssl.methods.registry import method_of
from medsgssl.models.classifier import Classifier
from medsgssl.models.task import Task
from medsgssl.models.weights import without_first_weights
from medsgssl.study.plan import PlannedRun, StudyPlan, run_folder
from medsgssl.study.runner import is_complete
from medsgssl.study.status import seconds_of_runs_like
from medsgssl.transforms.view_spec import ViewPlan

Step = Literal["pretrain", "finetune", "predict"]
_TRIALS = 3
_PATIENCE = 5.0


def seconds_per_image(config: Config, stage: Step) -> float:
    """Time whole steps, views included, on random images of the size of the decoded cache.

    Args:
        config: Which method, encoder, image size, batch size and device.
        stage: Training steps of ``pretrain`` or ``finetune``, or reading out for ``predict``.

    Returns:
        Seconds per image of the fastest of a few steps, from scratch whatever the settings.
    """
    config = without_first_weights(config)
    method = method_of(config)
    settings = config.pretrain if stage == "pretrain" else config.finetune
    gpu = torch.cuda.is_available() and settings.accelerator != "cpu"
    device = torch.device("cuda" if gpu else "cpu")
    # Whole batches: a few small images cost almost as much as many.
    size = config.data.batch_size
    source = _made_up(config, size)
    task: Task
    views: ViewPlan
    if stage == "pretrain":
        task, views = method.task(method.encoder()), method.pretrain_views()
    else:
        labels = torch.from_numpy(source.labels)
        task = Classifier(method.encoder(), labels.shape[1], build_loss(config.finetune, labels))
        views = method.finetune_views() if stage == "finetune" else method.test_views()
    if not task.encoder.is_vit:  # as the training loop lays it out
        task.to(memory_format=torch.channels_last)
    task.to(device).train(stage != "predict")
    rows = np.arange(size)
    steps = BatchDataset(
        source,
        views,
        EpochSampler(rows, size, 0),
        config.data.img_size,
        0,
        masks=method.sees_masks,
        on_device=config.data.render == "device" and gpu,
    )

    def step(number: int) -> None:
        batch = steps[number].to_device(device)
        if stage == "predict":
            assert isinstance(task, Classifier)
            with torch.inference_mode():
                task.scores(batch)
        else:
            task(batch, 0.0).loss.backward()
        if gpu:
            torch.cuda.synchronize()

    return _fastest(step) / size


def _fastest(step: Callable[[int], None]) -> float:
    seconds = []
    for trial in range(1 + _TRIALS):
        started = time.perf_counter()
        step(trial)
        seconds.append(time.perf_counter() - started)
        # The first step also loads libraries, so a second one is always made.
        if trial and sum(seconds) > _PATIENCE:
            break
    return min(seconds)


# The head takes next to no time, however many classes there are.
_CLASSES = 10


def _made_up(config: Config, count: int) -> ImageMaskDataset:
    rng = np.random.default_rng(0)
    side = config.data.cache_size or config.data.img_size
    masks = np.zeros((side, side), bool)
    masks[side // 5 : -side // 5, side // 5 : -side // 5] = True
    bits = np.tile(np.packbits(masks), (count, 1))
    return ImageMaskDataset(
        cache=DecodedCache(
            images=rng.integers(0, 256, (count, side, side), dtype=np.uint8),
            usable=np.ones(count, bool),
            problems={},
            folder=Path(),
        ),
        masks=MaskArray(bits, np.ones(count, np.float32), np.ones(count, bool), side),
        image_seeds=np.arange(count, dtype=np.uint64),
        labels=(rng.random((count, _CLASSES)) < 0.3).astype(np.float32),
        domains=np.zeros(count, np.int64),
        splits=np.repeat("train", count),
        patients=np.arange(count).astype(str),
    )


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
        cache_bytes: Decoded images and masks, shared by all runs; nothing where they are there.
        free_bytes: Free on the disk of the study.
    """

    runs: list[RunEstimate]
    complete: list[str]
    images: dict[str, int]
    cache_bytes: int
    free_bytes: int

    @property
    def seconds(self) -> float:
        """Training, prediction and evaluation of all runs to be done."""
        return sum(run.seconds for run in self.runs)

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
    meter = _Meter(plan, folder, images, sum(counts["train"] for counts in further), say)
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
        cache_bytes=int(sum(sum(c.values()) for c in (images, *further)) * side**2 * 9 / 8),
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
        images: dict[str, int],
        further: int,
        say: Callable[[str], None],
    ) -> None:
        self._say = say
        self._plan, self._folder, self._images = plan, folder, images
        self._unlabeled = images["train"] + further
        self._measured: dict[tuple[str, Step], float] = {}
        self._weights: dict[str, int] = {}

    def run(self, planned: PlannedRun) -> RunEstimate:
        config = self._plan.config(planned)
        weights = self._weight_bytes(config)
        if planned.pretrains:
            seconds = seconds_of_runs_like(self._plan, self._folder, planned)
            basis = "measured" if seconds is None else "complete runs"
            if seconds is None:
                per_image = self._per_image(config, "pretrain")
                seconds = per_image * self._unlabeled * config.pretrain.epochs
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
            seconds += read * scored
        kept = weights if planned.start is None else 2 * weights
        num_bytes = kept + _EXAMPLES_BYTES + _ROW_BYTES * (read + sum(self._images.values()))
        return RunEstimate(planned, seconds, basis, num_bytes)

    def _weight_bytes(self, config: Config) -> int:
        if config.method_name not in self._weights:
            encoder = method_of(without_first_weights(config)).encoder()
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
