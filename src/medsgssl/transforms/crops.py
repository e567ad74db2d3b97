"""Where a view looks: rules that draw a crop from an image's lung mask and random numbers."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from medsgssl.config.schema import AugmentSettings
from medsgssl.transforms.affine import Crop, UInt8, whole


class CropRule(ABC):
    """Draws the crop of one view; a pure function of its arguments."""

    @abstractmethod
    def draw(self, mask: UInt8, quality: float, rng: np.random.Generator) -> Crop:
        """Return a crop.

        Args:
            mask: Lung mask of the cached image, uint8 of 0 and 1, (H, H).
            quality: How far the mask can be trusted, in [0, 1].
            rng: The view's own generator.
        """


@dataclass(frozen=True)
class WholeImage(CropRule):
    """The whole image, upright: the view of validation and test."""

    def draw(self, mask: UInt8, quality: float, rng: np.random.Generator) -> Crop:
        """Return the whole image; the arguments but the mask's size are not used."""
        return whole(mask.shape[0])


@dataclass(frozen=True)
class RandomCrop(CropRule):
    """A random rectangle anywhere in the image, as in SimCLR.

    Source: Szegedy et al., "Going deeper with convolutions", CVPR 2015 (random resized crop);
    Chen et al., "A simple framework for contrastive learning", ICML 2020.
    """

    augment: AugmentSettings

    def draw(self, mask: UInt8, quality: float, rng: np.random.Generator) -> Crop:
        """Return a crop whose area share and aspect lie in the ranges of the settings."""
        side = mask.shape[0]
        width, height = draw_shape(self.augment, side, rng)
        position = rng.random(2)
        x = (width - 1) / 2 + position[0] * (side - width)
        y = (height - 1) / 2 + position[1] * (side - height)
        rotation, flip = draw_pose(self.augment, rng)
        return Crop(x, y, width, height, rotation, flip)


def draw_shape(
    augment: AugmentSettings, side: int, rng: np.random.Generator
) -> tuple[float, float]:
    """Return a random crop width and height in pixels that fit into a square of ``side``."""
    area = rng.uniform(*augment.scale) * side * side
    low, high = augment.ratio
    ratio = math.exp(rng.uniform(math.log(low), math.log(high)))
    return min(math.sqrt(area * ratio), side), min(math.sqrt(area / ratio), side)


def draw_pose(augment: AugmentSettings, rng: np.random.Generator) -> tuple[float, bool]:
    """Return a random rotation in degrees and whether to flip."""
    rotation = rng.uniform(-augment.rotation, augment.rotation)
    return rotation, bool(rng.random() < augment.flip)
