"""Teaches a student from the anatomic recipe's masks, in rounds, without any human mask.

Round 1 learns the teacher's good masks; every further round learns the masks that the student of
the round before gives to all images whose mask does not change when the image is mirrored or
zoomed. The weights kept are those with the best agreement with held-out good masks of the teacher
and the best stability under augmentation. Every draw comes from the seed, and a killed training
continues with its last minute, to the same weights.

Sources: Hinton et al., "Distilling the knowledge in a neural network", 2015; Xie et al.,
"Self-training with noisy student improves ImageNet classification", CVPR 2020 (rounds, noise).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medsgssl.errors import MaskError
from medsgssl.masks.recipes.anatomic import recipe as anatomic
from medsgssl.masks.recipes.distilled.augment import affine, augment_pair
from medsgssl.masks.recipes.distilled.network import Student, fused
from medsgssl.masks.recipes.distilled.pixels import SIDE, FloatImage, student_input
from medsgssl.masks.recipes.distilled.student_weights import StudentEpoch
from medsgssl.masks.recipes.distilled.teacher import Item, Lessons, Progress, prepare_lessons
from medsgssl.masks.recipes.distilled.train_state import resume, save
from medsgssl.utils.io import atomic_path, fingerprint
from medsgssl.utils.rng import generator, stable_hash

LEAST_LESSONS = 50
# Seconds between two checkpoints within an epoch.
SAVE_SECONDS = 60.0


@dataclass(frozen=True)
class TrainSettings:
    """Constants of the training.

    Attributes:
        seed: Where every draw comes from.
        epochs: Passes over the images in each round.
        batch_size: Images per step.
        learning_rate: Peak of the one-cycle schedule of each round.
        weight_decay: Of AdamW.
        average: Decay of the running average of the weights, which is what is kept.
        held_out: Share of the groups (patients) whose pseudo-labels choose the weights.
        least_stability: Least Dice between an image's masks under mirror and zoom for the
            relabeled image to teach the next round.
    """

    seed: int = 0
    epochs: tuple[int, ...] = (4, 4)
    batch_size: int = 16
    learning_rate: float = 3e-3
    weight_decay: float = 1e-3
    average: float = 0.99
    held_out: float = 0.06
    least_stability: float = 0.92


def train_student(
    items: Sequence[Item],
    groups: Sequence[str],
    work: Path,
    settings: TrainSettings | None = None,
    *,
    device: str = "cpu",
    workers: int = 1,
    drawing: Progress | None = None,
    on_epoch: Callable[[StudentEpoch], object] | None = None,
    on_round: Callable[[int, dict[str, Tensor], list[StudentEpoch]], None] | None = None,
) -> tuple[dict[str, Tensor], list[StudentEpoch]]:
    """Teach a student on unlabeled images.

    Args:
        items: ``(image_id, path)`` of the images.
        groups: The patient of each image: held-out images share no patient with the others.
        work: Folder of the checkpoint and the pseudo-labels; the same folder continues.
        settings: Constants of the training.
        device: Where torch computes.
        workers: Processes that draw the teacher's masks.
        drawing: Called with images done and images in all while the teacher's masks are drawn.
        on_epoch: Called after every epoch.
        on_round: Called after every round with its number from 1, its best weights and the log;
            later rounds change nothing of it.

    Returns:
        The weights, and the log of every epoch.

    Raises:
        MaskError: Too few images have a good mask, or the folder holds another training.
    """
    s = settings or TrainSettings()
    work.mkdir(parents=True, exist_ok=True)
    lessons = _lessons(items, work, workers, drawing)
    held = _held_out(lessons.ids, dict(zip((i for i, _ in items), groups, strict=True)), s)
    exam = np.flatnonzero(held & lessons.good)
    if (lessons.good & ~held).sum() < LEAST_LESSONS or not len(exam):
        raise MaskError(
            f"only {int(lessons.good.sum())} of {len(items)} images have a good mask to learn from",
            f"give at least some {4 * LEAST_LESSONS} frontal chest X-rays of several patients",
        )
    key = fingerprint([asdict(s), lessons.ids, int(lessons.labels.astype(np.int64).sum())])
    torch.manual_seed(stable_hash(s.seed, "student weights") % 2**63)
    # Channels last: a third faster on CPUs.
    student = Student().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    averaged = Student().to(device)
    averaged.load_state_dict(student.state_dict())
    state, saved = resume(work / "student.ckpt", key, student, averaged)
    best = {} if saved is None else saved["best_weights"]
    optimizer_state = None if saved is None else saved["optimizer"]
    saved_at = time.monotonic()
    for number in range(state["round"], len(s.epochs)):
        rows, labels = _curriculum(number, lessons, held, best, work, s, device)
        steps = math.ceil(len(rows) / s.batch_size)
        optimizer = torch.optim.AdamW(student.parameters(), weight_decay=s.weight_decay)
        if optimizer_state is not None:
            optimizer.load_state_dict(optimizer_state)
            optimizer_state = None
        for epoch in range(state["epoch"], s.epochs[number]):
            order = generator(s.seed, "student order", number, epoch).permutation(len(rows))
            for step in range(len(state["losses"]), steps):
                chosen = order[step * s.batch_size : (step + 1) * s.batch_size]
                rate = _rate(epoch * steps + step, s.epochs[number] * steps, s.learning_rate)
                batch = _batch(lessons.images, labels, rows[chosen], s.seed, (number, epoch))
                state["losses"].append(_step(student, averaged, optimizer, batch, rate, s, device))
                if time.monotonic() - saved_at > SAVE_SECONDS:
                    save(work / "student.ckpt", key, state, student, averaged, optimizer, best)
                    saved_at = time.monotonic()
            agreement, stability = _examine(averaged, lessons, exam, s.seed, device)
            done: StudentEpoch = {
                "round": number + 1,
                "epoch": epoch + 1,
                "images": len(rows),
                "loss": float(np.mean(state["losses"])),
                "agreement": agreement,
                "stability": stability,
            }
            state["log"].append(done)
            if agreement + stability > state["best"]:
                state["best"] = agreement + stability
                best = {k: v.detach().cpu().clone() for k, v in averaged.state_dict().items()}
            state["epoch"], state["losses"] = epoch + 1, []
            save(work / "student.ckpt", key, state, student, averaged, optimizer, best)
            if on_epoch is not None:
                on_epoch(done)
        if on_round is not None:
            on_round(number + 1, best, list(state["log"]))
        # The next round starts from the best weights of this one.
        state["round"], state["epoch"], state["best"] = number + 1, 0, -math.inf
        student.load_state_dict(best)
        averaged.load_state_dict(best)
    return best, state["log"]


def _lessons(items: Sequence[Item], work: Path, workers: int, drawing: Progress | None) -> Lessons:
    """Draw the teacher's masks, or read those of an earlier call."""
    teacher = [anatomic.VERSION, asdict(anatomic.PARAMETERS)]
    path = work / f"lessons-{fingerprint([teacher, [image_id for image_id, _ in items]])}.npz"
    if path.is_file():
        with np.load(path) as held:
            return Lessons(held["ids"].tolist(), held["images"], held["labels"], held["good"])
    lessons = prepare_lessons(items, workers, drawing)
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez(
            stream,
            ids=np.array(lessons.ids),
            images=lessons.images,
            labels=lessons.labels,
            good=lessons.good,
        )
    return lessons


