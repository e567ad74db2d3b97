"""Settings of the random views."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from medsgssl.config.base import Settings

Share = Annotated[float, Field(ge=0, le=1)]


class AugmentSettings(Settings):
    """One random affine map and photometric noise."""

    scale: tuple[float, float] = Field((0.4, 1.0), description="crop area as share of the image")
    ratio: tuple[float, float] = Field((0.85, 1.18), description="crop width / height")
    rotation: float = Field(10.0, ge=0, le=45, description="largest rotation in degrees")
    flip: Share = Field(0.5, description="probability of a horizontal flip")
    brightness: float = Field(0.2, ge=0, lt=1, description="largest shift of the grey level")
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
_FINETUNE: dict[str, Any] = {
    "scale": (0.7, 1.0),
    "rotation": 7.0,
    "brightness": 0.1,
    "contrast": 0.2,
    "gamma": 0.15,
    "blur": 0,
    "noise": 0.01,
}


class ViewSettings(Settings):
    """Views of pretraining and of fine-tuning."""

    pretrain: AugmentSettings = AugmentSettings()
    finetune: AugmentSettings = AugmentSettings(**_FINETUNE)

    @field_validator("finetune", mode="before")
    @classmethod
    def _what_is_not_given_stays_mild(cls, given: Any) -> Any:
        return {**_FINETUNE, **given} if isinstance(given, Mapping) else given
