"""The numbers of one body and the outlines that follow from them.

Lengths are fractions of the image side (about 350 mm); *offsets* are distances from the midline.
``side`` is -1 for the patient's right (the image's left) and +1 for the patient's left.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.interpolate import PchipInterpolator

from medsgssl.data.synthetic.canvas import Points, curve
from medsgssl.utils.rng import generator

RIGHT = -1
LEFT = 1
_APEX_OFFSET = 0.115


@dataclass(frozen=True)
class Subject:
    """What stays the same in all images of one patient."""

    sex: str
    age: int
    build: float
    """0 slim .. 1 stout."""
    width: float
    """Offset of the widest inner chest wall."""
    height: float
    """From the lung apex to the dome of the right diaphragm."""
    heart: float
    """Cardiothoracic ratio on a PA image."""
    knob: float
    """Offset of the aortic knob; it unfolds with age."""
    breast: float
    """Radius of the breast shadows, 0 for none."""


def draw_subject(seed: int, patient: int) -> Subject:
    """Draw the body of one patient, a pure function of its arguments."""
    random = generator(seed, "phantom subject", patient)
    sex = "F" if random.random() < 0.45 else "M"
    age = int(np.clip(random.normal(49, 16), 12, 92))
    build = float(random.beta(2, 2.5))
    width = random.uniform(0.335, 0.385) - (0.012 if sex == "F" else 0.0)
    height = random.uniform(0.54, 0.66) - 0.03 * build
    heart = random.uniform(0.39, 0.46) + 0.0004 * (age - 50)
    knob = 0.072 + 0.00035 * (age - 40) + random.uniform(-0.006, 0.008)
    breast = random.uniform(0.1, 0.17) if sex == "F" and age > 14 else 0.0
    return Subject(
        sex, age, build, float(width), float(height), float(heart), float(knob), float(breast)
    )


@dataclass(frozen=True)
class Anatomy:
    """The body as it lies in one image; findings may change it before it is drawn."""

    subject: Subject
    view_position: str
    mid: float
    apex: float
    domes: tuple[float, float]
    """Heights of the diaphragm domes, patient's right and left."""
    sulcus: float
    """How far the costophrenic angles lie below the domes."""
    width: float
    skew: float
    """Share by which the right half is wider than the left, as in a rotated patient."""
    heart: float
    axilla: float
    """How far the armpits lie below the lung apex."""
    arms_down: bool
    lean: float
    """Share of the heart that lies left of the midline."""

    def dome(self, side: int) -> float:
        """Height of one diaphragm dome."""
        return self.domes[0 if side < 0 else 1]

    @property
    def span(self) -> float:
        """From the apex to the mean dome."""
        return sum(self.domes) / 2 - self.apex

    def level(self, share: float) -> float:
        """Height at a share of the way from the apex (0) to the domes (1)."""
        return self.apex + share * self.span

    def at(self, side: int, offset: float, y: float) -> tuple[float, float]:
        """Return the point at an offset from the midline."""
        return self.mid + side * offset, y

    def wall(self, side: int, y: Points | float) -> Points:
        """Offset of the inner chest wall at heights ``y``."""
        bottom = self.dome(side) + self.sulcus
        t = np.clip((np.asarray(y, np.float64) - self.apex) / (bottom - self.apex), 0, 1)
        full = self.width * (1 - side * self.skew)
        power = 2.7
        rise = (1 - (1 - t) ** power) ** (1 / power)
        # The cage still widens a little toward its base.
        return _APEX_OFFSET + (full * (0.94 + 0.06 * t) - _APEX_OFFSET) * rise

    def diaphragm(self, side: int) -> Points:
        """The dome from the costophrenic angle to the midline, ``(n, 2)``."""
        dome = self.dome(side)
        reach = float(self.wall(side, dome + self.sulcus))
        u = np.linspace(1.0, 0.0, 40)
        top = 0.5
        lateral = np.clip((u - top) / (1 - top), 0, 1) ** 2.3 * self.sulcus
        medial = np.clip((top - u) / top, 0, 1) ** 2 * min(0.05, 0.5 * self.sulcus)
        return np.stack([self.mid + side * u * reach, dome + lateral + medial], axis=1)

    def lung(self, side: int) -> Points:
        """Outline of one lung field, still including what the mediastinum covers."""
        bottom = self.dome(side) + self.sulcus
        y = self.apex + (bottom - self.apex) * np.linspace(0, 1, 50) ** 2
        lateral = np.stack([self.mid + side * self.wall(side, y), y], axis=1)
        turn = np.linspace(0, np.pi / 2, 12)
        medial = np.stack(
            [
                self.mid + side * (_APEX_OFFSET - (_APEX_OFFSET - 0.02) * np.sin(turn)),
                self.apex + 0.12 * (1 - np.cos(turn)),
            ],
            axis=1,
        )
        return np.vstack([lateral, self.diaphragm(side), medial[::-1]])

    @cached_property
    def heart_offsets(self) -> tuple[float, float]:
        """Largest offsets of the heart to the patient's right and left."""
        total = 2 * self.heart * self.width
        return total * (1 - self.lean), total * self.lean

    def mediastinum(self) -> Points:
        """Outline of the great vessels and the heart, ``(n, 2)``."""
        right, left = self.heart_offsets
        knob = self.subject.knob
        low = max(self.domes) + 0.1
        rights = [
            (self.apex - 0.03, 0.06),
            (self.level(0.12), 0.046),
            (self.level(0.42), 0.055),
            (self.level(0.56), 0.064),
            (self.level(0.66), max(0.068, 0.78 * right)),
            (self.level(0.84), right),
            (self.level(1.0), 0.86 * right),
            (low, 0.5 * right),
        ]
        lefts = [
            (self.apex - 0.03, 0.06),
            (self.level(0.2), 0.05),
            (self.level(0.28), 0.056),
            (self.level(0.36), knob),
            (self.level(0.44), 0.9 * knob),
            (self.level(0.5), 0.078),
            (self.level(0.57), max(0.09, 0.42 * left)),
            (self.level(0.72), 0.67 * left),
            (self.level(0.86), 0.92 * left),
            (self.level(0.95), left),
            (self.level(1.04), 0.93 * left),
            (low, 0.6 * left),
        ]
        y = np.linspace(self.apex - 0.03, low, 70)
        a = self.mid - _smooth(rights, y)
        b = self.mid + _smooth(lefts, y)
        return np.vstack([np.stack([a, y], axis=1), np.stack([b, y], axis=1)[::-1]])

    def heart_box(self) -> Points:
        """Outline of the heart alone: the mediastinum below the hila and above the diaphragm."""
        outline = self.mediastinum()
        inside = (outline[:, 1] > self.level(0.58)) & (outline[:, 1] < self.level(1.04))
        return outline[inside]

    def abdomen(self) -> Points:
        """Everything below the diaphragm between the flanks."""
        right, left = self.diaphragm(RIGHT), self.diaphragm(LEFT)
        flanks = [(left[0, 0] + 0.06, left[0, 1] + 0.06), (left[0, 0] + 0.1, 1.3)]
        others = [(right[0, 0] - 0.1, 1.3), (right[0, 0] - 0.06, right[0, 1] + 0.06)]
        return np.vstack([right, left[::-1], flanks, others])

    def body(self) -> list[Points]:
        """Outlines of neck with shoulders and trunk, and of arms that hang beside it."""
        stout = self.subject.build
        neck = 0.095 + 0.03 * stout + (0.008 if self.subject.sex == "M" else 0.0)
        flank = self.width + 0.045 + 0.06 * stout
        raised = -0.02 if self.view_position == "AP" else 0.0
        half = [
            (neck + 0.02, -0.3),
            (neck, self.apex - 0.13),
            (neck + 0.03, self.apex - 0.07 + raised),
            (neck + 0.15, self.apex - 0.035 + raised),
            (self.width + 0.06, self.apex - 0.01 + raised),
            (self.width + 0.2, self.apex + 0.09),
            (self.width + 0.3, self.apex + 0.3),
        ]
        axilla = self.apex + self.axilla
        lower = [
            (self.width + 0.3, axilla - 0.04),
            (flank + 0.07, axilla - 0.01),
            (flank + 0.028, axilla + 0.03),
            (flank + 0.014, axilla + 0.09),
            (flank, axilla + 0.2),
            (flank - 0.005 + 0.03 * stout, axilla + 0.4),
            (flank - 0.01 + 0.05 * stout, 1.3),
        ]
        shape = np.vstack([curve(half), curve(lower)])
        axis = np.array([self.mid, 0.0])
        outlines = [np.vstack([shape * [-1, 1] + axis, (shape + axis)[::-1]])]
        if self.arms_down:
            arm = curve(
                [
                    (self.width + 0.06, self.apex + 0.1),
                    (flank + 0.035, axilla),
                    (flank + 0.05, axilla + 0.3),
                    (flank + 0.07, 1.3),
                    (flank + 0.3, 1.3),
                    (flank + 0.3, self.apex + 0.1),
                ]
            )
            outlines += [arm * [-1, 1] + axis, arm + axis]
        return outlines


