"""The processes that torchrun or srun started for one command, read from the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from medsgssl.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Processes:
    """This process among those that a launcher started.

    Attributes:
        launcher: Who started them.
        rank: This one, over all machines, from 0.
        local_rank: This one, on its machine, from 0.
        size: How many there are.
        local_size: How many there are on this machine.
        nodes: How many machines there are.
    """

    launcher: Literal["torchrun", "srun"]
    rank: int
    local_rank: int
    size: int
    local_size: int
    nodes: int

    def __str__(self) -> str:
        return f"{self.launcher} has started {self.size} on {self.nodes} machine(s)"


def launched_processes(env: Mapping[str, str] = os.environ) -> Processes | None:
    """Return the processes that a launcher started, or None where none did.

    torchrun goes before Slurm, inside whose jobs it may run. A Slurm step of one task is no
    launcher in an interactive shell (``srun --pty bash``).

    Raises:
        ConfigError: Slurm has distributed the tasks unevenly over the machines.
    """
    if "RANK" in env and "WORLD_SIZE" in env:
        size, local = int(env["WORLD_SIZE"]), int(env.get("LOCAL_WORLD_SIZE", "1"))
        return Processes(
            launcher="torchrun",
            rank=int(env["RANK"]),
            local_rank=int(env.get("LOCAL_RANK", "0")),
            size=size,
            local_size=local,
            nodes=int(env.get("GROUP_WORLD_SIZE", str(max(1, size // local)))),
        )
    if "SLURM_PROCID" not in env or "SLURM_NTASKS" not in env:
        return None
    size = int(env["SLURM_NTASKS"])
    if size == 1 and env.get("SLURM_JOB_NAME") in {"bash", "interactive"}:
        return None
    nodes = int(env.get("SLURM_STEP_NUM_NODES", env.get("SLURM_NNODES", "1")))
    if size % nodes:
        raise ConfigError(
            f"Slurm has put {size} tasks on {nodes} machines, not equally many on each",
            "ask for --ntasks-per-node=N instead of --ntasks",
        )
    return Processes(
        launcher="srun",
        rank=int(env["SLURM_PROCID"]),
        local_rank=int(env.get("SLURM_LOCALID", "0")),
        size=size,
        local_size=size // nodes,
        nodes=nodes,
    )


def rank() -> int:
    """Return this process's number among those that a launcher started; 0 when alone."""
    processes = launched_processes()
    return 0 if processes is None else processes.rank
