"""Checks of the machine, the installation and a data set, for `medsgssl doctor`."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypedDict

from medsgssl.config.schema import DataSettings
from medsgssl.errors import MedsgsslError
from medsgssl.utils.formatting import size
from medsgssl.utils.system import cpu_count

Status = Literal["ok", "warning", "broken"]

_LIBRARIES = (
    "torch", "torchvision", "timm", "lightning-fabric", "numpy", "pandas", "scikit-learn",
    "opencv-python-headless", "pydicom", "pydantic", "safetensors", "huggingface-hub",
)  # fmt: skip
_TORCH_SECONDS = 60
_HUB_SECONDS = 5
_ENOUGH_SHM = 1 << 30
_ENOUGH_DISK = 10 * 10**9
_ENOUGH_MEMORY = 4 * 10**9

_ASK_TORCH = """
import json, torch
gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
works = True
if gpus:
    works = bool(torch.ones(2, device="cuda").sum().item() == 2)
print(json.dumps({"version": torch.__version__, "cuda": torch.version.cuda, "gpus": gpus,
                  "works": works, "threads": torch.get_num_threads()}))
"""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: What it is.
        status: ``broken``: a run cannot work; ``warning``: it works with limits.
        value: What was found.
        fix: What to do, where the status is not ``ok``.
    """

    name: str
    status: Status
    value: str
    fix: str = ""


def check_health(settings: DataSettings | None = None) -> Iterator[Check]:
    """Yield the checks one by one.

    Args:
        settings: The data set to look at; None leaves it out.
    """
    yield from _versions()
    yield _devices()
    yield _processors()
    yield _memory()
    yield _shared_memory()
    yield from _disks(settings)
    yield _hub()
    yield _dicom()
    if settings is not None:
        yield _data(settings)


def _versions() -> Iterator[Check]:
    versions, absent = [], []
    for library in _LIBRARIES:
        try:
            versions.append(f"{library} {importlib.metadata.version(library)}")
        except importlib.metadata.PackageNotFoundError:
            absent.append(library)
    version = importlib.metadata.version("medsgssl")
    yield Check("medsgssl", "ok", f"{version}, Python {sys.version.split()[0]}")
    yield Check("libraries", "ok", ", ".join(versions))
    if absent:
        yield Check(
            "missing libraries", "broken", ", ".join(absent), "install medsgssl again with pip"
        )


class _TorchAnswer(TypedDict):
    """What ``_ASK_TORCH`` prints."""

    version: str
    cuda: str | None
    gpus: list[str]
    works: bool
    threads: int


def _devices() -> Check:
    # In a process of its own: a broken driver can hang or kill the process that asks.
    try:
        done = subprocess.run(
            [sys.executable, "-c", _ASK_TORCH],
            capture_output=True,
            text=True,
            timeout=_TORCH_SECONDS,
            check=True,
        )
        answer: _TorchAnswer = json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        return Check(
            "devices",
            "broken",
            f"torch did not answer within {_TORCH_SECONDS} s",
            "check the GPU driver (nvidia-smi), or hide the GPUs with CUDA_VISIBLE_DEVICES=''",
        )
    except (subprocess.CalledProcessError, IndexError, ValueError) as error:
        last = str(getattr(error, "stderr", "") or error).strip().splitlines()[-1:]
        return Check(
            "devices",
            "broken",
            f"torch cannot be used: {''.join(last)}",
            "install torch again, in the version for this machine's driver",
        )
    torch = f"torch {answer['version']}"
    if answer["gpus"]:
        names = ", ".join(answer["gpus"])
        return Check("devices", "ok", f"{torch} with CUDA {answer['cuda']}: {names}")
    if answer["cuda"]:
        fix = "check the driver with nvidia-smi if this machine has a GPU"
    else:
        fix = "install a CUDA build of torch if this machine has a GPU"
    return Check("devices", "warning", f"{torch}, no GPU: training runs on the CPU", fix)


def _processors() -> Check:
    return Check("processors", "ok", f"{cpu_count()} usable")


def _memory() -> Check:
    available = available_memory()
    if available is None:
        return Check("memory", "ok", "unknown on this system")
    if available >= _ENOUGH_MEMORY:
        return Check("memory", "ok", f"{size(available)} available")
    return Check(
        "memory",
        "warning",
        f"{size(available)} available",
        "close other programs, or set data.batch_size lower and data.cache_masks=false",
    )


