"""A vision transformer that can hide patches, be biased toward lungs, and show where CLS looks.

Sources: Dosovitskiy et al., "An image is worth 16x16 words", ICLR 2021, through timm's own blocks;
mask tokens before the blocks as in Bao et al., "BEiT", ICLR 2022; an additive bias on attention
logits as in Shaw et al., "Self-attention with relative position representations", NAACL 2018, here
from the lung mask.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import Attention  # type: ignore[attr-defined]
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from medsgssl.config.schema import EncoderSettings
from medsgssl.errors import ConfigError
from medsgssl.models.backbone import build_backbone
from medsgssl.models.encoder import Encoder, Features
from medsgssl.ops.patch_grid import cell_cover


class AnatomyBias(nn.Module):
    """log(gamma m_i m_j + 1 - gamma) for patches i and j, with gamma = sigmoid(u) per layer.

    Prefix tokens (CLS, registers) attend and are attended freely: their bias is 0. A whole-image
    mask gives 0 everywhere.

    Args:
        layers: Number of layers.
        gamma: First value of gamma, in (0, 1).
    """

    def __init__(self, layers: int, gamma: float = 0.6) -> None:
        super().__init__()
        self.u = nn.Parameter(torch.full((layers,), math.log(gamma / (1 - gamma))))

    @property
    def gamma(self) -> Tensor:
        """The strength of each layer, (layers,) in (0, 1)."""
        return torch.sigmoid(self.u.float())

    def forward(self, cover_BN: Tensor, prefix: int) -> list[Tensor]:
        """Return the bias of each layer, (B, 1, P + N, P + N) float32.

        Args:
            cover_BN: m, the lung share of each patch, (B, N) in [0, 1].
            prefix: Number P of prefix tokens.
        """
        missing = 1 - cover_BN[:, :, None] * cover_BN[:, None, :]
        missing = F.pad(missing, (prefix, 0, prefix, 0))[:, None]
        return [torch.log1p(-gamma * missing) for gamma in self.gamma]


class AnatomyViT(Encoder):
    """timm's vision transformer, block by block; nothing of it is patched or replaced.

    The bias enters through timm's own ``attn_mask``, so that fused attention stays in use
    everywhere. Where attention is asked for, only the row of CLS is computed beside it, from the
    queries and keys that the block has computed anyway.

    Args:
        backbone: A timm ``VisionTransformer`` with a class token.
        bias: The anatomy bias that is part of the model at training and test; None for none.
        size: Side of the images in pixels; the backbone's own when not given.

    Raises:
        ConfigError: The backbone is something else.
    """

    def __init__(
        self, backbone: nn.Module, bias: AnatomyBias | None = None, size: int | None = None
    ) -> None:
        _require_vit(backbone)
        super().__init__(backbone, size)
        self.bias = bias
        self.needs_masks = bias is not None

    @property
    def layers(self) -> int:
        """Number of blocks."""
        return len(self.backbone.blocks)

    def cover(self, masks: Tensor) -> Tensor:
        """Return the lung share of each patch, (B, h, w) in [0, 1], of masks (B, S, S) bool."""
        # int: under tracing a size is a tensor.
        size = (int(masks.shape[1]), int(masks.shape[2]))
        return cell_cover(masks, self.backbone.patch_embed.dynamic_feat_size(size)[0])

    def forward(self, images: Tensor, masks: Tensor, quality: Tensor | None = None) -> Features:
        """Encode a batch.

        Args:
            images: (B, 1, S, S) float in [0, 1].
            masks: (B, S, S) bool, used where the model has a bias.
            quality: Not used here: a missing mask is the whole image, which has no bias.
        """
        if self.bias is None:
            return self.encode(images)
        return self.encode(images, bias=self.bias, cover=self.cover(masks))

    def encode(
        self,
        images: Tensor,
        *,
        bias: AnatomyBias | None = None,
        cover: Tensor | None = None,
        hidden: Tensor | None = None,
        mask_token: Tensor | None = None,
        align_layers: int = 0,
    ) -> Features:
        """Encode a batch with hidden patches and anatomy bias.

        Args:
            images: (B, 1, S, S) float in [0, 1].
            bias: The bias to add in each layer; None for stock attention.
            cover: (B, h, w) lung share of each patch, for the bias.
            hidden: (B, h, w) bool, patches that ``mask_token`` replaces before the first block;
                they keep their position embedding.
            mask_token: (D,), needed with ``hidden``.
            align_layers: Return the attention of so many last layers.

        Returns:
            Features whose ``extra`` holds ``cls`` (B, D), the class token behind the final norm,
            and, where asked for, ``attention`` (B, align_layers, N): CLS-to-patch attention,
            normalized over the patches, mean over the heads, with gradient.
        """
        tokens = self._embed(images, hidden, mask_token)
        prefix: int = self.backbone.num_prefix_tokens
        biases: list[Tensor] | list[None] = [None] * self.layers
        if bias is not None:
            assert cover is not None
            biases = bias(cover.flatten(1), prefix)
        attention: list[Tensor] = []
        projected: list[Tensor] = []
        for layer, block in enumerate(self.backbone.blocks):
            if layer < self.layers - align_layers:
                tokens = block(tokens, attn_mask=biases[layer])
                continue
            with block.attn.qkv.register_forward_hook(lambda *call: projected.append(call[2])):
                tokens = block(tokens, attn_mask=biases[layer])
            attention.append(cls_attention(block, projected.pop(), prefix))
        last = self.backbone.norm(tokens)
        features = self.pool(last)
        features.extra["cls"] = last[:, 0]
        if attention:
            features.extra["attention"] = torch.stack(attention, dim=1)
        return features

    def _embed(self, images: Tensor, hidden: Tensor | None, mask_token: Tensor | None) -> Tensor:
        vit = self.backbone
        patches = vit.patch_embed(self.normalize(images))
        if hidden is not None:
            assert mask_token is not None
            # (B, N, D), or (B, h, w, D) in models that take images of any size.
            here = hidden.reshape(*patches.shape[:-1], 1)
            patches = torch.where(here, mask_token.to(patches.dtype), patches)
        embedded: Tensor = vit.norm_pre(vit.patch_drop(vit._pos_embed(patches)))
        return embedded


def cls_attention(block: Block, projected: Tensor, prefix: int) -> Tensor:
    """Return where the class token looks in one block, (B, N) float32, summing to 1.

    The softmax runs over the patches alone: how much CLS looks at itself and at registers is not
    the anatomy's business. The anatomy bias plays no part, for it is 0 in the row of CLS.

    Args:
        block: A timm block.
        projected: What its ``attn.qkv`` returned: queries, keys and values, (B, P + N, 3 D).
        prefix: Number P of prefix tokens.
    """
    layer: Any = block.attn
    parts = projected.unflatten(2, (3, layer.num_heads, layer.head_dim))  # type: ignore[no-untyped-call]
    query = parts[:, :1, 0].transpose(1, 2)
    keys = parts[:, prefix:, 1].transpose(1, 2)
    logits: Tensor = layer.q_norm(query) @ layer.k_norm(keys).mT * layer.scale
    return logits[:, :, 0].float().softmax(dim=2).mean(dim=1)


def _require_vit(backbone: nn.Module) -> None:
    name = type(backbone).__name__
    fix = "set encoder.name to a vision transformer of timm, e.g. vit_small_patch16_224"
    if not isinstance(backbone, VisionTransformer):
        raise ConfigError(f"{name} is not a vision transformer (timm's VisionTransformer)", fix)
    if not backbone.has_class_token:
        raise ConfigError("this vision transformer has no class token to look from", fix)
    for block in backbone.blocks:
        # Other blocks add attention elsewhere, or compute it in another way.
        if type(block) is not Block or type(block.attn) is not Attention:
            raise ConfigError("this vision transformer does not use timm's plain blocks", fix)


def build_anatomy_vit(
    settings: EncoderSettings, img_size: int, gamma: float | None = None
) -> AnatomyViT:
    """Return the transformer for images of ``img_size`` pixels.

    Args:
        settings: Which timm model, and where its weights come from.
        img_size: Side of the images, a multiple of the patch size.
        gamma: First strength of the anatomy bias; None for a model without bias.

    Raises:
        ConfigError: The model is no plain vision transformer.
    """
    backbone: Any = build_backbone(settings, img_size)
    _require_vit(backbone)
    bias = None if gamma is None else AnatomyBias(len(backbone.blocks), gamma)
    return AnatomyViT(backbone, bias, img_size)
