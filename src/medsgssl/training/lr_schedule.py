"""The learning rate as a pure function of the step: nothing to save, nothing to forget.

Linear warm-up, then half a cosine, once per optimizer step of ``trainer.py``. The settings are
``pretrain|finetune.lr`` (the peak) and ``.warmup_epochs``, in ``config/training_settings.py``.

Source: Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts", ICLR 2017
(cosine, no restarts); Goyal et al., "Accurate, large minibatch SGD", 2017 (linear warm-up).
"""

from __future__ import annotations

import math

#: The published setting: this rate at so many steps (NIH ChestX-ray14, 50 epochs, batch 64).
PUBLISHED_LR = 1e-4
PUBLISHED_STEPS = 50_000
PUBLISHED_BATCH = 64
#: The rates measured to serve short runs, which are never exceeded: from ImageNet, from scratch.
SHORT_RUN_LR = {True: 1e-3, False: 3e-3}
SHORT_RUN_STEPS = 1_000


def auto_pretrain_lr(steps: int, batch: int, *, imagenet: bool) -> float:
    """Return the peak rate that ``pretrain.lr=auto`` stands for.

    A straight line in the logarithms between a short run (``SHORT_RUN_LR`` at
    ``SHORT_RUN_STEPS``, measured on NIH images, see ``docs/defaults.md``) and the published
    setting, level beyond both ends; times the square root of the batch relative to the published
    one, as suits AdamW (Malladi et al., "On the SDEs and scaling rules for adaptive gradient
    algorithms", NeurIPS 2022).

    Args:
        steps: Optimizer steps of the whole pretraining.
        batch: Images behind one optimizer step, over all devices.
        imagenet: Whether the encoder starts from ImageNet weights.
    """
    short = math.log(SHORT_RUN_LR[imagenet] / PUBLISHED_LR)
    left = math.log(PUBLISHED_STEPS / max(steps, 1)) / math.log(PUBLISHED_STEPS / SHORT_RUN_STEPS)
    lr = PUBLISHED_LR * math.exp(short * min(max(left, 0.0), 1.0))
    return float(f"{lr * math.sqrt(batch / PUBLISHED_BATCH):.2g}")


def lr_factor(step: int, total: int, warmup: int) -> float:
    """Return the factor on the peak learning rate.

    Args:
        step: Optimizer steps done, from 0.
        total: Optimizer steps of the whole stage.
        warmup: Steps of the linear rise, at most ``total``; the trainer allows half of it.

    Returns:
        A number in (0, 1]: rising to 1 over ``warmup`` steps, then a half cosine toward 0.
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    left = max(total - warmup, 1)
    return 0.5 * (1 + math.cos(math.pi * min((step - warmup) / left, 1.0)))
