from __future__ import annotations

from pathlib import Path

import pytest
from markupsafe import Markup

from medsgssl.config.schema import Config
from medsgssl.report.charts import Chart
from medsgssl.report.run_page import write_report
from medsgssl.runs.folder import RunFolder
from tests.report.page_reader import Page
from tests.report.synthetic import write_run


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A complete run folder; tests read it only."""
    run = write_run(tmp_path_factory.mktemp("runs") / "simclr")
    write_report(run)
    return run


@pytest.fixture(scope="session")
def page(finished: RunFolder) -> Page:
    return Page.read(finished.report)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the figures empty, for tests that look at the words alone: drawing takes seconds."""
    monkeypatch.setattr(Chart, "svg", lambda self: Markup("<svg></svg>"))


@pytest.fixture
def bare(tmp_path: Path) -> RunFolder:
    """A run that has just begun: configuration and environment alone."""
    run = RunFolder(tmp_path / "run")
    run.initialize(Config(method_name="simclr"))
    return run
