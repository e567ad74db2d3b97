"""The pipeline: all stages of a run in order, from a data folder to a report."""
