"""Commands as jobs of a cluster, through submitit: Slurm arrays, or its local executor in tests.

A job runs one command of this package. When Slurm is about to end it (time, preemption), submitit
is told two minutes before: the command is asked to save and stop, and the job goes back into the
queue, where the same command continues from its checkpoint. Where Slurm preempts without that
warning, its SIGTERM does the same.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from medsgssl.config.cluster_settings import SlurmSettings
from medsgssl.errors import ConfigError
from medsgssl.study.launcher import STARTED, Job, log_path, run_command
from medsgssl.study.plan import StudyPlan
from medsgssl.utils.interrupts import check
from medsgssl.utils.io import read_json, write_json

Cluster = Literal["slurm", "local"]

# Seconds that a command has for saving its state, less than Slurm's warning of two minutes.
_PATIENCE = 100.0
_ENDLESS = 1e9
# Statuses of a command that SIGTERM has stopped, saved or not.
_STOPPED = (128 + signal.SIGTERM, -signal.SIGTERM)
_POLL = 2.0
# Seconds between two looks into the queue, and after which a job that is not there is gone: its
# result may reach this machine late.
_QUEUE_POLL = 20.0
_GONE = 60.0


class Command:
    """A command as a job: what submitit pickles, calls on the cluster, and asks to stop.

    Args:
        words: The command.
        log: File that its output is appended to.
    """

    def __init__(self, words: Sequence[str], log: Path) -> None:
        self._words, self._log = list(words), log
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> int:
        """Run the command and return its exit status."""
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as stream:
            when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
            stream.write(f"{STARTED} {when}\n".encode())
            stream.flush()
            self._process = subprocess.Popen(
                self._words,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        # Without a timeout `wait` would hold a lock that `checkpoint`, called by a signal, needs.
        status = self._process.wait(_ENDLESS)
        if status in _STOPPED and os.environ.get("SUBMITIT_EXECUTOR") == "slurm":
            _leave_job()
        return status

    def checkpoint(self) -> Any:
        """Stop the command where it can continue, and return what goes back into the queue."""
        from submitit.helpers import DelayedSubmission  # noqa: PLC0415 - an extra

        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                self._process.kill()
        return DelayedSubmission(Command(self._words, self._log))


def _leave_job() -> None:
    """End a job whose command Slurm has asked to stop, without a result: it is to be continued.

    Slurm preempts with SIGTERM to every process of a job, which submitit passes over. A job that
    has time of grace left goes back into the queue as after submitit's own signal. Without grace
    Slurm requeues it, or it was canceled: then it is about to be killed.
    """
    import submitit  # noqa: PLC0415 - an extra

    words = ["squeue", "--noheader", "--jobs", os.environ["SLURM_JOB_ID"], "--format", "%T"]
    state = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    if state.stdout.strip() == "RUNNING":
        os.kill(os.getpid(), submitit.JobEnvironment()._usr_sig())
    time.sleep(_PATIENCE)


class ClusterJobs:
    """Submits commands to a cluster and follows them, also after this process was started again.

    Args:
        folder: Where submitit keeps its files, and the numbers of the jobs are kept.
        settings: What a job is given.
        cluster: ``slurm``, or ``local``: processes of this machine.

    Raises:
        ConfigError: submitit is not installed, or there is no Slurm here.
    """

    def __init__(self, folder: Path, settings: SlurmSettings, cluster: Cluster = "slurm") -> None:
        try:
            import submitit  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise ConfigError(
                "the launcher submitit needs the package submitit",
                "install it with `pip install medsgssl[slurm]`",
            ) from error
        self._folder, self._cluster, self._settings = folder, cluster, settings
        self._queue = _Queue()
        limit: dict[str, Any] = {f"{cluster}_max_num_timeout": settings.resubmit}
        try:
            self._executor = submitit.AutoExecutor(folder / "submitit", cluster=cluster, **limit)
        except RuntimeError as error:
            raise ConfigError(
                f"no Slurm is found here: {error}", "run the command where `sbatch` works"
            ) from error

    def submit(self, names: Sequence[str], commands: Sequence[Sequence[str]]) -> list[Job]:
        """Submit one job per command, as one array; jobs that still run are followed instead.

        Args:
            names: One per command; also that of its log.
            commands: What the jobs run.
        """
        known = self._known()
        jobs = {name: job for name in names if (job := self._followed(known.get(name))) is not None}
        new = [(n, c) for n, c in zip(names, commands, strict=True) if n not in jobs]
        self._executor.update_parameters(**self._parameters())
        submitted = []
        with self._executor.batch():
            for name, words in new:
                command = Command(words, log_path(self._folder, name))
                submitted.append(self._executor.submit(command))
        for (name, _), job in zip(new, submitted, strict=True):
            jobs[name] = job
            known[name] = str(job.job_id)
        write_json(self._folder / "submitit" / "jobs.json", known)
        return [_ClusterJob(jobs[name], self._cluster, self._queue) for name in names]

    def _known(self) -> dict[str, str]:
        path = self._folder / "submitit" / "jobs.json"
        return dict(read_json(path)) if path.is_file() else {}

    def _followed(self, job_id: str | None) -> Any:
        """Return the job of an earlier call that Slurm still has, or None."""
        if job_id is None or self._cluster != "slurm":
            return None
        from submitit import SlurmJob  # noqa: PLC0415 - an extra

        return SlurmJob(self._folder / "submitit", job_id) if self._queue.has(job_id) else None

    def _parameters(self) -> dict[str, Any]:
        settings = self._settings
        chosen: dict[str, Any] = {
            "name": "medsgssl",
            "timeout_min": settings.minutes,
            "tasks_per_node": max(1, settings.gpus),
            "gpus_per_node": settings.gpus,
        }
        if self._cluster == "slurm":
            more = dict(option.split("=", 1) for option in settings.options)
            chosen |= {
                "cpus_per_task": settings.cpus,
                "slurm_mem_gb": settings.memory_gb,
                "slurm_partition": settings.partition,
                "slurm_array_parallelism": 1000,
                "slurm_signal_delay_s": 120,
                "slurm_additional_parameters": more,
                # One dead rank ends the job, which then tells why.
                "slurm_srun_args": ["--kill-on-bad-exit=1"],
            }
        return {key: value for key, value in chosen.items() if value is not None}


def wait_for(jobs: Sequence[Job]) -> list[int]:
    """Return the exit statuses of all jobs once they have ended."""
    while any(job.poll() is None for job in jobs):
        check()
        time.sleep(_POLL)
    return [job.poll() or 0 for job in jobs]


class _Queue:
    """The jobs that Slurm still has, by squeue: submitit asks sacct, which needs accounting."""

    def __init__(self) -> None:
        self._ids: set[str] = set()
        self._asked = -_ENDLESS

    def has(self, job_id: str) -> bool:
        """Return whether a job waits or runs; True where Slurm does not answer."""
        if time.monotonic() - self._asked > _QUEUE_POLL:
            words = ["squeue", "--me", "--noheader", "--array", "--format", "%i"]
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            if done.returncode:
                return True
            self._ids, self._asked = set(done.stdout.split()), time.monotonic()
        return job_id in self._ids


class _ClusterJob:
    """A job that was submitted."""

    def __init__(self, job: Any, cluster: Cluster, queue: _Queue) -> None:
        self._job, self._cluster, self._queue = job, cluster, queue
        self._seen = time.monotonic()

    def poll(self) -> int | None:
        if not self._job.done():
            return None if self._alive() else 1
        error = self._job.exception()
        # The job itself failed: canceled, out of memory, timed out too often.
        return 1 if error is not None else max(abs(status) for status in self._job.results())

    def _alive(self) -> bool:
        """Return False for a job that Slurm no longer has and that has left no result."""
        if self._cluster == "local" or self._queue.has(str(self._job.job_id)):
            self._seen = time.monotonic()
        return time.monotonic() - self._seen < _GONE

    def ask_to_stop(self) -> None:
        # Slurm's jobs go on without this process; the same command follows them again.
        if self._cluster == "local":
            self._job.cancel(check=False)

    def stop(self) -> None:
        pass


class SubmititLauncher:
    """The runs of a study as jobs of a cluster, one each.

    Args:
        settings: What a job is given.
        jobs: How many at a time.
        cluster: ``slurm``, or ``local`` for tests.
    """

    def __init__(self, settings: SlurmSettings, jobs: int, cluster: Cluster = "slurm") -> None:
        self.slots = jobs
        self._settings, self._cluster = settings, cluster
        self._jobs: ClusterJobs | None = None

    def start(self, folder: Path, plan: StudyPlan, names: list[str]) -> list[Job]:
        """Submit the runs."""
        if self._jobs is None:
            self._jobs = ClusterJobs(folder.absolute(), self._settings, self._cluster)
        commands = [run_command(folder.absolute(), name) for name in names]
        return self._jobs.submit(names, commands)
