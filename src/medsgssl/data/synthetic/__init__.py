"""Synthetic frontal chest X-rays (phantoms) with exact lung masks, for demo, tests and docs."""
