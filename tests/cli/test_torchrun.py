"""Training on several processes as users start it: torchrun and srun before the command."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from medsgssl.data.synthetic.dataset import generate_phantoms
from medsgssl.runs.folder import RunFolder
from tests.scenes import record, shown

TINY = [
    "data.img_size=32", "data.num_workers=0", "data.batch_size=8", "encoder.pretrained=false",
    "pretrain.accelerator=cpu", "finetune.accelerator=cpu", "evaluate.bootstrap=20",
    "masks.recipe=classic", "pretrain.epochs=1", "finetune.epochs=1",
    "encoder.name=test_efficientnet", "pretrain.lr=1e-4",
]  # fmt: skip
# A rank that dies ends the others within this many seconds.
MINUTE = 60


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate_phantoms(tmp_path_factory.mktemp("ranks") / "data", 60, 64)


def arguments(data: Path, out: Path, *settings: str) -> list[str]:
    cache = f"data.cache_dir={data.parent / 'cache'}"
    words = ["-m", "medsgssl", "run", "simclr", "--data", str(data), "--out", str(out)]
    for item in (*TINY, cache, *settings):
        words += ["--set", item]
    return words


def torchrun(words: list[str], *options: str) -> list[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run"]
    options = options or ("--standalone", "--nproc-per-node", "2")
    return [*launcher, *options, *words]


def start(command: list[str], **env: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        env={**os.environ, "OMP_NUM_THREADS": "1", **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(*processes: subprocess.Popen[str], timeout: float = 600) -> list[tuple[int, str]]:
    """Wait for all; return exit status and output of each."""
    ends = []
    for process in processes:
        try:
            output, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            # torchrun's processes have sessions of their own: it ends them when it is asked to.
            os.killpg(process.pid, signal.SIGTERM)
            time.sleep(40)
            os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
            raise AssertionError(f"it did not end:\n{output}") from None
        ends.append((process.returncode, output))
    return ends


def largest_difference(one: Path, other: Path) -> float:
    """Return the largest difference between the weights of two runs."""
    differences = []
    for name in ("pretrained.safetensors", "classifier.safetensors"):
        a, b = load_file(one / name), load_file(other / name)
        differences += [float((a[key].float() - b[key].float()).abs().max()) for key in a]
    return max(differences)


def test_torchrun_trains_one_model_from_data_to_report(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = torchrun(arguments(data, out))
    ((status, output),) = finish(start(words))
    assert status == 0, output
    # A deprecated call of torch's would be told once per process.
    assert "FutureWarning" not in output
    run = RunFolder(out)
    assert run.report.is_file()
    # One process speaks for both.
    assert output.count("pretrain 1/1") == 1
    assert output.count("Report:") == 1
    assert "devices: 2" in run.config.read_text()
    predictions = pd.read_parquet(run.predictions)
    scored = pd.read_parquet(run.split)["split"].isin(["val", "test"]).sum()
    assert predictions["image_id"].is_unique
    assert len(predictions) == scored
    assert len(pd.read_csv(run.pretrain_log)) == 1
    record(
        "torchrun", "Two processes, from data to report",
        "Both processes train one model; the first one speaks.", shown(words, status, output),
        figures={
            "images of validation and test": f"{scored}",
            "rows of predictions": f"{len(predictions)}",
        },
    )  # fmt: skip


def test_a_number_that_contradicts_the_launcher_ends_before_any_work(
    data: Path, tmp_path: Path
) -> None:
    words = arguments(data, tmp_path / "run", "pretrain.devices=3")
    env = {"SLURM_PROCID": "0", "SLURM_NTASKS": "1", "SLURM_JOB_ID": "7"}
    ((status, output),) = finish(start([sys.executable, *words], **env))
    assert status == 2
    assert "pretrain.devices=3 asks for 3 processes, but srun has started 1" in output
    assert not (tmp_path / "run").exists()
    record(
        "contradiction", "A number that contradicts the launcher",
        "A Slurm job of one task, whose run asks for three processes. Nothing is written.",
        shown([sys.executable, *words], status, output),
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ["test_efficientnet", "test_vit"])
def test_two_processes_are_one_with_the_doubled_batch(
    data: Path, tmp_path: Path, encoder: str
) -> None:
    name = f"encoder.name={encoder}"
    one = ("pretrain.devices=1", "data.batch_size=16")
    two = ("pretrain.devices=2", "finetune.devices=2")
    commands = (
        torchrun(arguments(data, tmp_path / "torchrun", name)),
        [sys.executable, *arguments(data, tmp_path / "spawned", name, *two)],
        [sys.executable, *arguments(data, tmp_path / "one", name, *one)],
    )
    ends = finish(*map(start, commands))
    assert [status for status, _ in ends] == [0, 0, 0], ends
    assert largest_difference(tmp_path / "torchrun", tmp_path / "spawned") == 0
    logs = [
        pd.read_csv(RunFolder(tmp_path / folder).pretrain_log)["loss"] for folder in
        ("torchrun", "one")
    ]  # fmt: skip
    assert logs[0].to_numpy() == pytest.approx(logs[1].to_numpy(), abs=1e-4)
    # AdamW turns a gradient that is zero but for rounding into a whole step: what is compared is
    # what the networks say.
    scores = [
        pd.read_parquet(RunFolder(tmp_path / folder).predictions).filter(like="score_")
        for folder in ("torchrun", "one")
    ]
    apart = float((scores[0] - scores[1]).abs().max().max())
    assert apart < 1e-4
    weights = largest_difference(tmp_path / "torchrun", tmp_path / "one")
    record(
        f"same-{encoder}", f"Two processes and one with the doubled batch: `{encoder}`",
        "The same run under torchrun, with two spawned processes, and in one process.",
        *(shown(words, status) for words, (status, _) in zip(commands, ends, strict=True)),
        figures={
            "torchrun and devices=2: largest difference of any weight": "0",
            "torchrun and one process: largest difference of any weight": f"{weights:.1e}",
            "the same: largest difference of any predicted probability": f"{apart:.1e}",
            "the same: difference of the pretraining loss": f"{abs(logs[0] - logs[1]).max():.1e}",
        },
    )  # fmt: skip


@pytest.mark.slow
def test_two_machines_of_one_process_are_one_of_two(data: Path, tmp_path: Path) -> None:
    port = free_port()
    options = (
        "--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d",
        "--rdzv-endpoint", f"127.0.0.1:{port}", "--rdzv-id", "test",
    )  # fmt: skip
    words = torchrun(arguments(data, tmp_path / "nodes"), *options)
    ends = finish(start(words), start(words))
    assert [status for status, _ in ends] == [0, 0], ends
    assert sum(output.count("Report:") for _, output in ends) == 1
    ((status, output),) = finish(start(torchrun(arguments(data, tmp_path / "one"))))
    assert status == 0, output
    assert largest_difference(tmp_path / "nodes", tmp_path / "one") == 0
    record(
        "two-machines", "Two machines of one process",
        "The same command twice, as on two machines that share a disk.",
        *(shown(words, status, output) for status, output in ends),
        figures={"two machines of one and one of two: largest difference of any weight": "0"},
    )  # fmt: skip


@pytest.mark.slow
def test_machines_that_see_different_data_are_told_so(data: Path, tmp_path: Path) -> None:
    other = generate_phantoms(tmp_path / "other", 59, 64)
    port = str(free_port())
    commands = [[sys.executable, *arguments(folder, tmp_path / "run")] for folder in (data, other)]
    tasks = [
        start(
            words, RANK=str(n), WORLD_SIZE="2", LOCAL_RANK="0", LOCAL_WORLD_SIZE="1",
            MASTER_ADDR="127.0.0.1", MASTER_PORT=port,
        )
        for n, words in enumerate(commands)
    ]  # fmt: skip
    ends = finish(*tasks)
    assert [status for status, _ in ends] == [2, 2], ends
    together = "".join(output for _, output in ends)
    assert together.count("Error:") == 1, together
    assert "see different data" in together
    assert "60 images" in together
    assert "59 images" in together
    assert "Traceback" not in together
    record(
        "other-data", "Two machines see different data",
        "One of them lacks an image.",
        *(shown(words, *end) for words, end in zip(commands, ends, strict=True)),
    )  # fmt: skip


@pytest.mark.slow
def test_a_job_of_two_tasks_without_srun_ends_after_a_minute(data: Path, tmp_path: Path) -> None:
    words = [sys.executable, *arguments(data, tmp_path / "run")]
    env = {
        "SLURM_PROCID": "0", "SLURM_NTASKS": "2", "SLURM_JOB_ID": "7", "SLURM_LOCALID": "0",
        "SLURM_NODELIST": "127.0.0.1", "MASTER_PORT": str(free_port()), "SLURM_NODEID": "0",
    }  # fmt: skip
    ((status, output),) = finish(start(words, **env))
    assert status == 2
    assert output.count("Error:") == 1, output
    assert "start the command with `srun" in " ".join(output.split())
    assert "Traceback" not in output
    record(
        "no-srun", "A job of two tasks without srun", "The second process never comes.",
        shown(words, status, output),
    )  # fmt: skip


@pytest.mark.slow
def test_ctrl_c_stops_both_and_the_same_command_goes_on(data: Path, tmp_path: Path) -> None:
    words = torchrun(arguments(data, tmp_path / "run", "pretrain.epochs=30"))
    task = start(words)
    checkpoint = RunFolder(tmp_path / "run").checkpoint("pretrain")
    for _ in wait_for(checkpoint.is_file, task):
        pass
    os.kill(task.pid, signal.SIGINT)
    ((status, output),) = finish(task, timeout=MINUTE)
    assert status != 0
    assert output.count("Stopped by Ctrl-C") == 1, output
    ours = output.partition("Traceback")[0]
    assert "Error:" not in ours
    again = torchrun(arguments(data, tmp_path / "run", "pretrain.epochs=30"))
    ((status_again, output_again),) = finish(start(again))
    assert status_again == 0, output_again
    assert "pretrain continues at step" in output_again
    record(
        "ctrl-c", "Ctrl-C", "The traceback at the end is torchrun's own.",
        shown(words, status, output), shown(again, status_again, output_again),
    )  # fmt: skip


@pytest.mark.slow
def test_srun_is_a_launcher_also_in_an_interactive_job(data: Path, tmp_path: Path) -> None:
    port = free_port()
    tasks = [
        start(
            [sys.executable, *arguments(data, tmp_path / "srun")],
            SLURM_PROCID=str(rank), SLURM_LOCALID=str(rank), SLURM_NTASKS="2", SLURM_NODEID="0",
            SLURM_JOB_ID="4711", SLURM_JOB_NAME="interactive", SLURM_NODELIST="127.0.0.1",
            SLURM_STEP_ID="0", MASTER_PORT=str(port),
        )
        for rank in range(2)
    ]  # fmt: skip
    (status, output), (other_status, other_output) = finish(*tasks)
    assert (status, other_status) == (0, 0), output + other_output
    assert "Report:" in output
    assert other_output.strip() == ""


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_rank_ends_the_others_and_the_same_command_goes_on_bit_for_bit(
    data: Path, tmp_path: Path, rank: int
) -> None:
    epochs = ("pretrain.epochs=8",)
    ((status, output),) = finish(start(torchrun(arguments(data, tmp_path / "whole", *epochs))))
    assert status == 0, output
    words = arguments(data, tmp_path / "killed", *epochs)
    # Without an agent that ends the others, as under Slurm.
    port = free_port()
    tasks = [
        start(
            [sys.executable, *words], RANK=str(number), WORLD_SIZE="2", LOCAL_RANK=str(number),
            LOCAL_WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port),
        )
        for number in range(2)
    ]  # fmt: skip
    checkpoint = RunFolder(tmp_path / "killed").checkpoint("pretrain")
    for _ in wait_for(checkpoint.is_file, tasks[0]):
        pass
    tasks[rank].kill()
    killed = time.monotonic()
    ((status, output),) = finish(tasks[1 - rank], timeout=MINUTE)
    assert time.monotonic() - killed < MINUTE
    assert status not in {0, None}
    assert output.count("Error:") == 1, output
    assert "another process of this command has ended" in output
    assert "Traceback" not in output
    seconds, message, died = time.monotonic() - killed, output, status
    finish(tasks[rank])
    ((status, output),) = finish(start(torchrun(words)))
    assert status == 0, output
    assert "pretrain continues at step" in output
    assert largest_difference(tmp_path / "whole", tmp_path / "killed") == 0
    a, b = (pd.read_parquet(RunFolder(tmp_path / n).predictions) for n in ("whole", "killed"))
    pd.testing.assert_frame_equal(a, b, check_exact=True)
    record(
        f"killed-rank-{rank}", f"Process {rank} of two is killed",
        "As under Slurm, no agent ends the other one. What it prints, and the same command again:",
        shown(f"kill -9 $RANK_{rank}", died, message), shown(torchrun(words), status, output),
        figures={
            "the other one has ended after": f"{seconds:.0f} s",
            "weights and predictions against an undisturbed run: largest difference": "0",
        },
    )  # fmt: skip


def wait_for(condition, process: subprocess.Popen[str]) -> Iterator[None]:  # type: ignore[no-untyped-def]
    """Yield until a condition holds, and fail where the process ends before."""
    end = time.monotonic() + 240
    while not condition():
        assert time.monotonic() < end, "it never came"
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
        yield


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_the_helpers_compare_weights(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    for folder, value in (("a", 0.0), ("b", 0.25)):
        (tmp_path / folder).mkdir()
        for name in ("pretrained.safetensors", "classifier.safetensors"):
            save_file({"w": torch.full((2,), value)}, tmp_path / folder / name)
    assert largest_difference(tmp_path / "a", tmp_path / "b") == 0.25
