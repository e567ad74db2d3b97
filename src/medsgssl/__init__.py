"""Segmentation-guided self-supervised learning on chest X-rays.

Does anatomical guidance help, on my data, and can I trust the answer? In Python::

    import medsgssl

    config = medsgssl.load_config("guided-crop", data="/data/nih")
    run = medsgssl.run(config, "runs/crop")
    print(run.report)

Names are imported when they are first used, so that ``import medsgssl`` takes no time.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from medsgssl.api import (
        list_methods,
        load_catalog,
        load_config,
        predict,
        report_study,
        run,
        run_study,
    )
    from medsgssl.config.schema import Config
    from medsgssl.errors import MedsgsslError
    from medsgssl.images.reading import read_image
    from medsgssl.inference.predictor import Predictor
    from medsgssl.masks.recipes.registry import segment_lungs
    from medsgssl.runs.folder import RunFolder

#: Public name -> the module that defines it.
_MODULES = {
    "list_methods": "medsgssl.api",
    "load_catalog": "medsgssl.api",
    "load_config": "medsgssl.api",
    "predict": "medsgssl.api",
    "report_study": "medsgssl.api",
    "run": "medsgssl.api",
    "run_study": "medsgssl.api",
    "Config": "medsgssl.config.schema",
    "MedsgsslError": "medsgssl.errors",
    "read_image": "medsgssl.images.reading",
    "segment_lungs": "medsgssl.masks.recipes.registry",
    "RunFolder": "medsgssl.runs.folder",
    "Predictor": "medsgssl.inference.predictor",
}

__all__ = [
    "Config",
    "MedsgsslError",
    "Predictor",
    "RunFolder",
    "list_methods",
    "load_catalog",
    "load_config",
    "predict",
    "read_image",
    "report_study",
    "run",
    "run_study",
    "segment_lungs",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
