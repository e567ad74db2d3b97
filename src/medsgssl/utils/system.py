"""What this machine offers: processors, shared memory, versions."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from pathlib import Path

_LIBRARIES = ("torch", "timm", "lightning", "numpy", "opencv-python-headless", "scikit-learn")
_SHARED_MEMORY = Path("/dev/shm")


def cpu_count() -> int:
    """Return the number of processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def loader_workers(setting: int | str, devices: int = 1) -> int:
    """Return the loader processes per device: one processor is left to each training process."""
    if isinstance(setting, int):
        return setting
    return min(max(cpu_count() // devices - 1, 0), 16)


def shared_memory_warning(batch_bytes: int, workers: int) -> str | None:
    """Return a warning where /dev/shm cannot hold the batches that loader workers prepare.

    Args:
        batch_bytes: Size of one batch in bytes.
        workers: Loader processes; each prepares four batches ahead.
    """
    if workers == 0 or not _SHARED_MEMORY.is_dir():
        return None
    needed = batch_bytes * workers * 5
    free = shutil.disk_usage(_SHARED_MEMORY).free
    if free >= needed:
        return None
    return (
        f"{_SHARED_MEMORY} has {free / 2**20:.0f} MiB free, {workers} loader workers want "
        f"{needed / 2**20:.0f} MiB: they may die with a bus error. Start the container with "
        "--shm-size=2g (or --ipc=host), or set data.num_workers=0"
    )


def rank() -> int:
    """Return this process's number among those that torchrun or Slurm started; 0 when alone."""
    return int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")))


def environment() -> dict[str, str]:
    """Return the versions that a result depends on."""
    versions = {"medsgssl": importlib.metadata.version("medsgssl")}
    versions["python"] = platform.python_version()
    versions["platform"] = platform.platform()
    versions["cpus"] = str(cpu_count())
    for library in _LIBRARIES:
        versions[library] = importlib.metadata.version(library)
    return versions
