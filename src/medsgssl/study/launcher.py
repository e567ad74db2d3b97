"""Starts the runs of a study as processes of their own; ``study/runner.py`` decides which, when."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Protocol

import torch

from medsgssl.study.plan import PlannedRun, StudyPlan
from medsgssl.utils.interrupts import END_WITH_PARENT
from medsgssl.utils.system import CPU_SHARE, cpu_count

#: How the line of a log begins that says when a run was started.
STARTED = "--- started"

# Seconds that a run has for saving its state after it was asked to stop.
_PATIENCE = 60.0


class Job(Protocol):
    """A run that was started."""

    def poll(self) -> int | None:
        """Return the exit status, negative for a signal, or None while it runs."""
        ...

    def ask_to_stop(self) -> None:
        """Ask it to save and stop."""
        ...

    def stop(self) -> None:
        """Wait until it has stopped, and end it where it does not."""
        ...


class Launcher(Protocol):
    """Where runs are done.

    Attributes:
        slots: How many at a time.
    """

    slots: int

    def start(self, folder: Path, plan: StudyPlan, names: list[str]) -> list[Job]:
        """Start the runs of these names, whose plan lies in ``folder``."""
        ...


class LocalLauncher:
    """Runs as child processes of this machine, with its processors divided among them.

    Where there are several GPUs, each job is shown one of them, in turn; with fewer GPUs than jobs
    they share one. Runs that ask for several devices see all.

    Args:
        jobs: How many at a time, at least 1.
    """

    def __init__(self, jobs: int) -> None:
        self.slots = jobs
        self._running: list[_Process | None] = [None] * jobs

    def start(self, folder: Path, plan: StudyPlan, names: list[str]) -> list[Job]:
        """Start one process per run."""
        runs = {planned.name: planned for planned in plan.runs}
        jobs: list[Job] = []
        for name in names:
            slot = next(
                n for n, job in enumerate(self._running) if job is None or job.poll() is not None
            )
            environment = self._environment(slot, plan, runs[name])
            self._running[slot] = process = _Process(folder, name, environment)
            jobs.append(process)
        return jobs

    def _environment(self, slot: int, plan: StudyPlan, run: PlannedRun) -> dict[str, str]:
        share = max(1, cpu_count() // self.slots)
        threads = min(share, int(os.environ.get("OMP_NUM_THREADS", share)))
        chosen = {
            CPU_SHARE: str(share),
            "OMP_NUM_THREADS": str(threads),
            "COLUMNS": "160",
            END_WITH_PARENT: str(os.getpid()),
        }
        config = plan.config(run)
        several = {config.pretrain.devices, config.finetune.devices} - {"auto", 1}
        visible = _visible_gpus()
        if len(visible) > 1 and not several:
            chosen["CUDA_VISIBLE_DEVICES"] = visible[slot % len(visible)]
        return {**os.environ, **chosen}


def _visible_gpus() -> list[str]:
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [part for part in named.split(",") if part]
    return [str(number) for number in range(torch.cuda.device_count())]


def run_command(folder: Path, name: str) -> list[str]:
    """Return the command that does one run of a study."""
    return [sys.executable, "-m", "medsgssl", "study", "one", str(folder), name]


def log_path(folder: Path, name: str) -> Path:
    """Return where the output of a run goes that a launcher started."""
    return folder / "logs" / f"{name}.log"


def last_lines(path: Path, count: int = 1) -> str:
    """Return the last lines of a log that are not empty; empty where there is none."""
    try:
        with path.open("rb") as stream:
            stream.seek(0, os.SEEK_END)
            stream.seek(max(0, stream.tell() - 200 * count - 4096))
            text = stream.read().decode(errors="replace")
    except OSError:
        return ""
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    return "\n".join(lines[-count:])


class _Process:
    """A run in a child process, its output appended to the run's log."""

    def __init__(self, folder: Path, name: str, environment: dict[str, str]) -> None:
        log = log_path(folder, name)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as stream:
            when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
            stream.write(f"{STARTED} {when}\n".encode())
            stream.flush()
            self._process = subprocess.Popen(
                run_command(folder, name),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                # Ctrl-C reaches this process alone, which then asks the runs to stop, once.
                start_new_session=True,
            )

    def poll(self) -> int | None:
        return self._process.poll()

    def ask_to_stop(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()

    def stop(self) -> None:
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
