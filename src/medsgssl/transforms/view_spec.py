"""A view plan says which views of an image a batch holds; ``make_view`` renders one of them."""

from __future__ import annotations

from dataclasses import dataclass

from medsgssl.config.schema import AugmentSettings
from medsgssl.transforms.affine import Affine, UInt8, warp_image, warp_mask
from medsgssl.transforms.crops import CropRule
from medsgssl.transforms.photometric import Tone, apply_tone
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


@dataclass(frozen=True, slots=True)
class DrawnView:
    """All that is random about one view; rendering it needs no more numbers.

    Attributes:
        affine: View pixels to cached image pixels, (2, 3).
        flipped: Whether left and right are exchanged.
        tone: Photometric noise; None for none.
    """

    affine: Affine
    flipped: bool
    tone: Tone | None


def draw_view(
    mask: UInt8, quality: float, spec: ViewSpec, size: int, key: tuple[int, int, int, int]
) -> DrawnView:
    """Draw the random numbers of one view as a pure function of the arguments of ``make_view``."""
    seed, *counters = key
    rng = generator(seed, "views", *counters)
    crop = spec.crop.draw(mask, quality, rng)
    tone = None if spec.augment is None else Tone.draw(spec.augment, size, rng)
    return DrawnView(crop.affine(size), crop.flip, tone)


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
    drawn = draw_view(mask, quality, spec, size, key)
    image_out, mask_out = out or (None, None)
    warped = render_image(image, drawn, size, image_out)
    moved = warp_mask(mask, drawn.affine, size, mask_out)
    return View(warped, moved, drawn.affine, drawn.flipped)


def render_image(image: UInt8, drawn: DrawnView, size: int, out: UInt8 | None = None) -> UInt8:
    """Return the picture of a drawn view, uint8, (size, size).

    Args:
        image: Cached image, uint8, (H, H).
        drawn: The view.
        size: Side S in pixels.
        out: Where to write it; allocated when not given, which costs time.
    """
    warped = warp_image(image, drawn.affine, size, out)
    return warped if drawn.tone is None else apply_tone(warped, drawn.tone)
