"""The pipeline: all stages of a run in order, from a data folder to a report."""

from medsgssl.pipeline.data import PreparedData, mask_items, prepare_data, store_folder
from medsgssl.pipeline.run import Until, evaluate_run, run_method

__all__ = [
    "PreparedData",
    "Until",
    "evaluate_run",
    "mask_items",
    "prepare_data",
    "run_method",
    "store_folder",
]
