"""Devices, precision and processes: everything Lightning Fabric and torch.distributed are asked."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from lightning_fabric.accelerators.cpu import CPUAccelerator
from lightning_fabric.loggers.logger import Logger
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy
from lightning_fabric.strategies.single_device import SingleDeviceStrategy

from medsgssl.config.training_settings import LoopSettings
from medsgssl.errors import MedsgsslError, ResourceError
from medsgssl.utils.allocator import keep_freed_memory
from medsgssl.utils.ranks import Processes, launched_processes

ResultT = TypeVar("ResultT")

# Fabric's own lines, e.g. hints about GPUs, would stand between those of the progress.
logging.getLogger("lightning_fabric").setLevel(logging.WARNING)

# How long the processes of a launcher wait for each other at the start. Where Slurm has reserved
# several tasks and srun was forgotten, the others never come.
_RENDEZVOUS = timedelta(minutes=10)
_RENDEZVOUS_WITHOUT_SRUN = timedelta(minutes=1)
# How long a step of training may keep the others waiting.
_COLLECTIVE = timedelta(minutes=30)
# The first process may prepare data for days while the others wait.
_PREPARATION = timedelta(days=30)
# Seconds between two signs of life, and what a process has to end by itself when one is missing.
_SIGN_OF_LIFE = 3.0
_GRACE = 15.0
# A machine that vanished from the network closes no connection.
_SILENCE = timedelta(minutes=10)


class PeerError(ResourceError):
    """Another process of the command has ended.

    Attributes:
        reported: Whether it is known to report why itself, so that this one need not.
    """

    def __init__(self, *, reported: bool = False) -> None:
        self.reported = reported
        super().__init__(
            "another process of this command has ended, so this one ends as well",
            "look for its message; the same command then continues from the last checkpoint",
        )


class Team:
    """The processes that a launcher started for this command; one when there is no launcher.

    Attributes:
        rank: This process; 0 writes and prints.
        size: How many there are.
        leads_machine: Whether this is the first process of its machine.
    """

    def __init__(self, processes: Processes | None = None) -> None:
        self.rank = 0 if processes is None else processes.rank
        self.size = 1 if processes is None else processes.size
        self.leads_machine = processes is None or processes.local_rank == 0
        self._group = _gloo_group(_PREPARATION) if self.size > 1 else None

    def first(self, work: Callable[[], ResultT]) -> ResultT | None:
        """Do work in the first process while the others wait; they return None.

        Raises:
            PeerError: In the others, where the work has failed.
        """
        if self.size == 1:
            return work()
        result = None
        done = [False]
        if self.rank == 0:
            try:
                result = work()
                done = [True]
            finally:
                dist.broadcast_object_list(done, src=0, group=self._group)
        else:
            dist.broadcast_object_list(done, src=0, group=self._group)
            if not done[0]:
                raise PeerError(reported=True)
        return result

    def gather(self, value: ResultT) -> list[ResultT]:
        """Return the values of all processes, by rank; this waits for all."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self._group)
        return values


def _gloo_group(timeout: timedelta) -> dist.ProcessGroup:
    group = dist.new_group(backend="gloo", timeout=timeout)
    assert isinstance(group, dist.ProcessGroup)
    return group


#: This process, where nothing was launched.
ALONE = Team()


@contextlib.contextmanager
def join_processes() -> Iterator[Team]:
    """Connect the processes that torchrun or srun started, for as long as the block runs.

    The block ends in all of them together. Where one dies, the others end within a minute.

    Raises:
        ResourceError: Not all of them came.
        PeerError: Another one has failed.
    """
    processes = launched_processes()
    if processes is None or processes.size == 1 or dist.is_initialized():
        yield Team(processes if dist.is_initialized() else None)
        return
    _connect(processes)
    team = Team(processes)
    with _watched(team):
        try:
            yield team
            team.gather(None)
        except RuntimeError as error:
            if _lost_peer(error):
                raise PeerError from error
            raise
    dist.destroy_process_group()


