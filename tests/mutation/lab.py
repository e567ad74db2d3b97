"""A pytest session that forks once per mutant: everything is imported and collected once.

In the fork the mutant's code takes the place of the function's own; what acts at import is imported
again there. Only tests that reach the changed line run, until one fails.
Forking is safe because the parent has one thread: it collects tests and runs none. It imports
whatever the tests import on their way, so that no fork has to.
"""

from __future__ import annotations

import ast
import gc
import hashlib
import importlib
import importlib.abc
import importlib.machinery
import json
import math
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
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
BUDGET, PATIENCE = 30.0, 5.0
# Seconds of a quick test.
_QUICK = 0.3
_TASKS = Path("/proc/self/task")
# Arrow's allocator starts it anew in a fork.
_SAFE_THREAD = "jemalloc_bg_thd"


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
        minutes: After so many no further mutant is begun.
        kills: File of each mutant that was killed before, and the test that did it.
    """

    def __init__(
        self,
        mutants: Sequence[Mutant],
        files: Iterable[str],
        cache: Path,
        report: Callable[[Mutant, Verdict], None],
        minutes: float = math.inf,
        kills: Iterable[tuple[str, str]] = (),
    ) -> None:
        self._kills: dict[str, Counter[str]] = {}
        for file, test in kills:
            self._kills.setdefault(file, Counter())[test] += 1
        self._end = time.monotonic() + 60 * minutes
        self._mutants, self._cache, self._report = mutants, cache, report
        self._key = ""
        self._files = {str(ROOT / file): file for file in files}
        self._functions: dict[str, list[FunctionType]] = {}

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Try every mutant instead of running the tests.

        Raises:
            RuntimeError: Something imported has started threads, which a fork would lose.
        """
        import cv2
        import torch

        cv2.setNumThreads(0)
        torch.set_num_threads(1)
        reached = self._reach(session.items)
        threads = [(task / "comm").read_text().strip() for task in _TASKS.iterdir()]
        if len([name for name in threads if name != _SAFE_THREAD]) > 1:
            raise RuntimeError(f"forking needs one thread, here are {threads}")
        self._functions = functions_of(self._files)
        gc.freeze()
        self._check_unchanged(session.items, reached)
        for mutant in self._mutants:
            if time.monotonic() > self._end:
                break
            verdict = self._try(mutant, session.items, reached)
            if verdict.by:
                self._kills.setdefault(mutant.file, Counter())[verdict.by] += 1
            self._report(mutant, verdict)
        return True

    def _check_unchanged(self, items: list[pytest.Item], reached: dict[str, Any]) -> None:
        """Make sure that the tests pass, both ways, with nothing changed.

        Raises:
            RuntimeError: They do not: what they say of mutants would mean nothing.
        """
        checked = self._cache.with_suffix(".checked")
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
            if forked(test, limit, folder / "output") != 0:
                raise RuntimeError(f"tests fail {way} without any change: see {folder}/output")
        shutil.rmtree(folder)
        checked.write_text(self._key)

    def _reach(self, items: list[pytest.Item]) -> dict[str, Any]:
        """Return seconds and reached lines of each test that passes, by its name.

        Files of tests that did not change since the last run keep their lines, and a run that was
        stopped goes on at the next file. What tests imported is imported here too.
        """
        sources = [*sorted(self._files), *sorted(str(p) for p in (ROOT / "tests").glob("*.py"))]
        files = sorted({str(item.path) for item in items})
        stored = json.loads(self._cache.read_text()) if self._cache.exists() else {}
        keys = {file: _digest([*sources, file]) for file in files}
        self._key = "".join(keys.values())
        for file in files:
            if time.monotonic() > self._end:
                raise KeyboardInterrupt("the lines that tests reach are not all known yet")
            # Known from the last run are at least the modules that the tests of the file import.
            _import_all(stored.get(file, {"modules": []})["modules"])
            if stored.get(file, {"key": ""})["key"] != keys[file]:
                some = [item for item in items if str(item.path) == file]
                stored[file] = {"key": keys[file]} | self._trace_apart(file, some)
                self._cache.write_text(json.dumps(stored))
                _import_all(stored[file]["modules"])
        return {name: test for file in files for name, test in stored[file]["tests"].items()}

    def _trace_apart(self, file: str, items: list[pytest.Item]) -> dict[str, Any]:
        started = time.monotonic()
        self._cache.parent.mkdir(parents=True, exist_ok=True)
        answer = self._cache.with_suffix(".part")
        if forked(lambda: self._trace(items, answer), limit=1200) != 0:
            raise RuntimeError(f"{file}: its tests could not be traced")
        seconds = time.monotonic() - started
        print(f"traced {len(items)} tests of {file} in {seconds:.0f} s", flush=True)
        return dict(json.loads(answer.read_text()))

    def _trace(self, items: list[pytest.Item], answer: Path) -> int:
        tests = {}
        for number, item in enumerate(items):
            lines: dict[str, set[int]] = {}
            following = items[number + 1] if number + 1 < len(items) else None
            tracer = self._tracer(lines)
            started = time.perf_counter()
            threading.settrace(tracer)
            sys.settrace(tracer)
            try:
                reports = runtestprotocol(item, log=False, nextitem=following)
            finally:
                sys.settrace(None)
                threading.settrace(None)  # type: ignore[arg-type]
            seconds = time.perf_counter() - started
            if all(report.outcome == "passed" for report in reports):
                where = {file: sorted(numbers) for file, numbers in lines.items()}
                tests[item.nodeid] = {"seconds": seconds, "lines": where}
        modules = [name for name in sys.modules if not name.startswith("__")]
        answer.write_text(json.dumps({"tests": tests, "modules": sorted(modules)}))
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
            if mutant.function and swap(mutant, tree, self._functions):
                return _run_items(chosen, folder)
            return _run_again(mutant, tree, chosen, folder)

        limit = 15 + PATIENCE * expected
        code = forked(test, limit, folder / "output")
        seconds = time.perf_counter() - started
        by = (folder / "failed").read_text() if (folder / "failed").exists() else ""
        shutil.rmtree(folder, ignore_errors=True)
        if code is None:
            return Verdict("timeout", by, seconds)
        return Verdict("survived" if code == 0 else "killed", by, seconds)

    def _choose(
        self, mutant: Mutant, items: list[pytest.Item], reached: dict[str, Any]
    ) -> tuple[list[pytest.Item], float]:
        """Return the tests that reach the mutant within the budget, and what they take.

        Those come first that most often noticed mutants of the same file, then those that run it,
        then the fastest.
        """
        found = []
        for item in items:
            test = reached.get(item.nodeid)
            lines = test["lines"].get(mutant.file, []) if test else []
            # A statement over several lines is reached at any of them.
            span = range(mutant.line, mutant.last_line + 1)
            reaches = any(line in span for line in lines) if mutant.function else bool(lines)
            # What acts at import may be seen by a test that runs no line of the file.
            if reaches or (test and not mutant.function and test["seconds"] < _QUICK):
                found.append((not reaches, test["seconds"], item))
        kills = self._kills.get(mutant.file, Counter())
        found.sort(key=lambda one: (-kills[one[2].nodeid], *one[:2]))
        chosen, total = [], 0.0
        for _, seconds, item in found:
            if total + seconds > BUDGET and chosen:
                break
            chosen.append(item)
            total += seconds
        return chosen, total


