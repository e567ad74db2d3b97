"""Decoded cache: images and masks at training resolution, memory-mapped."""

from medsgssl.cache.decoded import DecodedCache, cache_folder, decode, open_cache
from medsgssl.cache.masks import CONTROLS, MaskArray, mask_array, random_blob, whole_masks
from medsgssl.cache.square import SquareFit

__all__ = [
    "CONTROLS",
    "DecodedCache",
    "MaskArray",
    "SquareFit",
    "cache_folder",
    "decode",
    "mask_array",
    "open_cache",
    "random_blob",
    "whole_masks",
]
