"""What this machine offers: processors, shared memory, versions."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from pathlib import Path

_LIBRARIES = (
    "torch",
    "timm",
    "lightning-fabric",
    "numpy",
    "opencv-python-headless",
    "scikit-learn",
)
_SHARED_MEMORY = Path("/dev/shm")


#: Environment variable with the number of processors that a process may use, where several share
#: a machine.
CPU_SHARE = "MEDSGSSL_CPUS"


def cpu_count() -> int:
    """Return the number of processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    share = os.environ.get(CPU_SHARE, "")
    return min(count, max(1, int(share))) if share.isdecimal() else count


def loader_workers(setting: int | str, devices: int = 1) -> int:
    """Return the loader processes per device: one processor is left to each training process."""
    if isinstance(setting, int):
        return setting
    return min(max(cpu_count() // devices - 1, 0), 16)


def fitting_workers(workers: int, batch_bytes: int) -> int:
    """Return how many of the loader workers find space for their batches in /dev/shm.

    A worker whose batch does not fit there dies with a bus error; results do not depend on the
    number of workers.

    Args:
        workers: Loader processes asked for; each prepares four batches ahead.
        batch_bytes: Size of one batch in bytes.
    """
    if workers == 0 or not _SHARED_MEMORY.is_dir():
        return workers
    free = shutil.disk_usage(_SHARED_MEMORY).free
    return min(workers, free // (5 * max(1, batch_bytes)))


def shared_memory_warning(batch_bytes: int, workers: int) -> str | None:
    """Return a warning where /dev/shm cannot hold the batches that loader workers prepare.

    Args:
        batch_bytes: Size of one batch in bytes.
        workers: Loader processes asked for.
    """
    fitting = fitting_workers(workers, batch_bytes)
    if fitting == workers:
        return None
    return (
        f"{_SHARED_MEMORY} is too small for {workers} loader workers: {fitting} are used, which is "
        "slower but gives the same result. Start the container with --shm-size=2g (or --ipc=host) "
        "for all of them"
    )


def environment() -> dict[str, str]:
    """Return the versions that a result depends on."""
    versions = {"medsgssl": importlib.metadata.version("medsgssl")}
    versions["python"] = platform.python_version()
    versions["platform"] = platform.platform()
    versions["cpus"] = str(cpu_count())
    for library in _LIBRARIES:
        versions[library] = importlib.metadata.version(library)
    return versions
