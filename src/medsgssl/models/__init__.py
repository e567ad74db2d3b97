"""Models: timm encoders, heads, and what is trained.

``encoder.py`` adapts any timm backbone, ``classifier.py`` is an encoder with one linear layer,
``task.py`` what pretraining trains; ``weights.py`` writes and reads them.
"""