def available_memory() -> int | None:
    """Return the bytes that this process can still use, a container's limit included."""
    info = Path("/proc/meminfo")
    if not info.is_file():
        return None
    lines = dict(line.split(":", 1) for line in info.read_text().splitlines() if ":" in line)
    available = int(lines["MemAvailable"].split()[0]) * 1024
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.is_file() and used.is_file() and (text := limit.read_text().strip()) != "max":
        available = min(available, max(int(text) - int(used.read_text()), 0))
    return available


def _shared_memory() -> Check:
    folder = Path("/dev/shm")
    if not folder.is_dir():
        return Check("/dev/shm", "ok", "not used on this system")
    free = shutil.disk_usage(folder).free
    if free >= _ENOUGH_SHM:
        return Check("/dev/shm", "ok", f"{size(free)} free")
    return Check(
        "/dev/shm",
        "warning",
        f"{size(free)} free; loader workers may need more",
        "start the container with --shm-size=2g, or set data.num_workers=0",
    )


def _disks(settings: DataSettings | None) -> Iterator[Check]:
    import platformdirs  # noqa: PLC0415 - only here

    cache = settings.cache_dir if settings is not None else None
    cache = cache or Path(platformdirs.user_cache_dir("medsgssl"))
    for name, folder in (("cache folder", cache), ("working folder", Path.cwd())):
        target = folder.expanduser().absolute()
        existing = next(path for path in (target, *target.parents) if path.is_dir())
        free = shutil.disk_usage(existing).free
        if not os.access(existing, os.W_OK):
            fix = "choose another one with --set data.cache_dir=FOLDER"
            status: Status = "broken" if name == "cache folder" else "warning"
            fix = fix if status == "broken" else "write results to another folder with --out"
            yield Check(name, status, f"{target} cannot be written", fix)
        elif free < _ENOUGH_DISK:
            yield Check(
                name,
                "warning",
                f"{target}: {size(free)} free",
                "free disk space; `study run --dry-run` says how much a study needs",
            )
        else:
            yield Check(name, "ok", f"{target}: {size(free)} free")


def _hub() -> Check:
    from huggingface_hub import constants  # noqa: PLC0415 - only here

    fix = (
        "give weights as a file with --set encoder.weights=FILE.safetensors, or start from "
        "scratch with --set encoder.pretrained=false"
    )
    if constants.HF_HUB_OFFLINE:
        return Check("model hub", "warning", "switched off by HF_HUB_OFFLINE", fix)
    try:
        request = urllib.request.Request(constants.ENDPOINT, method="HEAD")
        urllib.request.urlopen(request, timeout=_HUB_SECONDS).close()
    except urllib.error.HTTPError:
        pass  # it answered
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        return Check("model hub", "warning", f"{constants.ENDPOINT}: {reason}", fix)
    return Check("model hub", "ok", f"{constants.ENDPOINT} answers")


def _dicom() -> Check:
    from medsgssl.images.decoders import (  # noqa: PLC0415 - pydicom is slow to import
        INSTALL_12_BIT,
        INSTALL_DECODERS,
        decodes_12_bit_jpeg,
        transfer_syntaxes,
    )

    syntaxes = transfer_syntaxes()
    unreadable = [syntax.name for syntax in syntaxes if not syntax.readable]
    readable = "; ".join(syntax.name for syntax in syntaxes if syntax.readable)
    value = f"{len(syntaxes) - len(unreadable)} of {len(syntaxes)} compressions are readable"
    if unreadable:
        value = f"{value}: {readable}. Not readable: {'; '.join(unreadable)}"
        return Check("DICOM", "warning", value, INSTALL_DECODERS)
    if not decodes_12_bit_jpeg():
        value = f"{value}, JPEG Extended of 8 bits alone (12 bits: {INSTALL_12_BIT})"
    return Check("DICOM", "ok", f"{value}: {readable}")


def _data(settings: DataSettings) -> Check:
    from medsgssl.data.catalog import current_catalog  # noqa: PLC0415 - imports pandas

    try:
        catalog = current_catalog(settings)
    except MedsgsslError as error:
        return Check("data", "broken", error.problem, error.fix)
    files, summary = catalog.summary["files"], catalog.summary
    value = (
        f"{catalog.root}: read as {summary['source']}, {files['rows']:,} images, "
        f"{files['usable']:,} usable, labels: {summary['label_revision']}"
    )
    fix = f"medsgssl catalog {catalog.root}"
    if not files["usable"]:
        return Check("data", "broken", value, f"look at the problems with `{fix}`")
    if warnings := summary["warnings"]:
        more = f" (and {len(warnings) - 1} more)" if len(warnings) > 1 else ""
        return Check("data", "warning", f"{value}. {warnings[0]}{more}", f"see `{fix}`")
    return Check("data", "ok", value)
