"""The lung box as the frame of every method's views, and settings that would have no effect."""

from __future__ import annotations

import numpy as np
import pytest

from medsgssl.errors import ConfigError
from medsgssl.methods.guided_crop import GuidedCropSettings
from medsgssl.methods.registry import all_methods, configure, method_of
from medsgssl.transforms.lung_crops import LungBox, LungCrop
from medsgssl.utils.rng import generator

MASK = np.zeros((64, 64), np.uint8)
MASK[20:50, 12:30] = MASK[20:50, 34:52] = 1


def configured(name: str, **tree: object):
    vit = {"name": "test_vit", "pretrained": False}
    return method_of(configure(name, {"encoder": vit, "data": {"img_size": 64}, **tree}))


@pytest.mark.parametrize("name", sorted(all_methods()))
def test_the_lung_box_is_the_frame_of_every_view(name: str) -> None:
    method = configured(name, views={"frame": "lung-box"})
    box = LungBox().draw(MASK, 1.0, generator(0, "test"))
    views = [*method.finetune_views(), *method.test_views()]
    views += method.pretrain_views() if method.pretrains else ()
    assert method.sees_masks
    assert method.test_views()[0].crop.draw(MASK, 1.0, generator(0, "test")) == box
    for number in range(20):
        for spec in views:
            crop = spec.crop.draw(MASK, 1.0, generator(number, "test"))
            # Context widens the crops of guided-crop by at most a fifth.
            assert crop.width <= 1.2 * box.width
            assert abs(crop.x - box.x) <= box.width / 2
            assert abs(crop.y - box.y) <= box.width / 2


def test_the_box_of_every_method_is_guided_crops_own_by_default() -> None:
    settings = GuidedCropSettings()
    assert LungBox() == LungBox(settings.box_margin, settings.min_quality)
    crop = configured("guided-crop").pretrain_views()[0].crop
    assert crop == LungCrop(crop.augment, view_size=64)


@pytest.mark.parametrize("name", sorted(set(all_methods()) - {"guided-crop", "anatomy-contrast"}))
def test_the_image_is_the_frame_by_default(name: str) -> None:
    crop = configured(name).test_views()[0].crop.draw(MASK, 1.0, generator(0, "test"))
    assert (crop.width, crop.height) == (64, 64)


def test_guided_crop_refuses_the_frame_that_contradicts_it() -> None:
    with pytest.raises(ConfigError, match="lung box by definition"):
        configured("guided-crop", views={"frame": "image"}).check()


@pytest.mark.parametrize("setting", [{"box_margin": 0.2}, {"min_quality": 0.5}])
def test_guided_crop_warns_of_a_box_that_its_controls_do_not_have(
    setting: dict[str, float],
) -> None:
    assert configured("guided-crop").check() == []
    warned = configured("guided-crop", method=setting).check()
    assert len(warned) == 1
    assert "another lung box than views.frame=lung-box gives other methods" in warned[0]


def test_settings_without_effect_are_warnings() -> None:
    simclr = configured("simclr", masks={"source": "shuffled"})
    assert "masks.source=shuffled has no effect" in simclr.check()[0]
    boxed = configured("simclr", masks={"source": "mean-template"}, views={"frame": "lung-box"})
    assert boxed.check() == []
    crops = configured("guided-crop", views={"pretrain": {"ratio": (0.5, 2.0)}})
    assert "views.pretrain.ratio has no effect" in crops.check()[0]


def test_the_exponent_of_a_loss_that_is_not_used_is_an_error() -> None:
    with pytest.raises(ConfigError, match="focal_gamma has no effect with loss=bce"):
        configure("simclr", {"finetune": {"loss": "bce", "focal_gamma": 3.0}})
