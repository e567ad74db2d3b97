"""The base of every method's own settings; each method's file defines its own subclass."""

from __future__ import annotations

from medsgssl.config.base import Settings


class MethodSettings(Settings):
    """Settings below ``method.`` in the configuration tree."""
