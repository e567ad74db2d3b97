"""Time the masks of a recipe against decoding, and test their quality score on spoilt images.

`speed` decodes and segments the same PNG files in turn in this process on one core, then builds a
store on all cores. `quality` spoils images that have reference masks (opacities, effusions, veils
and noise, crops, frames, turns of up to 10 degrees and zoom) and asks how well the quality score
tells which masks have a Dice below 0.85. `halves` scores both halves of every set apart. `stored`
scores the half that chose no constants turned and inverted, and phantoms by finding. A SET is a
folder with `images` and `masks` of the same names.

Run: python benchmarks/masks.py speed FOLDER_OF_1024_PNG
     python benchmarks/masks.py quality SET...
     python benchmarks/masks.py halves SET...
     python benchmarks/masks.py stored SET...
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from medsgssl.data.synthetic.render import render_phantom
from medsgssl.images.reading import read_image
from medsgssl.masks.agreement import dice, surface_distance
from medsgssl.masks.benchmark import find_pairs
from medsgssl.masks.build import build_store
from medsgssl.masks.geometry import resize_mask
from medsgssl.masks.mask_files import read_mask
from medsgssl.masks.recipes.registry import find_recipe
from medsgssl.masks.types import LungMask
from medsgssl.utils.rng import generator
from medsgssl.utils.system import cpu_count

NIH_IMAGES = 112_120
ROUNDS = 9
GOOD = 0.85


def speed(folder: Path, images: int, recipe: str) -> None:
    cv2.setNumThreads(1)
    one_torch_thread(recipe)
    draw = find_recipe(recipe).draw
    paths = sorted(folder.glob("*.png"))
    files = [np.fromfile(path, np.uint8) for path in paths]
    grays = [read_image(path) for path in paths]
    decoding, drawing = [], []
    for _ in range(ROUNDS):
        decoding.append(timed(lambda: [cv2.imdecode(f, cv2.IMREAD_GRAYSCALE) for f in files]))
        drawing.append(timed(lambda: [draw(gray) for gray in grays]))
    ratios = np.array(drawing) / np.array(decoding)
    per = 1000 / len(paths)
    print(f"{len(paths)} images, {grays[0].shape}, one core, {ROUNDS} rounds, CPU time")
    print(f"decode  {min(decoding) * per:6.2f} ms (least)  {np.median(decoding) * per:6.2f} ms")
    print(f"mask    {min(drawing) * per:6.2f} ms (least)  {np.median(drawing) * per:6.2f} ms")
    print(f"ratio   {min(drawing) / min(decoding):6.2f}    (least)  {np.median(ratios):6.2f}")

    workers = cpu_count()
    items = [(f"{i}.png", paths[i % len(paths)]) for i in range(images)]
    with tempfile.TemporaryDirectory() as place:
        started = time.perf_counter()
        build_store(Path(place) / "store", items, recipe, workers)
        took = time.perf_counter() - started
    rate = images / took / workers
    print(f"store   {images} images on {workers} cores, reading included: {took:.1f} s")
    print(f"        {rate:.1f} images/s per core; {NIH_IMAGES} images on 16 cores, if all are as")
    print(f"        fast: {NIH_IMAGES / rate / 16 / 60:.1f} min")


def one_torch_thread(recipe: str) -> None:
    if recipe in {"auto", "distilled"}:
        import torch  # noqa: PLC0415

        torch.set_num_threads(1)


def timed(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def opacities(image: np.ndarray, lungs: np.ndarray, random: np.random.Generator) -> np.ndarray:
    inside = np.argwhere(lungs)
    spoilt = image.astype(np.float32)
    for _ in range(random.integers(1, 4)):
        y, x = inside[random.integers(len(inside))]
        blob = np.zeros(image.shape, np.float32)
        axes = (int(random.integers(30, 110)), int(random.integers(30, 130)))
        cv2.ellipse(blob, (int(x), int(y)), axes, 0, 0, 360, 1, -1)
        spoilt += cv2.GaussianBlur(blob, (0, 0), 18) * lungs * random.uniform(30, 100)
    return spoilt


def effusion(image: np.ndarray, lungs: np.ndarray, random: np.random.Generator) -> np.ndarray:
    rows, columns = np.nonzero(lungs)
    side = columns > (columns.min() + columns.max()) / 2
    kept = side == bool(random.integers(2))
    level = rows.min() + np.ptp(rows) * random.uniform(0.35, 0.8)
    veil = np.zeros(image.shape, np.float32)
    veil[rows[kept], columns[kept]] = np.clip((rows[kept] - level) / 40 + 0.5, 0, 1)
    return np.asarray(image + cv2.GaussianBlur(veil, (0, 0), 6) * random.uniform(40, 110))


def veiled(image: np.ndarray, lungs: np.ndarray, random: np.random.Generator) -> np.ndarray:
    coarse = random.normal(size=(4, 4)).astype(np.float32)
    veil = cv2.resize(coarse, image.shape[::-1], interpolation=cv2.INTER_CUBIC)
    dull = 128 + (image.astype(np.float32) - 128) * random.uniform(0.4, 0.8)
    return dull + veil * random.uniform(5, 22) + random.normal(0, 4, image.shape)


def turn(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    height, width = image.shape
    angle, zoom = random.uniform(-10, 10), random.uniform(0.75, 1.25)
    matrix = np.asarray(cv2.getRotationMatrix2D((width / 2, height / 2), angle, zoom), np.float64)
    matrix[:, 2] += random.uniform(-25, 25, 2)
    return cv2.warpAffine(image, matrix, (width, height))


def framed(image: np.ndarray, lungs: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Collimation bars that hide what lies below them, lung too."""
    del lungs
    spoilt = image.copy()
    light = int(random.choice([0, 255, int(random.integers(0, 255))]))
    for quarter in range(4):
        if random.random() < 0.7:
            np.rot90(spoilt, quarter)[: int(random.integers(5, 90))] = light
    return spoilt


