"""``anatomy-masked-attention``: rebuild hidden lung patches, with attention drawn to the lungs."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from medsgssl.config.loading import FlatSettings
from medsgssl.losses.alignment import attention_alignment_loss, attention_on_lung, lung_prior
from medsgssl.losses.domain import DomainDistance, domain_distance
from medsgssl.losses.nt_xent import normalize_weights, nt_xent_chance, nt_xent_floor, nt_xent_loss
from medsgssl.losses.reconstruction import reconstruction_loss
from medsgssl.methods.base import Component, Method
from medsgssl.methods.contrastive import (
    ContrastiveSettings,
    build_projector,
    global_batch,
    stack_views,
)
from medsgssl.methods.registry import register
from medsgssl.models.anatomy_vit import AnatomyBias, AnatomyViT, build_anatomy_vit
from medsgssl.models.ema_teacher import EMATeacher, first_momentum, momentum_at
from medsgssl.models.encoder import Encoder, Features
from medsgssl.models.task import Task, TaskOutput
from medsgssl.ops.patch_grid import choose_cells, paint_cells
from medsgssl.transforms.batch import ViewBatch


class AnatomyMaskedAttentionSettings(ContrastiveSettings):
    """Settings of ``anatomy-masked-attention``."""

    required_weights: ClassVar[tuple[str, ...]] = ("lambda_recon", "lambda_attn", "lambda_ctr")

    lambda_recon: float = Field(1.0, ge=0, description="weight of rebuilding hidden patches")
    lambda_attn: float = Field(0.05, ge=0, description="weight of the attention's lung prior")
    lambda_ctr: float = Field(0.1, ge=0, description="weight of NT-Xent of student and teacher")
    lambda_dom: float = Field(
        0.1, ge=0, description="weight of the distance between data sets, where there are several"
    )
    mask_ratio: float = Field(0.75, ge=0, le=1, description="share r of lung patches hidden")
    curriculum: bool = Field(True, description="let r rise linearly from curriculum_start")
    curriculum_start: float = Field(0.3, ge=0, le=1, description="r at the start")
    min_lung_fraction: float = Field(
        0.3, gt=0, le=1, description="lung share that makes a lung patch"
    )
    prior_floor: float = Field(0.1, gt=0, le=1, description="attention prior outside the lungs")
    align_layers: Annotated[int, Field(ge=1)] | Literal["all"] = Field(
        "all", description="how many of the last layers the attention prior acts on"
    )
    bias: Literal["kept", "distilled", "absent"] = Field(
        "kept",
        description="anatomy bias on attention: kept at test, distilled away, or none",
    )
    gamma: float = Field(0.6, gt=0, lt=1, description="first strength of the anatomy bias")
    predictor_hidden: int = Field(768, ge=1, description="width of the predictor's hidden layer")
    domain_distance: DomainDistance = Field("coral", description="distance between data sets")
    teacher_momentum: float = Field(
        0.996,
        ge=0,
        le=1,
        description="EMA momentum of the teacher at the start, at most 1 - 10 / steps; 1 at the "
        "end",
    )

    def ratio(self, progress: float) -> float:
        """Return the share r of lung patches to hide at ``progress`` in [0, 1]."""
        if not self.curriculum:
            return self.mask_ratio
        return self.curriculum_start + progress * (self.mask_ratio - self.curriculum_start)


class AnatomyMaskedAttentionTask(Task):
    """L_recon + lambda_attn L_attn + lambda_ctr L_ctr + lambda_dom L_dom, on both views.

    The student sees each view with hidden lung patches, the teacher sees it whole; every term is
    computed from both views, each with its own mask, its own attention and its own hidden patches.

    Args:
        encoder: The transformer to pretrain.
        settings: The method's settings.
    """

    frozen_prefixes = ("teacher",)
    encoder: AnatomyViT

    def __init__(self, encoder: AnatomyViT, settings: AnatomyMaskedAttentionSettings) -> None:
        super().__init__(encoder)
        self._settings = settings
        self._first_momentum = settings.teacher_momentum
        width = int(encoder.backbone.num_features)
        self.mask_token = nn.Parameter(torch.empty(width))
        nn.init.trunc_normal_(self.mask_token, std=0.02)
        self.teacher = EMATeacher(encoder)
        # A bias that is distilled away is no part of the encoder that is kept.
        self.bias: AnatomyBias | None = None
        if settings.bias == "distilled":
            self.bias = AnatomyBias(encoder.layers, settings.gamma)
            self.teacher_bias = EMATeacher(self.bias)
        if settings.lambda_recon:
            self.predictor = nn.Sequential(
                nn.Linear(width, settings.predictor_hidden),
                nn.GELU(),
                nn.Linear(settings.predictor_hidden, width),
            )
        if settings.lambda_ctr:
            self.projector = build_projector(width, settings)
            self.teacher_projector = EMATeacher(self.projector)

    def forward(self, batch: ViewBatch, progress: float) -> TaskOutput:
        """Compute the terms whose weight is not 0."""
        settings, vit = self._settings, self.encoder
        images, cover = stack_views(batch.images), vit.cover(stack_views(batch.masks))
        hidden = self._choose(cover, progress)
        student = vit.encode(
            images,
            bias=vit.bias or self.bias,
            cover=self._student_cover(cover, progress),
            hidden=hidden,
            mask_token=self.mask_token,
            align_layers=self._align_layers(),
        )
        output = TaskOutput({}, {}, student.extra["cls"].chunk(2)[0].detach(), {}, {})
        if settings.lambda_recon or settings.lambda_ctr:
            taught = self._teach(images, cover)
        if settings.lambda_recon:
            output.losses["reconstruction"] = reconstruction_loss(
                self.predictor(_patches(student)), _patches(taught), hidden.flatten(1)
            )
            output.weights["reconstruction"] = settings.lambda_recon
        if settings.lambda_attn:
            self._attend(output, student.extra["attention"], cover.flatten(1), batch)
        if settings.lambda_ctr:
            output.losses["contrast"] = self._contrast(student.extra["cls"], taught.extra["cls"])
            output.weights["contrast"] = settings.lambda_ctr
            output.lower_bounds["contrast"] = nt_xent_floor(
                global_batch(batch), settings.temperature
            )
            output.chance["contrast"] = nt_xent_chance(global_batch(batch))
        if settings.lambda_dom:
            distance = domain_distance(
                student.extra["cls"], batch.domains.repeat(2), settings.domain_distance
            )
            if distance is not None:
                output.losses["domain"], output.weights["domain"] = distance, settings.lambda_dom
        return output

    def encoder_input(self, batch: ViewBatch) -> Tensor:
        """Return the two views with the patches that the student misses at the end in gray."""
        images, masks = stack_views(batch.images), stack_views(batch.masks)
        hidden = self._choose(self.encoder.cover(masks), progress=1.0)
        painted = paint_cells(hidden, images.shape[-1])[:, None]
        return torch.stack(torch.where(painted, 0.5, images).chunk(2), dim=1)

    def attention_maps(self, batch: ViewBatch) -> dict[str, Tensor]:
        """Return the class token's attention in the last layer, on the first views."""
        images, masks = batch.view(0)
        vit = self.encoder
        cover = vit.cover(masks)
        attention = vit.encode(images, bias=vit.bias, cover=cover, align_layers=1)
        return {"attention": attention.extra["attention"][:, 0].reshape(cover.shape)}

    def trains_while_frozen(self) -> list[nn.Module]:
        """Return the patch embedding; mask token, gammas and heads lie outside the backbone."""
        return [self.encoder.backbone.patch_embed]

    def on_train_start(self, steps: int) -> None:
        """Let the teacher's first momentum follow the length of the run."""
        self._first_momentum = first_momentum(steps, self._settings.teacher_momentum)

    def on_step_end(self, progress: float) -> None:
        """Move the teacher toward the student."""
        momentum = momentum_at(progress, self._first_momentum)
        self.teacher.follow(self.encoder, momentum)
        if self.bias is not None:
            self.teacher_bias.follow(self.bias, momentum)
        if self._settings.lambda_ctr:
            self.teacher_projector.follow(self.projector, momentum)

    def _align_layers(self) -> int:
        if not self._settings.lambda_attn:
            return 0
        layers = self.encoder.layers
        aligned = self._settings.align_layers
        return layers if aligned == "all" else min(aligned, layers)

    def _choose(self, cover: Tensor, progress: float) -> Tensor:
        share = torch.full((len(cover),), self._settings.ratio(progress), device=cover.device)
        return choose_cells(cover >= self._settings.min_lung_fraction, share)

    def _student_cover(self, cover: Tensor, progress: float) -> Tensor:
        """Drop the masks of a growing share of views; the teacher keeps them to the end."""
        if self._settings.bias != "distilled":
            return cover
        dropped = torch.rand(len(cover), 1, 1, device=cover.device) < progress
        return torch.where(dropped, 1.0, cover)

    @torch.no_grad()
    def _teach(self, images: Tensor, cover: Tensor) -> Features:
        vit = self.teacher.model
        bias = vit.bias if self.bias is None else self.teacher_bias.model
        return vit.encode(images, bias=bias, cover=cover)

    def _attend(
        self, output: TaskOutput, attention: Tensor, cover: Tensor, batch: ViewBatch
    ) -> None:
        quality = batch.quality.repeat(2)
        prior = lung_prior(cover, self._settings.prior_floor)
        output.losses["attention"] = attention_alignment_loss(attention, prior, quality)
        output.weights["attention"] = self._settings.lambda_attn
        trust = normalize_weights(quality)
        output.metrics["attention_on_lung"] = (trust * attention_on_lung(attention, cover)).mean()
        # What attention without any preference would give.
        output.metrics["lung_share"] = (trust * cover.mean(dim=1)).mean()

    def _contrast(self, student_cls: Tensor, teacher_cls: Tensor) -> Tensor:
        student = self.projector(student_cls).chunk(2)
        with torch.no_grad():
            teacher = self.teacher_projector.model(teacher_cls).chunk(2)
        temperature = self._settings.temperature
        forth = nt_xent_loss(student[0], teacher[1], temperature)
        return (forth + nt_xent_loss(student[1], teacher[0], temperature)) / 2


