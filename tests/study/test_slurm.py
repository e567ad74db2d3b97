"""Jobs on a real Slurm of two nodes, where this machine can start one."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from medsgssl.config.cluster_settings import SlurmSettings
from medsgssl.data.synthetic.dataset import generate_phantoms
from medsgssl.runs.folder import RunFolder
from medsgssl.study.cluster import ClusterJobs, wait_for
from medsgssl.study.launcher import log_path
from tests.cli.test_torchrun import TINY
from tests.one_machine_slurm import MISSING, available, one_machine_slurm
from tests.scenes import record, shown
from tests.study.test_cluster import TWICE

pytest.importorskip("submitit")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not available(), reason=MISSING)]

PAGE = Path(__file__).parents[2] / "docs" / "scaling.md"
SETTINGS = SlurmSettings(gpus=0, minutes=10, partition="low", cpus=1, memory_gb=1)
HIGH = ["sbatch", "--partition=high", "--nodes=2", "--exclusive", "--output=/dev/null"]


def until(condition: Callable[[], bool], seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.5)


def ask(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, str]], None]:
    def set_all(env: dict[str, str]) -> None:
        for name, value in env.items():
            monkeypatch.setenv(name, value)

    return set_all


@pytest.mark.parametrize("grace", [60, 0])
def test_a_preempted_job_continues(
    tmp_path: Path, use: Callable[[dict[str, str]], None], grace: int
) -> None:
    with one_machine_slurm(tmp_path / "slurm", grace) as env:
        use(env)
        jobs = ClusterJobs(tmp_path, SETTINGS)
        words = [sys.executable, "-c", TWICE, str(tmp_path / "starts")]
        (job,) = jobs.submit(["run"], [words])
        log = log_path(tmp_path, "run")
        until(lambda: log.is_file() and "waiting" in log.read_text())
        subprocess.run([*HIGH, "--wrap", "sleep 1"], check=True)
        assert wait_for([job]) == [0]
    lines = [line for line in log.read_text().splitlines() if not line.startswith("---")]
    assert lines == ["waiting", "saved", "continued"]
    if grace:
        record(
            "slurm-preempted", "Slurm preempts a job of a study",
            "A job of another partition needs its node. The log of the run (a stand-in that "
            "waits to be stopped), by `medsgssl.study.cluster`:",
            shown(f"cat STUDY/logs/{log.name}", None, log.read_text()),
        )  # fmt: skip


def test_a_canceled_job_does_not_come_back(
    tmp_path: Path, use: Callable[[dict[str, str]], None]
) -> None:
    with one_machine_slurm(tmp_path / "slurm") as env:
        use(env)
        words = [sys.executable, "-c", TWICE, str(tmp_path / "starts")]
        (job,) = ClusterJobs(tmp_path, SETTINGS).submit(["run"], [words])
        log = log_path(tmp_path, "run")
        until(lambda: log.is_file() and "waiting" in log.read_text())
        ask("scancel", "--user=root")
        assert wait_for([job]) != [0]
        assert ask("squeue", "--noheader") == ""
    assert "continued" not in log.read_text()


def test_the_sbatch_file_of_the_docs_is_stopped_in_time_and_continues(
    tmp_path: Path, use: Callable[[dict[str, str]], None]
) -> None:
    (script,) = re.findall(r"```bash\n(#!/bin/bash\n.*?)```", PAGE.read_text(), re.DOTALL)
    data = generate_phantoms(tmp_path / "data", 60, 64)
    small = [word for item in (*TINY, "pretrain.epochs=40") for word in ("--set", item)]
    changes = {
        "/shared/nih": str(data), "/shared/runs/masked-contrastive": str(tmp_path / "run"),
        "/tmp/$USER/medsgssl": str(tmp_path / "cache"), "srun ": "srun --overlap ",
        "python -m": f"{sys.executable} -m", "--ntasks-per-node=4": "--ntasks-per-node=2",
        "#SBATCH --gpus-per-node=4\n": "", "--cpus-per-task=8": "--cpus-per-task=1",
        "--mem=128G": "--mem=4G",
    }  # fmt: skip
    for old, new in changes.items():
        assert old in script
        script = script.replace(old, new)
    file = tmp_path / "train.sbatch"
    file.write_text(script.rstrip() + " " + " ".join(small) + "\n")
    submit = ["sbatch", "--parsable", f"--output={tmp_path}/slurm-%j.out", str(file)]
    run = RunFolder(tmp_path / "run")
    outputs, states = [], []
    with one_machine_slurm(tmp_path / "slurm") as env:
        use(env)
        for stopped in (True, False):
            number = ask(*submit).strip()
            if stopped:
                until(run.checkpoint("pretrain").is_file)
                # Its time is over in two to three minutes; two before, it is warned.
                job = ask("scontrol", "show", "job", "--oneliner", number)
                ((hours, minutes),) = re.findall(r"RunTime=(\d+):(\d+):", job)
                limit = 60 * int(hours) + int(minutes) + 3
                ask("scontrol", "update", f"jobid={number}", f"timelimit={limit}")
            until(lambda n=number: "EndTime" in ended(n), 600)  # type: ignore[misc]
            states.append(re.findall(r"(?:JobState|ExitCode)=(\S+)", ended(number)))
            outputs.append((tmp_path / f"slurm-{number}.out").read_text())
    assert states == [["FAILED", "143:0"], ["COMPLETED", "0:0"]], outputs
    assert outputs[0].count("Stopped by SIGTERM") == 1, outputs[0]
    assert "pretrain continues at step" in outputs[1]
    assert run.report.is_file()
    record(
        "slurm-time", "Slurm stops a job whose time is over",
        "The `sbatch` file of [scaling.md](../scaling.md), with two tasks and no GPU. "
        "`scontrol` shortens its time, so that the warning comes at once.",
        *(
            shown("sbatch train.sbatch; cat slurm-JOB.out", int(state[1].partition(":")[0]), text)
            for state, text in zip(states, outputs, strict=True)
        ),
    )  # fmt: skip


def ended(number: str) -> str:
    """Return what Slurm says of a job that has ended; empty before."""
    text = ask("scontrol", "show", "job", "--oneliner", number)
    alive = re.search(r"JobState=(PENDING|RUNNING|COMPLETING|CONFIGURING)", text)
    return "" if alive else text
