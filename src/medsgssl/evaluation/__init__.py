"""Evaluation: metrics with intervals and paired tests, from predictions alone.

``evaluate.py`` makes ``metrics.json`` of one run; ``metrics.py`` has the AUC and its mean,
``intervals.py`` their intervals, ``effects.py`` differences between runs.
"""
