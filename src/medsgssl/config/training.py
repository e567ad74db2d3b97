"""Settings of pretraining and fine-tuning."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from medsgssl.config.base import Settings

Precision = Literal["auto", "32-true", "bf16-mixed", "16-mixed"]


class LoopSettings(Settings):
    """What both training stages share: schedule, optimiser, devices."""

    epochs: Annotated[int, Field(ge=0)] = Field(50, description="passes over the training images")
    lr: Annotated[float, Field(gt=0)] = Field(1e-4, description="peak learning rate (AdamW)")
    weight_decay: Annotated[float, Field(ge=0)] = Field(
        0.05, description="AdamW decay; norms, biases, tokens and gates have none"
    )
    backbone_lr_factor: Annotated[float, Field(gt=0)] = Field(
        1.0, description="learning rate of the backbone relative to the new parts"
    )
    warmup_epochs: Annotated[float, Field(ge=0)] = Field(2, description="linear warm-up")
    freeze_epochs: Annotated[int, Field(ge=0)] = Field(
        0, description="epochs with a frozen backbone (its BatchNorm then in eval mode)"
    )
    clip_grad: Annotated[float, Field(gt=0)] | None = Field(3.0, description="gradient norm limit")
    accumulate: Annotated[int, Field(ge=1)] = Field(1, description="batches per optimiser step")
    precision: Precision = Field("auto", description="auto: bf16 or fp16 on GPUs, fp32 on CPUs")
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(1, description="per machine")
    num_nodes: Annotated[int, Field(ge=1)] = Field(1, description="machines")
    checkpoint_minutes: Annotated[float, Field(ge=0)] = Field(
        10, description="minutes between checkpoints inside an epoch; one is always kept per epoch"
    )


class PretrainSettings(LoopSettings):
    """Self-supervised pretraining."""

    monitor_batches: Annotated[int, Field(ge=1)] = Field(
        8, description="batches of embeddings behind the collapse monitor"
    )
    probe_every: Annotated[int, Field(ge=0)] = Field(
        5,
        description="epochs between k-NN probes on validation, with pictures for TensorBoard, the "
        "last epoch always; 0: none. Probes use labels, to be watched alone: nothing follows",
    )
    probe_images: Annotated[int, Field(ge=2)] = Field(
        4096, description="training images behind a probe, drawn once"
    )


class FinetuneSettings(LoopSettings):
    """Supervised fine-tuning for the 14 diseases."""

    read_out: Literal["finetune", "linear", "knn"] = Field(
        "finetune", description="full fine-tuning, linear probe or k-NN on frozen features"
    )
    loss: Literal["focal", "bce", "asymmetric"] = "focal"
    focal_gamma: Annotated[float, Field(ge=0)] = 2.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    patience: Annotated[int, Field(ge=1)] = Field(
        10, description="epochs without a better validation mean AUC before stopping"
    )
    neighbours: Annotated[int, Field(ge=1)] = Field(50, description="k of the k-NN read-out")