def _smooth(knots: list[tuple[float, float]], y: Points) -> Points:
    """Interpolate (height, offset) knots without overshoot."""
    heights, offsets = np.array(knots).T
    return np.asarray(PchipInterpolator(heights, offsets)(y), dtype=np.float64)


def draw_anatomy(subject: Subject, view_position: str, random: np.random.Generator) -> Anatomy:
    """Place a subject in one image: breath, position and view differ from image to image."""
    supine = view_position == "AP"
    height = subject.height * random.uniform(0.92, 1.04) * (0.91 if supine else 1.0)
    apex = random.uniform(0.08, 0.16) + (0.03 if supine else 0.0)
    right = min(apex + height, 0.81)
    left = right + random.uniform(0.0, 0.035)
    return Anatomy(
        subject=subject,
        view_position=view_position,
        mid=0.5 + random.uniform(-0.02, 0.02),
        apex=apex,
        domes=(right, left),
        sulcus=random.uniform(0.075, 0.12) * (0.85 if supine else 1.0),
        width=subject.width * (1.0 + 0.3 * max(0.0, 0.6 - height)),
        skew=random.normal(0, 0.015) * (1.6 if supine else 1.0),
        heart=min(subject.heart + (0.035 if supine else 0.0), 0.49),
        axilla=random.uniform(0.28, 0.46),
        arms_down=bool(random.random() < (0.85 if supine else 0.3)),
        lean=random.uniform(0.64, 0.72),
    )
