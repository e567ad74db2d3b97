"""Settings and launcher agree, or nothing begins."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from medsgssl.config.schema import Config
from medsgssl.errors import ConfigError
from medsgssl.training.processes import resolve_processes
from medsgssl.utils.ranks import launched_processes

Build = Callable[..., Config]

TORCHRUN = {
    "RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2",
    "GROUP_WORLD_SIZE": "2",
}  # fmt: skip
SRUN = {
    "SLURM_PROCID": "3", "SLURM_NTASKS": "4", "SLURM_LOCALID": "1", "SLURM_NNODES": "2",
}  # fmt: skip


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, str]], None]:
    for name in (*TORCHRUN, *SRUN, "SLURM_JOB_NAME", "SLURM_STEP_NUM_NODES"):
        monkeypatch.delenv(name, raising=False)

    def set_environment(env: dict[str, str]) -> None:
        for name, value in env.items():
            monkeypatch.setenv(name, value)

    return set_environment


@pytest.mark.parametrize(("env", "launcher"), [(TORCHRUN, "torchrun"), (SRUN, "srun")])
def test_the_environment_of_a_launcher_is_read(env: dict[str, str], launcher: str) -> None:
    found = launched_processes(env)
    assert found is not None
    assert (found.launcher, found.rank, found.local_rank) == (launcher, 3, 1)
    assert (found.size, found.local_size, found.nodes) == (4, 2, 2)


def test_what_is_no_launcher() -> None:
    assert launched_processes({}) is None
    # A shell of `srun --pty bash` is one task; the commands typed there are nobody's ranks.
    shell = {"SLURM_PROCID": "0", "SLURM_NTASKS": "1", "SLURM_JOB_NAME": "bash"}
    assert launched_processes(shell) is None
    # Two tasks in an interactive job are two ranks, not two times the first.
    pair = {"SLURM_PROCID": "1", "SLURM_NTASKS": "2", "SLURM_JOB_NAME": "interactive"}
    found = launched_processes(pair)
    assert found is not None
    assert found.rank == 1
    # torchrun inside a Slurm job goes first.
    both = launched_processes({**SRUN, **TORCHRUN, "RANK": "0"})
    assert both is not None
    assert (both.launcher, both.rank) == ("torchrun", 0)


def test_uneven_tasks_are_refused() -> None:
    with pytest.raises(ConfigError, match="3 tasks on 2 machines"):
        launched_processes({**SRUN, "SLURM_NTASKS": "3"})


def test_auto_is_the_launchers_processes_or_one(
    tiny_config: Build, launched: Callable[[dict[str, str]], None]
) -> None:
    config = tiny_config("simclr")
    assert config.pretrain.devices == "auto"
    alone = resolve_processes(config)
    assert (alone.pretrain.devices, alone.finetune.num_nodes) == (1, 1)
    assert resolve_processes(tiny_config("simclr", finetune__devices=2)).finetune.devices == 2
    launched(TORCHRUN)
    together = resolve_processes(config)
    # The number over all machines: two machines of two continue as one of four.
    assert (together.pretrain.devices, together.finetune.devices) == (4, 4)
    assert together.pretrain.num_nodes == 1
    assert resolve_processes(together) == together


@pytest.mark.parametrize(
    ("env", "changes", "problem"),
    [
        (TORCHRUN, {"pretrain__devices": 3}, "asks for 6 processes, but torchrun has started 4"),
        (TORCHRUN, {"finetune__num_nodes": 1}, "asks for 2 processes, but torchrun"),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "1"}, {"pretrain__devices": 2},
         "pretrain.devices=2 asks for 2 processes, but srun has started 1"),
        ({}, {"pretrain__num_nodes": 2}, "nothing has started processes on other machines"),
    ],
)  # fmt: skip
def test_a_number_that_contradicts_the_launcher_is_refused(
    tiny_config: Build,
    launched: Callable[[dict[str, str]], None],
    env: dict[str, str],
    changes: dict[str, int],
    problem: str,
) -> None:
    launched(env)
    with pytest.raises(ConfigError, match=problem):
        resolve_processes(tiny_config("simclr", **changes))


def test_a_gpu_that_is_not_there_is_refused(
    tiny_config: Build,
    launched: Callable[[dict[str, str]], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    config = tiny_config("simclr", pretrain__accelerator="auto", pretrain__devices=2)
    with pytest.raises(ConfigError, match=r"2 processes of pretrain .* torch sees 1"):
        resolve_processes(config)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="need a GPU each, and torch sees 0"):
        resolve_processes(tiny_config("simclr", pretrain__accelerator="gpu"))
    # The CPU takes as many as asked for.
    assert resolve_processes(config).pretrain.devices == 2
