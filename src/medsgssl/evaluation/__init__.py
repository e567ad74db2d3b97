"""Evaluation: metrics with intervals and paired tests, from predictions alone."""
