"""Runs commands of the package, and measures their time and memory."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

#: Growth of the plain sum of memory after which shared pages are told apart again.
_GROWTH = 1.02


@dataclass(frozen=True)
class Usage:
    """What a command took.

    Attributes:
        seconds: Wall time.
        memory: Largest memory of the command and its children together in MB, shared pages
            counted once; sampled, on Linux alone; 0 where it was not asked for.
    """

    seconds: float
    memory: float


def sets(*items: str) -> list[str]:
    """Return settings as options of a command."""
    return [part for item in items for part in ("--set", item)]


def run(words: str, *more: str | Path, folder: Path, memory: bool = True) -> Usage:
    """Run a command of ``medsgssl``; its output goes to ``folder/output.log``.

    Args:
        words: Its words, separated by blanks.
        more: Further arguments, e.g. paths.
        folder: Where the log lies.
        memory: Whether memory is sampled, which slows small commands down.

    Raises:
        SystemExit: It failed; the message ends with its last lines.
    """
    command = [sys.executable, "-m", "medsgssl", *words.split(), *map(str, more)]
    # As after an installation: modules are compiled once.
    environment = {key: os.environ[key] for key in os.environ if key != "PYTHONDONTWRITEBYTECODE"}
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "output.log"
    started = time.perf_counter()
    with log.open("a") as stream:
        process = subprocess.Popen(
            command,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=environment,
        )
        meter = _Meter(process.pid)
        if memory:
            meter.start()
        status = process.wait()
        seconds = time.perf_counter() - started
        meter.ended.set()
        if memory:
            meter.join()
    if status:
        last = "\n".join(log.read_text().splitlines()[-15:])
        raise SystemExit(f"{' '.join(command)} ended with {status}:\n{last}")
    return Usage(seconds, meter.peak / 1000)


class _Meter(threading.Thread):
    """Samples the memory of a session of processes.

    To count shared pages once, the system walks all pages of a process and stops it meanwhile,
    which took a quarter of the time of a training. So that is asked for only where the plain sum,
    which costs nothing, has grown.
    """

    def __init__(self, session: int) -> None:
        super().__init__(daemon=True)
        self.session, self.peak, self.ended = session, 0.0, threading.Event()

    def run(self) -> None:
        largest = 0.0
        while not self.ended.wait(0.2):
            members = _members(self.session)
            resident = sum(map(_resident_pages, members))
            if resident > _GROWTH * largest:
                largest = resident
                self.peak = max(self.peak, sum(map(_kilobytes, members)))


def _members(session: int) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.getsid(int(folder.name)) == session:
                found.append(int(folder.name))
    return found


def _resident_pages(process: int) -> int:
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return 0


def _kilobytes(process: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    return 0
