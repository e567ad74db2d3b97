"""Hard cases by name: opacified lungs, bedside films, children, turned images, devices, gas, ...

    python -m benchmarks.mask_cases sheets DATA JUDGED.csv OUT     overlays to judge, kind by kind
    python -m benchmarks.mask_cases page DATA JUDGED.csv PAGE.md   the table

``DATA`` holds ``nih128``, ``nih1024`` and ``lung_masks``. ``JUDGED.csv`` lists real images without
reference masks by kind, with what a person called the mask of ``distilled``: good, usable (a
border off in one place), wrong, or none (the image shows no frontal chest, and ``failed`` is
right). Images with reference masks (the half of Montgomery and Shenzhen that chose no constants)
and phantoms, whose lungs are known exactly, are made into hard cases by drawing.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.masks import GOOD, effusion, one_torch_thread, opacities, pairs_of, turn
from medsgssl.data.synthetic.render import render_phantom
from medsgssl.images.reading import read_image
from medsgssl.masks.agreement import dice
from medsgssl.masks.geometry import resize_mask
from medsgssl.masks.mask_files import read_mask
from medsgssl.masks.overlay import draw_overlay
from medsgssl.masks.recipes.registry import find_recipe
from medsgssl.masks.types import LungMask
from medsgssl.utils.io import write_text
from medsgssl.utils.rng import generator

Gray = NDArray[np.uint8]
Lungs = NDArray[np.bool_]
Change = Callable[[Gray, Lungs, np.random.Generator], tuple[Gray, Lungs]]
VERDICTS = ("good", "usable", "wrong", "none")
PHANTOMS = 40
TEXT = (
    "# Hard cases of lung masks, by name",
    "",
    "Written by `python -m benchmarks.mask_cases page DATA docs/results/masks-by-eye.csv`; the "
    "masks are those of `distilled` with the weights of the package.",
    "",
    "**Judged**: real NIH images, listed with what the author called their masks in "
    "`masks-by-eye.csv`: good, usable (a border off in one place, or a part guessed), wrong, or "
    "none (no frontal chest: the mask should be `failed` or `doubtful`). Images of devices, gas, "
    "frames, lateral views and white lungs were picked by eye before any mask was drawn, the "
    "others at random, one image a patient; `random, after` was looked at after the last change of "
    "the recipe, `random` before. The column after them counts the wrong and none that "
    "have the status `ok`, so that nobody would be warned.",
    "",
    "**References**: the half of Montgomery and Shenzhen on which no constant was chosen, made "
    "into the kind by drawing, against masks drawn by people. **Phantoms**: AP films with the "
    "finding, against their exact lungs. In brackets: how many of the masks below have the status "
    "`ok`.",
    "",
)
_TILE, _COLUMNS = 240, 5


def gas(image: Gray, lungs: Lungs, random: np.random.Generator) -> NDArray[np.float32]:
    """Darken one to three bubbles below the lungs to about the lungs' own gray level."""
    rows, columns = np.nonzero(lungs)
    scale = image.shape[1] / 512
    spoilt = image.astype(np.float32)
    dark = float(np.percentile(image[lungs], 30))
    for _ in range(random.integers(1, 4)):
        side = columns > np.median(columns) if random.random() < 0.7 else columns > 0
        x = random.uniform(np.percentile(columns[side], 15), np.percentile(columns[side], 85))
        axes = (int(random.uniform(20, 60) * scale), int(random.uniform(15, 35) * scale))
        bubble = np.zeros(image.shape, np.float32)
        away = np.abs(columns - x)
        base = rows[away <= away.min() + 2].max()
        y = base + axes[1] + random.uniform(4, 30) * scale
        cv2.ellipse(bubble, (int(x), int(y)), axes, 0, 0, 360, 1, cv2.FILLED)
        soft = np.asarray(cv2.GaussianBlur(bubble, (0, 0), 3 * scale) * ~lungs, np.float32)
        spoilt += soft * (dark - spoilt) * np.float32(random.uniform(0.6, 1))
    return spoilt


