"""The loop trains what it should: optimizer, freezing, accumulation, selection by validation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from safetensors.torch import load_file

from medsgssl.config.schema import Config
from medsgssl.config.training_settings import FinetuneSettings, LoopSettings
from medsgssl.data.dataset import ImageMaskDataset
from medsgssl.data.loader import BatchDataset
from medsgssl.data.sampler import EpochSampler
from medsgssl.errors import CheckpointError, ConfigError, DataError, MedsgsslError
from medsgssl.inference.forward import predict_splits
from medsgssl.losses.multilabel import FocalLoss
from medsgssl.methods.registry import method_of
from medsgssl.models.classifier import Classifier, KNNClassifier
from medsgssl.models.compiling import compile_backbone
from medsgssl.models.encoder import Encoder
from medsgssl.models.weights import load_weights, read_header
from medsgssl.training.finetuning import check_labels, finetune, finetune_order
from medsgssl.training.lr_schedule import auto_pretrain_lr
from medsgssl.training.optim import build_optimizer, set_modes
from medsgssl.training.pretraining import pretrain, pretrain_lr
from medsgssl.training.trainer import Trainer
from medsgssl.transforms.crops import WholeImage
from medsgssl.transforms.view_spec import ViewSpec

Build = Callable[..., Config]
FACTS = {
    "key": "k",
    "method": "simclr",
    "encoder": "test_efficientnet",
    "diseases": ["Effusion", "Mass of the lung", "Hernia", "Nodule"],
}


def classifier_of(config: Config) -> Classifier:
    return Classifier(method_of(config).encoder(), 4, FocalLoss(2.0))


def test_the_optimizer_holds_every_parameter_once_frozen_or_not(tiny_config: Build) -> None:
    task = classifier_of(tiny_config("simclr"))
    set_modes(task, frozen=True)
    optimizer = build_optimizer(task, LoopSettings())
    held = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in task.parameters())


def test_norms_and_biases_have_no_weight_decay_and_the_backbone_its_own_rate(
    tiny_config: Build,
) -> None:
    task = classifier_of(tiny_config("simclr"))
    settings = LoopSettings(weight_decay=0.1, backbone_lr_factor=0.25)
    for group in build_optimizer(task, settings).param_groups:
        for parameter in group["params"]:
            assert (parameter.ndim > 1) == (group["weight_decay"] == 0.1)
            in_backbone = any(parameter is p for p in task.encoder.backbone.parameters())
            assert group["factor"] == (0.25 if in_backbone else 1.0)


def test_a_frozen_backbone_does_not_move_and_neither_does_its_batch_norm(
    tmp_path: Path, view_source: ImageMaskDataset, tiny_config: Build
) -> None:
    config = tiny_config("simclr", no_pretrain=True, finetune__epochs=2, finetune__freeze_epochs=2)
    torch.manual_seed(0)
    finetune(config, view_source, tmp_path, FACTS)
    after = load_file(tmp_path / "classifier.safetensors")
    again = tiny_config("simclr", no_pretrain=True, finetune__epochs=1, finetune__freeze_epochs=1)
    finetune(again, view_source, tmp_path / "short", FACTS)
    before = load_file(tmp_path / "short" / "classifier.safetensors")
    backbone = [name for name in after if name.startswith("encoder.")]
    assert any("running_mean" in name for name in backbone)
    assert all(torch.equal(before[name], after[name]) for name in backbone)


def test_an_unfrozen_backbone_does_move(
    tmp_path: Path, view_source: ImageMaskDataset, tiny_config: Build
) -> None:
    weights = []
    for epochs, freeze in ((1, 1), (2, 1)):
        config = tiny_config(
            "simclr", no_pretrain=True, finetune__epochs=epochs, finetune__freeze_epochs=freeze,
            finetune__patience=5,
        )  # fmt: skip
        task = _finetuned_task(config, view_source, tmp_path / str(epochs))
        weights.append(task)
    moved = [n for n in weights[0] if not torch.equal(weights[0][n], weights[1][n])]
    assert any(name.startswith("encoder.backbone") for name in moved)


def _finetuned_task(
    config: Config, source: ImageMaskDataset, folder: Path
) -> dict[str, torch.Tensor]:
    """The last state, not the best: read from the checkpoint by stopping its removal."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "unlink", lambda self, missing_ok=False: None)
        finetune(config, source, folder, FACTS)
    state = torch.load(folder / "finetune.checkpoint", weights_only=True)
    return dict(state["task"])


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(
    tmp_path: Path, view_source: ImageMaskDataset, tiny_config: Build
) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        pretrain(tiny_config("simclr", seed=seed), view_source, tmp_path / name, FACTS)
    a, b, c = (load_file(tmp_path / name / "pretrained.safetensors") for name in "abc")
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert any(not torch.equal(a[name], c[name]) for name in a)


