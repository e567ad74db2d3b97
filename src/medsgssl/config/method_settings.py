"""The settings below ``method.``: what all methods share, and ranges of two numbers."""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator


class Settings(BaseModel):
    """Strict and immutable: an unknown key, a wrong type, inf or nan is an error."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False
    )


def ordered(limits: tuple[float, float]) -> tuple[float, float]:
    """Check that the low end of a range comes first; pairs of numbers below ``method.`` are ranges.

    Raises:
        ValueError: It does not.
    """
    if limits[0] > limits[1]:
        raise ValueError(f"the low end {limits[0]:g} is above the high end {limits[1]:g}")
    return limits


#: Two shares, the low one first.
ShareRange = Annotated[
    tuple[Annotated[float, Field(ge=0, le=1)], Annotated[float, Field(ge=0, le=1)]],
    AfterValidator(ordered),
]


class MethodSettings(Settings):
    """Settings below ``method.`` in the configuration tree.

    The weight of a loss term is a setting ``lambda_NAME``, at least 0; at 0 the term is left out.
    """

    #: The weights of which at least one must be above 0, for something to be learned.
    required_weights: ClassVar[tuple[str, ...]] = ()

    @model_validator(mode="after")
    def _something_is_learned(self) -> Self:
        if self.required_weights and not any(getattr(self, name) for name in self.required_weights):
            raise ValueError(f"one of {', '.join(self.required_weights)} must be above 0")
        return self