def devices(image: Gray, lungs: Lungs, random: np.random.Generator) -> NDArray[np.float32]:
    """Draw a pacemaker or port, wires that cross the lungs, and electrodes."""
    rows, columns = np.nonzero(lungs)
    scale = image.shape[1] / 512
    canvas = image.copy()
    left, right, top = int(columns.min()), int(columns.max()), int(rows.min())
    box = (int(random.uniform(35, 60) * scale), int(random.uniform(30, 45) * scale))
    x = int(right - box[0] * random.uniform(0.8, 1.6))
    y = int(top + random.uniform(0.05, 0.3) * np.ptp(rows))
    cv2.ellipse(canvas, (x, y), (box[0] // 2, box[1] // 2), 0, 0, 360, 245, cv2.FILLED)
    width = max(1, round(2 * scale))
    for _ in range(random.integers(2, 5)):
        start, end = random.uniform([left, top], [right, int(rows.max())], (2, 2))
        bend = random.normal(0, 40 * scale, (8, 2)).cumsum(axis=0) * 0.3
        curve = np.linspace(start, end, 8) + bend
        cv2.polylines(canvas, [curve.astype(np.int32)], False, 235, width, cv2.LINE_AA)
    for _ in range(random.integers(1, 4)):
        spot = random.uniform([left, top], [right, int(rows.max())])
        cv2.circle(canvas, (int(spot[0]), int(spot[1])), int(9 * scale), 240, cv2.FILLED)
    return canvas.astype(np.float32)


def _drawn(change: Callable[..., NDArray[np.generic]]) -> Change:
    def work(image: Gray, lungs: Lungs, random: np.random.Generator) -> tuple[Gray, Lungs]:
        return np.clip(change(image, lungs, random), 0, 255).astype(np.uint8), lungs

    return work


def _moved(move: Callable[[NDArray[np.generic]], NDArray[np.generic]]) -> Change:
    def work(image: Gray, lungs: Lungs, random: np.random.Generator) -> tuple[Gray, Lungs]:
        del random
        changed, mask = np.ascontiguousarray(move(image)), np.ascontiguousarray(move(lungs))
        return changed.astype(np.uint8), mask.astype(bool)

    return work


def _tilted(image: Gray, lungs: Lungs, random: np.random.Generator) -> tuple[Gray, Lungs]:
    seed = int(random.integers(2**31))
    once, again = np.random.default_rng(seed), np.random.default_rng(seed)
    mask = turn(lungs.astype(np.uint8), again) > 0
    return np.asarray(turn(image, once), np.uint8), mask


def _framed(image: Gray, lungs: Lungs, random: np.random.Generator) -> tuple[Gray, Lungs]:
    """Collimation bars at some borders; what they hide is no lung any more."""
    light = int(random.choice([0, 255, int(random.integers(0, 255))]))
    bars = np.zeros(image.shape, bool)
    for quarter in range(4):
        if random.random() < 0.7:
            width = int(random.integers(5, 90) * image.shape[1] / 512)
            np.rot90(bars, quarter)[:width] = True
    return np.where(bars, light, image).astype(np.uint8), lungs & ~bars


#: Kinds of cases in the order of the table, with how an image is made into one; None where only
#: real images show it.
KINDS: dict[str, Change | None] = {
    "random": None,
    "random, after": None,
    "published size": None,
    "plain": lambda image, lungs, random: (image, lungs),
    "AP, bedside": None,
    "opacified lungs": _drawn(opacities),
    "one lung white": None,
    "effusion": _drawn(effusion),
    "children": None,
    "turned by up to 10 degrees, zoomed": _tilted,
    "turned by 90 degrees": _moved(np.rot90),
    "upside down": _moved(lambda one: np.rot90(one, 2)),
    "devices": _drawn(devices),
    "gas below the diaphragm": _drawn(gas),
    "lateral": None,
    "collimation frames": _framed,
}
#: Phantoms: findings of a kind, all as AP films, which carry tubes, wires and plates.
FINDINGS = {
    "AP, bedside": (),
    "opacified lungs": ("Consolidation",),
    "effusion": ("Effusion",),
}


@dataclass
class Row:
    """One kind: what people called its masks, and the scores of those with exact lungs."""

    verdicts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(VERDICTS, 0))
    unflagged: int = 0
    scores: dict[str, list[tuple[float, str]]] = field(default_factory=dict)

    def add(self, group: str, drawn: LungMask, lungs: Lungs) -> None:
        """Score a mask against the exact lungs."""
        mask = resize_mask(drawn.mask, (lungs.shape[0], lungs.shape[1]))
        self.scores.setdefault(group, []).append((dice(mask, lungs), drawn.status))

    def cells(self) -> list[str]:
        """Return the cells of the table."""
        judged = sum(self.verdicts.values())
        cells = [str(judged), *(str(self.verdicts[name]) for name in VERDICTS), str(self.unflagged)]
        cells = cells if judged else [""] * len(cells)
        for group in ("references", "phantoms"):
            scored = self.scores.get(group, [])
            bad = [status for score, status in scored if score < GOOD]
            mean = f"{np.mean([score for score, _ in scored]):.3f}" if scored else ""
            ok = sum(status == "ok" for status in bad)
            cells += [str(len(scored)), mean, f"{len(bad)} ({ok})"] if scored else [""] * 3
        return cells


def judged_images(data: Path, judged: Path) -> Iterator[tuple[str, Path, str]]:
    """Yield kind, file and verdict of the images that a person judged."""
    for row in pd.read_csv(judged, dtype=str, keep_default_na=False).to_dict("records"):
        yield row["kind"], data / row["folder"] / row["image"], row["verdict"]


def page(data: Path, judged: Path) -> str:
    """Return the table as Markdown."""
    one_torch_thread("distilled")
    draw = find_recipe("distilled").draw
    table = {kind: Row() for kind in KINDS}
    for kind, path, verdict in judged_images(data, judged):
        row = table[kind]
        row.verdicts[verdict] += 1
        row.unflagged += verdict in ("wrong", "none") and draw(read_image(path)).status == "ok"
    for number, (image, lungs) in enumerate(_references(data)):
        for kind, change in KINDS.items():
            if change is not None:
                changed, wanted = change(image, lungs, generator(0, kind, number))
                table[kind].add("references", draw(changed), wanted)
    for number in range(PHANTOMS):
        for kind, change in KINDS.items():
            if change is None and kind not in FINDINGS:
                continue
            finding = FINDINGS.get(kind, ())
            phantom = render_phantom(1, number, 256, finding, view_position="AP")
            image, lungs = phantom.image, phantom.left_lung | phantom.right_lung
            if kind not in FINDINGS and change is not None:
                image, lungs = change(image, lungs, generator(1, kind, number))
            table[kind].add("phantoms", draw(image), lungs)
    return _markdown(table)


def _references(data: Path) -> Iterator[tuple[Gray, Lungs]]:
    """Yield the images whose half chose no constants, at the size of their reference masks."""
    sets = [data / "lung_masks" / name for name in ("montgomery", "shenzhen")]
    for path, reference in pairs_of(sets, 1):
        lungs = read_mask(reference)
        image = cv2.resize(read_image(path), lungs.shape[::-1], interpolation=cv2.INTER_AREA)
        yield np.asarray(image, np.uint8), lungs


def _markdown(table: dict[str, Row]) -> str:
    heads = ["kind", "judged", *VERDICTS, "of wrong and none `ok`"]
    heads += ["references", "mean Dice", f"below {GOOD} (`ok`)"]
    heads += ["phantoms", "mean Dice", f"below {GOOD} (`ok`)"]
    lines = [*TEXT, f"| {' | '.join(heads)} |", "| --- |" + " --: |" * (len(heads) - 1)]
    lines += [f"| {kind} | {' | '.join(row.cells())} |" for kind, row in table.items()]
    return "\n".join(lines) + "\n"


def sheets(data: Path, judged: Path, out: Path) -> None:
    """Write contact sheets: each image beside its mask's outline, with name, status and quality."""
    one_torch_thread("distilled")
    draw = find_recipe("distilled").draw
    out.mkdir(parents=True, exist_ok=True)
    tiles: dict[str, list[Gray]] = {}
    for kind, path, _ in judged_images(data, judged):
        image = read_image(path)
        drawn = draw(image)
        picture = draw_overlay(image, drawn.mask, long_side=_TILE)[:, :, ::-1]
        tile = np.zeros((_TILE + 22, _TILE, 3), np.uint8)
        tile[: picture.shape[0], : picture.shape[1]] = picture
        text = f"{path.stem} {drawn.status} {drawn.quality:.2f}"
        cv2.putText(tile, text, (2, _TILE + 15), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (255,) * 3, 1)
        tiles.setdefault(kind, []).append(tile)
    for kind, made in tiles.items():
        for first in range(0, len(made), _COLUMNS * _COLUMNS):
            chosen = made[first : first + _COLUMNS * _COLUMNS]
            chosen += [np.zeros_like(chosen[0])] * (-len(chosen) % _COLUMNS)
            rows = [np.hstack(chosen[n : n + _COLUMNS]) for n in range(0, len(chosen), _COLUMNS)]
            name = f"{kind.replace(', ', '-').replace(' ', '-')}-{first // 25}.png"
            cv2.imwrite(str(out / name), np.vstack(rows))


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["sheets", "page"])
    parser.add_argument("data", type=Path)
    parser.add_argument("judged", type=Path)
    parser.add_argument("out", type=Path)
    asked = parser.parse_args()
    if asked.what == "sheets":
        sheets(asked.data, asked.judged, asked.out)
    else:
        write_text(asked.out, page(asked.data, asked.judged))


if __name__ == "__main__":
    main()
