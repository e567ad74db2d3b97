"""Synthetic frontal chest X-rays with exact lung masks, for demonstration, tests and documents."""

from medsgssl.sources.phantom.dataset import generate_phantoms
from medsgssl.sources.phantom.render import Phantom, render_phantom

__all__ = ["Phantom", "generate_phantoms", "render_phantom"]
