"""Mistakes that published notebooks of this idea really made; each one must be impossible here.

One compact test or more for each line of the list, named after it.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import timm
import torch
from safetensors.torch import load_file

from medsgssl.config.schema import AugmentSettings, Config, EncoderSettings, EvaluateSettings
from medsgssl.config.training_settings import LoopSettings
from medsgssl.data.catalog import Catalog
from medsgssl.data.dataset import ImageMaskDataset
from medsgssl.data.image_cache import decode
from medsgssl.data.labels import DISEASES
from medsgssl.data.letterbox import Letterbox
from medsgssl.data.loader import BatchDataset
from medsgssl.data.mask_cache import mask_array
from medsgssl.data.sampler import EpochSampler
from medsgssl.data.splits import check_leaks
from medsgssl.errors import ImageError, LeakError
from medsgssl.evaluation.evaluate import evaluate_predictions
from medsgssl.evaluation.predictions import Predictions
from medsgssl.images.reading import read_image
from medsgssl.losses.alignment import attention_alignment_loss, lung_prior
from medsgssl.losses.nt_xent import nt_xent_floor, nt_xent_loss
from medsgssl.masks.types import LungMask
from medsgssl.methods.registry import configure, method_of
from medsgssl.models.anatomy_vit import build_anatomy_vit
from medsgssl.models.encoder import build_encoder
from medsgssl.models.task import Task
from medsgssl.report.run_page import write_report
from medsgssl.runs.folder import RunFolder
from medsgssl.training.csv_logger import EpochLog
from medsgssl.training.finetuning import finetune
from medsgssl.training.lr_schedule import auto_pretrain_lr, lr_factor
from medsgssl.training.monitors import epoch_warnings
from medsgssl.training.optim import build_optimizer
from medsgssl.training.pretraining import pretrain
from medsgssl.training.trainer import Trainer
from medsgssl.transforms.affine import warp_image, whole
from medsgssl.transforms.batch import ViewBatch
from medsgssl.transforms.crops import RandomCrop
from medsgssl.transforms.view_spec import ViewPlan, ViewSpec, make_view
from medsgssl.utils.io import read_json, write_json

SIZE = 64
CNN, VIT = "test_efficientnet", "test_vit"
OPTION_7 = "anatomy-masked-attention"
FACTS = {"key": "k", "method": "simclr", "encoder": CNN}

Build = Callable[..., Config]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def lungs(number: int, size: int = SIZE) -> tuple[np.ndarray, np.ndarray]:
    """An image with two dark lungs, and their mask of 0 and 1."""
    y, x = np.mgrid[:size, :size] / size
    tall = 0.25 + 0.02 * (number % 5)
    left, right = (((x - c) / 0.15) ** 2 + ((y - 0.5) / tall) ** 2 < 1 for c in (0.3, 0.7))
    grain = np.random.default_rng(number).normal(0, 12, (size, size))
    image = np.where(left | right, 60, 170) + grain
    return np.clip(image, 0, 255).astype(np.uint8), (left | right).astype(np.uint8)


def batch_of(plan: ViewPlan | None = None, quality: tuple[float, ...] = (1, 1, 1, 1)) -> ViewBatch:
    augment = AugmentSettings()
    plan = plan or (ViewSpec(RandomCrop(augment), augment),) * 2
    made = [
        [
            make_view(*lungs(n), q, spec, SIZE, (0, 0, n, v))  # type: ignore[arg-type]
            for v, spec in enumerate(plan)
        ]
        for n, q in enumerate(quality)
    ]
    return ViewBatch(
        images=torch.tensor(np.array([[[v.image] for v in views] for views in made])),
        masks=torch.tensor(np.array([[v.mask for v in views] for views in made])) > 0,
        affines=torch.tensor(np.array([[v.affine for v in views] for views in made])).float(),
        flipped=torch.tensor([[v.flipped for v in views] for views in made]),
        quality=torch.tensor(quality).float(),
        rows=torch.arange(len(made)),
        labels=torch.zeros(len(made), 14),
        domains=torch.tensor([0, 0, 1, 1]),
    ).to_device(torch.device("cpu"))


def task_of(name: str, **own: Any) -> Task:
    encoder = VIT if name == OPTION_7 else CNN
    heads = {"projector_hidden": 16, "projector_out": 8}
    tree = {
        "encoder": {"name": encoder, "pretrained": False},
        "data": {"img_size": SIZE},
        "method": heads | own,
    }
    torch.manual_seed(0)
    method = method_of(configure(name, tree))
    return method.task(method.encoder())


def backbone_gradient(task: Task, loss: torch.Tensor) -> torch.Tensor:
    parameters = list(task.encoder.backbone.parameters())
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    return torch.cat(
        [
            (torch.zeros_like(p) if g is None else g).flatten()
            for p, g in zip(parameters, found, strict=True)
        ]
    )


class Killed(BaseException):
    """Stands in for a killed process."""


@pytest.fixture
def killed_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Arrange that the training loop dies after so many steps, once."""

    def arrange(steps: int) -> None:
        left, train_step = [steps], Trainer._train_step

        def counted(self: Trainer, *arguments: Any) -> None:
            if left[0] == 0:
                monkeypatch.setattr(Trainer, "_train_step", train_step)
                raise Killed
            left[0] -= 1
            train_step(self, *arguments)

        monkeypatch.setattr(Trainer, "_train_step", counted)

    return arrange