def _connect(processes: Processes) -> None:
    environment = cluster_environment(processes)
    os.environ["MASTER_ADDR"] = environment.main_address
    os.environ["MASTER_PORT"] = str(environment.main_port)
    by_slurm = processes.launcher == "srun"
    forgotten = by_slurm and "SLURM_STEP_ID" not in os.environ
    patience = _RENDEZVOUS_WITHOUT_SRUN if forgotten else _RENDEZVOUS
    gpu = torch.cuda.is_available() and torch.cuda.device_count() > processes.local_rank
    if gpu:
        torch.cuda.set_device(processes.local_rank)
    store = None
    try:
        if by_slurm:
            # torchrun has seen to it already that all are there.
            store = dist.TCPStore(  # type: ignore[attr-defined]
                environment.main_address,
                environment.main_port,
                processes.size,
                is_master=processes.rank == 0,
                timeout=patience,
            )
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if gpu else "gloo",
            store=store,
            rank=processes.rank,
            world_size=processes.size,
            timeout=_COLLECTIVE,
        )
    except (RuntimeError, ValueError) as error:
        raise ResourceError(
            f"{processes}, but after {patience.total_seconds():.0f} seconds not all of them have "
            f"come to {os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}: {error}",
            "start the command with `srun medsgssl ...`, not with `medsgssl ...` alone, in jobs of "
            "several tasks"
            if forgotten
            else "look for the message of the process that is missing, and check that the machines "
            "reach each other",
        ) from error


def _lost_peer(error: RuntimeError) -> bool:
    text = str(error).lower()
    words = ("closed by peer", "reset by peer", "broken pipe", "nccl", "gloo", "timed out waiting")
    return isinstance(error, dist.DistError) or any(word in text for word in words)


@contextlib.contextmanager
def _watched(team: Team) -> Iterator[None]:
    """End this process where another one has died, whatever it is doing.

    Work that never looks at the others, such as preparing data, would go on for hours otherwise.
    The connections of a gloo group break when a process ends: an exchange every few seconds
    notices. Launchers that end all processes themselves (torchrun) are faster.
    """
    group = _gloo_group(_SILENCE)
    finished = threading.Event()

    def watch() -> None:
        count = torch.zeros(())
        try:
            while count < team.size:
                finished.wait(_SIGN_OF_LIFE)
                count = torch.tensor(float(finished.is_set()))
                dist.all_reduce(count, group=group)
        except RuntimeError:
            time.sleep(_GRACE)
            if speaks():
                print(f"Error: {PeerError()}", file=sys.stderr, flush=True)
            os._exit(1)

    thread = threading.Thread(target=watch, daemon=True, name="watch over the other processes")
    thread.start()
    yield
    finished.set()
    thread.join()


def speaks() -> bool:
    """Return whether this process is the first of its command to report a failure.

    The others stay silent, so that one failure is one message.
    """
    processes = launched_processes()
    if processes is None or processes.size == 1 or not dist.is_initialized():
        return processes is None or processes.rank == 0
    try:
        store = dist.distributed_c10d._get_default_store()
        return int(store.add("medsgssl/failures", 1)) == 1
    except (RuntimeError, ValueError):  # the process that held the store is the one that died
        return processes.rank <= 1


def require_same_data(team: Team, fingerprint: str, images: int) -> None:
    """Check that all processes prepared the same data.

    Raises:
        MedsgsslError: They did not, e.g. because machines hold different copies.
    """
    seen = team.gather((fingerprint, images, socket.gethostname()))
    if len({key for key, _, _ in seen}) == 1:
        return
    lines = [
        f"  - process {rank} on {host}: {count} images, fingerprint {key}"
        for rank, (key, count, host) in enumerate(seen)
    ]
    raise MedsgsslError(
        "the processes of this command see different data:\n" + "\n".join(lines),
        "give all machines the same images and tables, or one shared folder",
    )


