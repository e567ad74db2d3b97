"""Metrics beside those of ``evaluate.py``: functions of the test images of one class, by name.

A file of this package registers its metric, another package offers it as entry point
``medsgssl.metrics``. Its values stand below ``per_disease`` in ``metrics.json``, and every table of
a run or a study that lists metrics shows them.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import pkgutil
from collections.abc import Callable, Mapping

from medsgssl.errors import ConfigError
from medsgssl.evaluation.predictions import ClassColumn
from medsgssl.runs.metrics_file import DiseaseMetrics

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
    package = importlib.import_module("medsgssl.evaluation")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    for entry in importlib.metadata.entry_points(group=GROUP):
        try:
            _add(entry.name, entry.load())
        except (ImportError, AttributeError, ValueError) as error:
            raise ConfigError(
                f"the metric {entry.name!r} of another package cannot be used: {error}",
                "repair or uninstall the package that offers it",
            ) from error