@pytest.fixture
def rates(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The learning rate of every optimizer step that the training loop takes."""
    found: list[float] = []
    update = Trainer._update

    def noted(self: Trainer, *arguments: Any) -> None:
        update(self, *arguments)
        found.extend({group["lr"] / group["factor"] for group in self.optimizer.param_groups})

    monkeypatch.setattr(Trainer, "_update", noted)
    return found


def log_of(path: Path) -> list[dict[str, float]]:
    with path.open() as stream:
        return [{key: float(v) for key, v in row.items()} for row in csv.DictReader(stream)]


# 1. Mask not moved with the view; attention of view 2 compared with the mask of view 1.


def test_01_mask_moves_with_its_view() -> None:
    still = AugmentSettings(brightness=0, contrast=0, gamma=0, blur=0, noise=0)
    _, mask = lungs(0, size=96)
    moved = 0
    for number in range(20):
        spec = ViewSpec(RandomCrop(still), still)
        view = make_view(mask * 255, mask, 1.0, spec, SIZE, (0, 0, number, 0))
        differing = (view.image > 127) != (view.mask > 0)
        assert differing.mean() < 0.02
        moved += ((view.image > 127) != (mask[16:80, 16:80] > 0)).mean() > 0.05
    assert moved > 15


def test_01_a_batch_holds_each_view_with_its_own_mask(view_source: ImageMaskDataset) -> None:
    augment = AugmentSettings()
    plan = (ViewSpec(RandomCrop(augment), augment),) * 2
    rows = np.arange(12)
    batch = BatchDataset(view_source, plan, EpochSampler(rows, 12, 0), 32, seed=3).render(1, rows)
    for row in rows:
        image, mask = view_source.cache.images[row], view_source.masks.mask(row)
        for number, spec in enumerate(plan):
            key = (3, 1, int(view_source.image_seeds[row]), number)
            view = make_view(image, mask, 1.0, spec, 32, key)
            np.testing.assert_array_equal(batch.images[row, number, 0], view.image)
            np.testing.assert_array_equal(batch.masks[row, number], view.mask > 0)
            np.testing.assert_allclose(batch.affines[row, number], view.affine, rtol=1e-6)


def test_01_attention_of_a_view_is_compared_with_the_mask_of_that_view() -> None:
    task = task_of(OPTION_7, mask_ratio=0.0, curriculum=False, bias="absent")
    batch, vit = batch_of(), task.encoder
    term = task(batch, 0.0).losses["attention"]
    attention = [
        vit.encode(batch.images[:, v], align_layers=vit.layers).extra["attention"] for v in (0, 1)
    ]
    prior = [lung_prior(vit.cover(batch.masks[:, v]).flatten(1), 0.1) for v in (0, 1)]
    own, crossed = (
        sum(attention_alignment_loss(attention[v], prior[u], batch.quality) for v, u in pairs) / 2
        for pairs in (((0, 0), (1, 1)), ((0, 1), (1, 0)))
    )
    torch.testing.assert_close(term, own)
    assert abs(float((term - crossed).detach())) > 1e-4


# 2. A loss term without gradient to the encoder: detached, or a constant or batch-scalar weight.


TERMS = [
    ("simclr", "reconstruction", "lambda_reconstruction", 1.0),
    ("multi-region", "contrast", "lambda_global", 1.0),
    ("multi-region", "regions", "lambda_regions", 1.0),
    ("adaptive-pathology", "salient", "lambda_salient", 0.5),
    ("guided-crop", "crops", "lambda_crops", 1.0),
    ("guided-crop", "global", "lambda_global", 0.5),
    ("attention-prior", "segmentation", "lambda_seg", 1.0),
    ("attention-prior", "equivariance", "lambda_eq", 1.0),
    (OPTION_7, "reconstruction", "lambda_recon", 1.0),
    (OPTION_7, "attention", "lambda_attn", 1.0),
    (OPTION_7, "contrast", "lambda_ctr", 1.0),
    (OPTION_7, "domain", "lambda_dom", 1.0),
]


@pytest.mark.parametrize(("name", "term", "setting", "weight"), TERMS)
def test_02_every_term_reaches_the_encoder_and_its_switch_changes_the_step(
    name: str, term: str, setting: str, weight: float
) -> None:
    whole_task, without = task_of(name, **{setting: weight}), task_of(name, **{setting: 0.0})
    without.load_state_dict(whole_task.state_dict(), strict=False)
    batch = batch_of(method_of(configure(name)).pretrain_views())
    steps = []
    for task in (whole_task, without):
        torch.manual_seed(1)
        output = task(batch, 0.5)
        assert (term in output.losses) == (task is whole_task)
        if task is whole_task:
            torch.manual_seed(1)
            alone = backbone_gradient(task, task(batch, 0.5).losses[term])
            assert alone.norm() > 0
        steps.append(backbone_gradient(task, output.loss))
    assert not torch.equal(*steps)


@pytest.mark.parametrize("name", ["masked-contrastive", "adaptive-pathology"])
def test_02_weights_act_on_each_image_and_not_as_one_number(name: str) -> None:
    task = task_of(name)
    batch = batch_of(method_of(configure(name)).pretrain_views(), quality=(1.0, 0.1, 0.5, 0.2))
    gradients = []
    for order in ([0, 1, 2, 3], [3, 2, 1, 0]):
        torch.manual_seed(1)
        output = task(replace(batch, quality=batch.quality[order]), 0.0)
        gradients.append(backbone_gradient(task, output.losses["contrast"]))
    cosine = torch.nn.functional.cosine_similarity(*gradients, dim=0)
    assert cosine < 0.9999


# 3. Patched attention that binds the last block for all layers.


def outputs_of_blocks(backbone: Any, run: Callable[[], Any]) -> list[torch.Tensor]:
    found: list[torch.Tensor] = []
    hooks = [
        block.register_forward_hook(lambda module, inputs, output: found.append(output))
        for block in backbone.blocks
    ]
    with torch.no_grad():
        run()
    for hook in hooks:
        hook.remove()
    return found


def test_03_without_masks_the_wrapped_transformer_is_stock_timm_layer_by_layer() -> None:
    torch.manual_seed(0)
    vit = build_anatomy_vit(EncoderSettings(name=VIT, pretrained=False), SIZE).eval()
    stock = timm.create_model(VIT, num_classes=0, img_size=SIZE).eval()
    stock.load_state_dict(vit.backbone.state_dict())
    images = torch.rand(2, 1, SIZE, SIZE)
    mine = outputs_of_blocks(vit.backbone, lambda: vit.encode(images, align_layers=vit.layers))
    theirs = outputs_of_blocks(stock, lambda: stock(vit.normalize(images)))
    assert len(mine) == len(theirs) == vit.layers > 1
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


def test_03_each_layer_has_its_own_bias() -> None:
    torch.manual_seed(0)
    vit = build_anatomy_vit(EncoderSettings(name=VIT, pretrained=False), SIZE, gamma=0.5).eval()
    assert vit.bias is not None
    images, masks = torch.rand(2, 1, SIZE, SIZE), batch_of().masks[:2, 0]
    before = outputs_of_blocks(vit.backbone, lambda: vit(images, masks))
    for layer in range(vit.layers):
        with torch.no_grad():
            vit.bias.u[layer] += 3
        after = outputs_of_blocks(vit.backbone, lambda: vit(images, masks))
        with torch.no_grad():
            vit.bias.u[layer] -= 3
        changed = [not torch.equal(a, b) for a, b in zip(before, after, strict=True)]
        assert changed == [number >= layer for number in range(vit.layers)]


# 4. Teacher that shares modules or closures with the student.


def test_04_changing_the_student_leaves_the_teacher_alone_until_it_follows() -> None:
    task = task_of(OPTION_7)
    batch = batch_of()
    images, cover = batch.images[:, 0], task.encoder.cover(batch.masks[:, 0])

    def taught() -> torch.Tensor:
        return task._teach(images, cover).extra["cls"]  # type: ignore[operator]

    before = taught()
    with torch.no_grad():
        for parameter in task.encoder.parameters():
            parameter.add_(torch.randn_like(parameter))
    assert torch.equal(taught(), before)
    task.on_step_end(0.0)
    assert not torch.equal(taught(), before)


# 5. A parameter missing from the optimizer; frozen state, scheduler, scaler or RNG lost on resume.


@pytest.mark.parametrize("name", ["simclr", "multi-region", "attention-prior", OPTION_7])
def test_05_the_optimizer_holds_every_parameter_that_ever_trains(name: str) -> None:
    task = task_of(name)
    for module in task.freezable_modules():
        module.requires_grad_(False)
    held = [
        p for group in build_optimizer(task, LoopSettings()).param_groups for p in group["params"]
    ]
    wanted = [p for key, p in task.named_parameters() if not key.startswith(task.frozen_prefixes)]
    assert sorted(map(id, held)) == sorted(map(id, wanted))


def cut_and_whole(
    config: Config, source: ImageMaskDataset, folder: Path, kill: Callable[[int], None], steps: int
) -> None:
    """Train in ``whole`` in one go, and in ``cut`` killed after so many steps and resumed."""
    pretrain(config, source, folder / "whole", FACTS)
    kill(steps)
    with pytest.raises(Killed):
        pretrain(config, source, folder / "cut", FACTS)
    pretrain(config, source, folder / "cut", FACTS)


def test_05_two_and_two_epochs_are_four_bit_for_bit(
    tmp_path: Path,
    view_source: ImageMaskDataset,
    tiny_config: Build,
    killed_after: Callable[[int], None],
) -> None:
    # Ten images in batches of two: five steps an epoch. Frozen until after the kill.
    config = tiny_config(
        "masked-contrastive", pretrain__epochs=4, pretrain__freeze_epochs=3, encoder__drop_path=0.2
    )
    cut_and_whole(config, view_source, tmp_path, killed_after, steps=10)
    one, two = (load_file(tmp_path / part / "pretrained.safetensors") for part in ("whole", "cut"))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_05_a_checkpoint_holds_optimizer_scaler_and_place(
    tmp_path: Path,
    view_source: ImageMaskDataset,
    tiny_config: Build,
    killed_after: Callable[[int], None],
) -> None:
    killed_after(10)
    with pytest.raises(Killed):
        pretrain(tiny_config("simclr", pretrain__epochs=4), view_source, tmp_path, FACTS)
    state = torch.load(tmp_path / "pretrain.checkpoint", weights_only=True)
    assert {"task", "optimizer", "scaler", "step", "logs", "callback"} <= state.keys()
    assert state["step"] == 10
    assert all(entry["step"] == 10 for entry in state["optimizer"]["state"].values())


# 6. Scheduler never stepped, or its length wrong after a resume; checkpoint outside the loop.


def test_06_the_learning_rate_follows_its_schedule_through_a_resume(
    tmp_path: Path,
    view_source: ImageMaskDataset,
    tiny_config: Build,
    killed_after: Callable[[int], None],
    rates: list[float],
) -> None:
    config = tiny_config("simclr", pretrain__epochs=4, pretrain__warmup_epochs=1)
    wanted = [1e-3 * lr_factor(step, total=20, warmup=5) for step in range(20)]
    cut_and_whole(config, view_source, tmp_path, killed_after, steps=10)
    assert rates == pytest.approx([*wanted, *wanted])
    assert len(set(wanted)) == 20


def test_06_a_checkpoint_is_written_inside_the_loop_at_every_epoch(
    tmp_path: Path,
    view_source: ImageMaskDataset,
    tiny_config: Build,
    killed_after: Callable[[int], None],
) -> None:
    for epoch in (1, 2):
        folder = tmp_path / str(epoch)
        killed_after(5 * epoch + 2)
        with pytest.raises(Killed):
            pretrain(tiny_config("simclr", pretrain__epochs=4), view_source, folder, FACTS)
        state = torch.load(folder / "pretrain.checkpoint", weights_only=True)
        assert state["step"] == 5 * epoch
        assert len(log_of(folder / "pretrain_log.csv")) == epoch


# 7. Thresholds from test labels; test set used for model choice; a patient in two splits.


def table_of(patients: int = 40) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    owner = np.repeat(np.arange(patients), 4)
    table = pd.DataFrame(
        {
            "image_id": [f"{p}_{n}.png" for n, p in enumerate(owner)],
            "patient_id": [str(p) for p in owner],
            "split": np.where(owner % 2, "val", "test"),
            "view_position": "PA",
            "sex": "F",
            "age": pd.array([50] * len(owner), dtype="Int16"),
        }
    )
    for name in DISEASES:
        labels = rng.random(len(owner)) < 0.3
        table[f"label_{name}"] = labels.astype(np.uint8)
        table[f"score_{name}"] = np.clip(0.3 * labels + 0.6 * rng.random(len(owner)), 0, 1)
    return table


def test_07_thresholds_do_not_depend_on_test_labels() -> None:
    table = table_of()
    other = table.copy()
    test = (table["split"] == "test").to_numpy()
    val = ~test
    settings = EvaluateSettings(bootstrap=0)
    labels = [name for name in table.columns if name.startswith("label_")]
    other.loc[test, labels] = 1 - other.loc[test, labels]
    one, two = (
        evaluate_predictions(Predictions(t), settings, 0)["per_disease"] for t in (table, other)
    )
    for name in DISEASES:
        assert one[name]["threshold"] == two[name]["threshold"]
        assert one[name]["temperature"] == two[name]["temperature"]
        assert one[name]["auc"] != two[name]["auc"]
    other = table.copy()
    other.loc[val, labels] = 1 - other.loc[val, labels]
    three = evaluate_predictions(Predictions(other), settings, 0)["per_disease"]
    assert any(one[name]["threshold"] != three[name]["threshold"] for name in DISEASES)


def test_07_the_test_split_plays_no_part_in_the_choice_of_the_model(
    tmp_path: Path, view_source: ImageMaskDataset, tiny_config: Build
) -> None:
    config = tiny_config("simclr", no_pretrain=True)
    test = view_source.splits == "test"
    labels, images = view_source.labels.copy(), view_source.cache.images.copy()
    labels[test], images[test] = 1 - labels[test], 255 - images[test]
    other = replace(view_source, labels=labels, cache=replace(view_source.cache, images=images))
    for name, source in (("one", view_source), ("other", other)):
        finetune(config, source, tmp_path / name, FACTS)
    one, two = (load_file(tmp_path / n / "classifier.safetensors") for n in ("one", "other"))
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_07_a_patient_in_two_splits_is_an_error_wherever_it_comes_up() -> None:
    with pytest.raises(LeakError, match="1 patient has images in more than one split: b"):
        check_leaks(pd.Series(["a", "b", "b"]), pd.Series(["train", "train", "test"]))
    table = table_of()
    table.loc[0, "split"] = "val"
    with pytest.raises(LeakError):
        Predictions(table)


# 8. uint8 mask divided by 255; missing mask silently replaced by ones or zeros.


class OneMask:
    """A mask store of two images: a lung mask, and one that failed."""

    fingerprint = "f"

    def read(self, ids: list[str]) -> Iterator[LungMask]:
        for image_id in ids:
            if image_id == "good.png":
                yield LungMask(lungs(0)[1] > 0, 0.8, "ok")
            else:
                yield LungMask.failed((SIZE, SIZE), "no lung found")


def catalog_of(root: Path, names: list[str]) -> Catalog:
    rows: dict[str, object] = {"image_id": names, "path": names, "content_hash": names}
    rows |= {"split": "train", "status": "ok", "problem": ""}
    return Catalog(root, pd.DataFrame(rows), {})


@pytest.mark.parametrize("high", [1, 255])
def test_08_a_mask_that_is_not_bool_is_refused(high: int) -> None:
    mask = lungs(0)[1] * np.uint8(high)
    with pytest.raises(TypeError, match="bool"):
        LungMask(mask, 1.0, "ok")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="bool"):
        Letterbox.of(mask.shape, 32).mask(mask)


def test_08_a_missing_mask_is_the_whole_image_without_trust_and_counted(tmp_path: Path) -> None:
    catalog = catalog_of(tmp_path, ["good.png", "bad.png"])
    masks = mask_array(catalog, OneMask(), tmp_path, SIZE)  # type: ignore[arg-type]
    np.testing.assert_array_equal(masks.mask(0), lungs(0)[1])
    assert masks.mask(1).all()
    assert masks.quality.tolist() == pytest.approx([0.8, 0.0])
    assert masks.usable.tolist() == [True, False]
    assert masks.missing == 1


# 9. A corrupt image silently turned black.


def test_09_a_corrupt_image_is_named_and_set_aside(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "good.png"), lungs(0)[0])
    content = (tmp_path / "good.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(ImageError, match=r"cut\.png"):
        read_image(tmp_path / "cut.png")
    cache = decode(catalog_of(tmp_path, ["good.png", "cut.png"]), tmp_path / "cache", 32)
    assert cache.usable.tolist() == [True, False]
    assert list(cache.problems) == ["cut.png"]
    assert cache.images[0].max() > 0


# 10. Image and mask resized with aliasing; wrong normalization for the weights.


def test_10_shrinking_does_not_alias() -> None:
    board = (np.indices((256, 256)).sum(0) % 2 * 255).astype(np.uint8)
    for small in (
        Letterbox.of((256, 256), 64).image(board),
        warp_image(board, whole(256).affine(64), 64),
    ):
        assert np.abs(small[4:-4, 4:-4].astype(int) - 127).max() <= 16
    stripes = np.zeros((256, 256), bool)
    stripes[:, ::4] = True  # A quarter of every cell: picking single pixels would find all or none.
    assert not Letterbox.of((256, 256), 64).mask(stripes).any()
    stripes[:, 1::4] = stripes[:, 2::4] = True
    assert Letterbox.of((256, 256), 64).mask(stripes).all()


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "mobilenetv2_100", CNN])
def test_10_images_are_normalized_as_the_weights_expect(name: str) -> None:
    encoder = build_encoder(EncoderSettings(name=name, pretrained=False), SIZE)
    facts = timm.get_pretrained_cfg(name)
    assert facts is not None
    images = torch.rand(2, 1, 8, 8)
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (facts.mean, facts.std))
    torch.testing.assert_close(encoder.normalize(images), (images - mean) / std)


# 11. NT-Xent saturated by weak augmentation.


def test_11_a_saturated_contrast_is_logged_beside_its_floor_and_warned_of(
    tmp_path: Path, view_source: ImageMaskDataset, tiny_config: Build
) -> None:
    for batch, temperature in ((4, 0.2), (64, 0.5)):
        wanted = np.log(1 + (2 * batch - 2) * np.exp((-1 / (batch - 1) - 1) / temperature))
        assert nt_xent_floor(batch, temperature) == pytest.approx(wanted)
    simplex = torch.nn.functional.normalize(torch.eye(4) - 0.25, dim=1)
    row = {
        "epoch": 0.0, "embedding_std": 1.0, "embedding_rank": 9.0,
        "contrast": float(nt_xent_loss(simplex, simplex, 0.2)),
    }  # fmt: skip
    floors = {"contrast": nt_xent_floor(4, 0.2)}
    assert "too easy" in epoch_warnings(row, floors)[0]
    assert epoch_warnings(row | {"contrast": row["contrast"] + 1}, floors) == []
    pretrain(tiny_config("simclr", pretrain__epochs=1), view_source, tmp_path, FACTS)
    logged = log_of(tmp_path / "pretrain_log.csv")[0]
    assert logged["contrast_floor"] == pytest.approx(nt_xent_floor(2, 0.2))
    assert logged["contrast"] > logged["contrast_floor"]
    assert logged["contrast_chance"] == pytest.approx(np.log(2 * 2 - 1))


def test_11_a_pretraining_that_stays_near_chance_is_warned_of(
    tmp_path: Path, view_source: ImageMaskDataset, tiny_config: Build
) -> None:
    # Steps this small leave the network as it was.
    config = tiny_config("simclr", pretrain__lr=1e-9, pretrain__probe_every=0, data__batch_size=10)
    pretrain(config, view_source, tmp_path, FACTS)
    logged = log_of(tmp_path / "pretrain_log.csv")[-1]
    assert {"contrast_chance", "contrast_start"} <= logged.keys()
    texts = read_json(tmp_path / "pretrain_warnings.json")
    assert any("chance" in text and "contrast" in text for text in texts)


def test_11_views_without_augmentation_are_warned_of_in_the_run(
    tmp_path: Path, view_source: ImageMaskDataset, tiny_config: Build
) -> None:
    names = ("rotation", "flip", "brightness", "contrast", "gamma", "blur", "noise")
    same = dict.fromkeys(names, 0.0) | {"scale": (1.0, 1.0), "ratio": (1.0, 1.0)}
    for name, augment in (("same", same), ("usual", {})):
        config = tiny_config("simclr", pretrain__epochs=1, views__pretrain=augment)
        pretrain(config, view_source, tmp_path / name, FACTS)
    # Two images that BatchNorm puts opposite each other: the loss has nothing left to teach.
    warnings = read_json(tmp_path / "same" / "pretrain_warnings.json")
    assert any("contrast sits at its floor" in text for text in warnings)
    warnings = read_json(tmp_path / "usual" / "pretrain_warnings.json")
    assert not any("floor" in text for text in warnings)


# 12. A collapsed representation.


def test_12_a_collapsed_representation_is_logged_and_warned_of(tmp_path: Path) -> None:
    torch.manual_seed(0)
    output = task_of("simclr")(batch_of(), 0.0)
    for healthy in (True, False):
        log = EpochLog(tmp_path / "log.csv", monitor_batches=8)
        for _ in range(8):
            spread = torch.randn(8, 32) * (1.0 if healthy else 1e-4)
            output.embedding = spread if healthy else 1 + spread
            log.add(output, output.loss, images=8, waited=0.0)
        row = log.end_epoch(0, lr=1e-3, levels={})
        log.write()
        logged = log_of(tmp_path / "log.csv")[0]
        assert logged["embedding_std"] == pytest.approx(row["embedding_std"])
        assert logged["embedding_rank"] == pytest.approx(row["embedding_rank"])
        collapsed = [text for text in epoch_warnings(row, {}) if "collapsed" in text]
        assert bool(collapsed) == (not healthy)


def test_12_the_monitor_sees_features_that_no_batch_norm_has_spread() -> None:
    task = task_of("simclr")
    for parameter in task.encoder.parameters():
        parameter.data.zero_()
    assert task(batch_of(), 0.0).embedding.std(dim=0).max() == 0


# 13. Figures or tables not drawn from the run's own result files.


def test_13_the_report_shows_what_the_runs_files_say_and_nothing_else(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    config = Config(method_name="simclr", evaluate=EvaluateSettings(bootstrap=0))
    run.initialize(config)
    empty = words_of(write_report(run))
    predictions = Predictions(table_of())
    predictions.write(run.predictions)
    metrics = evaluate_predictions(predictions, config.evaluate, seed=0)
    pages = []
    for value in (0.0123, 0.9871):
        metrics["mean_auc"] = value
        write_json(run.metrics, metrics)
        pages.append(words_of(write_report(run)))
    assert ["0.012" in page for page in (empty, *pages)] == [False, True, False]
    assert ["0.987" in page for page in (empty, *pages)] == [False, False, True]


def test_13_figures_are_gone_with_the_file_they_are_drawn_from(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    config = Config(method_name="simclr", evaluate=EvaluateSettings(bootstrap=0))
    run.initialize(config)
    predictions = Predictions(table_of())
    predictions.write(run.predictions)
    write_json(run.metrics, evaluate_predictions(predictions, config.evaluate, seed=0))
    drawn = write_report(run).read_text().count("<svg")
    run.predictions.unlink()
    left = write_report(run).read_text().count("<svg")
    run.metrics.unlink()
    assert drawn > left > write_report(run).read_text().count("<svg")


def words_of(page: Path) -> set[str]:
    """The words of a page, tags and drawings left out."""
    text = re.sub(r"<(svg|style|script).*?</\1>|<[^>]*>", " ", page.read_text(), flags=re.DOTALL)
    return set(re.split(r"[\s,;()]+", text))


# 14. Pretrained weights destroyed by a high learning rate without warm-up.


def test_14_both_stages_warm_up_and_limit_the_gradient_by_default() -> None:
    for name in ("simclr", OPTION_7):
        config = configure(name)
        for settings in (config.pretrain, config.finetune):
            assert settings.warmup_epochs > 0
            assert settings.clip_grad is not None
        assert config.finetune.lr <= 1e-3
        for pretrained in (True, False):
            assert auto_pretrain_lr(1, 64, imagenet=pretrained) <= (1e-3 if pretrained else 3e-3)


def test_14_the_first_steps_are_small_and_rise_to_the_full_rate(
    tmp_path: Path, view_source: ImageMaskDataset, tiny_config: Build, rates: list[float]
) -> None:
    config = tiny_config("simclr", pretrain__epochs=4)
    pretrain(config, view_source, tmp_path, FACTS)
    steps = 5 * 2
    assert rates[:steps] == pytest.approx([1e-3 * (n + 1) / (steps + 1) for n in range(steps)])
    assert max(rates) == rates[steps] == 1e-3
