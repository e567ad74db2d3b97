"""Jobs of a cluster, with submitit's local executor in the place of Slurm."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from medsgssl.cli.app import app
from medsgssl.cli.masks import without_options
from medsgssl.config.cluster_settings import SlurmSettings
from medsgssl.data.synthetic.dataset import generate_phantoms
from medsgssl.errors import ConfigError
from medsgssl.masks.store import MaskStore
from medsgssl.study import cluster, launcher
from medsgssl.study import runner as study_run
from medsgssl.study.cluster import _PATIENCE, ClusterJobs, SubmititLauncher, wait_for
from medsgssl.study.launcher import log_path
from medsgssl.study.plan_builder import make_plan
from medsgssl.study.runner import run_study
from tests.scenes import record, shown
from tests.study.test_launcher import WORK

pytest.importorskip("submitit")

SETTINGS = SlurmSettings(gpus=0, minutes=5)

# Counts its starts, and waits to be stopped the first time.
TWICE = """
import signal, sys, time
from pathlib import Path
starts = Path(sys.argv[1])
starts.write_text(starts.read_text() + "x" if starts.is_file() else "x")
if starts.read_text() == "x":
    def stop(*_):
        print("saved", flush=True)
        sys.exit(143)
    signal.signal(signal.SIGTERM, stop)
    print("waiting", flush=True)
    time.sleep(120)
print("continued", flush=True)
"""


def test_a_preempted_job_saves_and_goes_back_into_the_queue(tmp_path: Path) -> None:
    jobs = ClusterJobs(tmp_path, SETTINGS, "local")
    (job,) = jobs.submit(["run"], [[sys.executable, "-c", TWICE, str(tmp_path / "starts")]])
    log = log_path(tmp_path, "run")
    end = time.monotonic() + 60
    while not (log.is_file() and "waiting" in log.read_text()):
        assert time.monotonic() < end
        time.sleep(0.1)
    # What Slurm's warning does to the process of the job.
    pattern = f"submitit.core._submit {tmp_path}"
    (number,) = subprocess.run(
        ["pgrep", "-f", f"^{sys.executable}.*{pattern}"], capture_output=True, text=True, check=True
    ).stdout.split()
    os.kill(int(number), signal.SIGUSR2)
    warned = time.monotonic()
    assert wait_for([job]) == [0]
    # It does not use up the time that Slurm leaves.
    assert time.monotonic() - warned < _PATIENCE / 2
    assert [line for line in log.read_text().splitlines() if not line.startswith("---")] == [
        "waiting", "saved", "continued",
    ]  # fmt: skip


def test_a_failing_job_keeps_its_status(tmp_path: Path) -> None:
    jobs = ClusterJobs(tmp_path, SETTINGS, "local")
    commands = [[sys.executable, "-c", f"raise SystemExit({status})"] for status in (0, 3)]
    assert wait_for(jobs.submit(["a", "b"], commands)) == [0, 3]


def test_a_study_is_the_same_through_jobs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def command(folder: Path, name: str) -> list[str]:
        return [sys.executable, "-c", WORK, str(folder), name, "0", ""]

    monkeypatch.setattr(cluster, "run_command", command)
    monkeypatch.setattr(study_run, "fix_primary_diseases", lambda plan: plan)
    plan = make_plan(Path("data"), ["simclr"], seeds=2)
    jobs = SubmititLauncher(SETTINGS, 4, "local")
    outcomes = run_study(plan, tmp_path / "study", Console(quiet=True), launcher=jobs)
    assert {outcome.status for outcome in outcomes} == {"done"}


@pytest.mark.slow
def test_masks_are_drawn_by_shards_and_merged(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    data = generate_phantoms(tmp_path / "data", 12, 64)
    local = functools.partial(ClusterJobs, cluster="local")
    monkeypatch.setattr(cluster, "ClusterJobs", local)
    words = [
        "masks", "build", str(data), "--out", str(tmp_path / "store"), "--recipe", "classic",
        "--launcher", "submitit", "--shards", "2", "--workers", "1",
        "--set", f"data.cache_dir={tmp_path / 'cache'}", "--set", "slurm.minutes=5",
    ]  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["medsgssl", *words])
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    store = MaskStore.open(tmp_path / "store")
    assert (len(store), store.complete) == (12, True)
    assert "12 masks in" in done.output
    record(
        "shards", "Masks by shards",
        "Each shard is a job; here on submitit's local executor.",
        shown(["medsgssl", *words], done.exit_code, done.output),
    )  # fmt: skip


def test_a_shard_is_this_command_without_what_launches_it() -> None:
    words = ["masks", "build", "D", "--out", "S", "--set", "slurm.partition=x", "--shards=3"]
    words += ["--set", "data.max_pixels=9", "--launcher", "submitit", "--heart"]
    dropped = {"--launcher": 1, "--shards": 1, "--out": 1}
    kept = ["masks", "build", "D", "--set", "data.max_pixels=9", "--heart"]
    assert without_options(words, dropped, "slurm.") == kept


def test_without_slurm_or_submitit_the_message_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="no Slurm is found here"):
        ClusterJobs(tmp_path, SETTINGS)
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(ConfigError, match=r"pip install medsgssl\[slurm\]"):
        ClusterJobs(tmp_path, SETTINGS)


def test_jobs_run_the_command_of_one_run() -> None:
    words = launcher.run_command(Path("study"), "simclr-s0-f1")
    assert words[1:] == ["-m", "medsgssl", "study", "one", "study", "simclr-s0-f1"]
