"""A pytest session that forks once per mutant: everything is imported and collected once.

In the fork the mutant's code takes the place of the function's own; what acts at import is imported
again there. Only tests that reach the changed line run, the fastest first, until one fails.
Forking is safe because the parent has one thread: it collects tests and runs none.
"""

from __future__ import annotations

import ast
import gc
import hashlib
import importlib.abc
import importlib.machinery
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

from tests.mutation.operators import UNCHANGED, Mutant, mutated_tree
from tests.mutation.rooms import ROOT

#: Seconds of tests that a mutant may cost, by their times without it, and how much longer it may
#: take before it counts as killed by the limit.
BUDGET, PATIENCE = 20.0, 5.0


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant.

    Attributes:
        status: ``killed``, ``timeout`` (killed by the time limit), ``survived`` or ``uncovered``.
        by: The test that failed.
        seconds: What it took.
    """

    status: str
    by: str
    seconds: float


class Lab:
    """The plugin: collects, finds out which test reaches which line, and tries the mutants.

    Args:
        mutants: What to try.
        files: All files of the room, below the root.
        cache: File for the lines that tests reach.
        report: Called with each mutant and its verdict.
    """

    def __init__(
        self,
        mutants: Sequence[Mutant],
        files: Iterable[str],
        cache: Path,
        report: Callable[[Mutant, Verdict], None],
    ) -> None:
        self._mutants, self._cache, self._report = mutants, cache, report
        self._key = ""
        self._files = {str(ROOT / file): file for file in files}

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Try every mutant instead of running the tests."""
        import cv2
        import torch

        cv2.setNumThreads(0)
        torch.set_num_threads(1)
        reached = self._reach(session.items)
        gc.freeze()
        self._check_unchanged(session.items, reached)
        for mutant in self._mutants:
            self._report(mutant, self._try(mutant, session.items, reached))
        return True

    def _check_unchanged(self, items: list[pytest.Item], reached: dict[str, Any]) -> None:
        """Make sure that the tests pass, both ways, with nothing changed.

        Raises:
            RuntimeError: They do not: what they say of mutants would mean nothing.
        """
        checked = self._cache.with_suffix(f".{self._mutants[0].file.replace('/', '-')}")
        if checked.exists() and checked.read_text() == self._key:
            return
        nothing = replace(self._mutants[0], number=UNCHANGED, function="")
        chosen, expected = self._choose(nothing, items, reached)
        tree, folder = mutated_tree(ROOT, nothing), Path(tempfile.mkdtemp(prefix="mutant-"))
        limit = 60 + PATIENCE * expected
        ways = {
            "in a fork": lambda: _run_items(chosen, folder),
            "imported again": lambda: _run_again(nothing, tree, chosen, folder),
        }
        for way, test in ways.items():
            if _forked(test, limit, folder / "output") != 0:
                raise RuntimeError(f"tests fail {way} without any change: see {folder}/output")
        shutil.rmtree(folder)
        checked.write_text(self._key)

    def _reach(self, items: list[pytest.Item]) -> dict[str, Any]:
        """Return seconds and reached lines of each test that passes, by its name."""
        paths = sorted({*self._files, *(str(item.path) for item in items)})
        digest = hashlib.sha256()
        for path in paths:
            digest.update(Path(path).read_bytes())
        key = self._key = digest.hexdigest()
        if self._cache.exists():
            stored = json.loads(self._cache.read_text())
            if stored["key"] == key:
                return dict(stored["tests"])
        started = time.time()
        if _forked(lambda: self._trace(items, key), limit=3600) is None:
            raise RuntimeError("the tests took more than an hour")
        print(f"traced {len(items)} tests in {time.time() - started:.0f} s", flush=True)
        return dict(json.loads(self._cache.read_text())["tests"])

    def _trace(self, items: list[pytest.Item], key: str) -> int:
        tests = {}
        for number, item in enumerate(items):
            lines: dict[str, set[int]] = {}
            following = items[number + 1] if number + 1 < len(items) else None
            started = time.perf_counter()
            sys.settrace(self._tracer(lines))
            try:
                reports = runtestprotocol(item, log=False, nextitem=following)
            finally:
                sys.settrace(None)
            seconds = time.perf_counter() - started
            if all(report.outcome == "passed" for report in reports):
                where = {file: sorted(numbers) for file, numbers in lines.items()}
                tests[item.nodeid] = {"seconds": seconds, "lines": where}
        self._cache.parent.mkdir(parents=True, exist_ok=True)
        self._cache.write_text(json.dumps({"key": key, "tests": tests}))
        return 0

    def _tracer(self, lines: dict[str, set[int]]) -> Callable[..., Any]:
        files = self._files

        def enter(frame: FrameType, event: str, _: Any) -> Any:
            file = files.get(frame.f_code.co_filename)
            if file is None:
                return None
            here = lines.setdefault(file, set())

            def step(frame: FrameType, event: str, _: Any) -> Any:
                here.add(frame.f_lineno)
                return step

            here.add(frame.f_lineno)
            return step

        return enter

    def _try(self, mutant: Mutant, items: list[pytest.Item], reached: dict[str, Any]) -> Verdict:
        chosen, expected = self._choose(mutant, items, reached)
        if not chosen:
            return Verdict("uncovered", "", 0.0)
        started = time.perf_counter()
        folder = Path(tempfile.mkdtemp(prefix="mutant-"))

        def test() -> int:
            tree = mutated_tree(ROOT, mutant)
            if mutant.function and _swap(mutant, tree):
                return _run_items(chosen, folder)
            return _run_again(mutant, tree, chosen, folder)

        limit = 15 + PATIENCE * expected
        code = _forked(test, limit, folder / "output")
        seconds = time.perf_counter() - started
        by = (folder / "failed").read_text() if (folder / "failed").exists() else ""
        shutil.rmtree(folder, ignore_errors=True)
        if code is None:
            return Verdict("timeout", by, seconds)
        return Verdict("survived" if code == 0 else "killed", by, seconds)

    def _choose(
        self, mutant: Mutant, items: list[pytest.Item], reached: dict[str, Any]
    ) -> tuple[list[pytest.Item], float]:
        """Return the tests that reach the mutant within the budget, fastest first."""
        found = []
        for item in items:
            test = reached.get(item.nodeid)
            lines = test["lines"].get(mutant.file, []) if test else []
            # A statement over several lines is reached at any of them.
            span = range(mutant.line, mutant.last_line + 1)
            if any(line in span for line in lines) if mutant.function else lines:
                found.append((test["seconds"], item))
        found.sort(key=lambda pair: pair[0])
        chosen, total = [], 0.0
        for seconds, item in found:
            if total + seconds > BUDGET and chosen:
                break
            chosen.append(item)
            total += seconds
        return chosen, total


