"""Typed settings, one file per part; this package imports neither torch nor any stage."""

from medsgssl.config.base import Settings
from medsgssl.config.data import DataSettings
from medsgssl.config.encoder import EncoderSettings
from medsgssl.config.evaluate import EvaluateSettings
from medsgssl.config.masks import MaskSettings
from medsgssl.config.method import MethodSettings
from medsgssl.config.training import FinetuneSettings, LoopSettings, PretrainSettings
from medsgssl.config.tree import (
    Config,
    build,
    dump,
    merge,
    nest,
    parse_overrides,
    read_yaml,
    to_yaml,
)
from medsgssl.config.views import AugmentSettings, ViewSettings

__all__ = [
    "AugmentSettings",
    "Config",
    "DataSettings",
    "EncoderSettings",
    "EvaluateSettings",
    "FinetuneSettings",
    "LoopSettings",
    "MaskSettings",
    "MethodSettings",
    "PretrainSettings",
    "Settings",
    "ViewSettings",
    "build",
    "dump",
    "merge",
    "nest",
    "parse_overrides",
    "read_yaml",
    "to_yaml",
]
