"""Segmentation-guided self-supervised learning on chest X-rays."""

__version__ = "0.1.0"