def test_the_automatic_rate_is_resolved_once_used_and_stored(
    tmp_path: Path, view_source: ImageMaskDataset, tiny_config: Build
) -> None:
    pretrain(tiny_config("simclr", pretrain__lr="auto"), view_source, tmp_path, FACTS)
    header = read_header(tmp_path / "pretrained.safetensors")
    assert header["pretrain_steps"] == 2 * 5  # two epochs, ten images, batches of two
    assert header["pretrain_lr"] == auto_pretrain_lr(10, 2, imagenet=False)
    config = tiny_config("simclr", pretrain__lr=2e-5)
    assert pretrain_lr(config, 10, 1) == 2e-5


def test_measuring_the_untrained_network_changes_nothing(
    tmp_path: Path,
    view_source: ImageMaskDataset,
    tiny_config: Build,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("with", "without"):
        pretrain(tiny_config("simclr"), view_source, tmp_path / name, FACTS)
        monkeypatch.setattr(Trainer, "_untrained_losses", lambda self: {"contrast_start": 0.0})
    a, b = (load_file(tmp_path / name / "pretrained.safetensors") for name in ("with", "without"))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_gradient_that_is_not_finite_stops_the_run_though_the_loss_is(
    tmp_path: Path,
    view_source: ImageMaskDataset,
    tiny_config: Build,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Broken(FocalLoss):
        def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            # The root has an infinite slope at 0, and its value there is 0.
            return super().forward(logits, labels) + (logits - logits).abs().sqrt().mean()

    monkeypatch.setattr("medsgssl.training.finetuning.build_loss", lambda *_: Broken(2.0))
    config = tiny_config("simclr", no_pretrain=True)
    with pytest.raises(MedsgsslError, match=r"the gradient of finetune is no longer finite"):
        finetune(config, view_source, tmp_path, FACTS)
    assert not (tmp_path / "classifier.safetensors").exists()


def test_each_stage_has_its_own_curves(
    tmp_path: Path,
    view_source: ImageMaskDataset,
    tiny_config: Build,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names: set[str] = set()
    monkeypatch.setattr(Fabric, "log_dict", lambda self, values, step: names.update(values))
    config = tiny_config("simclr")
    pretrain(config, view_source, tmp_path, FACTS)
    finetune(config, view_source, tmp_path, FACTS)
    assert {"pretrain/loss", "finetune/loss", "finetune/val_mean_auc"} <= names
    assert all(name.startswith(("pretrain/", "finetune/")) for name in names)


def test_a_label_fraction_is_trained_for_as_many_steps_as_all_labels(
    view_source: ImageMaskDataset, tiny_config: Build
) -> None:
    rows = view_source.rows("train")
    for setting, steps in (("auto", 5), ("labeled", 1)):
        config = tiny_config("simclr", finetune__steps=setting)
        order = finetune_order(config, view_source, rows[:3])
        assert order.steps_per_epoch == steps
        seen = np.concatenate([order.batch(0, step) for step in range(steps)])
        repeats = np.concatenate([order.repeat_counts(0, step) for step in range(steps)])
        assert set(seen) <= set(rows[:3])
        # What comes again is told apart, so that it comes in other views.
        assert len(set(zip(seen, repeats, strict=True))) == len(seen)
    everything = finetune_order(tiny_config("simclr"), view_source, rows)
    assert everything.steps_per_epoch == 5
    assert sorted(np.concatenate([everything.batch(0, s) for s in range(5)])) == sorted(rows)


def test_too_few_labels_are_refused_before_work(
    tmp_path: Path, view_source: ImageMaskDataset, tiny_config: Build
) -> None:
    splits = view_source.splits.copy()
    splits[1:10] = ""
    alone = replace(view_source, splits=splits)
    with pytest.raises(DataError, match=r"1 labeled training images .*needs at least 2"):
        check_labels(tiny_config("simclr"), alone)
    unknown = view_source.labels.copy()
    unknown[1:] = np.nan
    with pytest.raises(DataError, match=r"1 labeled training images .*needs at least 2"):
        check_labels(tiny_config("simclr"), replace(view_source, labels=unknown))
    healthy = replace(view_source, labels=np.zeros_like(view_source.labels))
    with pytest.raises(DataError, match=r"none of the 10 labeled training images"):
        finetune(tiny_config("simclr", no_pretrain=True), healthy, tmp_path, FACTS)
    assert not any(tmp_path.iterdir())


def test_no_epochs_of_fine_tuning_are_refused(tiny_config: Build) -> None:
    with pytest.raises(ConfigError, match=r"finetune\.epochs"):
        tiny_config("simclr", finetune__epochs=0)


def test_the_fused_optimizer_takes_the_steps_of_the_plain_one(tiny_config: Build) -> None:
    weights = []
    for fused in (True, False):
        torch.manual_seed(0)
        task = classifier_of(tiny_config("simclr")).to(memory_format=torch.channels_last)
        optimizer = build_optimizer(task, LoopSettings(weight_decay=0.1), fused=fused)
        for group in optimizer.param_groups:
            assert bool(group["fused"]) == fused
            group["lr"] = 0.01
        for step in range(3):
            torch.manual_seed(step)
            for parameter in task.parameters():
                parameter.grad = torch.randn_like(parameter)
            optimizer.step()
        weights.append(task.state_dict())
    for name, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][name], rtol=1e-4, atol=1e-6)


def test_modes_are_set_again_after_every_epoch_and_only_then(
    tmp_path: Path,
    view_source: ImageMaskDataset,
    tiny_config: Build,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    frozen_at: list[bool] = []

    def noted(task: Classifier, frozen: bool) -> None:
        frozen_at.append(frozen)
        set_modes(task, frozen)

    monkeypatch.setattr("medsgssl.training.trainer.set_modes", noted)
    config = tiny_config(
        "simclr", no_pretrain=True, finetune__epochs=3, finetune__freeze_epochs=1
    )  # five steps each, and validation after each
    finetune(config, view_source, tmp_path, FACTS)
    # Once before the optimizer is built, then once an epoch.
    assert frozen_at == [False, True, False, False]


def test_a_compiled_backbone_trains_to_the_same_weights(
    tmp_path: Path,
    view_source: ImageMaskDataset,
    tiny_config: Build,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    used: list[Encoder] = []

    def traced(encoder: Encoder) -> None:
        used.append(encoder)
        compile_backbone(encoder, backend="eager")  # traces, and needs no compiler

    monkeypatch.setattr("medsgssl.training.trainer.compile_backbone", traced)
    for name in (True, False):
        pretrain(
            tiny_config("simclr", pretrain__compile=name), view_source, tmp_path / f"{name}", FACTS
        )
    compiled, plain = (
        load_file(tmp_path / name / "pretrained.safetensors") for name in ("True", "False")
    )
    assert len(used) == 1
    assert compiled.keys() == plain.keys()
    for name, value in plain.items():
        torch.testing.assert_close(compiled[name], value)


def test_a_method_that_listens_inside_the_backbone_is_not_compiled(tiny_config: Build) -> None:
    encoder = method_of(tiny_config("attention-prior")).encoder()
    with pytest.raises(ConfigError, match=r"compile"):
        compile_backbone(encoder)


def test_weights_of_another_method_are_refused(
    tmp_path: Path, view_source: ImageMaskDataset, tiny_config: Build
) -> None:
    config = tiny_config("simclr")
    pretrain(config, view_source, tmp_path, FACTS)
    encoder = method_of(config).encoder()
    path = tmp_path / "pretrained.safetensors"
    assert read_header(path)["method"] == "simclr"
    with pytest.raises(CheckpointError, match=r"method='simclr'.*'masked-contrastive'"):
        load_weights(path, encoder, {"method": "masked-contrastive"})


def test_weights_that_do_not_fit_are_never_dropped_silently(
    tmp_path: Path, view_source: ImageMaskDataset, tiny_config: Build
) -> None:
    config = tiny_config("simclr")
    pretrain(config, view_source, tmp_path, FACTS)
    other = method_of(tiny_config("simclr", encoder__name="test_vit")).encoder()
    with pytest.raises(CheckpointError, match="does not fit"):
        load_weights(tmp_path / "pretrained.safetensors", other, {})


def test_the_model_is_chosen_by_validation_labels_alone(
    tmp_path: Path, view_source: ImageMaskDataset, tiny_config: Build
) -> None:
    config = tiny_config("simclr", no_pretrain=True)
    finetune(config, view_source, tmp_path / "a", FACTS)
    scrambled = view_source.labels.copy()
    test = view_source.splits == "test"
    scrambled[test] = 1 - scrambled[test]
    changed = ImageMaskDataset(**{**vars(view_source), "labels": scrambled})
    finetune(config, changed, tmp_path / "b", FACTS)
    a, b = (load_file(tmp_path / name / "classifier.safetensors") for name in "ab")
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_accumulated_steps_equal_one_large_batch() -> None:
    fabric = Fabric(accelerator="cpu", devices=1)
    x, y = torch.randn(8, 4), torch.randn(8, 1)
    gradients = []
    for parts in (1, 4):
        torch.manual_seed(0)
        model = fabric.setup_module(torch.nn.Linear(4, 1))
        for a, b in zip(x.chunk(parts), y.chunk(parts), strict=True):
            fabric.backward(torch.nn.functional.mse_loss(model(a), b) / parts)
        gradients.append(model.weight.grad.clone())
    torch.testing.assert_close(gradients[0], gradients[1])


def test_asking_for_two_processes_trains_on_both(
    tmp_path: Path, view_source: ImageMaskDataset, tiny_config: Build
) -> None:
    config = tiny_config("simclr", pretrain__devices=2, pretrain__epochs=1)
    pretrain(config, view_source, tmp_path, FACTS)
    log = (tmp_path / "pretrain_log.csv").read_text().splitlines()
    assert len(log) == 2
    assert load_file(tmp_path / "pretrained.safetensors")


def test_fine_tuning_settings_reject_what_does_not_exist() -> None:
    with pytest.raises(ValueError, match="loss"):
        FinetuneSettings(loss="mse")  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["linear", "knn"])
def test_cheaper_read_outs_leave_the_encoder_alone_and_can_be_scored(
    tmp_path: Path, view_source: ImageMaskDataset, tiny_config: Build, mode: str
) -> None:
    config = tiny_config("simclr", no_pretrain=True, finetune__mode=mode)
    torch.manual_seed(0)
    finetune(config, view_source, tmp_path, FACTS)
    rows, scores = predict_splits(config, view_source, tmp_path / "classifier.safetensors")
    assert list(rows) == [*view_source.rows("val"), *view_source.rows("test")]
    assert 0 <= scores.min() <= scores.max() <= 1
    assert scores.std(axis=0).max() > 0


def test_neighbors_vote_with_the_labels_of_the_nearest(
    view_source: ImageMaskDataset, tiny_config: Build
) -> None:
    encoder = method_of(tiny_config("simclr")).encoder().eval()
    steps = BatchDataset(
        view_source, (ViewSpec(WholeImage()),), EpochSampler(np.arange(6), 6, 0), 32, 0
    )
    batch = steps.render(0, np.arange(6)).to_device(torch.device("cpu"))
    knn = KNNClassifier(encoder, 4, count=6, neighbors=1).eval()
    with torch.no_grad():
        knn.bank.copy_(torch.nn.functional.normalize(knn.features(batch).pooled, dim=1))
        knn.bank_labels.copy_(batch.labels)
        torch.testing.assert_close(knn.scores(batch), batch.labels)
