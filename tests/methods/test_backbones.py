"""Every option takes the backbones that users name, at the sizes that they ask for."""

from __future__ import annotations

import pytest
import torch

from medsgssl.errors import ConfigError
from medsgssl.methods.registry import all_methods, configure, method_of

CNNS = ["mobilenetv2_100", "resnet18", "densenet121", "convnext_atto"]
TRANSFORMERS = ["vit_tiny_patch16_224", "vit_small_patch16_224"]
PRETRAINING = [name for name, method in all_methods().items() if method.pretrains]

# Guidance of attention needs a transformer; everything else takes both families.
CASES = [
    *[(name, cnn) for name in PRETRAINING for cnn in CNNS if name != "anatomy-masked-attention"],
    *[(name, TRANSFORMERS[0]) for name in PRETRAINING],
    *[("anatomy-masked-attention", vit) for vit in TRANSFORMERS[1:]],
]


def first_step(lung_batch, name: str, backbone: str, size: int) -> None:
    """Build the method and its twin for one-channel images, and take a gradient."""
    tree = {"encoder": {"name": backbone, "pretrained": False}, "data": {"img_size": size}}
    method = method_of(configure(name, tree))
    torch.manual_seed(0)
    task = method.task(method.encoder())
    output = task(lung_batch(2, size, plan=method.pretrain_views()), 0.5)
    output.loss.backward()
    assert output.loss.isfinite()
    gradient = sum(p.grad.abs().sum() for p in task.encoder.parameters() if p.grad is not None)
    assert gradient > 0

    twin = method_of(configure(name, tree, no_pretrain=True)).encoder().eval()
    images, masks = torch.rand(2, 1, size, size), torch.ones(2, size, size, dtype=torch.bool)
    with torch.inference_mode():
        pooled = twin(images, masks).pooled
    assert pooled.shape == (2, twin.num_features)
    twin.load_state_dict(task.encoder.state_dict())


@pytest.mark.parametrize(("name", "backbone"), CASES)
def test_a_method_takes_its_first_step_on(lung_batch, name: str, backbone: str) -> None:
    first_step(lung_batch, name, backbone, 64)


@pytest.mark.parametrize("size", [96, 224])
@pytest.mark.parametrize("name", PRETRAINING)
def test_a_method_takes_its_first_step_at(lung_batch, name: str, size: int) -> None:
    transformer = name == "anatomy-masked-attention"
    first_step(lung_batch, name, TRANSFORMERS[0] if transformer else CNNS[0], size)


@pytest.mark.slow
@pytest.mark.parametrize("size", [64, 512])
def test_anatomy_masked_attention_takes_vit_base_at(lung_batch, size: int) -> None:
    first_step(lung_batch, "anatomy-masked-attention", "vit_base_patch16_224", size)


def test_guidance_of_attention_refuses_a_backbone_without_attention() -> None:
    tree = {"encoder": {"name": "resnet18", "pretrained": False}, "data": {"img_size": 64}}
    with pytest.raises(ConfigError, match=r"set encoder\.name"):
        method_of(configure("anatomy-masked-attention", tree)).encoder()


@pytest.mark.parametrize(
    ("name", "backbone", "words"),
    [
        ("multi-region", "pit_ti_224", "needs a backbone with a map"),
        ("adaptive-pathology", "pit_ti_224", "needs a backbone with a map"),
        ("attention-prior", "pit_ti_224", "cannot be gated"),
        ("mask-channel", "resnetv2_50x1_bit", "cannot take a mask channel"),
    ],
)
def test_what_a_backbone_cannot_do_is_found_before_any_work(name, backbone, words) -> None:
    tree = {"encoder": {"name": backbone, "pretrained": False}, "data": {"img_size": 64}}
    with pytest.raises(ConfigError, match=words):
        method_of(configure(name, tree)).check()


def test_a_map_below_four_by_four_cells_is_a_warning_for_methods_that_read_it() -> None:
    def warnings(name: str, **encoder: object) -> list[str]:
        tree = {
            "encoder": {"name": "mobilenetv2_050", "pretrained": False, **encoder},
            "data": {"img_size": 64},
        }
        return method_of(configure(name, tree)).check()

    assert warnings("simclr") == []
    assert "2 x 2 cells" in warnings("multi-region")[0]
    assert "encoder.output_stride" in warnings("adaptive-pathology")[0]
    assert warnings("multi-region", output_stride=16) == []
    assert warnings("attention-prior") == []  # its gate has 4 x 4


def test_a_backbone_without_a_map_is_warned_of_before_training() -> None:
    def warnings_of(backbone: str) -> list[str]:
        tree = {"encoder": {"name": backbone, "pretrained": False}, "data": {"img_size": 224}}
        return method_of(configure("simclr", tree)).check()

    assert ["no map of features" in text for text in warnings_of("pit_ti_224")] == [True]
    assert warnings_of("mobilenetv2_100") == []
