"""The laboratory gives functions their changed code, and ends forks that take too long."""

from __future__ import annotations

import importlib.util
import time
from pathlib import Path
from types import ModuleType

import pytest

from tests.mutation import lab
from tests.mutation.operators import Mutant, mutants_of, mutated_tree

SOURCE = """
class Box:
    @property
    def wide(self):
        return 2 + 3

    def many(self):
        def inner():
            return 2 * 4
        return inner()


def outside(x):
    return [x - 1 for _ in range(2)]
"""


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    path = tmp_path / "code.py"
    path.write_text(SOURCE)
    monkeypatch.setattr(lab, "ROOT", tmp_path)
    spec = importlib.util.spec_from_file_location("code_to_mutate", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def answers(code: ModuleType) -> tuple[object, ...]:
    return code.Box().wide, code.Box().many(), tuple(code.outside(5))


def test_each_mutant_of_a_function_changes_what_it_returns(code: ModuleType) -> None:
    root = Path(str(code.__file__)).parent
    functions = lab.functions_of([str(code.__file__)])
    assert len(functions[str(code.__file__)]) == 3  # the inner one lives while it runs
    before = answers(code)
    mutants = mutants_of(root, "code.py")
    assert {m.function for m in mutants} == {"Box.wide", "Box.many", "outside"}
    for mutant in mutants:

        def differs(mutant: Mutant = mutant) -> int:
            swapped = lab.swap(mutant, mutated_tree(root, mutant), functions)
            return 0 if swapped and answers(code) != before else 1

        assert lab.forked(differs, 20) == 0, mutant
    assert answers(code) == before


def test_a_fork_that_does_not_end_is_ended() -> None:
    def endless() -> int:
        while True:
            time.sleep(0.01)

    started = time.monotonic()
    assert lab.forked(endless, 0.3) is None
    assert time.monotonic() - started < 5
