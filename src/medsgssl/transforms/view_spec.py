"""A view plan says which views of an image a batch holds; ``make_view`` renders one of them."""

from __future__ import annotations

from dataclasses import dataclass

from medsgssl.config.schema import AugmentSettings
from medsgssl.transforms.affine import Affine, UInt8, warp_image, warp_mask
from medsgssl.transforms.crops import CropRule
from medsgssl.transforms.photometric import apply_photometric
from medsgssl.utils.rng import generator


@dataclass(frozen=True)
class ViewSpec:
    """One view: where it looks, and its photometric noise (None: none)."""

    crop: CropRule
    augment: AugmentSettings | None = None


ViewPlan = tuple[ViewSpec, ...]


@dataclass(frozen=True, slots=True)
class View:
    """One rendered view.

    Attributes:
        image: uint8, (S, S).
        mask: uint8 of 0 and 1, (S, S), moved by the same affine.
        affine: View pixels to cached image pixels, (2, 3).
        flipped: Whether left and right are exchanged.
    """

    image: UInt8
    mask: UInt8
    affine: Affine
    flipped: bool


def make_view(
    image: UInt8,
    mask: UInt8,
    quality: float,
    spec: ViewSpec,
    size: int,
    key: tuple[int, int, int, int],
    out: tuple[UInt8, UInt8] | None = None,
) -> View:
    """Render one view as a pure function of its arguments.

    Args:
        image: Cached image, uint8, (H, H).
        mask: Its lung mask, uint8 of 0 and 1, (H, H).
        quality: Trust in the mask, in [0, 1].
        spec: What to render.
        size: Side of the view in pixels.
        key: (seed, epoch, image key, view number): the only source of randomness.
        out: Where to write image and mask; allocated when not given, which costs time.
    """
    seed, *counters = key
    rng = generator(seed, "views", *counters)
    crop = spec.crop.draw(mask, quality, rng)
    affine = crop.affine(size)
    image_out, mask_out = out or (None, None)
    warped = warp_image(image, affine, size, image_out)
    if spec.augment is not None:
        warped = apply_photometric(warped, spec.augment, rng)
    return View(warped, warp_mask(mask, affine, size, mask_out), affine, crop.flip)
