"""What other packages offer is loaded, or named in one clear error."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest

from medsgssl.errors import ConfigError
from medsgssl.utils.plugins import load_entry_points

GROUP = "medsgssl.metrics"


def offer(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    entry = importlib.metadata.EntryPoint("brightness", value, GROUP)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [entry])


def test_an_entry_point_is_loaded_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, "pathlib:Path")
    assert dict(load_entry_points(GROUP)) == {"brightness": Path}


@pytest.mark.parametrize("value", ["no_such_module:metric", "pathlib:no_such_name"])
def test_one_that_cannot_be_imported_is_named_with_its_group(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    offer(monkeypatch, value)
    with pytest.raises(ConfigError, match=rf"'brightness' of another package in {GROUP}"):
        list(load_entry_points(GROUP))
