"""Which images a step sees: a pure function of seed, epoch and step."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from medsgssl.errors import ConfigError
from medsgssl.utils.rng import generator

Rows = NDArray[np.int64]


class EpochSampler:
    """The order of the images, epoch by epoch, split over ranks.

    Every epoch is a new permutation. With several domains (data sets) batches are balanced: each
    holds the same number of images of every domain, no image twice, and smaller domains are gone
    through more often: what is left of a round when it no longer fills its part of a batch is
    dropped, as at the end of an epoch.

    Args:
        rows: Positions of the images in the decoded cache, (N,).
        batch_size: Images per step and rank.
        seed: The run's seed.
        shuffle: New order each epoch; else the given order, with a shorter last batch.
        rank: This process.
        world: Number of processes.
        steps_per_epoch: Steps of an epoch; with more than the images fill, the images come again
            within the epoch, each time in a new order and in other views. As many as the images
            fill when not given.
        domains: (N,) number of the data set of each image; None for a single one.

    Raises:
        ConfigError: There are fewer images than one global batch needs, of one domain or of all,
            or batches cannot be balanced.
    """

    def __init__(
        self,
        rows: Rows,
        batch_size: int,
        seed: int,
        *,
        shuffle: bool = True,
        rank: int = 0,
        world: int = 1,
        steps_per_epoch: int | None = None,
        domains: Rows | None = None,
    ) -> None:
        self._rows, self._seed, self._shuffle = rows, seed, shuffle
        self._rank, self._batch, self._global = rank, batch_size, batch_size * world
        numbers = np.unique(domains) if domains is not None else np.zeros(1, np.int64)
        self._groups = [rows if domains is None else rows[domains == number] for number in numbers]
        if shuffle and len(rows) < self._global:
            raise ConfigError(
                f"{len(rows)} training images do not fill one batch of {self._global}",
                f"set data.batch_size to at most {max(2, len(rows) // world)}",
            )
        if len(self._groups) > 1 and self._global % len(self._groups):
            raise ConfigError(
                f"batches of {self._global} cannot be balanced over {len(self._groups)} data sets",
                f"set data.batch_size to a multiple of {len(self._groups)}",
            )
        share = self._global // len(self._groups)
        few = min(self._groups, key=len)
        if len(self._groups) > 1 and len(few) < share:
            raise ConfigError(
                f"a data set has {len(few)} training images, fewer than its {share} of each batch",
                "set data.batch_size to a smaller number, or leave that data set out",
            )
        # Training drops the last, shorter batch; reading out leaves no image out.
        whole, rest = divmod(len(rows), self._global)
        self.steps_per_epoch = whole if shuffle else whole + (rest > 0)
        self._whole = whole
        if shuffle and steps_per_epoch is not None:
            self.steps_per_epoch = steps_per_epoch

    def batch(self, epoch: int, step: int) -> Rows:
        """Return the rows of this rank's batch, (batch_size,) or fewer at the end of a read-out."""
        return self._epoch(epoch)[0][self._mine(step)]

    def repeat_counts(self, epoch: int, step: int) -> Rows:
        """Return for each row of ``batch`` how often it was seen before in this epoch."""
        return self._epoch(epoch)[1][self._mine(step)]

    def _mine(self, step: int) -> slice:
        first = step * self._global + self._rank * self._batch
        return slice(first, min(first + self._batch, (step + 1) * self._global))

    @functools.lru_cache(maxsize=2)  # noqa: B019 (an order lives as long as its run)
    def _epoch(self, epoch: int) -> tuple[Rows, Rows]:
        """Return rows and repeat counts of a whole epoch, all ranks."""
        if not self._shuffle:
            return self._rows, np.zeros_like(self._rows)
        if len(self._groups) == 1 and self.steps_per_epoch <= self._whole:
            rows = generator(self._seed, "order", epoch).permutation(self._rows)
            return rows, np.zeros_like(rows)
        share = self._global // len(self._groups)
        dealt = [self._cycle(group, epoch, n, share) for n, group in enumerate(self._groups)]
        # Dealt in turn, so that every rank's part of a batch is balanced as well.
        rows, repeats = (
            np.stack(columns, axis=2).reshape(-1) for columns in zip(*dealt, strict=True)
        )
        return rows, repeats

    def _cycle(self, group: Rows, epoch: int, number: int, share: int) -> tuple[Rows, Rows]:
        """Return rows and repeat counts of one domain, (steps, share)."""
        steps = len(group) // share
        rounds = -(-self.steps_per_epoch // steps)
        rows = [
            generator(self._seed, "order", epoch, number, round_)
            .permutation(group)[: steps * share]
            .reshape(steps, share)
            for round_ in range(rounds)
        ]
        repeats = np.repeat(np.arange(rounds), steps)[:, None].repeat(share, axis=1)
        return np.concatenate(rows)[: self.steps_per_epoch], repeats[: self.steps_per_epoch]
