"""The learning rate as a pure function of the step: nothing to save, nothing to forget.

Source: Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts", ICLR 2017
(cosine, no restarts); Goyal et al., "Accurate, large minibatch SGD", 2017 (linear warm-up).
"""

from __future__ import annotations

import math


def lr_factor(step: int, total: int, warmup: int) -> float:
    """Return the factor on the peak learning rate.

    Args:
        step: Optimizer steps done, from 0.
        total: Optimizer steps of the whole stage.
        warmup: Steps of the linear rise; at most ``total``.

    Returns:
        A number in (0, 1]: rising to 1 over ``warmup`` steps, then a half cosine toward 0.
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    left = max(total - warmup, 1)
    return 0.5 * (1 + math.cos(math.pi * min((step - warmup) / left, 1.0)))
