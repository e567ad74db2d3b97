"""Settings of the data stages: sources, catalog, decoded cache, loading."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from medsgssl.config.base import Settings

SplitKind = Literal["auto", "lists", "official", "random", "train"]


class DataSettings(Settings):
    """Which images are used, how they are split, and how they are loaded."""

    root: Path | None = Field(None, description="folder of the data set (`--data`)")
    also: tuple[Path, ...] = Field(
        (), description="folders of further data sets to pretrain on, without labels (`--also`)"
    )
    labels: str | None = Field(
        None, description="file name of the label table, where the folder holds several"
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
    batch_size: Annotated[int, Field(ge=2)] = Field(64, description="images per step and device")
    num_workers: Annotated[int, Field(ge=0)] | Literal["auto"] = Field(
        "auto", description="loader processes per device; auto follows the CPU count"
    )
    cache_masks: bool = Field(True, description="hold the masks in RAM (else memory-mapped)")
    pin_memory: bool = Field(True, description="page-locked host memory, where a GPU is used")
    split: SplitKind = Field(
        "auto",
        description="lists: the list files; official: the carried NIH patients; random: seeded, "
        "stratified by patient; train: all for pretraining; auto: lists, else official for NIH, "
        "else random",
    )
    split_seed: Annotated[int, Field(ge=0)] = Field(0, description="seed of drawn splits")
    val_share: Annotated[float, Field(gt=0, lt=0.5)] = Field(
        0.1, description="share of the training patients drawn for validation"
    )
    test_share: Annotated[float, Field(gt=0, lt=0.5)] = Field(
        0.2, description="share of the patients drawn for test by the random split"
    )
    label_fraction: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="share of the training patients whose labels fine-tuning may use"
    )
