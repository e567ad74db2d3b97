"""``anatomy-masked-attention``: its documented statements, and mistakes that must be impossible."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from medsgssl.errors import ConfigError
from medsgssl.losses.alignment import attention_alignment_loss, lung_prior
from medsgssl.losses.nt_xent import nt_xent_loss
from medsgssl.methods.anatomy_masked_attention import AnatomyMaskedAttentionSettings
from medsgssl.methods.registry import configure, find_method, method_of
from medsgssl.training.optim import set_modes

NAME, VIT = "anatomy-masked-attention", "test_vit"
TERMS = {
    "reconstruction": "lambda_recon",
    "attention": "lambda_attn",
    "contrast": "lambda_ctr",
    "domain": "lambda_dom",
}
TWO_SETS = [0, 1, 0, 1]


def spy(encoder, calls: list) -> None:
    """Write down what the encoder is shown and what it returns."""
    inner = encoder.encode

    def encode(images, **named):
        features = inner(images, **named)
        calls.append((images, named, features))
        return features

    encoder.encode = encode


# --- the terms -----------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", ["kept", "distilled", "absent"])
@pytest.mark.parametrize("term", TERMS)
def test_every_term_is_finite_and_reaches_the_encoder(
    lung_batch, make_task, term_checks, term, bias
) -> None:
    task, batch = make_task(NAME, VIT, bias=bias), lung_batch(domains=TWO_SETS)
    output = task(batch, 0.5)
    assert set(output.losses) == set(TERMS)
    assert output.loss.isfinite()
    assert term_checks.gradient(task, batch, term) > 0


@pytest.mark.parametrize("weight", TERMS.values())
def test_switching_a_term_off_changes_the_parameters_after_one_step(
    lung_batch, make_task, term_checks, weight
) -> None:
    with_term, without = make_task(NAME, VIT), make_task(NAME, VIT, **{weight: 0})
    assert term_checks.changes_step(with_term, without, lung_batch(domains=TWO_SETS))


@pytest.mark.parametrize(("term", "weight"), TERMS.items())
def test_terms_of_weight_zero_are_not_computed(lung_batch, make_task, term, weight) -> None:
    output = make_task(NAME, VIT, **{weight: 0})(lung_batch(domains=TWO_SETS), 0.5)
    assert set(output.losses) == set(TERMS) - {term}


def test_attention_that_no_term_asks_for_is_not_computed(lung_batch, make_task) -> None:
    task, calls = make_task(NAME, VIT, lambda_attn=0), []
    spy(task.encoder, calls)
    task(lung_batch(), 0.0)
    assert "attention" not in calls[0][2].extra


def test_every_parameter_that_trains_has_a_gradient(lung_batch, make_task) -> None:
    task = make_task(NAME, VIT)
    task(lung_batch(domains=TWO_SETS), 0.5).loss.backward()
    trained = {n: p for n, p in task.named_parameters() if not n.startswith(task.frozen_prefixes)}
    assert {"mask_token", "encoder.bias.u"} <= set(trained)
    assert [name for name, p in trained.items() if p.grad is None or not p.grad.any()] == []


def test_the_default_weights_are_those_of_the_contract(lung_batch, make_task) -> None:
    weights = make_task(NAME, VIT)(lung_batch(domains=TWO_SETS), 0.5).weights
    assert weights == {"reconstruction": 1, "attention": 0.05, "contrast": 0.1, "domain": 0.1}


# --- hiding and rebuilding -----------------------------------------------------------------------


def test_the_student_misses_a_share_of_lung_patches_and_the_teacher_none(
    lung_batch, make_task
) -> None:
    task, batch = make_task(NAME, VIT, curriculum=False, mask_ratio=0.5), lung_batch()
    student, teacher = [], []
    spy(task.encoder, student)
    spy(task.teacher.model, teacher)
    task(batch, 0.0)
    images, masks = (torch.cat(list(one.unbind(1))) for one in (batch.images, batch.masks))
    hidden = student[0][1]["hidden"]
    lung = F.avg_pool2d(masks[:, None].float(), 16)[:, 0] >= 0.3
    assert not (hidden & ~lung).any()
    count = (lung.sum((1, 2)) * 0.5).round()
    assert torch.equal(hidden.sum((1, 2)).float(), count)
    assert "hidden" not in teacher[0][1]
    assert torch.equal(student[0][0], images)
    assert torch.equal(teacher[0][0], images)


def test_a_patch_with_just_enough_lung_is_a_lung_patch(lung_batch, make_task) -> None:
    task = make_task(NAME, VIT, curriculum=False, mask_ratio=1, min_lung_fraction=0.25)
    batch = lung_batch()
    masks = torch.zeros_like(batch.masks)
    masks[..., 16:24, 32:40] = True  # a quarter of one patch
    masks[..., 48:55, 0:8] = True  # a little less than a quarter of another
    calls = []
    spy(task.encoder, calls)
    task(replace(batch, masks=masks), 0.0)
    assert calls[0][1]["hidden"].nonzero()[:, 1:].tolist() == [[1, 2]] * (2 * batch.size)


def test_the_predictor_has_one_hidden_layer(lung_batch, make_task) -> None:
    task = make_task(NAME, VIT)
    tokens = torch.randn(5, task.encoder.backbone.num_features)
    first, last = (layer for layer in task.predictor if isinstance(layer, torch.nn.Linear))
    torch.testing.assert_close(task.predictor(tokens), last(F.gelu(first(tokens))))


def test_the_mask_token_is_as_large_as_timm_makes_position_embeddings(make_task) -> None:
    task = make_task(NAME, VIT)
    usual = float(task.encoder.backbone.pos_embed.detach().std())
    assert float(task.mask_token.detach().std()) == pytest.approx(usual, rel=0.3)


def test_a_view_without_lung_hides_nothing_and_stays_finite(lung_batch, make_task) -> None:
    batch = lung_batch()
    task = make_task(NAME, VIT)
    output = task(replace(batch, masks=batch.masks & False), 0.5)
    assert output.losses["reconstruction"] == 0
    assert output.loss.isfinite()


def test_the_hidden_share_rises_linearly_from_030_to_075() -> None:
    own = AnatomyMaskedAttentionSettings()
    assert [own.ratio(p) for p in (0, 0.5, 1)] == pytest.approx([0.3, 0.525, 0.75])
    fixed = AnatomyMaskedAttentionSettings(curriculum=False)
    assert fixed.ratio(0) == fixed.ratio(1) == 0.75


# --- attention -----------------------------------------------------------------------------------


def test_attention_of_each_view_is_compared_with_the_mask_of_that_view(
    lung_batch, make_task
) -> None:
    task, batch = make_task(NAME, VIT, bias="absent"), lung_batch(quality=[1, 0.5, 0.2, 0])
    calls = []
    spy(task.encoder, calls)
    term = task(batch, 0.0).losses["attention"]
    attention = calls[0][2].extra["attention"].chunk(2)
    per_view = []
    for view in (0, 1):
        cover = F.avg_pool2d(batch.masks[:, view, None].float(), 16).flatten(1)
        per_view.append(
            attention_alignment_loss(attention[view], lung_prior(cover, 0.1), batch.quality)
        )
    torch.testing.assert_close(term, (per_view[0] + per_view[1]) / 2)
    torch.manual_seed(1)
    crossed = task(replace(batch, masks=batch.masks.flip(1)), 0.0).losses["attention"]
    assert (crossed - term).abs() > 1e-4


def test_the_attention_term_weighs_by_quality_and_none_is_none(lung_batch, make_task) -> None:
    task = make_task(NAME, VIT)
    terms = []
    for quality in (1.0, 0.5, 0.0):
        torch.manual_seed(1)
        terms.append(float(task(lung_batch(quality=quality), 0.0).losses["attention"].detach()))
    assert terms[1] == pytest.approx(terms[0] / 2, rel=1e-5)
    assert terms[2] == 0


def test_training_draws_attention_to_the_lungs(lung_batch, make_task) -> None:
    task = make_task(NAME, VIT, lambda_recon=0, lambda_ctr=0, lambda_attn=1, bias="absent")
    batch = lung_batch()
    optimizer = torch.optim.AdamW(task.parameters(), lr=1e-2)
    shares = []
    for _ in range(40):
        output = task(batch, 0.0)
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
        shares.append(float(output.metrics["attention_on_lung"]))
    free = float(output.metrics["lung_share"])
    assert abs(shares[0] - free) < 0.1
    assert shares[-1] > free + 0.1


def test_only_the_last_layers_are_aligned_on_request(lung_batch, make_task) -> None:
    calls = []
    for layers in ("all", 2, 99):
        task = make_task(NAME, VIT, align_layers=layers)
        spy(task.encoder, calls)
        task(lung_batch(), 0.0)
    depth = task.encoder.layers
    assert [call[1]["align_layers"] for call in calls] == [depth, 2, depth]


# --- contrast and domains ------------------------------------------------------------------------


def test_contrast_is_student_of_one_view_against_teacher_of_the_other_symmetrized(
    lung_batch, make_task
) -> None:
    task, batch = make_task(NAME, VIT), lung_batch()
    student, teacher = [], []
    spy(task.encoder, student)
    spy(task.teacher.model, teacher)
    term = task(batch, 0.0).losses["contrast"]
    s = task.projector(student[0][2].extra["cls"]).chunk(2)
    t = task.teacher_projector.model(teacher[0][2].extra["cls"]).chunk(2)
    wanted = (nt_xent_loss(s[0], t[1], 0.2) + nt_xent_loss(s[1], t[0], 0.2)) / 2
    torch.testing.assert_close(term, wanted)


def test_the_domain_term_exists_only_with_several_data_sets(lung_batch, make_task) -> None:
    task = make_task(NAME, VIT)
    assert "domain" not in task(lung_batch(domains=[3, 3, 3, 3]), 0.0).losses
    for kind in ("coral", "mmd"):
        output = make_task(NAME, VIT, domain_distance=kind)(lung_batch(domains=TWO_SETS), 0.0)
        assert output.losses["domain"] > 0


# --- teacher -------------------------------------------------------------------------------------


def test_the_teacher_shares_no_tensor_and_no_callable_with_the_student(make_task) -> None:
    task = make_task(NAME, VIT)
    teacher, student = task.teacher.model, task.encoder
    theirs = {p.data_ptr() for p in (*student.parameters(), *student.buffers())}
    assert theirs.isdisjoint(p.data_ptr() for p in (*teacher.parameters(), *teacher.buffers()))
    assert {id(m) for m in student.modules()}.isdisjoint(id(m) for m in teacher.modules())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in task.modules())
    assert not any("forward" in vars(module) for module in task.modules())


@pytest.mark.parametrize("bias", ["kept", "distilled"])
def test_changing_the_student_leaves_the_teacher_unchanged_until_the_ema_step(
    lung_batch, make_task, bias
) -> None:
    task, batch = make_task(NAME, VIT, bias=bias, teacher_momentum=0.5), lung_batch()
    calls = []
    spy(task.teacher.model, calls)
    task(batch, 0.0)
    with torch.no_grad():
        for name, parameter in task.named_parameters():
            if not name.startswith(task.frozen_prefixes):
                parameter.add_(0.1 * torch.randn_like(parameter))
    task(batch, 0.0)
    assert torch.equal(calls[0][2].spatial, calls[1][2].spatial)
    task.on_step_end(0.0)
    task(batch, 0.0)
    assert not torch.allclose(calls[1][2].spatial, calls[2][2].spatial)


def test_every_part_of_the_teacher_follows_and_none_is_trained(lung_batch, make_task) -> None:
    task, batch = make_task(NAME, VIT, bias="distilled", teacher_momentum=0.0), lung_batch()
    task(batch, 0.5).loss.backward()
    fixed = {n: p for n, p in task.named_parameters() if n.startswith(task.frozen_prefixes)}
    assert all(p.grad is None and not p.requires_grad for p in fixed.values())
    assert {name.split(".")[0] for name in fixed} == {
        "teacher", "teacher_bias", "teacher_projector",
    }  # fmt: skip
    with torch.no_grad():
        for parameter in task.parameters():
            parameter.add_(torch.randn_like(parameter))
    task.on_step_end(0.0)
    for teacher, student in (
        (task.teacher, task.encoder),
        (task.teacher_bias, task.bias),
        (task.teacher_projector, task.projector),
    ):
        pairs = zip(teacher.model.parameters(), student.parameters(), strict=True)
        assert all(torch.equal(one, other) for one, other in pairs)


def test_the_teacher_stays_in_eval_mode_when_the_task_trains(make_task) -> None:
    task = make_task(NAME, VIT)
    task.train()
    assert task.encoder.training
    assert not any(module.training for module in task.teacher.modules())


# --- bias ----------------------------------------------------------------------------------------


def test_a_kept_bias_is_part_of_the_encoder_at_fine_tuning_and_test(make_task) -> None:
    encoder = make_task(NAME, VIT).encoder.eval()
    torch.testing.assert_close(encoder.bias.gamma, torch.full((encoder.layers,), 0.6))
    images, masks = torch.rand(2, 1, 64, 64), torch.zeros(2, 64, 64, dtype=torch.bool)
    masks[:, :, :32] = True
    assert encoder.needs_masks
    assert not torch.allclose(encoder(images, masks).pooled, encoder.encode(images).pooled)


@pytest.mark.parametrize("bias", ["distilled", "absent"])
def test_otherwise_the_encoder_that_is_kept_needs_no_mask(make_task, bias) -> None:
    encoder = make_task(NAME, VIT, bias=bias).encoder
    assert not encoder.needs_masks
    assert not [name for name in encoder.state_dict() if name.startswith("bias")]


def test_distilling_drops_the_students_masks_more_and_more_and_never_the_teachers(
    lung_batch, make_task
) -> None:
    task, batch = make_task(NAME, VIT, bias="distilled"), lung_batch(count=32)
    student, teacher = [], []
    spy(task.encoder, student)
    spy(task.teacher.model, teacher)
    dropped = []
    for progress in (0.0, 0.5, 1.0):
        task(batch, progress)
        assert not (teacher[-1][1]["cover"] == 1).all(dim=(1, 2)).any()
        assert teacher[-1][1]["bias"] is task.teacher_bias.model
        dropped.append(float((student[-1][1]["cover"] == 1).all(dim=2).all(dim=1).float().mean()))
    assert dropped[0] == 0
    assert 0.3 < dropped[1] < 0.7
    assert dropped[2] == 1


# --- freezing, controls, configuration -----------------------------------------------------------


def test_frozen_blocks_and_norm_rest_while_patches_token_gammas_and_heads_train(
    lung_batch, make_task
) -> None:
    task = make_task(NAME, VIT)
    set_modes(task, frozen=True)
    task(lung_batch(), 0.0).loss.backward()
    trained = {name for name, p in task.named_parameters() if p.grad is not None and p.grad.any()}
    assert not [name for name in trained if ".blocks." in name or "backbone.norm." in name]
    wanted = {"mask_token", "encoder.bias.u", "encoder.backbone.patch_embed.proj.weight"}
    assert wanted <= trained
    assert any(name.startswith("predictor") for name in trained)
    assert any(name.startswith("projector") for name in trained)


@pytest.mark.parametrize("bias", ["kept", "distilled", "absent"])
def test_the_control_without_masks_hides_patches_anywhere_and_leaves_attention_alone(
    lung_batch, make_task, bias
) -> None:
    task = make_task(NAME, VIT, bias=bias, curriculum=False, mask_ratio=0.5)
    calls = []
    spy(task.encoder, calls)
    output = task(lung_batch(quality=0.0, whole_mask=True), 0.5)
    assert output.loss.isfinite()
    assert output.losses["attention"] == 0
    assert output.losses["reconstruction"] > 0
    # Masks are empty where a view leaves the image; all the rest may be hidden.
    assert calls[0][1]["hidden"].float().mean() > 0.4


def test_seen_shows_the_patches_that_are_hidden_at_the_end(lung_batch, make_task) -> None:
    task, batch = make_task(NAME, VIT, mask_ratio=0.6), lung_batch()
    seen = task.encoder_input(batch)
    assert seen.shape == batch.images.shape
    gray = (seen == 0.5) & (batch.images != 0.5)
    assert (seen == batch.images)[~gray].all()
    lung = F.avg_pool2d(batch.masks.float(), 16) >= 0.3
    patches = F.max_pool2d(gray[:, :, 0].float(), 16) > 0
    assert not (patches & ~lung).any()
    assert torch.equal(patches.sum((2, 3)).float(), (lung.sum((2, 3)) * 0.6).round())


@pytest.mark.parametrize("bias", ["kept", "absent"])
def test_the_attention_that_is_shown_is_that_of_the_last_layer_on_first_views(
    lung_batch, make_task, bias
) -> None:
    task, batch = make_task(NAME, VIT, bias=bias).eval(), lung_batch()
    with torch.no_grad():
        for parameter in task.encoder.backbone.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    encoder, (images, masks) = task.encoder, batch.view(0)
    cover = F.avg_pool2d(masks[:, None].float(), 16)[:, 0]
    every = encoder.encode(images, bias=encoder.bias, cover=cover, align_layers=encoder.layers)
    shown = task.attention_maps(batch)["attention"]
    torch.testing.assert_close(shown, every.extra["attention"][:, -1].view_as(cover))
    torch.testing.assert_close(shown.sum((1, 2)), torch.ones(batch.size))
    without = task.attention_maps(replace(batch, masks=batch.masks | True))["attention"]
    assert torch.allclose(without, shown, atol=1e-5) == (bias == "absent")


def test_a_copy_of_the_task_is_independent(lung_batch, make_task) -> None:
    task, batch = make_task(NAME, VIT), lung_batch()
    other = copy.deepcopy(task)
    losses = []
    for scale in (0.0, 1.0):
        with torch.no_grad():
            for parameter in task.parameters():
                parameter.add_(scale)
        torch.manual_seed(1)
        losses.append(other(batch, 0.0).loss)
    assert torch.equal(*losses)


def test_the_encoder_is_registered_once(make_task) -> None:
    names = make_task(NAME, VIT).state_dict()
    assert {name.split(".")[0] for name in names} == {
        "encoder", "mask_token", "predictor", "projector", "teacher", "teacher_projector",
    }  # fmt: skip


def test_half_precision_is_finite(lung_batch, make_task) -> None:
    task = make_task(NAME, VIT)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = task(lung_batch(domains=TWO_SETS), 0.5).loss
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in task.parameters() if p.grad is not None)


def test_the_defaults_are_vit_small_with_five_frozen_epochs() -> None:
    config = configure(NAME)
    assert config.encoder.name == "vit_small_patch16_224"
    assert config.pretrain.frozen_epochs == 5
    assert (config.method.gamma, config.method.teacher_momentum) == (0.6, 0.996)
    cover = torch.tensor([[0.0, 0.5, 1.0]])
    prior = lung_prior(cover, config.method.prior_floor)
    torch.testing.assert_close(prior / prior.amax(), 0.9 * cover + 0.1)


def test_normalization_comes_from_the_backbones_own_data_config() -> None:
    tree = {"encoder": {"pretrained": False}, "data": {"img_size": 64}}
    encoder = method_of(configure(NAME, tree)).encoder()
    mean, std = (encoder.backbone.default_cfg[key] for key in ("mean", "std"))
    assert encoder.mean.flatten().tolist() == pytest.approx(list(mean))
    assert encoder.std.flatten().tolist() == pytest.approx(list(std))


@pytest.mark.parametrize(
    ("name", "size"), [("vit_tiny_patch16_224", 96), ("vit_small_patch32_224", 64)]
)
def test_it_runs_at_other_sizes_and_patches(lung_batch, make_task, name, size) -> None:
    assert make_task(NAME, name, size)(lung_batch(count=2, size=size), 0.5).loss.isfinite()


def test_a_cnn_is_refused_with_a_remedy(make_task) -> None:
    with pytest.raises(ConfigError, match="not a vision transformer"):
        make_task(NAME, "mobilenetv2_050")


def test_a_task_that_learns_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="must be above 0"):
        configure(NAME, {"method": {"lambda_recon": 0, "lambda_attn": 0, "lambda_ctr": 0}})


def test_declares_what_it_is() -> None:
    method = find_method(NAME)
    assert method.summary.count(".") == 1
    assert "data2vec" in method.citation


def test_a_teacher_of_a_short_run_follows_faster(lung_batch, make_task) -> None:
    moved = []
    for steps in (20, 100_000):
        task = make_task(NAME, VIT)
        task.on_train_start(steps)
        before = task.teacher.model.backbone.cls_token.clone()
        with torch.no_grad():
            task.encoder.backbone.cls_token.add_(1.0)
        task.on_step_end(0.0)
        moved.append(float((task.teacher.model.backbone.cls_token - before).mean()))
    assert moved == pytest.approx([0.5, 0.004], rel=1e-3)


def test_only_what_the_definition_lists_trains_while_frozen(make_task) -> None:
    task = make_task(NAME, VIT)
    set_modes(task, frozen=True)
    inside = {n for n, p in task.encoder.backbone.named_parameters() if p.requires_grad}
    assert inside
    assert all(name.startswith("patch_embed.") for name in inside)
    heads = {"mask_token", "encoder.bias.u"} | {
        name for name, _ in task.named_parameters() if name.startswith(("predictor", "projector"))
    }
    trained = {name for name, p in task.named_parameters() if p.requires_grad}
    assert {n for n in trained if not n.startswith("encoder.backbone.")} == heads
    set_modes(task, frozen=False)
    assert all(p.requires_grad for p in task.encoder.parameters())


@pytest.mark.parametrize(("epochs", "frozen"), [(1, 0), (2, 1), (6, 3), (10, 5), (50, 5)])
def test_the_backbone_is_frozen_for_at_most_half_of_the_epochs(epochs: int, frozen: int) -> None:
    assert configure(NAME, {"pretrain": {"epochs": epochs}}).pretrain.frozen_epochs == frozen


def test_freezing_for_the_whole_run_is_an_error() -> None:
    with pytest.raises(ConfigError, match="freeze_epochs=3 must be below epochs=3"):
        configure(NAME, {"pretrain": {"epochs": 3, "freeze_epochs": 3}})


def test_freezing_from_scratch_is_a_warning() -> None:
    tree = {"encoder": {"name": VIT, "pretrained": False}, "data": {"img_size": 64}}
    assert any("scratch" in text for text in method_of(configure(NAME, tree)).check())
    unfrozen = configure(NAME, {**tree, "pretrain": {"freeze_epochs": 0}})
    assert method_of(unfrozen).check() == []
