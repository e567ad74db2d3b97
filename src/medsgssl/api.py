"""The functions and classes that a notebook needs; ``import medsgssl`` offers them by name."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from medsgssl.config.schema import Config
from medsgssl.pipeline.runner import Until, run_method
from medsgssl.report.run_page import write_report
from medsgssl.runs.folder import RunFolder
from medsgssl.utils.system import rank


def run(
    config: Config,
    out: Path,
    until: Until | None = None,
    pretrained: Path | None = None,
    console: Console | None = None,
) -> RunFolder:
    """Run a method from data to report, or up to the stage ``until``.

    Args:
        config: What to run; see `load_config`.
        out: The run folder. A complete stage is skipped, an interrupted one continues.
        until: The last stage to run; no report is written then. None runs all stages.
        pretrained: ``pretrained.safetensors`` of another run of the same method, to start from
            instead of pretraining.
        console: Shows progress.

    Returns:
        The run folder.

    Raises:
        MedsgsslError: Anything the user can fix.
    """
    done = run_method(config, out, until or "evaluate", pretrained, console)
    if until is None and rank() == 0:
        write_report(done)
    return done
