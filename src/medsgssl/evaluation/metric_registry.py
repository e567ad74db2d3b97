"""Metrics beside those of ``evaluate.py``: functions of the test images of one class, by name.

A file of this package registers its metric, another package offers it as entry point
``medsgssl.metrics``. Its values stand below ``per_disease`` in ``metrics.json``, and every table of
a run or a study that lists metrics shows them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

from medsgssl.evaluation.predictions import ClassColumn
from medsgssl.runs.metrics_file import DiseaseMetrics
from medsgssl.utils.plugins import import_files, load_entry_points, unusable

GROUP = "medsgssl.metrics"

Metric = Callable[[ClassColumn, float | None], float]
"""Takes the test images whose label of one class is known, and the threshold chosen on validation
(None without one); returns a number, NaN where it is not defined."""

_METRICS: dict[str, Metric] = {}


def register_metric(name: str) -> Callable[[Metric], Metric]:
    """Make a metric known by the name that it has in ``metrics.json``; a decorator.

    Raises:
        ValueError: The name is taken.
    """

    def keep(metric: Metric) -> Metric:
        _add(name, metric)
        return metric

    return keep


def _add(name: str, metric: Metric) -> None:
    if name in DiseaseMetrics.__annotations__ or _METRICS.get(name, metric) is not metric:
        raise ValueError(f"two metrics are called {name!r}")
    _METRICS[name] = metric


def registered_metrics() -> Mapping[str, Metric]:
    """Return the metrics by name: those of this package, then those of entry points.

    Raises:
        ConfigError: The entry point of a metric cannot be used.
    """
    _import_all()
    return _METRICS


@functools.cache
def _import_all() -> None:
    import_files("medsgssl.evaluation")
    for name, metric in load_entry_points(GROUP):
        try:
            _add(name, metric)
        except ValueError as error:
            raise unusable(GROUP, name, error) from error
