"""Patient-level draws that keep rare diseases in every part: what ``splits.py`` draws with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medsgssl.utils.rng import generator


def patient_labels(
    patients: NDArray[np.str_] | pd.Series, labels: NDArray[np.generic]
) -> tuple[NDArray[np.int64], int, NDArray[np.bool_]]:
    """Gather the labels of each patient: positive where any image is.

    Args:
        patients: Patient id of each image, ``N``.
        labels: 0 or 1, ``N x L``; NaN where unknown.

    Returns:
        The patient's number of each image (``N``, in the order of sorted ids), the number of
        patients ``P``, and the labels of the patients (``P x L``).
    """
    numbers, names = pd.factorize(np.asarray(patients, dtype=object), sort=True)
    gathered = np.zeros((len(names), labels.shape[1]), bool)
    rows, columns = np.nonzero(labels == 1)
    gathered[numbers[rows], columns] = True
    return np.asarray(numbers, dtype=np.int64), len(names), gathered


def stratified_parts(
    labels: NDArray[np.bool_], shares: Sequence[float], seed: int, purpose: str
) -> NDArray[np.int64]:
    """Divide patients into parts so that every label is spread as the shares ask.

    The label with the fewest patients left is dealt out first, each part being given what it
    still lacks of that label, at least one patient where there are enough; the patients without a
    label come last. Equal arguments give equal parts.

    Args:
        labels: ``P x L``.
        shares: Wanted share of each part, positive, sum 1.
        seed: Seed of the draw.
        purpose: Name of the stream of random numbers.

    Returns:
        Number of the part of each patient, ``P``.

    Source: Sechidis et al., "On the stratification of multi-label data", ECML PKDD 2011, with all
    patients of a label dealt at once.
    """
    wanted = np.asarray(shares, dtype=float)
    part = np.full(len(labels), -1, dtype=np.int64)
    waiting = list(range(labels.shape[1]))
    rng = generator(seed, purpose)
    while waiting:
        left = labels[part < 0][:, waiting].sum(0)
        # A label whose patients are all dealt has nothing to say any more.
        waiting = [label for label, count in zip(waiting, left, strict=True) if count]
        if not waiting:
            break
        label = waiting[int(np.argmin(left[left > 0]))]
        waiting.remove(label)
        _deal(part, labels[:, label], wanted, rng)
    _deal(part, np.ones(len(labels), bool), wanted, rng)
    _fill_empty(part, len(wanted))
    return part


def _fill_empty(part: NDArray[np.int64], count: int) -> None:
    """Move single patients so that no part is empty, where there are enough; changes ``part``."""
    sizes = np.bincount(part, minlength=count)
    for empty in np.flatnonzero(sizes == 0):
        richest = int(np.argmax(sizes))
        if sizes[richest] > 1:
            part[np.flatnonzero(part == richest)[0]] = empty
            sizes[richest] -= 1
            sizes[empty] += 1


def _deal(
    part: NDArray[np.int64],
    members: NDArray[np.bool_],
    shares: NDArray[np.float64],
    rng: np.random.Generator,
) -> None:
    """Give the members without a part to the parts that lack members; changes ``part``."""
    open_ = rng.permutation(np.flatnonzero(members & (part < 0)))
    if not len(open_):
        return
    dealt = np.bincount(part[members & (part >= 0)], minlength=len(shares))
    lacking = np.maximum(shares * members.sum() - dealt, 0)
    exact = lacking / lacking.sum() * len(open_)
    counts = np.floor(exact).astype(np.int64)
    by_remainder = np.argsort(counts - exact, kind="stable")
    counts[by_remainder[: len(open_) - counts.sum()]] += 1
    # One patient at least of each disease, but a small part is not flooded by many rare ones.
    room = np.bincount(part[part >= 0], minlength=len(shares)) < 1.5 * shares * len(part)
    for empty in np.flatnonzero(((counts + dealt) == 0) & room):
        richest = int(np.argmax(counts))
        if counts[richest] > 1:
            counts[richest] -= 1
            counts[empty] += 1
    part[open_] = np.repeat(np.arange(len(shares)), counts)


def draw_label_fraction(
    patients: NDArray[np.str_], labels: NDArray[np.generic], fraction: float, seed: int
) -> NDArray[np.bool_]:
    """Draw the share of patients whose labels may be used.

    The draws are nested: the patients of a smaller fraction are among those of a larger one with
    the same seed. They are stratified by the rarest label of each patient and never empty.

    Args:
        patients: Patient id of each image, ``N``.
        labels: 0 or 1, ``N x L``.
        fraction: Share of the patients, in (0, 1].
        seed: Seed of the draw.

    Returns:
        True for the images of drawn patients, ``N``.
    """
    numbers, count, gathered = patient_labels(patients, labels)
    if not count:
        return np.zeros(0, bool)
    rarity = np.argsort(gathered.sum(0), kind="stable")
    stratum = np.where(gathered.any(1), np.argmax(gathered[:, rarity], axis=1), gathered.shape[1])
    rng = generator(seed, "label fraction")
    shuffled = rng.permutation(count)
    position = np.empty(count)
    for name in np.unique(stratum):
        members = shuffled[stratum[shuffled] == name]
        # Evenly spaced places: every beginning of the order holds its share of each stratum.
        position[members] = (np.arange(len(members)) + rng.random()) / len(members)
    kept = np.zeros(count, bool)
    kept[np.argsort(position, kind="stable")[: max(1, round(fraction * count))]] = True
    return np.asarray(kept[numbers])
