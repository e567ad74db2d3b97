"""Where runs are computed and watched: jobs of Slurm, and trackers. Results depend on neither."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from medsgssl.config.method_settings import Settings


class SlurmSettings(Settings):
    """What a job of ``--launcher submitit`` is given; results do not depend on it."""

    partition: str | None = Field(None, description="partition; the cluster's own when not given")
    minutes: Annotated[int, Field(ge=1)] = Field(
        240, description="time of a job; a run that needs more continues in the next job"
    )
    gpus: Annotated[int, Field(ge=0)] = Field(
        1, description="GPUs of a job, with one process each; 0: one process on CPUs"
    )
    cpus: Annotated[int, Field(ge=1)] = Field(8, description="processors of each process")
    memory_gb: Annotated[int, Field(ge=1)] = Field(32, description="memory of a job in GB")
    resubmit: Annotated[int, Field(ge=0)] = Field(
        20, description="how often a job that ran out of time goes back into the queue"
    )
    options: tuple[str, ...] = Field(
        (), description="more options of sbatch as NAME=VALUE, e.g. [account=lung,qos=long]"
    )

    @field_validator("options")
    @classmethod
    def _have_values(cls, options: tuple[str, ...]) -> tuple[str, ...]:
        for option in options:
            if "=" not in option or option.startswith("-"):
                raise ValueError(f"{option!r} is not NAME=VALUE, such as account=lung")
        return options


TrackerName = Literal["wandb", "mlflow"]


class TrackingSettings(Settings):
    """Where curves and pictures go beside TensorBoard and CSV; results do not depend on it."""

    loggers: tuple[TrackerName, ...] = Field(
        (), description="wandb, mlflow (`--logger`); each needs its extra"
    )
    project: str = Field("medsgssl", description="project of wandb, experiment of MLflow")
