"""Every setting and its default: one typed, strict class per part of the tree.

Epochs, learning rates and losses stand in ``training_settings.py``, a method's own settings in its
file in ``methods/``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    SerializeAsAny,
    field_validator,
    model_validator,
)

from medsgssl.config.cluster_settings import SlurmSettings, TrackingSettings
from medsgssl.config.method_settings import MethodSettings, Settings
from medsgssl.config.training_settings import FinetuneSettings, PretrainSettings

#: Default of ``data.max_pixels``: ten times the pixels of a large digital radiograph.
MAX_PIXELS = 150_000_000


SplitKind = Literal["auto", "own", "lists", "official", "random", "train"]


UncertainLabels = Literal["ignore", "zeros", "ones"]


class DataSettings(Settings):
    """Which images are used, how they are split, and how they are loaded."""

    root: Path | None = Field(None, description="folder of the data set (`--data`)")
    extra_roots: tuple[Path, ...] = Field(
        (),
        description="folders of other data sets to pretrain on as well (`--extra-data`)",
    )
    labels: str | None = Field(
        None,
        description="label table: a path relative to the data folder, or an absolute one; folders: "
        "folders are classes; none: images without labels; found by itself when not given",
    )
    classes: tuple[str, ...] = Field(
        (), description="columns that hold labels; every column of 0 and 1 when not given"
    )
    image_column: str | None = Field(
        None, description="column of file names or paths; found by its name when not given"
    )
    patient_column: str | None = Field(
        None, description="column of patients; found by its name when not given"
    )
    patient_pattern: str | None = Field(
        None,
        description="regular expression that finds the patient in an image's path (its first "
        "group, or the whole match), where no column says so",
    )
    uncertain: UncertainLabels = Field(
        "ignore",
        description="what an uncertain label (-1) counts as: ignore (unknown), zeros, ones",
    )
    img_size: Annotated[int, Field(ge=32, le=1024, multiple_of=8)] = Field(
        224, description="side of a view in pixels"
    )
    cache_size: Annotated[int, Field(ge=32, le=2048)] | None = Field(
        None, description="side of the decoded images in pixels; img_size when not given"
    )
    cache_dir: Path | None = Field(
        None, description="where catalog, masks and decoded images live; per user when not given"
    )
    max_pixels: Annotated[int, Field(ge=1024)] = Field(
        MAX_PIXELS,
        description="an image of more pixels is set aside, by its header, before it is decoded",
    )
    batch_size: Annotated[int, Field(ge=2)] = Field(64, description="images per step and device")
    num_workers: Annotated[int, Field(ge=0)] | Literal["auto"] = Field(
        "auto", description="loader processes per device; auto follows the CPU count"
    )
    cache_masks: bool = Field(True, description="hold the masks in RAM (else memory-mapped)")
    pin_memory: bool = Field(True, description="page-locked host memory, where a GPU is used")
    render: Literal["cpu", "device"] = Field(
        "cpu",
        description="where views are rendered: by the loader processes, or on the GPU, which needs "
        "a third of the loader's work; pictures agree to a gray level",
    )
    split: SplitKind = Field(
        "auto",
        description="own: the one that comes with the data set; lists: the list files; official: "
        "the bundled NIH patients; random: seeded, stratified by patient; train: all for "
        "pretraining; auto: own, else lists, else official for NIH, else random",
    )
    split_seed: Annotated[int, Field(ge=0)] = Field(0, description="seed of drawn splits")
    val_fraction: Annotated[float, Field(gt=0, lt=0.5)] = Field(
        0.1, description="share of the training patients drawn for validation"
    )
    test_fraction: Annotated[float, Field(gt=0, lt=0.5)] = Field(
        0.2, description="share of the patients drawn for test by the random split"
    )
    folds: Annotated[int, Field(ge=2)] | None = Field(
        None,
        description="cross-validation instead of data.split: folds of the patients outside a "
        "selection group of 10 %, which is never tested (`study run --folds`)",
    )
    fold: Annotated[int, Field(ge=0)] | Literal["selection"] | None = Field(
        None,
        description="the fold that is tested; selection: fold 0's training patients, scored on "
        "the selection group, for choices of settings",
    )
    label_fraction: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="share of the training patients whose labels fine-tuning may use"
    )

    @model_validator(mode="after")
    def _a_fold_is_one_of_the_folds(self) -> DataSettings:
        if (self.fold is None) != (self.folds is None):
            raise ValueError("fold and folds are given together")
        if isinstance(self.fold, int) and self.folds is not None and self.fold >= self.folds:
            raise ValueError(f"fold must be below folds ({self.folds})")
        return self


class EncoderSettings(Settings):
    """Which backbone, and where its initial weights come from."""

    name: str = Field(
        "mobilenetv2_100",
        description="a timm model, hf-hub:USER/NAME, or local-dir:FOLDER in timm's format",
    )
    pretrained: bool = Field(
        True, description="start from the weights that timm or the hub has for it"
    )
    weights: Path | None = Field(
        None, description="file to start from instead: safetensors, or a torch state dict"
    )
    patch_size: int | None = Field(
        None, ge=4, description="patch of a transformer in pixels; its own when not given"
    )
    output_stride: Literal[8, 16, 32] | None = Field(
        None,
        description="image pixels per cell of the last map (CNNs); smaller keeps a map on small "
        "images, at a higher cost; timm's own when not given",
    )
    drop_path: float = Field(0.0, ge=0, lt=1, description="stochastic depth rate")


class EvaluateSettings(Settings):
    """Thresholds and uncertainty; predictions are never recomputed here."""

    threshold: Literal["f1", "sensitivity", "specificity"] = Field(
        "f1", description="what the thresholds, chosen on validation, optimize or reach"
    )
    target: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.9,
        description="sensitivity or specificity to reach, where threshold names one",
    )
    bootstrap: Annotated[int, Field(ge=0)] = Field(
        1000,
        description="0: no intervals; else each has an interval over patients (the number is not "
        "used any more: patients are left out in turn)",
    )
    confidence: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.95, description="confidence level of the intervals"
    )
    calibrate: bool = Field(True, description="temperature scaling on validation")


class StudySettings(Settings):
    """How a study judges; a single run does not look at it."""

    margin: Annotated[float, Field(gt=0, lt=0.5)] = Field(
        0.01, description="differences in mean AUC below it count as equivalent"
    )


MaskControl = Literal["none", "shuffled", "random-blob", "mean-template"]


class MaskSettings(Settings):
    """How the masks are made and which masks a run is given."""

    recipe: str = Field(
        "auto",
        description="auto (distilled where its student saw no validation or test patient, else "
        "anatomic) | distilled | anatomic | classic | a recipe of another package",
    )
    weights: Path | None = Field(
        None, description="a student of `medsgssl masks train`; the shipped one when not given"
    )
    heart: Literal["exclude", "include"] = Field(
        "exclude", description="whether the lung behind the heart belongs to the mask"
    )
    labels: dict[int, Literal["right", "left", "both", "outside"]] | None = Field(
        None,
        description="values of your own label maps, e.g. {1: right, 2: left}; others are outside",
    )
    source: str = Field(
        "rules",
        description="rules | none | shuffled | random-blob | mean-template | path of a mask store "
        "or a folder of PNG masks (`--mask-source`)",
    )


Share = Annotated[float, Field(ge=0, le=1)]


class AugmentSettings(Settings):
    """One random affine map and photometric noise."""

    scale: tuple[float, float] = Field((0.4, 1.0), description="crop area as share of the image")
    ratio: tuple[float, float] = Field((0.85, 1.18), description="crop width / height")
    rotation: float = Field(10.0, ge=0, le=45, description="largest rotation in degrees")
    flip: Share = Field(0.5, description="probability of a horizontal flip")
    brightness: float = Field(0.2, ge=0, lt=1, description="largest shift of the gray level")
    contrast: float = Field(0.4, ge=0, lt=1, description="largest relative change of contrast")
    gamma: float = Field(0.3, ge=0, lt=1, description="largest |log2 gamma|")
    blur: Share = Field(0.3, description="probability of a Gaussian blur")
    noise: float = Field(0.02, ge=0, lt=0.5, description="largest sd of additive Gaussian noise")

    @model_validator(mode="after")
    def _ranges_are_ordered(self) -> AugmentSettings:
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ValueError("scale must be (low, high) with 0 < low <= high <= 1")
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise ValueError("ratio must be (low, high) with 0 < low <= high")
        return self


# Milder views for supervised training.
_FINETUNE: dict[str, float | tuple[float, float]] = {
    "scale": (0.7, 1.0),
    "rotation": 7.0,
    "brightness": 0.1,
    "contrast": 0.2,
    "gamma": 0.15,
    "blur": 0,
    "noise": 0.01,
}


class ViewSettings(Settings):
    """Views of pretraining and of fine-tuning, and the frame that they are drawn in."""

    frame: Literal["image", "lung-box"] = Field(
        "image",
        description="what all views are views of, at pretraining, fine-tuning, test and predict: "
        "the whole image, or the square around both lungs (guided-crop: always the lung box)",
    )
    pretrain: AugmentSettings = AugmentSettings()
    finetune: AugmentSettings = AugmentSettings.model_validate(_FINETUNE)

    @field_validator("finetune", mode="before")
    @classmethod
    def _what_is_not_given_stays_mild(cls, given: Any) -> Any:
        return {**_FINETUNE, **given} if isinstance(given, Mapping) else given


class Config(Settings):
    """Everything that decides the result of one run."""

    method_name: str = Field(description="the method, e.g. simclr")
    no_pretrain: bool = Field(False, description="skip pretraining: the no-pretraining baseline")
    seed: int = Field(0, ge=0, description="seed of everything random in the run")
    data: DataSettings = DataSettings()
    masks: MaskSettings = MaskSettings()
    encoder: EncoderSettings = EncoderSettings()
    views: ViewSettings = ViewSettings()
    method: SerializeAsAny[MethodSettings] = MethodSettings()
    pretrain: PretrainSettings = PretrainSettings()
    finetune: FinetuneSettings = FinetuneSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    study: StudySettings = StudySettings()
    slurm: SlurmSettings = SlurmSettings()
    tracking: TrackingSettings = TrackingSettings()
