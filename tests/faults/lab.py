"""The fault laboratory: kills, signals, two processes, full disks, damaged files, NaN.

``make faults`` runs all of it, prints one table and writes it as a page; ``python -m
tests.faults.lab NAME ...`` runs some.
Every trial is the command line in a forked process, so that the libraries are imported once. A row
says what was done, what the user saw, and whether the result is right.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from safetensors.torch import load_file

# Imported here, so that no trial has to: the command line imports them late.
import medsgssl.report.run_page
import medsgssl.report.study_page
import medsgssl.study.runner  # noqa: F401
from medsgssl.cli.app import main as command_line
from medsgssl.data.synthetic.dataset import generate_phantoms
from medsgssl.pipeline import runner as pipeline
from medsgssl.runs.folder import RunFolder
from medsgssl.training.trainer import Trainer
from tests.faults.results import Outcome, Record, page, read_records, write_records
from tests.images.crashing import CRASH, python_path

_FORK = multiprocessing.get_context("fork")
_SMALL = (
    "data.img_size=32", "data.batch_size=16", "data.num_workers=0", "encoder.pretrained=false",
    "encoder.name=test_efficientnet", "pretrain.accelerator=cpu", "finetune.accelerator=cpu",
    "pretrain.epochs=4", "finetune.epochs=3", "pretrain.checkpoint_minutes=0",
    "finetune.checkpoint_minutes=0", "evaluate.bootstrap=20", "data.split=random",
)  # fmt: skip
RESULTS = ("pretrained.safetensors", "classifier.safetensors", "metrics.json")


@dataclass
class Command:
    """One command line in a forked process; its output goes to a file."""

    process: multiprocessing.process.BaseProcess
    log: Path

    @classmethod
    def start(
        cls, arguments: Sequence[object], log: Path, before: Callable[[], object] | None = None
    ) -> Command:
        """Start ``medsgssl ARGUMENTS``; ``before`` is called in the new process first."""
        process = _FORK.Process(target=_child, args=([str(a) for a in arguments], log, before))
        process.start()
        return cls(process, log)

    def wait(self, seconds: float = 600) -> int:
        """Return the exit status; -9 where the process was killed or had to be."""
        self.process.join(seconds)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
            return -99
        return int(self.process.exitcode or 0)

    def signal(self, number: int) -> None:
        """Send a signal, if the process still runs."""
        if self.process.is_alive() and self.process.pid is not None:
            os.kill(self.process.pid, number)

    @property
    def last_line(self) -> str:
        """The last lines of an error, or the last line."""
        text = re.sub(r"\x1b\[[0-9;]*[a-zA-Z]", "", self.log.read_text(errors="replace"))
        lines = [line.strip() for line in text.replace("\r", "\n").splitlines() if line.strip()]
        starts = [i for i, line in enumerate(lines) if line.startswith("Error:")]
        if not starts and lines and lines[-1].startswith("Fix:"):
            starts = [len(lines) - 3]
        return " | ".join(lines[starts[-1] + 1 :][:4] if starts else lines[-1:])[:300]

    @property
    def is_clear(self) -> bool:
        """Whether the output has no traceback."""
        return "Traceback" not in self.log.read_text(errors="replace")


def _child(arguments: list[str], log: Path, before: Callable[[], object] | None) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    for number in (1, 2):
        os.dup2(descriptor, number)
    sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
    sys.argv = ["medsgssl", *arguments]
    if before is not None:
        before()
    command_line()


class Lab:
    """A folder with a phantom data set and the results of runs without any fault."""

    def __init__(self, folder: Path, seed: int, count: int = 48) -> None:
        # Before any fork: a pool of threads does not survive one.
        cv2.setNumThreads(1)
        torch.set_num_threads(1)
        self.folder, self.rng = folder, np.random.default_rng(seed)
        os.environ["XDG_CACHE_HOME"] = str(folder / "user-cache")
        self.data = folder / "data"
        generate_phantoms(self.data, count, size=64)
        self._number = 0

    def workers(self, seconds: float = 5) -> int:
        """Return how many worker processes of dead commands still live after some seconds."""
        mark = f"XDG_CACHE_HOME={self.folder / 'user-cache'}".encode()
        ends = time.monotonic() + seconds
        while True:
            found = 0
            for file in Path("/proc").glob("[0-9]*/environ"):
                with contextlib.suppress(OSError):
                    found += mark in file.read_bytes()
            if not found or time.monotonic() > ends:
                return found
            time.sleep(0.2)

    def path(self, name: str) -> Path:
        """Return a new path below the folder."""
        self._number += 1
        return self.folder / f"{self._number:03d}-{name}"

    def start(
        self,
        out: Path,
        *more: str,
        cache: Path | None = None,
        data: Path | None = None,
        command: str = "run",
        before: Callable[[], object] | None = None,
    ) -> Command:
        """Start ``medsgssl run masked-contrastive`` (or pretrain) on the phantoms."""
        settings = [*_SMALL, f"data.cache_dir={cache or self.folder / 'cache'}", *more]
        words = [command, "masked-contrastive", "--data", data or self.data, "--out", out]
        for item in settings:
            words += ["--set", item]
        return Command.start(words, self.path("log"), before)

    def whole(self) -> Path:
        """Return a run that met no fault; made once."""
        out = self.folder / "whole"
        if not (out / "metrics.json").is_file():
            started = time.monotonic()
            steps = self.folder / "steps-of-the-whole-run"
            status = self.start(out, before=count_steps(steps)).wait()
            assert status == 0, (self.folder, status)
            self.seconds, self.steps = time.monotonic() - started, steps.stat().st_size
        return out


def count_steps(path: Path, kill: tuple[str | None, float] | None = None) -> Callable[[], None]:
    """Return what makes a new process add one byte to a file after each training step.

    Args:
        path: The file.
        kill: Also kill the process so many seconds after it has come to a stage; None for the
            stage means its start. How busy the machine is hardly matters then.
    """

    def patch() -> None:
        step, run_stage = Trainer._train_step, pipeline.run_stage_if_needed

        def counted(self: Trainer[Any], *arguments: Any) -> None:
            step(self, *arguments)
            with path.open("ab") as file:
                file.write(b".")

        def aimed(run: RunFolder, stage: str, *arguments: Any) -> None:
            if kill is not None and kill[0] == stage:
                kill_later(kill[1])
            run_stage(run, stage, *arguments)  # type: ignore[arg-type]

        Trainer._train_step = counted  # type: ignore[method-assign]
        pipeline.run_stage_if_needed = aimed  # type: ignore[assignment]
        if kill is not None and kill[0] is None:
            kill_later(kill[1])

    return patch


def kill_later(seconds: float) -> None:
    """Kill this process after some seconds."""
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL))
    timer.daemon = True
    timer.start()


def log_memory(path: Path) -> Callable[[], None]:
    """Return what makes a new process write its resident memory, MiB, after each epoch."""

    def patch() -> None:
        end = Trainer._end_epoch

        def logged(self: Trainer[Any], *arguments: Any) -> None:
            end(self, *arguments)
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            with path.open("a") as file:
                file.write(f"{pages * resource.getpagesize() / 2**20:.2f}\n")

        Trainer._end_epoch = logged  # type: ignore[method-assign]

    return patch


def same_results(one: Path, two: Path) -> bool:
    """Whether two run folders hold the same weights, predictions and metrics, bit for bit."""
    for name in ("pretrained.safetensors", "classifier.safetensors"):
        a, b = load_file(one / name), load_file(two / name)
        if a.keys() != b.keys() or not all(torch.equal(a[key], b[key]) for key in a):
            return False
    metrics = [json.loads((run / "metrics.json").read_text()) for run in (one, two)]
    return metrics[0] == metrics[1]


def kills(lab: Lab, count: int) -> Iterator[Outcome]:
    """Kill runs at random moments of all stages until ``count`` kills hit; compare at the end.

    No worker process may outlive its command either.
    """
    whole, hits = lab.whole(), 0
    stages = json.loads((whole / "stages.json").read_text())
    while hits < count:
        out, cache, killed = lab.path("killed"), lab.path("cache"), []
        steps = lab.path("steps")
        for number in sorted(lab.rng.integers(-1, len(stages), lab.rng.integers(1, 5)).tolist()):
            # -1: while the data are prepared, before the first stage.
            stage = list(stages)[number] if number >= 0 else None
            lasts = stages[stage]["seconds"] if stage else lab.seconds / 3
            delay = float(lab.rng.uniform(0, 1)) * max(lasts, 0.1)
            command = lab.start(out, cache=cache, before=count_steps(steps, kill=(stage, delay)))
            if command.wait() == -9:
                file = out / "stages.json"
                done = json.loads(file.read_text()) if file.is_file() else {}
                killed.append(f"after {list(done)[-1]}" if done else "before data")
                hits += 1
        command = lab.start(out, cache=cache, before=count_steps(steps))
        status = command.wait()
        # A checkpoint follows every step here, so a kill may cost the step after the last one.
        repeated = steps.stat().st_size - lab.steps
        right = status == 0 and same_results(whole, out) and 0 <= repeated <= len(killed)
        right = right and not lab.workers()
        fault = f"{len(killed)} x: {', '.join(killed)}; {repeated} steps repeated"
        yield Outcome("kill -9", fault, command.last_line, right, len(killed), repeated)
        shutil.rmtree(cache, ignore_errors=True)


def study_kills(lab: Lab, count: int) -> Iterator[Outcome]:
    """Kill a study of two methods at random moments; compare every run with an unkilled study."""

    def start(out: Path, cache: Path) -> Command:
        words: list[object] = ["study", "run", "--data", lab.data, "--out", out]
        words += ["--methods", "masked-contrastive", "--seeds", "1", "--config", config]
        return Command.start(words, lab.path("log"))

    def make_config(cache: Path) -> Path:
        tree: dict[str, dict[str, str]] = {}
        for item in (*_SMALL, f"data.cache_dir={cache}"):
            key, value = item.split("=")
            group, name = key.split(".")
            tree.setdefault(group, {})[name] = value
        path = lab.path("study.yaml")
        lines = [
            f"{g}:\n" + "".join(f"  {k}: {v}\n" for k, v in t.items()) for g, t in tree.items()
        ]
        path.write_text("".join(lines))
        return path

    cache = lab.folder / "cache"
    config = make_config(cache)
    whole = lab.path("study-whole")
    started = time.monotonic()
    command = start(whole, cache)
    if command.wait() != 0:
        yield Outcome("study", "without a fault", command.last_line, False)
        return
    seconds, out, hits = time.monotonic() - started, lab.path("study-killed"), 0
    for _ in range(count):
        command = start(out, cache)
        time.sleep(float(lab.rng.uniform(0.05, 0.6)) * seconds)
        command.signal(signal.SIGKILL)
        hits += command.wait() == -9
    command = start(out, cache)
    status = command.wait()
    runs = [path.parent.relative_to(whole) for path in whole.rglob("classifier.safetensors")]
    right = status == 0 and bool(runs) and not lab.workers()
    for run in runs:
        a, b = (load_file(folder / run / "classifier.safetensors") for folder in (whole, out))
        right = right and all(torch.equal(a[key], b[key]) for key in a)
    fault = f"{hits} x kill -9, {len(runs)} runs"
    yield Outcome("study", fault, command.last_line, right, kills=hits)


def signals(lab: Lab, count: int) -> Iterator[Outcome]:
    """Ask runs to stop; each exits with the status of the signal, and the same command goes on."""
    whole = lab.whole()
    for number, expected in [(signal.SIGINT, 130), (signal.SIGTERM, 143)] * count:
        out, statuses = lab.path("stopped"), []
        for _ in range(3):
            command = lab.start(out)
            time.sleep(float(lab.rng.uniform(0.1, 0.8)) * lab.seconds)
            command.signal(number)
            statuses.append(command.wait())
            shown, clear = command.last_line, command.is_clear
        command = lab.start(out)
        status = command.wait()
        right = (
            status == 0 and same_results(whole, out) and set(statuses) <= {expected, 0} and clear
        )
        yield Outcome("signal", f"{signal.Signals(number).name}, exits {statuses}", shown, right)


def two_processes(lab: Lab, _count: int) -> Iterator[Outcome]:
    """Two commands at once: one run folder, and two run folders with one cache."""
    whole, out = lab.whole(), lab.path("twice")
    first = lab.start(out)
    while not (out / "config.yaml").is_file() and first.process.is_alive():
        time.sleep(0.02)
    second = lab.start(out)
    refused = second.wait()
    right = (
        first.wait() == 0
        and refused == 2
        and f"process {first.process.pid} " in second.log.read_text()
    )
    yield Outcome("two processes", "one run folder", second.last_line, right)
    for trial in range(3):
        cache, outs = lab.path("shared-cache"), [lab.path("a"), lab.path("b")]
        commands = [lab.start(o, cache=cache) for o in outs]
        statuses = [command.wait() for command in commands]
        right = statuses == [0, 0] and all(same_results(whole, o) for o in outs)
        fault = f"one new cache, trial {trial + 1}"
        yield Outcome("two processes", fault, commands[1].last_line, right)


def full_disk(lab: Lab, _count: int) -> Iterator[Outcome]:
    """Files that cannot grow, then a disk that cannot be written; the same command then goes on."""
    whole = lab.whole()
    for limit in (2_000, 20_000, 100_000, 400_000):
        out, cache = lab.path("full"), lab.path("cache")

        def small_files(limit: int = limit) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        command = lab.start(out, cache=cache, before=small_files)
        status, shown, clear = command.wait(), command.last_line, command.is_clear
        again = lab.start(out, cache=cache)
        right = again.wait() == 0 and same_results(whole, out) and clear and status in {0, 2}
        yield Outcome(
            "disk full", f"after {limit // 1000} kB of a file, exit {status}", shown, right
        )
    if os.geteuid() == 0 and shutil.which("mount"):
        small = lab.path("tmpfs")
        small.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(small)]
        if subprocess.run(mount, capture_output=True, check=False).returncode == 0:
            try:
                command = lab.start(small / "run", cache=small / "cache")
                status = command.wait()
                right = status == 2 and command.is_clear
                yield Outcome("disk full", f"a tmpfs, exit {status}", command.last_line, right)
            finally:
                subprocess.run(["umount", str(small)], check=False)


def small_shm(lab: Lab, _count: int) -> Iterator[Outcome]:
    """A /dev/shm too small for the loader workers: fewer are used, with the same result."""
    whole, out = lab.whole(), lab.path("shm")

    def no_space() -> None:
        from medsgssl.utils import system

        usage = shutil.disk_usage("/")
        system.shutil.disk_usage = lambda path: (  # type: ignore[assignment]
            usage._replace(free=1000) if str(path) == "/dev/shm" else usage
        )

    command = lab.start(out, "data.num_workers=2", before=no_space)
    right = command.wait() == 0 and same_results(whole, out)
    right = right and "/dev/shm is too small" in command.log.read_text()
    yield Outcome("small /dev/shm", "1 kB free, 2 workers", command.last_line, right)


def damaged_caches(lab: Lab, count: int) -> Iterator[Outcome]:
    """Flip a bit, cut short, empty or remove each file of the cache; results stay the same."""
    whole, pristine = lab.whole(), lab.path("pristine")
    lab.start(lab.path("fill"), cache=pristine).wait()
    files = sorted(p for p in pristine.rglob("*") if p.is_file() and not p.name.startswith("."))
    ways = ("bit flip", "cut short", "emptied", "removed")
    cases = [(file.relative_to(pristine), way) for file in files for way in ways]
    for index in lab.rng.permutation(len(cases))[: 8 * count]:
        name, way = cases[index]
        cache = lab.path("cache")
        shutil.copytree(pristine, cache)
        content = bytearray((cache / name).read_bytes())
        content[int(lab.rng.integers(len(content)))] ^= 1 << int(lab.rng.integers(8))
        cut = {"cut short": len(content) // 2, "emptied": 0}.get(way, len(content))
        (cache / name).write_bytes(content[:cut])
        if way == "removed":
            (cache / name).unlink()
        out = lab.path("healed")
        command = lab.start(out, cache=cache)
        right = command.wait() == 0 and same_results(whole, out)
        yield Outcome("damaged cache", f"{name.name}: {way}", command.last_line, right)


def damaged_outputs(lab: Lab, _count: int) -> Iterator[Outcome]:
    """Flip a bit in, or remove, the outputs of complete stages: the stages run again."""
    whole = lab.whole()
    for name in ("pretrained.safetensors", "classifier.safetensors", "predictions.parquet",
                 "metrics.json", "split.parquet"):  # fmt: skip
        for way in ("bit flip", "removed"):
            out = lab.path("output")
            shutil.copytree(whole, out)
            content = bytearray((out / name).read_bytes())
            content[len(content) // 2] ^= 1
            (out / name).write_bytes(content) if way == "bit flip" else (out / name).unlink()
            command = lab.start(out)
            right = command.wait() == 0 and same_results(whole, out)
            again = lab.start(out)
            right = right and again.wait() == 0 and "run again" not in again.log.read_text()
            yield Outcome("damaged output", f"{name}: {way}", command.last_line, right)


def stale_inputs(lab: Lab, _count: int) -> Iterator[Outcome]:
    """Change images without changing name or size: nothing made from the old ones is used."""
    data, cache = lab.path("changing"), lab.path("cache")
    shutil.copytree(lab.data, data)
    out = lab.path("before")
    lab.start(out, cache=cache, data=data).wait()
    pictures = sorted((data / "images").glob("*.png"))
    for path in pictures:
        _write_same_size(path, cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[:, ::-1])
    fresh, reused = lab.path("fresh"), lab.path("reused")
    lab.start(fresh, cache=lab.path("cache"), data=data).wait()
    command = lab.start(reused, cache=cache, data=data)
    right = command.wait() == 0 and same_results(fresh, reused) and not same_results(out, reused)
    yield Outcome("stale input", "all images mirrored in place", command.last_line, right)
    command = lab.start(out, cache=cache, data=data)
    right = command.wait() == 2 and command.is_clear
    yield Outcome("stale input", "the old run folder", command.last_line, right)


def _write_same_size(path: Path, pixels: np.ndarray) -> None:
    before, status = path.stat().st_size, path.stat()
    assert cv2.imwrite(str(path), pixels)
    content = path.read_bytes()
    if len(content) < before:
        path.write_bytes(content + bytes(before - len(content)))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def hostile_files(lab: Lab, _count: int) -> Iterator[Outcome]:
    """A folder with one good image in three: each bad one is named, none ends the command."""
    data = lab.path("hostile")
    data.mkdir()
    good = sorted((lab.data / "images").glob("*.png"))
    for path in good[:8]:
        shutil.copy(path, data / path.name)
    png, bad = good[0].read_bytes(), _hostile(good[0])
    jpeg = cv2.imencode(".jpg", cv2.imread(str(good[0]), 0))[1].tobytes()
    (data / "escape\x1b[2J\x07.png").write_bytes(png[:100])
    (data / "no end.jpg").write_bytes(jpeg[:-2])
    (data / "bytes after.jpg").write_bytes(jpeg + b"x" * 5000)
    for name, content in bad.items():
        (data / name).write_bytes(content)
    (data / "folder.png").mkdir()
    (data / "loop").symlink_to(data)
    for command, extra in (("catalog", []), ("masks", ["build"])):
        words: list[object] = [command, *extra, data]
        words += ["--split", "train"] if command == "catalog" else ["--out", lab.path("masks")]
        done = Command.start(words, lab.path("log"))
        status = done.wait()
        raw = "\x1b[2J" not in done.log.read_text(errors="replace")
        yield Outcome("hostile files", f"{command}: {len(bad) + 3} bad or odd files of 19",
                      done.last_line, status == 0 and done.is_clear and raw)  # fmt: skip
    out = lab.path("hostile-run")
    done = lab.start(out, "data.split=train", "data.batch_size=4", data=data, command="pretrain")
    right = done.wait() == 0 and done.is_clear and (out / "pretrained.safetensors").is_file()
    yield Outcome("hostile files", "pretrain on the same folder", done.last_line, right)


def crashing_decoders(lab: Lab, _count: int) -> Iterator[Outcome]:
    """Files on which a decoder crashes its process: they are named and set aside."""
    data, site = lab.path("crashing"), python_path(lab.path("site"))
    data.mkdir()
    for path in sorted((lab.data / "images").glob("*.png"))[:8]:
        shutil.copy(path, data / path.name)
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    (data / "crash.tif").write_bytes(cv2.imencode(".tif", pixels)[1].tobytes() + CRASH)
    (data / "crash.png").write_bytes(path.read_bytes() + CRASH)

    def crash() -> None:
        os.environ["PYTHONPATH"] = site

    table = lab.path("scores.csv")
    for name, words in {
        "catalog": ["catalog", data, "--split", "train"],
        "masks": ["masks", "build", data, "--out", lab.path("masks"), "--workers", "2"],
        "predict": ["predict", lab.whole(), data, "--out", table],
    }.items():
        done = Command.start(words, lab.path("log"), crash)
        status, said = done.wait(), done.log.read_text(errors="replace")
        if name == "predict" and table.is_file():
            said += table.read_text()
        right = status == (1 if name == "predict" else 0) and done.is_clear
        right = right and (", 1 failed" if name == "masks" else "SIGSEGV") in said
        fault = f"{name}, a decoder that crashes, exit {status}"
        yield Outcome("decoder", fault, done.last_line, right)


def fuzz(_lab: Lab, count: int) -> Iterator[Outcome]:
    """Readers of files from others, on random damage: nothing but the package's own errors."""
    root = Path(__file__).parents[2]
    tests = ("tests/images/test_dicom.py", "tests/faults/test_fuzz.py")
    for test in tests:
        words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test]
        if test.endswith("test_dicom.py"):
            words += ["-k", "no_header"]
        environment = os.environ | {"MEDSGSSL_FUZZ": str(count)}
        done = subprocess.run(
            words, cwd=root, env=environment, capture_output=True, text=True, check=False
        )
        last = done.stdout.strip().splitlines()[-1]
        yield Outcome("fuzz", f"{test}, {count} examples each", last, done.returncode == 0)


