"""The random numbers of a training step: a pure function of seed, stage, step and rank."""

from __future__ import annotations

import torch

from medsgssl.utils.rng import stable_hash


def seed_step(seed: int, stage: str, step: int, rank: int) -> None:
    """Seed torch for one step, so that drop-out and hidden blocks do not depend on the past.

    Args:
        seed: The run's seed.
        stage: Name of the random stream, e.g. ``pretrain``.
        step: Number of the step.
        rank: This process.
    """
    torch.manual_seed(stable_hash(seed, stage, step, rank) % 2**63)
