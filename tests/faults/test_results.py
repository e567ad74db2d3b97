"""The page of the fault laboratory is what its file of rows says."""

from __future__ import annotations

from pathlib import Path

from tests.faults.results import Outcome, Record, page, read_records, write_records

RESULTS = Path(__file__).parents[2] / "docs" / "results"

ROWS = [
    Record("kills", "2026-01-30", Outcome("kill -9", "3 x", "Report: a", True, 3, 2)),
    Record("kills", "2026-01-31", Outcome("kill -9", "1 x", "a | b <c>", False, 1, 1)),
    Record("nan", "2026-01-31", Outcome("NaN", "lr=1e30", "Fix: a", True)),
]


def test_rows_survive_their_file_and_are_counted_on_the_page(tmp_path: Path) -> None:
    write_records(tmp_path / "rows.jsonl", ROWS)
    assert read_records(tmp_path / "rows.jsonl") == ROWS
    text = page(ROWS)
    flat = " ".join(text.split())
    assert "2 of 3 rows are right. There were 4 kills; those of single runs cost 3" in flat
    assert "Rows are from 2026-01-30 to 2026-01-31." in flat
    assert "| kill -9 | 2 | 1 | 4 | 3 |" in text
    assert "| kill -9 | 1 x | **no** | a / b &lt;c> |" in text


def test_the_page_is_made_from_its_rows() -> None:
    records = read_records(RESULTS / "faults.jsonl")
    assert (RESULTS / "faults.md").read_text() == page(records)
    assert all(record.outcome.right for record in records)
