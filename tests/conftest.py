"""What several tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def _shared_data() -> Path | None:
    """The folder of real X-rays: $MEDSGSSL_TEST_DATA, or ../shared/data beside the checkout."""
    named = os.environ.get("MEDSGSSL_TEST_DATA")
    folder = Path(named) if named else Path(__file__).parents[2] / "shared" / "data"
    return folder if folder.is_dir() else None


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real chest X-rays; the test is skipped where it is absent."""
    folder = _shared_data()
    if folder is None:
        pytest.skip("no real chest X-rays: set MEDSGSSL_TEST_DATA to a folder that holds them")
    return folder
