"""Mutants are what they say: one change each, of what computes something."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

from tests.mutation.operators import UNCHANGED, Mutant, mutants_of, mutated_tree
from tests.mutation.page import page
from tests.mutation.rooms import ROOMS

SOURCE = '''"""A text: 1 + 1."""

from __future__ import annotations

LIMIT: int = 3


def grow(x: float, step: float = 0.5, *, up: bool = True) -> float:
    """Docstring 2 + 2."""
    if x < LIMIT and up:
        raise ValueError(f"no {x + 1}")
    values = [max(x, step), round(x, 2)]
    assert x != 7
    return -values[0] + sum(values) / max(len(values), 1e-9)
'''


@pytest.fixture
def mutants(tmp_path: Path) -> list[Mutant]:
    (tmp_path / "code.py").write_text(SOURCE)
    return mutants_of(tmp_path, "code.py")


def test_what_computes_is_changed_and_nothing_else(mutants: list[Mutant]) -> None:
    changes = {(one.function, one.before, one.after) for one in mutants}
    assert changes == {
        ("", "LIMIT: int = 3", "LIMIT: int = 4"),
        ("", "0.5", "1.0"),
        ("", "True", "False"),
        ("grow", "x < LIMIT and up", "x <= LIMIT and up"),
        ("grow", "x < LIMIT and up", "x >= LIMIT and up"),
        ("grow", "x < LIMIT and up", "x < LIMIT or up"),
        *(
            ("grow", "values = [max(x, step), round(x, 2)]", f"values = [{after}]")
            for after in (
                "min(x, step), round(x, 2)",
                "max(x, step), round(2, x)",
                "max(x, step), round(x, 3)",
            )
        ),
        *(
            ("grow", "return -values[0] + sum(values) / max(len(values), 1e-09)", f"return {after}")
            for after in (
                "-values[0] - sum(values) / max(len(values), 1e-09)",
                "-values[0] + sum(values) * max(len(values), 1e-09)",
                "-values[0] + mean(values) / max(len(values), 1e-09)",
                "-values[0] + sum(values) / min(len(values), 1e-09)",
                "values[0] + sum(values) / max(len(values), 1e-09)",
                "-values[1] + sum(values) / max(len(values), 1e-09)",
            )
        ),
    }


def test_a_mutant_is_the_file_with_its_one_change(mutants: list[Mutant], tmp_path: Path) -> None:
    whole = ast.unparse(ast.parse(SOURCE))
    for mutant in mutants:
        changed = ast.unparse(mutated_tree(tmp_path, mutant))
        assert changed != whole
        differing = [
            (a, b) for a, b in zip(whole.splitlines(), changed.splitlines(), strict=True) if a != b
        ]
        assert len(differing) == 1
        assert mutant.before in differing[0][0]
        assert mutant.after in differing[0][1]
    nothing = Mutant("code.py", UNCHANGED, 1, 1, "", "", "")
    assert ast.unparse(mutated_tree(tmp_path, nothing)) == whole


def test_rooms_have_files_and_samples_are_drawn_once_and_for_all() -> None:
    for room in ROOMS.values():
        mutants = room.mutants()
        assert len(mutants) >= min(room.sample or 1, 60)
        assert [m.key for m in mutants] == [m.key for m in room.mutants()]


def test_equal_changes_of_one_function_have_names_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text("def f(x):\n    y = x + 1\n    y = x + 1\n    return y\n")
    names = [one.key for one in mutants_of(tmp_path, "code.py")]
    assert len(set(names)) == len(names) == 4


def test_the_page_counts_what_is_not_equivalent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [Mutant("src/medsgssl/losses/a.py", n, 1, 1, "f", f"{n}", "x") for n in range(6)]
    monkeypatch.setattr("tests.mutation.rooms.Room.every", lambda _: now)
    lines = []
    for number, status in enumerate(["killed", "timeout", "survived", "uncovered", "survived"]):
        lines.append(json.dumps({"key": now[number].key, "status": status}))
    lines.append(lines[0].replace("0 ->", "9 ->"))  # of code that is gone
    lines.append(lines[2].replace("survived", "killed"))  # tried again
    (tmp_path / "losses.jsonl").write_text("\n".join(lines))
    (tmp_path / "equivalent.json").write_text(json.dumps({now[4].key: "the same"}))
    text = page(tmp_path)
    assert "| losses | 5 (all; 1 not run yet) | 1 | 3 | 75.0 % |" in text
    assert text.count("- `losses/a.py`") == 2
    assert "`4` -> `x`: the same" in text
