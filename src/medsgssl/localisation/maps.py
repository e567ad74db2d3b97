"""Where a classifier looks: Grad-CAM of convolutional networks, attention rollout of transformers.

Sources:
    Selvaraju et al., "Grad-CAM: visual explanations from deep networks via gradient-based
    localization", ICCV 2017.
    Abnar and Zuidema, "Quantifying attention flow in transformers", ACL 2020.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from medsgssl.training import Classifier
from medsgssl.views import ViewBatch


def saliency(classifier: Classifier, batch: ViewBatch, diseases: Tensor) -> Tensor:
    """Return one map per image, whichever way fits the backbone; both are non-negative.

    Args:
        classifier: In eval mode.
        batch: Views on the classifier's device.
        diseases: (B,) int64, the disease to look for in each image. Rollout does not depend on
            it: a transformer's attention is the same for all diseases.

    Returns:
        float32, (B, h, w), on the grid of the last feature map or of the patches.
    """
    if classifier.encoder.is_vit:
        return attention_rollout(classifier, batch)
    return grad_cam(classifier, batch, diseases)


def grad_cam(classifier: Classifier, batch: ViewBatch, diseases: Tensor) -> Tensor:
    """Weigh the channels of the last map by their mean gradient; keep what speaks for a disease.

    Args:
        classifier: In eval mode, with a convolutional backbone.
        batch: Views.
        diseases: (B,) int64.
    """
    with torch.enable_grad():
        features = classifier.features(batch)
        logits = classifier.head(features.pooled)
        chosen = logits.gather(1, diseases[:, None]).sum()
        (gradient,) = torch.autograd.grad(chosen, features.spatial)
    weights = gradient.mean(dim=(2, 3), keepdim=True)
    return (weights * features.spatial).sum(dim=1).relu().detach().float()


@torch.no_grad()
def attention_rollout(classifier: Classifier, batch: ViewBatch) -> Tensor:
    """Follow attention from the class token through all layers to the patches.

    Each layer mixes as much as its attention (mean over the heads) and its skip connection, in
    equal parts. Backbones without class token are looked at from the mean of their patches.
    """
    backbone = classifier.encoder.backbone
    with _attention(backbone) as layers:
        grid = classifier.features(batch).spatial.shape[2:]
    prefix: int = backbone.num_prefix_tokens
    flow: Tensor | None = None
    for attention in layers:
        mixed = attention + torch.eye(attention.shape[1], device=attention.device)
        mixed = mixed / mixed.sum(dim=2, keepdim=True)
        flow = mixed if flow is None else mixed @ flow
    assert flow is not None
    start = flow[:, 0] if prefix else flow.mean(dim=1)
    return start[:, prefix:].reshape(-1, *grid).float()


@contextmanager
def _attention(backbone: Any) -> Iterator[list[Tensor]]:
    """Gather the attention (B, T, T) of each block while the block is open."""
    found: list[Tensor] = []

    def note(layer: nn.Module, inputs: tuple[Tensor, ...], options: dict[str, Any]) -> None:
        found.append(_weights(layer, inputs[0], options.get("attn_mask")))

    hooks = [
        block.attn.register_forward_pre_hook(note, with_kwargs=True) for block in backbone.blocks
    ]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def _weights(layer: Any, tokens: Tensor, bias: Tensor | None) -> Tensor:
    """Compute what timm's fused attention does not hand out, mean over the heads."""
    count, length, _ = tokens.shape
    parts = layer.qkv(tokens).reshape(count, length, 3, layer.num_heads, layer.head_dim)
    query, key, _ = parts.permute(2, 0, 3, 1, 4)
    logits = layer.q_norm(query) @ layer.k_norm(key).mT * layer.scale
    if bias is not None:
        logits = logits + bias
    weights: Tensor = logits.float().softmax(dim=3).mean(dim=1)
    return weights