def _held_out(ids: Sequence[str], groups: dict[str, str], s: TrainSettings) -> NDArray[np.bool_]:
    """Choose whole patients by a hash, so that their number and order change nothing."""
    limit = s.held_out * 2**64
    return np.array([stable_hash(s.seed, "student exam", groups[i]) < limit for i in ids])


def _curriculum(
    number: int,
    lessons: Lessons,
    held: NDArray[np.bool_],
    weights: dict[str, Tensor],
    work: Path,
    s: TrainSettings,
    device: str,
) -> tuple[NDArray[np.intp], NDArray[np.uint8]]:
    """Return the rows that teach in a round, and the labels of all rows."""
    if number == 0:
        return np.flatnonzero(lessons.good & ~held), lessons.labels
    path = work / f"relabeled-{number}.npz"
    if path.is_file():
        with np.load(path) as known:
            return known["rows"], known["labels"]
    student = Student().to(device)
    student.load_state_dict(weights)
    student = fused(student)
    labels, stability = relabel(student, lessons.images, device)
    rows = np.flatnonzero((stability >= s.least_stability) & ~held)
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, rows=rows, labels=labels)
    return rows, labels


def relabel(
    student: Student, images: NDArray[np.uint8], device: str
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return the mean mask under mirror and zoom, and how much the single masks agree.

    Args:
        student: The network.
        images: uint8, ``N x SIDE x SIDE``.
        device: Where torch computes.

    Returns:
        uint8 ``N x SIDE x SIDE`` (255 = surely lung), and the least Dice of a single mask with
        the mean, ``N``.
    """
    labels = np.zeros_like(images)
    stability = np.zeros(len(images), np.float32)
    center = (SIDE - 1) / 2
    views = [
        np.array([[m * z, 0, center - m * z * center], [0, z, center - z * center]])
        for m, z in ((1, 1.0), (-1, 0.9))
    ]
    for row, image in enumerate(images):
        maps = _predict_views(student, image, views, device)
        mean = maps.mean(axis=0)
        labels[row] = np.round(255 * mean)
        stability[row] = min(_dice(one > 0.5, mean > 0.5) for one in maps)
    return labels, stability


def _predict_views(
    student: Student, image: NDArray[np.uint8], views: Sequence[NDArray[np.float64]], device: str
) -> FloatImage:
    """Predict an image under affine views and bring every prediction back."""
    squares = [cv2.warpAffine(image, view, (SIDE, SIDE)) for view in views]
    maps = predict(
        student,
        np.stack([student_input(np.asarray(square, np.uint8)) for square in squares]),
        device,
    )
    back = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.stack(
        [
            cv2.warpAffine(one, view, (SIDE, SIDE), flags=back)
            for one, view in zip(maps, views, strict=True)
        ]
    )


@torch.inference_mode()
def predict(student: Student, inputs: FloatImage, device: str = "cpu") -> FloatImage:
    """Return the probability of lung: float32, ``B x SIDE x SIDE``."""
    student.eval()
    squares = torch.from_numpy(inputs).to(device, memory_format=torch.channels_last)
    logits = student(squares)
    return np.asarray(torch.sigmoid(logits)[:, 0].float().cpu().numpy())


def _dice(mask: NDArray[np.bool_], reference: NDArray[np.bool_]) -> float:
    total = int(mask.sum()) + int(reference.sum())
    return 2.0 * int((mask & reference).sum()) / total if total else 0.0


def _batch(
    images: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    rows: NDArray[np.intp],
    seed: int,
    when: tuple[int, int],
) -> tuple[Tensor, Tensor]:
    inputs, targets = [], []
    for row in rows:
        random = generator(seed, "student augmentation", *when, int(row))
        square, label = augment_pair(images[row], labels[row].astype(np.float32) / 255.0, random)
        inputs.append(student_input(square))
        targets.append(label)
    return torch.from_numpy(np.stack(inputs)), torch.from_numpy(np.stack(targets))[:, None]


def _rate(step: int, steps: int, peak: float) -> float:
    """One cycle: a short linear rise, then half a cosine."""
    rise = max(1, round(0.08 * steps))
    if step < rise:
        return peak * (step + 1) / rise
    return peak * 0.5 * (1.0 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def _step(
    student: Student,
    averaged: Student,
    optimizer: torch.optim.Optimizer,
    batch: tuple[Tensor, Tensor],
    rate: float,
    s: TrainSettings,
    device: str,
) -> float:
    student.train()
    for group in optimizer.param_groups:
        group["lr"] = rate
    inputs, targets = (tensor.to(device, memory_format=torch.channels_last) for tensor in batch)
    loss = _loss(student(inputs), targets)
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(student.parameters(), 5.0)
    optimizer.step()
    with torch.no_grad():
        pairs = zip(averaged.state_dict().values(), student.state_dict().values(), strict=True)
        for mean, value in pairs:
            if mean.is_floating_point():
                mean.lerp_(value, 1.0 - s.average)
            else:
                mean.copy_(value)
    return float(loss.detach())


def _loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy with soft labels plus one minus the soft Dice of every image."""
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets)
    lung = torch.sigmoid(logits)
    both = (lung * targets).sum(dim=(1, 2, 3))
    total = (lung + targets).sum(dim=(1, 2, 3))
    return entropy + (1.0 - (2.0 * both + 1.0) / (total + 1.0)).mean()


def _examine(
    student: Student, lessons: Lessons, exam: NDArray[np.intp], seed: int, device: str
) -> tuple[float, float]:
    """Agreement with held-out masks of the teacher, and stability under augmentation."""
    agreement, stability = [], []
    student = fused(student)
    identity = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    for row in exam:
        moved = affine(generator(seed, "student stability", int(row)), 0.6)
        plain, back = _predict_views(student, lessons.images[row], [identity, moved], device) > 0.5
        seen = cv2.warpAffine(
            np.ones((SIDE, SIDE), np.uint8),
            moved @ np.vstack([identity, [0, 0, 1]]),
            (SIDE, SIDE),
            flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP,
        )
        agreement.append(_dice(plain, lessons.labels[row] > 127))
        stability.append(_dice(plain & (seen > 0), back & (seen > 0)))
    return float(np.mean(agreement)), float(np.mean(stability))
