"""Measure the saliency of ``adaptive-pathology``: subtle planted lesions, and any finding on NIH.

What is normal is learned from the training images of NIH, without labels. Planted: one Gaussian at
a random place inside each pair of lungs that people outlined; counted is how often the image's
score, and so its weight, rises. Any finding: AUC of the score of each whole image, with a patient
bootstrap interval. The lungs of NIH are outlined by the rules, those of the planted lesions by
people.

Run: python benchmarks/saliency.py FOLDER   (it holds nih128 and lung_masks; some minutes)
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from medsgssl.evaluation.metrics import auc
from medsgssl.evaluation.resampled_auc import patient_counts
from medsgssl.masks import segment_lungs
from medsgssl.models.lung_norms import MEASURES, LungNorms

BATCH, RESAMPLES, SIZE, ROUNDS = 64, 1000, 224, 3
#: Amplitude of the planted Gaussian (black is 0, white 1) and its sigma in pixels of 224.
PLANTED = ((0.2, 8), (0.2, 4), (0.3, 8))

Images = NDArray[np.float32]
Masks = NDArray[np.bool_]


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="holds nih128 and lung_masks")
    folder: Path = parser.parse_args().folder
    torch.set_num_threads(1)
    norms = LungNorms()
    any_finding(folder / "nih128", norms)
    planted_lesions(folder / "lung_masks", norms.eval())


def any_finding(folder: Path, norms: LungNorms) -> None:
    """Learn what is normal from the training images, and print AUCs of all images."""
    table = pd.read_csv(folder / "Data_Entry_2017.csv")
    images, masks = [], []
    for name in table["Image Index"]:
        gray = _gray(folder / "images" / name)
        images.append(gray.astype(np.float32) / np.float32(255))
        masks.append(segment_lungs(gray).mask)
    pictures, lungs = np.stack(images), np.stack(masks)
    test = table["Image Index"].isin((folder / "test_list.txt").read_text().split()).to_numpy()
    training = np.random.default_rng(0).permutation(np.flatnonzero(~test))
    measure(norms.train(), pictures[training], lungs[training])
    measures = measure(norms.eval(), pictures, lungs)
    scores = {"score": measures.sum(axis=1)}
    scores |= {f"{name} alone": measures[:, k] for k, name in enumerate(MEASURES)}
    found = (table["Finding Labels"] != "No Finding").to_numpy()
    patients = table["Patient ID"].to_numpy()
    print("| any finding | " + " | ".join(scores) + " |\n|---|" + "---|" * len(scores))
    seen_from = table["View Position"].to_numpy()
    sets = {"training": ~test, "test": test, "all": test | ~test}
    sets |= {f"test, {position}": test & (seen_from == position) for position in ("PA", "AP")}
    for name, rows in sets.items():
        values = [area(found[rows], one[rows], patients[rows]) for one in scores.values()]
        print(f"| {name}, {rows.sum()} images | " + " | ".join(values) + " |", flush=True)


def area(found: NDArray[np.bool_], scores: NDArray[np.float64], patients: NDArray[np.int64]) -> str:
    """Return the AUC with its interval over resampled patients."""
    _, number = np.unique(patients, return_inverse=True)
    order = np.argsort(number, kind="stable")
    values = []
    for counts in patient_counts(number.max() + 1, RESAMPLES, 0):
        drawn = np.repeat(order, counts[number[order]])
        values.append(auc(found[drawn], scores[drawn]))
    low, high = np.quantile(values, [0.025, 0.975])
    return f"{auc(found, scores):.3f} ({low:.3f} to {high:.3f})"


def planted_lesions(folder: Path, norms: LungNorms) -> None:
    """Print how often a planted lesion raises the score."""
    images: list[Images] = []
    masks: list[Masks] = []
    for path in sorted(folder.glob("*/images/*.png")):
        outline = next(iter((path.parents[1] / "masks").glob(f"{path.stem}*.png")))
        small = cv2.resize(_gray(path), (SIZE, SIZE), interpolation=cv2.INTER_AREA)
        images.append(np.asarray(small, np.float32) / np.float32(255))
        masks.append(cv2.resize(_gray(outline), (SIZE, SIZE), interpolation=cv2.INTER_NEAREST) > 0)
    pictures, lungs = np.stack(images), np.stack(masks)
    before = measure(norms, pictures, lungs).sum(axis=1)
    print(f"\nStandard deviation of the score: {before.std():.2f}")
    print(
        f"\n| planted in {len(images)} images | raised | median rise of the score |\n|---|---|---|"
    )
    for amplitude, sigma in PLANTED:
        rises = []
        for number in range(ROUNDS):
            rng = np.random.default_rng(number)
            ill = np.stack(
                [plant(*one, amplitude, sigma, rng) for one in zip(pictures, lungs, strict=True)]
            )
            rises.append(measure(norms, ill, lungs).sum(axis=1) - before)
        raised = np.mean(np.concatenate(rises) > 0)
        print(
            f"| amplitude {amplitude}, sigma {sigma} | {100 * raised:.1f} % | "
            f"{np.median(np.concatenate(rises)):.3f} |",
            flush=True,
        )


def _gray(path: Path) -> NDArray[np.uint8]:
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise SystemExit(f"{path} is no image")
    return np.asarray(image, np.uint8)


def plant(
    image: Images, mask: Masks, amplitude: float, sigma: float, rng: np.random.Generator
) -> Images:
    """Return the image with a Gaussian about a random pixel of its lungs."""
    places = np.argwhere(mask)
    y, x = places[rng.integers(len(places))]
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    distance = (rows - y) ** 2 + (columns - x) ** 2
    spot = amplitude * np.exp(-distance / (2 * sigma**2))
    return np.asarray(np.clip(image + spot, 0, 1), np.float32)


def measure(norms: LungNorms, images: Images, masks: Masks) -> NDArray[np.float64]:
    """Return the measures of images in standard deviations, (N, 3)."""
    parts = []
    for first in range(0, len(images), BATCH):
        rows = slice(first, first + BATCH)
        views = torch.from_numpy(images[rows])[:, None]
        parts.append(norms(views, torch.from_numpy(masks[rows])).measures)
    return torch.cat(parts).double().numpy()


if __name__ == "__main__":
    main()
