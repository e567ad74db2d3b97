"""Signs of a representation that collapsed or a loss that no longer teaches.

Sources: the standard deviation of unit embeddings as in Chen and He, "Exploring simple siamese
representation learning", CVPR 2021 (figure 2); the effective rank as in Garrido et al., "RankMe",
ICML 2023 (equation 1).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

#: Below this share of a uniform sphere's standard deviation an embedding counts as collapsed.
COLLAPSED_STD = 0.1
#: Below this effective rank an embedding counts as collapsed.
COLLAPSED_RANK = 2.0
#: A loss this close to its floor (in units of the loss) is saturated.
SATURATED = 0.02
#: A loss this close to chance, or to that of the untrained network, has taught nothing.
NEAR_CHANCE = 0.1


def embedding_std(embeddings: Tensor) -> float:
    """Return the mean standard deviation of unit embeddings times sqrt(D): 1 on a uniform sphere.

    Args:
        embeddings: (N, D) float, any scale.
    """
    unit = F.normalize(embeddings.float(), dim=1)
    return float(unit.std(dim=0).mean() * unit.shape[1] ** 0.5)


def effective_rank(embeddings: Tensor) -> float:
    """Return exp(entropy of the normalized singular values), between 1 and min(N, D).

    Args:
        embeddings: (N, D) float.
    """
    values = torch.linalg.svdvals(embeddings.float())
    share = values / values.sum().clamp_min(1e-12)
    return float(torch.exp(-(share * torch.log(share + 1e-12)).sum()))


def epoch_warnings(row: Mapping[str, float], floors: Mapping[str, float]) -> list[str]:
    """Return the warnings of one epoch of pretraining.

    Args:
        row: The epoch's log: loss terms by name, ``embedding_std`` and ``embedding_rank``.
        floors: The smallest value of some of the terms.
    """
    epoch = int(row["epoch"]) + 1  # as the console counts
    texts = []
    if row["embedding_std"] < COLLAPSED_STD or row["embedding_rank"] < COLLAPSED_RANK:
        texts.append(
            f"epoch {epoch}: the embeddings have collapsed (standard deviation "
            f"{row['embedding_std']:.3f} of 1, effective rank {row['embedding_rank']:.1f})"
        )
    for term, floor in floors.items():
        if row[term] - floor < SATURATED:
            texts.append(
                f"epoch {epoch}: the term {term} sits at its floor ({row[term]:.4f}, floor "
                f"{floor:.4f}): the views are too easy; strengthen views.pretrain or enlarge the "
                "batch"
            )
    return texts


def chance_warnings(row: Mapping[str, float]) -> list[str]:
    """Return the warnings of a pretraining that ended where it began.

    Args:
        row: The last epoch's log; ``{term}_chance`` is a term's value for a network that has
            learned nothing, ``{term}_start`` that of the untrained network on the same views.
    """
    texts = []
    for name, chance in row.items():
        term = name.removesuffix("_chance")
        if term == name:
            continue
        last, start = row[term], row[f"{term}_start"]
        if last > chance - NEAR_CHANCE:
            where = f"near chance ({chance:.2f})"
        elif last > start - NEAR_CHANCE:
            where = f"where the untrained network began ({start:.2f}; chance {chance:.2f})"
        else:
            continue
        texts.append(
            f"the term {term} ended at {last:.2f}, {where}: pretraining has learned almost "
            "nothing; pretrain for more epochs, raise pretrain.lr, or make views.pretrain milder"
        )
    return texts
