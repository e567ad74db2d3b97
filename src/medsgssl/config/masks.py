"""Settings of the lung masks."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from medsgssl.config.base import Settings

MaskControl = Literal["none", "shuffled", "random-blob", "mean-template"]


class MaskSettings(Settings):
    """How the masks are made and which masks a run is given."""

    recipe: Literal["anatomic", "classic"] = Field("anatomic", description="rules that draw masks")
    source: str = Field(
        "rules",
        description="rules | none | shuffled | random-blob | mean-template | path of a mask store "
        "or a folder of PNG masks (`--mask-source`)",
    )
