"""Counter-based randomness: every draw is a pure function of named seeds.

No generator state is kept from step to step. The augmentation of one view depends only on
(seed, purpose, epoch, image, view); the order of an epoch only on (seed, purpose, epoch). So a
resumed run continues exactly, and the number of workers or processes changes nothing.

Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011 (Philox).
"""

from __future__ import annotations

import functools
import hashlib

import numpy as np


def stable_hash(*parts: object) -> int:
    """Return an unsigned 64-bit hash of the parts that is the same in every process.

    Args:
        *parts: Values whose ``repr`` identifies them: integers, strings, tuples of those.

    Returns:
        An integer in [0, 2**64).
    """
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


@functools.cache
def _purpose_key(purpose: str) -> int:
    return stable_hash(purpose)


def generator(seed: int, purpose: str, *counters: int) -> np.random.Generator:
    """Return the random generator of one named place.

    Args:
        seed: The run's seed, any non-negative integer.
        purpose: What the numbers are for, e.g. ``"views"``; different purposes never share a
            stream.
        *counters: Up to three non-negative integers below 2**64, e.g. epoch, image key, view.

    Returns:
        A generator whose stream depends on the arguments alone.

    Raises:
        ValueError: More than three counters are given.
    """
    if len(counters) > 3:
        raise ValueError("at most three counters fit beside the stream's own position")
    key = np.array([seed & 0xFFFFFFFFFFFFFFFF, _purpose_key(purpose)], dtype=np.uint64)
    # The first word is Philox's own position; the named counters fill the other three.
    words = [0, *counters, *([0] * (3 - len(counters)))]
    return np.random.Generator(np.random.Philox(key=key, counter=np.array(words, dtype=np.uint64)))


def seed_step(seed: int, stage: str, step: int, rank: int) -> None:
    """Seed torch for one step, so that drop-out and hidden blocks do not depend on the past.

    Args:
        seed: The run's seed.
        stage: Name of the random stream, e.g. ``pretrain``.
        step: Number of the step.
        rank: This process.
    """
    import torch  # noqa: PLC0415 - the rest of this module works without it

    torch.manual_seed(stable_hash(seed, stage, step, rank) % 2**63)
