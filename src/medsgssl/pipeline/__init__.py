"""The pipeline: all stages of a run in order, from a data folder to a report."""

from medsgssl.pipeline.data import PreparedData, prepare_data
from medsgssl.pipeline.run import Until, evaluate_run, run_method

__all__ = ["PreparedData", "Until", "evaluate_run", "prepare_data", "run_method"]
