"""Synthetic frontal chest X-rays with exact lung masks, for demonstration, tests and documents."""

from medsgssl.sources.phantom.render import Phantom, render_phantom

__all__ = ["Phantom", "render_phantom"]
