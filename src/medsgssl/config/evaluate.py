"""Settings of the evaluation."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from medsgssl.config.base import Settings


class EvaluateSettings(Settings):
    """Thresholds and uncertainty; predictions are never recomputed here."""

    threshold: Literal["f1", "sensitivity", "specificity"] = Field(
        "f1", description="what the validation thresholds aim at"
    )
    target: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.9, description="sensitivity or specificity to reach, where the threshold aims at one"
    )
    bootstrap: Annotated[int, Field(ge=0)] = Field(
        1000, description="resamples of patients behind each interval"
    )
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    calibrate: bool = Field(True, description="temperature scaling on validation")
