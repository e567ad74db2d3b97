"""Several ranks in the threads of one process, for what losses need of ``torch.distributed``.

The tests with real processes show that the communication works; these are so quick that every
statement about the arithmetic can have one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest
import torch
import torch.distributed
from torch import Tensor

T = TypeVar("T")
LIMIT = 60.0


class _Group:
    """Stands in for the default process group: each thread is a rank."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.local = threading.local()
        self._barrier = threading.Barrier(count, timeout=LIMIT)
        self._sent: list[Tensor | None] = [None] * count

    def rank(self) -> int:
        return int(self.local.rank)

    def exchange(self, mine: Tensor) -> list[Tensor]:
        """Return what every rank sent, in their order."""
        self._sent[self.rank()] = mine.detach().clone()
        self._barrier.wait()
        every = [one.clone() for one in self._sent if one is not None]
        self._barrier.wait()
        return every

    def all_reduce(self, tensor: Tensor) -> None:
        assert tensor.is_contiguous()  # as real communication needs it
        tensor.copy_(torch.stack(self.exchange(tensor)).sum(dim=0))

    def all_gather(self, places: list[Tensor], tensor: Tensor) -> None:
        assert tensor.is_contiguous()
        for place, one in zip(places, self.exchange(tensor), strict=True):
            place.copy_(one)

    def run(self, work: Callable[[int], T]) -> list[T]:
        def on(rank: int) -> T:
            self.local.rank = rank
            try:
                return work(rank)
            except BaseException:
                self._barrier.abort()
                raise

        with ThreadPoolExecutor(self.count) as pool:
            return [one.result() for one in [pool.submit(on, rank) for rank in range(self.count)]]


def on_ranks(monkeypatch: pytest.MonkeyPatch, count: int, work: Callable[[int], T]) -> list[T]:
    """Run ``work(rank)`` on ``count`` ranks at once and return what each one returned."""
    group = _Group(count)
    with monkeypatch.context() as patch:
        patch.setattr(torch.distributed, "is_initialized", lambda: True)
        patch.setattr(torch.distributed, "get_world_size", lambda: count)
        patch.setattr(torch.distributed, "get_rank", group.rank)
        patch.setattr(torch.distributed, "all_reduce", group.all_reduce)
        patch.setattr(torch.distributed, "all_gather", group.all_gather)
        return group.run(work)