def cropped(lungs: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Rows and columns that stay: one side of the chest is cut off by up to a third."""
    height, width = lungs.shape
    kept = np.zeros((height, width), bool)
    cut = [int(random.uniform(0.0, 0.3) * side) * int(random.random() < 0.5)
           for side in (height, width, height, width)]  # fmt: skip
    kept[cut[0] : height - cut[2], cut[1] : width - cut[3]] = True
    return kept


SPOILERS = {"opacities": opacities, "effusion": effusion, "veil": veiled, "frame": framed}


def pairs_of(sets: Sequence[Path], half: int | None) -> list[tuple[Path, Path]]:
    """Return image and reference of one half of the sets; of all where it is None."""
    return [
        (path, reference)
        for folder in sets
        for image_id, path, reference in find_pairs(folder / "images", folder / "masks")
        if half in (None, half_of(image_id))
    ]


def quality(sets: Sequence[Path], recipe: str, half: int | None) -> None:
    one_torch_thread(recipe)
    draw = find_recipe(recipe).draw
    rows: list[tuple[str, float, LungMask]] = []
    for number, (path, reference) in enumerate(pairs_of(sets, half)):
        lungs = read_mask(reference)
        image = cv2.resize(read_image(path), lungs.shape[::-1], interpolation=cv2.INTER_AREA)
        made = [("as they are", image, lungs)]
        for name, spoil in SPOILERS.items():
            spoilt = spoil(image, lungs, generator(0, name, number))
            made.append((name, np.clip(spoilt, 0, 255).astype(np.uint8), lungs))
        # The same counter gives image and mask the same turn.
        moved = turn(lungs.astype(np.uint8), generator(0, "turn", number)) > 0
        made.append(("turn and zoom", turn(image, generator(0, "turn", number)), moved))
        kept = cropped(lungs, generator(0, "crop", number))
        rows_kept, columns_kept = kept.any(axis=1), kept.any(axis=0)
        made.append(("crop", image[rows_kept][:, columns_kept], lungs[rows_kept][:, columns_kept]))
        for name, picture, wanted in made:
            drawn = draw(np.ascontiguousarray(picture))
            mask = resize_mask(drawn.mask, (wanted.shape[0], wanted.shape[1]))
            rows.append((name, dice(mask, wanted), drawn))
    for name in ["as they are", *SPOILERS, "turn and zoom", "crop", "all"]:
        report(name, [row[1:] for row in rows if name in {row[0], "all"}])


def half_of(image_id: str) -> int:
    """0: images that constants may be chosen on; 1: the others."""
    return int(hashlib.blake2b(image_id.encode(), digest_size=4).hexdigest(), 16) % 2


def halves(sets: Sequence[Path], recipe: str) -> None:
    one_torch_thread(recipe)
    draw = find_recipe(recipe).draw
    for folder in sets:
        for half, name in enumerate(("constants chosen here", "other half")):
            rows = []
            for path, reference in pairs_of([folder], half):
                wanted = read_mask(reference)
                mask = resize_mask(draw(read_image(path)).mask, (wanted.shape[0], wanted.shape[1]))
                rows.append((dice(mask, wanted), surface_distance(mask, wanted) / wanted.shape[1]))
            scores, away = np.array(rows).T
            print(
                f"{folder.name:10} {name:22} n {len(scores):4d}  mean Dice {scores.mean():.4f}"
                f"  lowest {scores.min():.3f}  below 0.8 {(scores < 0.8).mean():.3f}"
                f"  above 0.9 {(scores > 0.9).mean():.3f}"
                f"  distance {100 * away.mean():.2f} % of width"
            )


AS_STORED: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "as they are": lambda image: image,
    "turned by 90 degrees": np.rot90,
    "upside down": lambda image: np.rot90(image, 2),
    "inverted": lambda image: image if image.dtype == bool else 255 - image,
}


def stored(sets: Sequence[Path], recipe: str) -> None:
    one_torch_thread(recipe)
    draw = find_recipe(recipe).draw
    pairs = [(path, read_mask(mask)) for path, mask in pairs_of(sets, 1)]
    for name, change in AS_STORED.items():
        rows = []
        for path, lungs in pairs:
            drawn = draw(np.ascontiguousarray(change(read_image(path))))
            rows.append((drawn, np.ascontiguousarray(change(lungs))))
        report_stored(name, rows)
    for finding in ("", "Effusion", "Consolidation", "Pneumothorax", "Cardiomegaly"):
        wanted = [finding] if finding else []
        phantoms = [render_phantom(1, n, 256, wanted, view_position="AP") for n in range(40)]
        rows = [(draw(one.image), one.left_lung | one.right_lung) for one in phantoms]
        report_stored(f"AP phantoms, {finding or 'no finding'}", rows)


def report_stored(name: str, rows: list[tuple[LungMask, np.ndarray]]) -> None:
    scores = np.array([dice(resize_mask(d.mask, lungs.shape[:2]), lungs) for d, lungs in rows])
    unflagged = sum(s < GOOD and d.status == "ok" for s, (d, _) in zip(scores, rows, strict=True))
    counts = Counter(drawn.status for drawn, _ in rows)
    print(
        f"{name:28} n {len(rows):4d}  mean Dice {scores.mean():.3f}  below {GOOD} "
        f"{(scores < GOOD).sum():3d}, of these ok {unflagged:3d}  {dict(counts)}"
    )


def report(name: str, rows: Sequence[tuple[float, LungMask]]) -> None:
    scores, trust = np.array([score for score, _ in rows]), [drawn.quality for _, drawn in rows]
    good = scores >= GOOD
    ok = sum(score < GOOD and drawn.status == "ok" for score, drawn in rows)
    auc = f"{roc_auc_score(good, trust):.3f}" if 0 < good.sum() < len(good) else "undefined"
    print(
        f"{name:14} n {len(scores):5d}  mean Dice {scores.mean():.3f}"
        f"  below {GOOD} {(~good).sum():4d}, of these ok {ok:3d}  AUC {auc}"
        f"  Spearman {spearmanr(trust, scores)[0]:.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    timing = commands.add_parser("speed")
    timing.add_argument("folder", type=Path)
    timing.add_argument("--recipe", default="anatomic")
    timing.add_argument("--images", type=int, default=400, help="images of the store")
    for name in ("quality", "halves", "stored"):
        scoring = commands.add_parser(name)
        scoring.add_argument("sets", nargs="+", type=Path)
        scoring.add_argument("--recipe", default="anatomic")
        if name == "quality":
            scoring.add_argument("--half", type=int, choices=(0, 1))
    options = parser.parse_args()
    if options.command == "speed":
        speed(options.folder, options.images, options.recipe)
    elif options.command == "quality":
        quality(options.sets, options.recipe, options.half)
    elif options.command == "stored":
        stored(options.sets, options.recipe)
    else:
        halves(options.sets, options.recipe)


if __name__ == "__main__":
    main()
