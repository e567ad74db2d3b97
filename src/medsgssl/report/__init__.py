"""The report: one self-contained page of a run, made from its result files alone."""

from medsgssl.report.run_report import write_report

__all__ = ["write_report"]
