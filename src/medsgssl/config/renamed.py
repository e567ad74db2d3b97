"""Old names of settings: accepted for one release, with a warning that names the new one."""

from __future__ import annotations

import copy
import warnings
from typing import Any

from medsgssl.config.loading import Settings, SettingsTree


class RenamedWarning(FutureWarning):
    """An old name of a setting, an option or a command was used; the message names the new one."""


#: Dotted old name -> dotted new name. ``METHOD:`` limits a name to the settings of one method.
RENAMED = {
    "name": "method_name",
    "direct": "no_pretrain",
    "data.also": "data.extra_roots",
    "data.val_share": "data.val_fraction",
    "data.test_share": "data.test_fraction",
    "pretrain.accumulate": "pretrain.accumulate_grad_batches",
    "finetune.accumulate": "finetune.accumulate_grad_batches",
    "finetune.read_out": "finetune.mode",
    "finetune.neighbours": "finetune.neighbors",
    "simclr:method.reconstruction": "method.lambda_reconstruction",
    "masked-contrastive:method.lung_cover": "method.min_lung_fraction",
    "multi-region:method.alpha": "method.lambda_global",
    "multi-region:method.beta": "method.lambda_regions",
    "adaptive-pathology:method.softness": "method.saliency_temperature",
    "guided-crop:method.cover": "method.min_lung_fraction",
    "anatomy-masked-attention:method.lung_cover": "method.min_lung_fraction",
}


def with_new_names(tree: Settings) -> SettingsTree:
    """Return a nested configuration in which old names are replaced by the new ones.

    Args:
        tree: Nested plain values, as read from YAML, ``--set`` or an older run folder.

    Warns:
        RenamedWarning: For each old name, naming the new one.
    """
    renamed: SettingsTree = copy.deepcopy(dict(tree))
    for rule, new in RENAMED.items():
        method, _, old = rule.rpartition(":")
        if method and renamed.get("method_name") != method:
            continue
        value, present = _take(renamed, old)
        if present:
            _warn(old, new)
            _put(renamed, new, value)
    _join_mask_ratio(renamed)
    return renamed


def _join_mask_ratio(tree: SettingsTree) -> None:
    if tree.get("method_name") != "masked-contrastive":
        return
    low, has_low = _take(tree, "method.hidden_low")
    high, has_high = _take(tree, "method.hidden_high")
    if has_low or has_high:
        _warn("method.hidden_low, method.hidden_high", "method.mask_ratio")
        _put(tree, "method.mask_ratio", [low if has_low else 0.2, high if has_high else 0.5])


def _take(tree: SettingsTree, dotted: str) -> tuple[Any, bool]:
    *parents, leaf = dotted.split(".")
    node: Any = tree
    for parent in parents:
        node = node.get(parent)
        if not isinstance(node, dict):
            return None, False
    return (node.pop(leaf), True) if leaf in node else (None, False)


def _put(tree: SettingsTree, dotted: str, value: Any) -> None:
    *parents, leaf = dotted.split(".")
    for parent in parents:
        tree = tree.setdefault(parent, {})
    tree.setdefault(leaf, value)


def _warn(old: str, new: str) -> None:
    warnings.warn(f"the setting {old} is now called {new}", RenamedWarning, stacklevel=4)
