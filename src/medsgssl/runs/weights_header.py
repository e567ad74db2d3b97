"""The header of a weights file: what made the weights, and what one must know to use them."""

from __future__ import annotations

from typing import NotRequired

from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

from medsgssl.runs.data_summary import MaskSummary
from medsgssl.runs.recovery import Recovery


class HubModelRecord(TypedDict):
    """What the ``config.json`` of a hub model says of its network and input, in timm's words."""

    architecture: str
    pretrained_cfg: dict[str, object]
    model_args: dict[str, object]


class WeightsIdentity(TypedDict):
    """In what weights and configuration must agree."""

    method: str
    encoder: str


class ClassifierIdentity(WeightsIdentity):
    """In what a classifier, configuration and data must agree."""

    diseases: list[str]  # the classes, in the order of the outputs


class WeightsHeader(ClassifierIdentity):
    """What travels in the header of ``pretrained.safetensors`` and ``classifier.safetensors``."""

    direct: bool  # no pretraining
    img_size: int
    intensity: str
    label_revision: str
    masks: MaskSummary
    data: str  # fingerprint of the data
    config: dict[str, object]
    backbone: NotRequired[HubModelRecord]  # of a hub model
    recovered: NotRequired[list[Recovery]]  # settings changed after a stage was not finite
    version: str
    key: str  # fingerprint of all that decided the weights
    pretrain_lr: NotRequired[float]  # the peak rate, also where the setting says auto
    pretrain_steps: NotRequired[int]  # optimizer steps of the whole pretraining
    epoch: NotRequired[int]
    val_mean_auc: NotRequired[float]
    bank: NotRequired[int]  # images that a k-NN classifier remembers