def _hostile(good: Path) -> dict[str, bytes]:
    png = good.read_bytes()
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header
    bomb = png[:8] + chunk + struct.pack(">I", zlib.crc32(b"IHDR" + header)) + png[33:]
    flipped = bytearray(png)
    flipped[len(png) // 2] ^= 0xFF
    return {
        "empty.png": b"",
        "text.png": b"<html>404</html>",
        "cut.png": png[: len(png) // 2],
        "flipped.png": bytes(flipped),
        "bomb.png": bomb,
        "half.dcm": bytes(128) + b"DICM" + b"\x02\x00\x00\x00UL\x04\x00\xff\xff\xff\xff",
        "random.tif": b"II*\0" + bytes(range(200)),
        "random.webp": b"RIFF\xff\xff\xff\x7fWEBPVP8 " + bytes(50),
    }


def not_finite(lab: Lab, _count: int) -> Iterator[Outcome]:
    """A rate that breaks the network: the advice is followed, and the change is recorded."""
    out = lab.path("nan")
    command = lab.start(out, "pretrain.lr=1e30", "pretrain.clip_grad=null")
    status, shown = command.wait(), command.last_line
    advice = re.search(r"--set (\S+=\S+)", shown)
    right = status == 2 and command.is_clear and advice is not None
    yield Outcome("NaN", f"pretrain.lr=1e30, exit {status}", shown, right)
    command = lab.start(out, "pretrain.lr=1e-3", "pretrain.clip_grad=null")
    right = command.wait() == 0 and (out / "pretrain.recovered.json").is_file()
    yield Outcome("NaN", "a lower rate in the same folder", command.last_line, right)


def late_mistakes(lab: Lab, _count: int) -> Iterator[Outcome]:
    """Mistakes that are found before any work; the corrected command runs in the same folder."""
    plain = lab.path("unlabeled")
    plain.mkdir()
    for path in (lab.data / "images").iterdir():
        shutil.copy(path, plain / path.name)
    cases = {
        "run on images without labels": {"data": plain},
        "masks.source is no folder": {"more": ("masks.source=nowhere",)},
        "a batch larger than the set": {"more": ("data.batch_size=4096",)},
    }
    for name, case in cases.items():
        out, cache = lab.path("mistake"), lab.path("cache")
        command = lab.start(out, *case.get("more", ()), cache=cache, data=case.get("data"))
        status, shown = command.wait(), command.last_line
        worked = any(out.glob("*.checkpoint")) or (out / "pretrained.safetensors").exists()
        again = lab.start(out, cache=cache)
        right = status == 2 and command.is_clear and not worked and again.wait() == 0
        yield Outcome("mistake", name, shown, right)


def memory(lab: Lab, _count: int) -> Iterator[Outcome]:
    """Train for 50 epochs; memory must not grow after the first ones."""
    log = lab.path("memory")
    command = lab.start(
        lab.path("long"), "pretrain.epochs=50", command="pretrain", before=log_memory(log)
    )
    status = command.wait()
    used = [float(line) for line in log.read_text().split()]
    early, late = float(np.median(used[5:10])), float(np.median(used[-5:]))
    fault = f"50 epochs: {early:.0f} MiB after 5 to 10, {late:.0f} MiB after 45 to 50"
    right = status == 0 and len(used) == 50 and late < 1.05 * early
    yield Outcome("memory", fault, command.last_line, right)
    yield _whole_catalog(lab)


def _whole_catalog(lab: Lab) -> Outcome:
    """Read a table as long as NIH's, whose images are all missing, and measure the peak."""
    data, rows, patients = lab.path("nih"), 112_120, 30_805
    data.mkdir()
    patient = np.sort(lab.rng.integers(1, patients + 1, rows))
    number = np.arange(rows) - np.searchsorted(patient, patient)
    finding = lab.rng.choice(["No Finding", "Effusion", "Mass|Nodule"], rows)
    lines = [
        f"{p:08d}_{n:03d}.png,{f},{n},{p},058Y,M,PA"
        for p, n, f in zip(patient, number, finding, strict=True)
    ]
    head = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,"
    (data / "Data_Entry_2017.csv").write_text("\n".join([f"{head}View Position", *lines]) + "\n")
    log, started = lab.path("log"), time.monotonic()
    words = [sys.executable, "-m", "medsgssl", "catalog", str(data), "--split", "random"]
    with log.open("wb") as stream:
        process = subprocess.Popen(words, stdout=stream, stderr=stream)
        _, status, usage = os.wait4(process.pid, 0)
    peak, seconds = usage.ru_maxrss / 1024, time.monotonic() - started
    fault = f"catalog of {rows:,} rows without images: {peak:.0f} MiB at most, {seconds:.0f} s"
    # Exit 1: no image can be used.
    right = os.waitstatus_to_exitcode(status) == 1 and f"{rows:,} missing" in log.read_text()
    shown = Command(process, log).last_line  # type: ignore[arg-type]
    return Outcome("memory", fault, shown, right and peak < 2048)


GROUPS: dict[str, Callable[[Lab, int], Iterator[Outcome]]] = {
    "kills": kills,
    "study": study_kills,
    "signals": signals,
    "two": two_processes,
    "disk": full_disk,
    "shm": small_shm,
    "caches": damaged_caches,
    "outputs": damaged_outputs,
    "stale": stale_inputs,
    "hostile": hostile_files,
    "decoder": crashing_decoders,
    "nan": not_finite,
    "mistakes": late_mistakes,
    "memory": memory,
    "fuzz": fuzz,
}
_COUNTS = {"kills": 36, "study": 6, "signals": 2, "caches": 3, "fuzz": 2000}


def main() -> int:
    """Run the groups named on the command line, all by default; return 1 where one is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("groups", nargs="*", default=list(GROUPS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, help="kills, or repeats of a group")
    parser.add_argument(
        "--out", type=Path, help="keep the rows in this file; a group replaces its earlier ones"
    )
    parser.add_argument("--page", type=Path, help="with --out: write its rows as Markdown")
    given = parser.parse_args()
    kept = read_records(given.out) if given.out else []
    out, shown_page = (path and path.absolute() for path in (given.out, given.page))
    wrong = 0
    print(f"| {'group':14} | {'fault':44} | right | what the user sees |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        lab = Lab(Path(folder), given.seed)
        for name in given.groups:
            kept = [record for record in kept if record.name != name]
            for made in GROUPS[name](lab, given.count or _COUNTS.get(name, 1)):
                row = replace(made, shown=made.shown.replace(folder, "").replace("|", "/"))
                wrong += not row.right
                right = "yes" if row.right else "NO"
                print(f"| {row.group:14} | {row.fault:44} | {right:5} | {row.shown} |", flush=True)
                kept.append(Record(name, time.strftime("%Y-%m-%d"), row))
                if out:
                    write_records(out, kept)
    if shown_page:
        shown_page.write_text(page(kept))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
