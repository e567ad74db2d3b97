"""What the command line prints beside its results."""

from __future__ import annotations

import warnings

import pytest

from medsgssl.cli.output import show_warnings_in_one_line
from medsgssl.config.renamed import RenamedWarning
from medsgssl.images.reading import ImageWarning


@pytest.mark.parametrize("category", [ImageWarning, RenamedWarning])
def test_warnings_of_the_package_are_one_line_each(
    category: type[Warning], capsys: pytest.CaptureFixture[str]
) -> None:
    with warnings.catch_warnings():
        show_warnings_in_one_line()
        warnings.warn("a.dcm: its window is not used", category, stacklevel=1)
    assert capsys.readouterr().err == "Warning: a.dcm: its window is not used\n"