def launch(
    settings: LoopSettings, loggers: list[Logger], train: Callable[..., None], *arguments: Any
) -> None:
    """Run ``train(fabric, *arguments)`` on every process there is, or that the settings ask for.

    Under torchrun or srun this process is one of those already started. Without a launcher one
    device runs in this process, several in spawned ones.

    Args:
        settings: Accelerator, devices and precision, from ``resolve_processes``.
        loggers: Where curves and pictures go.
        train: A module-level function, so that spawned processes can import it.
        *arguments: Picklable.
    """
    devices = process_count(settings)
    if launched_size() > 1 or devices == 1:
        _Job(train, arguments)(open_fabric(settings, loggers))
        return
    strategy = DDPStrategy(start_method="spawn", find_unused_parameters=_unused(settings))
    fabric = Fabric(
        accelerator=settings.accelerator,
        devices=devices,
        precision=_precision(settings),
        strategy=strategy,
        loggers=loggers,
    )
    fabric.launch(_Job(train, arguments))


def open_fabric(settings: LoopSettings, loggers: list[Logger] | None = None) -> Fabric:
    """Return Fabric for this process as it is: alone, or one of those that a launcher started."""
    # What started this process was decided by now; Lightning only sees that `srun` is installed.
    warnings.filterwarnings("ignore", message=r"The `srun` command is available")
    processes = launched_processes()
    if processes is None or not dist.is_initialized():
        device = torch.device("cuda", 0) if _on_gpu(settings) else torch.device("cpu")
        fabric = Fabric(
            accelerator=settings.accelerator,
            devices=1,
            precision=_precision(settings),
            strategy=SingleDeviceStrategy(device),
            loggers=loggers,
        )
    else:
        fabric = Fabric(
            accelerator=settings.accelerator,
            devices=processes.local_size,
            num_nodes=processes.nodes,
            precision=_precision(settings),
            strategy=DDPStrategy(
                cluster_environment=cluster_environment(processes),
                find_unused_parameters=_unused(settings),
            ),
            loggers=loggers,
        )
    fabric.launch()
    if processes is not None and fabric.world_size != processes.size:
        raise RuntimeError(f"{fabric.world_size} processes train, but {processes}")
    return fabric


def cluster_environment(processes: Processes) -> ClusterEnvironment:
    """Return Lightning's reading of the launcher's environment."""
    return TorchElasticEnvironment() if processes.launcher == "torchrun" else _Srun()


class _Srun(SLURMEnvironment):
    """Slurm's tasks as they are, also in jobs called "interactive" and with ``--ntasks``."""

    @staticmethod
    def _validate_srun_variables() -> None:
        pass  # `launched_processes` has checked what matters

    @staticmethod
    def _validate_srun_used() -> None:
        pass

    def validate_settings(self, num_devices: int, num_nodes: int) -> None:
        pass


class _Job:
    """A call that travels to spawned processes whole: Fabric looks into loose arguments.

    Every process keeps the memory that a step frees for the next one.
    """

    def __init__(self, train: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        self._train, self._arguments = train, arguments

    def __call__(self, fabric: Fabric) -> None:
        with keep_freed_memory():
            self._train(fabric, *self._arguments)


def launched_size() -> int:
    """Return how many processes a launcher started; 1 where there is none."""
    processes = launched_processes()
    return 1 if processes is None else processes.size


def process_count(settings: LoopSettings) -> int:
    """Return the number of processes over all machines."""
    if launched_size() > 1:
        return launched_size()
    return 1 if settings.devices == "auto" else settings.devices


def processes_here(settings: LoopSettings) -> int:
    """Return the number of processes on this machine, which share its processors."""
    processes = launched_processes()
    return process_count(settings) if processes is None else processes.local_size


def _unused(settings: LoopSettings) -> bool:
    # Frozen parts have no gradient for a while; DDP must not wait for it.
    return settings.frozen_epochs > 0


def _on_gpu(settings: LoopSettings) -> bool:
    return settings.accelerator != "cpu" and torch.cuda.is_available()


def _precision(settings: LoopSettings) -> Any:
    if settings.precision != "auto":
        return settings.precision
    if not _on_gpu(settings):
        # bf16 on CPUs is slower than fp32 unless they have matrix units for it.
        return "32-true"
    return "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"


def on_cpu(fabric: Fabric) -> bool:
    """Return whether this process computes on the CPU."""
    return isinstance(fabric.accelerator, CPUAccelerator)