def _patches(features: Features) -> Tensor:
    # (B, D, h, w) to (B, N, D)
    return features.spatial.flatten(2).mT


@register
class AnatomyMaskedAttention(Method[AnatomyMaskedAttentionSettings]):
    """Masked distillation in the lungs, for vision transformers."""

    name = "anatomy-masked-attention"
    summary = (
        "Hides lung patches from a ViT, rebuilds them from a mean teacher, and draws attention "
        "to the lungs."
    )
    citation = (
        "data2vec: Baevski et al., ICML 2022; mask tokens: Bao et al., BEiT, ICLR 2022; mean "
        "teacher: Tarvainen and Valpola, NeurIPS 2017; attention guidance: Li et al., CVPR 2018"
    )
    formula = (
        r"L = \lambda_{\text{recon}} L_{\text{recon}} + \lambda_{\text{attn}} L_{\text{attn}} + "
        r"\lambda_{\text{ctr}} L_{\text{ctr}} + \lambda_{\text{dom}} L_{\text{dom}}, \quad "
        r"L_{\text{attn}} = \frac{1}{2B} \sum_{i=1}^{2B} q_i \sum_{l} w_l \text{CE}(p_i, a_{il})"
    )
    symbols = (
        "recon: smooth L1 to the teacher's layer-normalized tokens at hidden patches; p: lung "
        "prior over patches; a_il: attention of the class token in layer l; w_l: softmax(l / "
        "2); ctr: NT-Xent of student and teacher across views; dom: CORAL or MMD between data "
        "sets."
    )
    settings = AnatomyMaskedAttentionSettings
    components: ClassVar[dict[str, Component]] = {
        "bias": Component("anatomy bias on attention", {"bias": "absent"}),
        "layers": Component("prior on every layer, not the last alone", {"align_layers": 1}),
        "curriculum": Component("curriculum of the hidden share", {"curriculum": False}),
        "reconstruction": Component("rebuilding of hidden patches", {"lambda_recon": 0.0}),
        "alignment": Component("attention's lung prior", {"lambda_attn": 0.0}),
        "contrast": Component("contrast of student and teacher", {"lambda_ctr": 0.0}),
        "domains": Component("distance between data sets", {"lambda_dom": 0.0}, several_sets=True),
    }
    defaults: ClassVar[FlatSettings] = {
        "encoder.name": "vit_small_patch16_224",
        "pretrain.freeze_epochs": "auto",
    }

    def encoder(self) -> AnatomyViT:
        """Build the transformer; a bias that is kept needs masks at fine-tuning and test too."""
        settings = self.method_settings
        gamma = settings.gamma if settings.bias == "kept" else None
        return build_anatomy_vit(self.config.encoder, self.config.data.img_size, gamma)

    def task(self, encoder: Encoder) -> AnatomyMaskedAttentionTask:
        """Build the task around a transformer."""
        assert isinstance(encoder, AnatomyViT)
        return AnatomyMaskedAttentionTask(encoder, self.method_settings)
