"""Options and settings of commands that may run as jobs of a cluster."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from medsgssl.config.cluster_settings import SlurmSettings

#: Jobs of a cluster at a time where nothing else is asked for.
CLUSTER_JOBS = 100


class LauncherName(StrEnum):
    """Where the runs of a study are done."""

    LOCAL = "local"
    SUBMITIT = "submitit"


Launcher = Annotated[
    LauncherName,
    typer.Option(
        help="Where the runs are done; local: on this machine; submitit: as Slurm jobs (`slurm.*`)."
    ),
]


def slurm_settings(items: list[str]) -> tuple[SlurmSettings, list[str]]:
    """Return the settings below ``slurm.`` of a command line, and its other items.

    Raises:
        ConfigError: A setting is unknown or out of range.
    """
    from medsgssl.config.loading import build, parse_overrides
    from medsgssl.config.method_settings import MethodSettings

    own = [item for item in items if item.startswith("slurm.")]
    others = [item for item in items if not item.startswith("slurm.")]
    tree = {"method_name": "METHOD", **parse_overrides(own)}
    return build(tree, MethodSettings).slurm, others
