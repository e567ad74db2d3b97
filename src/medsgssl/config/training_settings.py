"""Settings of the two training stages: epochs, learning rate, optimizer, devices, loss."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from medsgssl.config.method_settings import Settings

Precision = Literal["auto", "32-true", "bf16-mixed", "16-mixed"]


# Epochs that `freeze_epochs: auto` freezes the backbone for, in a run that is long enough.
_AUTO_FREEZE = 5


class LoopSettings(Settings):
    """What both training stages share: schedule, optimizer, devices."""

    epochs: Annotated[int, Field(ge=1)] = Field(50, description="passes over the training images")
    weight_decay: Annotated[float, Field(ge=0)] = Field(
        0.05, description="AdamW decay; norms, biases, tokens and gates have none"
    )
    backbone_lr_factor: Annotated[float, Field(gt=0)] = Field(
        1.0, description="learning rate of the backbone relative to that of the new layers"
    )
    warmup_epochs: Annotated[float, Field(ge=0)] = Field(
        2, description="epochs of linear learning-rate warm-up"
    )
    freeze_epochs: Annotated[int, Field(ge=0)] | Literal["auto"] = Field(
        0,
        description="epochs with a frozen backbone (its BatchNorm then in eval mode); auto: 5, at "
        "most half of the epochs",
    )
    clip_grad: Annotated[float, Field(gt=0)] | None = Field(3.0, description="gradient norm limit")
    accumulate_grad_batches: Annotated[int, Field(ge=1)] = Field(
        1, description="batches per optimizer step"
    )
    precision: Precision = Field("auto", description="auto: bf16 or fp16 on GPUs, fp32 on CPUs")
    compile: bool = Field(
        False,
        description="compile the backbone with torch.compile: takes minutes, then steps are faster",
    )
    accelerator: Literal["auto", "cpu", "gpu"] = Field(
        "auto", description="device type; auto: a GPU where there is one"
    )
    devices: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        "auto",
        description="GPUs (or CPU processes) per machine; auto: the processes that torchrun or "
        "srun started, else 1; a number starts as many where nothing else did",
    )
    num_nodes: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        "auto", description="number of machines; auto: those of torchrun or srun, else 1"
    )
    checkpoint_minutes: Annotated[float, Field(ge=0)] = Field(
        10, description="minutes between checkpoints inside an epoch; one is always kept per epoch"
    )

    @property
    def frozen_epochs(self) -> int:
        """Number of epochs with a frozen backbone, with ``auto`` resolved."""
        if self.freeze_epochs == "auto":
            return min(_AUTO_FREEZE, self.epochs // 2)
        return self.freeze_epochs


class PretrainSettings(LoopSettings):
    """Self-supervised pretraining."""

    epochs: Annotated[int, Field(ge=0)] = Field(
        50,
        description="passes over the training images; with 0 `medsgssl pretrain` prepares catalog, "
        "decoded images and masks, and ends",
    )
    lr: Annotated[float, Field(gt=0)] | Literal["auto"] = Field(
        "auto",
        description="peak learning rate (AdamW); auto follows the number of optimizer steps, the "
        "batch and the initial weights: 1e-4 from 50,000 steps on, more for shorter runs",
    )
    monitor_batches: Annotated[int, Field(ge=1)] = Field(
        8, description="batches of embeddings behind the collapse monitor"
    )
    probe_every: Annotated[int, Field(ge=0)] = Field(
        5,
        description="epochs between k-NN probes on validation, with pictures for TensorBoard, the "
        "last epoch always; 0: none. Probes read labels for display alone: they decide nothing",
    )
    probe_images: Annotated[int, Field(ge=2)] = Field(
        4096, description="training images behind a probe, drawn once"
    )

    @model_validator(mode="after")
    def _something_is_unfrozen(self) -> PretrainSettings:
        if self.epochs and self.frozen_epochs >= self.epochs:
            raise ValueError(
                f"freeze_epochs={self.freeze_epochs} must be below epochs={self.epochs}, or the "
                "backbone would never train"
            )
        return self


_FOCAL_GAMMA = 2.0


class FinetuneSettings(LoopSettings):
    """Supervised fine-tuning for the labels of the data set."""

    lr: Annotated[float, Field(gt=0)] = Field(1e-4, description="peak learning rate (AdamW)")
    mode: Literal["finetune", "linear", "knn"] = Field(
        "finetune", description="full fine-tuning, linear probe or k-NN on frozen features"
    )
    loss: Literal["focal", "bce", "asymmetric"] = Field(
        "focal", description="multi-label loss; bce: binary cross-entropy"
    )
    focal_gamma: Annotated[float, Field(ge=0)] = Field(
        _FOCAL_GAMMA, description="focusing exponent of the focal loss; 0 is binary cross-entropy"
    )
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="dropout rate before the classifier"
    )
    keep: Literal["auto", "last", "best", "ema"] = Field(
        "auto",
        description="the weights that are kept: of the last epoch, of the epoch with the best "
        "validation mean AUC, or averaged over about the last epoch; auto: last",
    )
    patience: Annotated[int, Field(ge=1)] = Field(
        10,
        description="with keep=best, stop after this many epochs without a higher validation mean "
        "AUC, never in the first half of the epochs",
    )
    steps: Literal["auto", "labeled"] = Field(
        "auto",
        description="optimizer steps per epoch; auto: as many as all training images fill, also "
        "with a data.label_fraction below 1; labeled: one pass over the labeled images",
    )
    neighbors: Annotated[int, Field(ge=1)] = Field(50, description="k of the k-NN classifier")

    @model_validator(mode="after")
    def _gamma_has_an_effect(self) -> FinetuneSettings:
        if self.loss != "focal" and self.focal_gamma != _FOCAL_GAMMA:
            raise ValueError(f"focal_gamma has no effect with loss={self.loss}: leave it out")
        return self