def forked(work: Callable[[], int], limit: float, output: Path | None = None) -> int | None:
    """Run ``work`` in a fork and return its exit code, or None where it ran past ``limit``."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        code = 97
        try:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.setsid()
            quiet = os.open(str(output or os.devnull), os.O_WRONLY | os.O_CREAT)
            os.dup2(quiet, 1)
            os.dup2(quiet, 2)
            code = work()
        except BaseException:  # noqa: BLE001 - a fork must never come back into the session
            traceback.print_exc()
        finally:
            os._exit(code)
    end, done = time.time() + limit, 0
    try:
        while time.time() < end:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.01)
        return None
    finally:
        if not done:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)


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


def functions_of(files: Iterable[str]) -> dict[str, list[FunctionType]]:
    """Return all functions that live now, by the file of their code."""
    functions: dict[str, list[FunctionType]] = {file: [] for file in files}
    for one in gc.get_objects():
        if type(one) is FunctionType and one.__code__.co_filename in functions:
            functions[one.__code__.co_filename].append(one)
    return functions


def swap(mutant: Mutant, tree: ast.Module, functions: dict[str, list[FunctionType]]) -> bool:
    """Give the functions of the file their changed code; False where that cannot be done."""
    path = str(ROOT / mutant.file)
    changed = dict(_codes(compile(tree, path, "exec")))
    swapped = False
    for function in functions[path]:
        code = changed.get((function.__code__.co_qualname, function.__code__.co_firstlineno))
        if code is None or code == function.__code__:
            continue
        if code.co_freevars != function.__code__.co_freevars:
            return False
        function.__code__ = code
        swapped = True
    return swapped


def _digest(files: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(Path(file).read_bytes())
    return digest.hexdigest()


def _import_all(modules: Iterable[str]) -> None:
    for name in modules:
        if name not in sys.modules:
            # What a test made, or took away again, cannot be imported; its fork makes it.
            with suppress(Exception):
                importlib.import_module(name)


def _codes(code: CodeType) -> Iterable[tuple[tuple[str, int], CodeType]]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield (constant.co_qualname, constant.co_firstlineno), constant
            yield from _codes(constant)