def _forked(work: Callable[[], int], limit: float, output: Path | None = None) -> int | None:
    """Run ``work`` in a fork and return its exit code, or None where it ran past ``limit``."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        code = 97
        try:
            os.setsid()
            quiet = os.open(str(output or os.devnull), os.O_WRONLY | os.O_CREAT)
            os.dup2(quiet, 1)
            os.dup2(quiet, 2)
            code = work()
        except BaseException:  # noqa: BLE001 - a fork must never come back into the session
            traceback.print_exc()
        finally:
            os._exit(code)
    end = time.time() + limit
    while time.time() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def _run_items(items: Sequence[pytest.Item], folder: Path) -> int:
    items[0].config._tmp_path_factory._basetemp = folder  # type: ignore[attr-defined]
    for number, item in enumerate(items):
        following = items[number + 1] if number + 1 < len(items) else None
        for report in runtestprotocol(item, log=False, nextitem=following):
            if report.outcome == "failed":
                (folder / "failed").write_text(item.nodeid)
                return 1
    return 0


class _Loader(importlib.machinery.SourceFileLoader):
    """Loads a module from a changed tree."""

    def __init__(self, name: str, path: str, tree: ast.Module) -> None:
        super().__init__(name, path)
        self._tree = tree

    def get_code(self, fullname: str) -> CodeType:
        """Return the changed code."""
        return compile(self._tree, self.path, "exec")


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the mutant before the file."""

    def __init__(self, name: str, path: str, tree: ast.Module) -> None:
        self._name, self._path, self._tree = name, path, tree

    def find_spec(
        self, fullname: str, path: Any = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the mutant's specification, and None for every other module."""
        if fullname != self._name:
            return None
        loader = _Loader(self._name, self._path, self._tree)
        return importlib.util.spec_from_file_location(fullname, self._path, loader=loader)


class _FirstFailure:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note the test that failed."""
        if report.outcome == "failed":
            (self._folder / "failed").write_text(report.nodeid)


def _run_again(mutant: Mutant, tree: ast.Module, items: Iterable[pytest.Item], folder: Path) -> int:
    """Import the package again with the mutant in it, and run the tests."""
    name = mutant.file.removeprefix("src/").removesuffix(".py").replace("/", ".")
    for loaded in list(sys.modules):
        mine = loaded.startswith("tests.mutation") or loaded == "tests"
        if loaded.split(".")[0] in ("medsgssl", "tests") and not mine:
            del sys.modules[loaded]
    sys.meta_path.insert(0, _Finder(name, str(ROOT / mutant.file), tree))
    options = ["-x", "-q", "-s", "-p", "no:cacheprovider", "--basetemp", str(folder / "tmp")]
    return int(
        pytest.main([*options, *(item.nodeid for item in items)], plugins=[_FirstFailure(folder)])
    )


def _swap(mutant: Mutant, tree: ast.Module) -> bool:
    """Give the functions of the file their changed code; False where that cannot be done."""
    path = str(ROOT / mutant.file)
    changed = dict(_codes(compile(tree, path, "exec")))
    swapped = False
    for function in gc.get_objects():
        if type(function) is not FunctionType or function.__code__.co_filename != path:
            continue
        code = changed.get((function.__code__.co_qualname, function.__code__.co_firstlineno))
        if code is None or code == function.__code__:
            continue
        if code.co_freevars != function.__code__.co_freevars:
            return False
        function.__code__ = code
        swapped = True
    return swapped


def _codes(code: CodeType) -> Iterable[tuple[tuple[str, int], CodeType]]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield (constant.co_qualname, constant.co_firstlineno), constant
            yield from _codes(constant)
