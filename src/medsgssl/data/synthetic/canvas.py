"""A drawing surface in body coordinates: shapes become smooth fields on a square raster.

Body coordinates are fractions of the image side before the pose is applied: x to the image's
right, y downwards, (0, 0) the upper left corner and (1, 1) the lower right one.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]
Points = NDArray[np.float64]

_TURN = np.array([-1.0, 1.0])
_SHIFT = 4  # OpenCV draws with this many fractional bits


class Canvas:
    """A square raster that draws shapes given in body coordinates.

    Args:
        side: Height and width of the raster in pixels.
        pose: 2 x 3 affine map from body coordinates to fractions of the raster.
    """

    def __init__(self, side: int, pose: Points) -> None:
        self.side = side
        matrix = pose * side
        self._to_fixed = matrix[:, :2].T * (1 << _SHIFT)
        self._from_fixed = (matrix[:, 2] - 0.5) * (1 << _SHIFT)
        inverse = cv2.invertAffineTransform(matrix)
        columns = np.arange(side, dtype=np.float32)[None, :] + np.float32(0.5)
        rows = np.arange(side, dtype=np.float32)[:, None] + np.float32(0.5)
        weights = inverse.astype(np.float32)
        self.x: Floats = weights[0, 0] * columns + weights[0, 1] * rows + weights[0, 2]
        self.y: Floats = weights[1, 0] * columns + weights[1, 1] * rows + weights[1, 2]
        # Fields without detail are computed on a quarter of the side and enlarged.
        coarse = (max(16, side // 4),) * 2
        self._coarse_x = cv2.resize(self.x, coarse, interpolation=cv2.INTER_AREA)
        self._coarse_y = cv2.resize(self.y, coarse, interpolation=cv2.INTER_AREA)

    def blank(self) -> Bytes:
        """Return an empty ``uint8`` raster."""
        return np.zeros((self.side, self.side), np.uint8)

    def fill(self, *polygons: Points, value: int = 255, onto: Bytes | None = None) -> Bytes:
        """Fill polygons and return the raster, antialiased, 0..``value``.

        Args:
            *polygons: One ``(n, 2)`` or many of equally many points ``(m, n, 2)``.
            value: Gray value of their inside.
            onto: Raster to draw on; a new one when not given.
        """
        raster = self.blank() if onto is None else onto
        for polygon in polygons:
            fixed = self._fixed(polygon)
            # One call per polygon: in a joint call, overlaps would become holes.
            for one in fixed if polygon.ndim == 3 else [fixed]:
                cv2.fillPoly(raster, [one], value, cv2.LINE_AA, _SHIFT)
        return raster

    def stroke(
        self,
        lines: Sequence[Points] | Points,
        width: float,
        value: int = 255,
        onto: Bytes | None = None,
    ) -> Bytes:
        """Draw open lines of one width (fraction of the side) and return the raster.

        Many lines of equally many points are best given as one array ``(n, points, 2)``.
        Lines thinner than a pixel are drawn one pixel wide and proportionally fainter.
        """
        raster = self.blank() if onto is None else onto
        pixels = width * self.side
        shade = round(value * min(1.0, pixels))
        if isinstance(lines, np.ndarray):
            fixed = list(self._fixed(lines))
        else:
            fixed = [self._fixed(line) for line in lines]
        cv2.polylines(raster, fixed, False, shade, max(1, round(pixels)), cv2.LINE_AA, _SHIFT)
        return raster

    def soften(self, raster: Bytes | Floats, sigma: float, scale: float = 1.0 / 255) -> Floats:
        """Blur a raster by ``sigma`` (fraction of the side) and return ``scale`` times it."""
        pixels = sigma * self.side
        # A wide blur keeps no detail, so it is done on a small copy.
        step = 1
        while pixels / step > 4.0 and self.side // (2 * step) >= 16:
            step *= 2
        small = raster
        if step > 1:
            inner = (self.side // step, self.side // step)
            small = cv2.resize(raster, inner, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
        field = small.astype(np.float32) * np.float32(scale)
        if pixels / step > 0.2:
            field = cv2.GaussianBlur(
                field, (0, 0), pixels / step, borderType=cv2.BORDER_REPLICATE
            ).astype(np.float32, copy=False)
        return self.spread(field) if step > 1 else field

    def spread(self, small: Floats) -> Floats:
        """Enlarge a small square field to the raster, smoothly."""
        large = cv2.resize(small, (self.side, self.side), interpolation=cv2.INTER_LINEAR)
        return large.astype(np.float32, copy=False)

    def noise(self, random: np.random.Generator, cells: int) -> Floats:
        """Return smooth standard-normal-like noise with ``cells`` bumps along a side."""
        small = random.standard_normal((cells, cells)).astype(np.float32)
        large = cv2.resize(small, (self.side, self.side), interpolation=cv2.INTER_CUBIC)
        return large.astype(np.float32, copy=False)

    def bump(self, center: tuple[float, float], radii: tuple[float, float]) -> Floats:
        """Return a Gaussian bump of height 1; ``radii`` are its standard deviations."""
        a = (self._coarse_x - np.float32(center[0])) / np.float32(radii[0])
        b = (self._coarse_y - np.float32(center[1])) / np.float32(radii[1])
        return self.spread(np.exp(np.float32(-0.5) * (a * a + b * b)))

    def ball(self, center: tuple[float, float], radii: tuple[float, float]) -> Floats:
        """Return the thickness of an ellipsoid: 1 in its center, 0 outside."""
        a = (self.x - np.float32(center[0])) / np.float32(radii[0])
        b = (self.y - np.float32(center[1])) / np.float32(radii[1])
        thickness: Floats = np.sqrt(np.maximum(np.float32(1.0) - a * a - b * b, np.float32(0.0)))
        return thickness

    def _fixed(self, points: Points) -> NDArray[np.int32]:
        return np.rint(points @ self._to_fixed + self._from_fixed).astype(np.int32)


def curve(knots: Sequence[tuple[float, float]] | Points, steps: int = 8) -> Points:
    """Return a Catmull-Rom curve through ``(n, 2)`` knots, ``steps`` points per piece."""
    p = np.asarray(knots, dtype=np.float64)
    p = np.vstack([2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]])[:, None]
    a, b, c, d = p[:-3], p[1:-2], p[2:-1], p[3:]
    t = np.linspace(0, 1, steps, endpoint=False)[:, None]
    pieces = b + 0.5 * t * (
        (c - a) + t * ((2 * a - 5 * b + 4 * c - d) + t * (3 * b - a - 3 * c + d))
    )
    return np.vstack([pieces.reshape(-1, 2), p[-2]])


def edges(line: Points, width: float | Points) -> tuple[Points, Points]:
    """Return the two borders of a band along a line.

    Args:
        line: One line ``(n, 2)`` or many ``(..., n, 2)``.
        width: One value or one per point.
    """
    steps = np.empty_like(line)
    steps[..., 1:-1, :] = line[..., 2:, :] - line[..., :-2, :]
    steps[..., 0, :] = line[..., 1, :] - line[..., 0, :]
    steps[..., -1, :] = line[..., -1, :] - line[..., -2, :]
    normal = steps[..., ::-1] * _TURN
    normal /= np.sqrt((normal * normal).sum(axis=-1, keepdims=True)) + 1e-9
    half = np.asarray(width, dtype=np.float64)[..., None] / 2
    return line + normal * half, line - normal * half


def band(line: Points, width: float | Points) -> Points:
    """Return the closed outline of a band along a line."""
    one, other = edges(line, width)
    return np.vstack([one, other[::-1]])


def ellipse(center: tuple[float, float], radii: tuple[float, float], angle: float = 0.0) -> Points:
    """Return an ellipse as a polygon; ``angle`` in radians, clockwise in the image."""
    turn = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    x, y = radii[0] * np.cos(turn), radii[1] * np.sin(turn)
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack([center[0] + x * cos - y * sin, center[1] + x * sin + y * cos], axis=1)
