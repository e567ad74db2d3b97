"""What is normal at each place is learned from images, and what deviates from it is salient."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from medsgssl.data.synthetic.render import render_phantom
from medsgssl.models.lung_norms import LungNorms, LungSaliency
from medsgssl.ops.saliency import lung_appearance, soft_maximum

SIZE = 112


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def phantoms(numbers: range, *findings: str) -> tuple[torch.Tensor, torch.Tensor]:
    drawn = [render_phantom(1, number, SIZE, findings) for number in numbers]
    images = torch.from_numpy(np.stack([one.image for one in drawn]))[:, None].float() / 255
    masks = torch.from_numpy(np.stack([one.right_lung | one.left_lung for one in drawn]))
    return images, masks


@pytest.fixture(scope="module")
def norms() -> LungNorms:
    learned = LungNorms().train()
    for first in range(0, 48, 12):
        learned(*phantoms(range(first, first + 12)))
    return learned.eval()


def test_batches_add_up_to_the_moments_of_all_images(norms: LungNorms) -> None:
    seen = lung_appearance(*phantoms(range(48)))
    count, total, square = norms.places
    lung = seen.lung.float()
    torch.testing.assert_close(count, lung.sum(dim=0))
    torch.testing.assert_close(total, (seen.gray * lung).sum(dim=0), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(square, (seen.gray**2 * lung).sum(dim=0), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(norms.outlines / norms.images, seen.outline.mean(dim=0))
    assert norms.images == 48


def test_the_measures_are_what_their_names_say(norms: LungNorms) -> None:
    images, masks = phantoms(range(60, 66))
    found, seen = norms(images, masks), lung_appearance(images, masks)
    count, total, square = norms.places
    pooled = norms.places.sum(dim=(1, 2))
    mean = (total + 10 * pooled[1] / pooled[0]) / (count + 10)
    spread = ((square + 10 * pooled[2] / pooled[0]) / (count + 10) - mean**2).sqrt()
    deviation = ((seen.gray - mean) / spread.clamp_min(0.02)).clamp(-4, 8)
    smooth = torch.zeros_like(deviation)
    for b, y, x in seen.lung.nonzero().tolist():
        window = (b, slice(y - 1, y + 2), slice(x - 1, x + 2))
        smooth[b, y, x] = deviation[window][seen.lung[window]].mean()
    torch.testing.assert_close(found.maps, smooth.clamp_min(0), rtol=1e-3, atol=1e-3)
    distance = (seen.outline - norms.outlines / 48).square().sum(dim=(1, 2))
    raw = [soft_maximum(smooth, seen.lung, 2.0), (distance + 1e-3).log(), -seen.area]
    for number, values in enumerate(raw):
        first, second = norms.measures[:, number] / 48
        want = (values - first) / (second - first**2).sqrt()
        torch.testing.assert_close(found.measures[:, number], want, rtol=1e-3, atol=2e-3)
    torch.testing.assert_close(found.scores, found.measures.sum(dim=1))


def test_nothing_is_learned_outside_training(norms: LungNorms) -> None:
    before = {key: value.clone() for key, value in norms.state_dict().items()}
    norms(*phantoms(range(50, 53), "Mass"))
    assert before.keys() == {"images", "places", "outlines", "measures"}
    assert all(torch.equal(value, before[key]) for key, value in norms.state_dict().items())


def test_before_any_training_a_batch_is_compared_with_itself() -> None:
    batch = phantoms(range(6))
    fresh = LungNorms().eval()
    first = fresh(*batch)
    assert fresh.images == 0
    torch.testing.assert_close(first.scores, LungNorms().train()(*batch).scores)
    torch.testing.assert_close(first.measures.mean(dim=0), torch.zeros(3), atol=1e-4, rtol=0)


@pytest.mark.parametrize("finding", ["Mass", "Consolidation", "Effusion", "Nodule"])
def test_findings_raise_the_density(norms: LungNorms, finding: str) -> None:
    healthy, ill = (norms(*phantoms(range(70, 78), *what)) for what in ((), (finding,)))
    assert (ill.measures[:, 0] > healthy.measures[:, 0]).float().mean() > 0.8


def test_what_every_lung_has_is_not_salient(norms: LungNorms) -> None:
    def with_hila(numbers: range) -> tuple[torch.Tensor, torch.Tensor]:
        images, masks = phantoms(numbers)
        images[:, :, 50:58, 36:44] += 0.25
        return images, masks

    used_to_it = LungNorms().train()
    for first in range(0, 48, 12):
        used_to_it(*with_hila(range(first, first + 12)))
    shown = with_hila(range(80, 92))
    surprised, calm = norms(*shown).maps, used_to_it.eval()(*shown).maps
    place = (surprised.mean(dim=0) - norms(*phantoms(range(80, 92))).maps.mean(dim=0)) > 1
    assert place.sum() > 4
    assert calm[:, place].mean() < 0.4 * surprised[:, place].mean()


def test_a_small_and_odd_outline_raises_the_score(norms: LungNorms) -> None:
    images, masks = phantoms(range(70, 78))
    cut = masks.clone()
    cut[:, 60:] = False
    whole, less = norms(images, masks), norms(images, cut)
    assert (less.measures[:, 1:] > whole.measures[:, 1:]).all()


def test_an_image_without_lung_has_no_score_and_teaches_nothing(norms: LungNorms) -> None:
    images, masks = phantoms(range(3))
    masks[1] = False
    found = norms(images, masks)
    assert found.scores[1] == 0
    assert (found.maps[1] == 0).all()
    learner = LungNorms().train()
    learner(images, masks)
    assert learner.images == 2
    other = LungNorms().train()
    other(images[[0, 2]], masks[[0, 2]])
    for key, value in learner.state_dict().items():
        torch.testing.assert_close(value, other.state_dict()[key])


def test_a_measure_that_never_differs_says_nothing() -> None:
    images, masks = phantoms(range(6))
    boxes = torch.zeros_like(masks)
    boxes[:, 20:80, 10:100] = True
    found = LungNorms().train()(images, boxes)
    assert (found.measures[:, 1:] == 0).all()
    assert found.scores.isfinite().all()


def of_half(rank: int, init: str, batch: tuple[torch.Tensor, torch.Tensor]) -> LungSaliency:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=init, rank=rank, world_size=2)
    try:
        return LungNorms().train()(*(part.chunk(2)[rank] for part in batch))
    finally:
        dist.destroy_process_group()


def second_process(_: int, init: str, batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    of_half(1, init, batch)


def test_two_processes_learn_from_the_global_batch(tmp_path: Path) -> None:
    batch = phantoms(range(8))
    init = f"file://{tmp_path}/init"
    other = mp.spawn(second_process, (init, batch), nprocs=1, join=False)
    half = of_half(0, init, batch)
    assert other.join()
    torch.testing.assert_close(half.scores, LungNorms().train()(*batch).scores[:4])


def planted(image: np.ndarray, y: int, x: int, amplitude: float, sigma: float) -> np.ndarray:
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    distance = (rows - y) ** 2 + (columns - x) ** 2
    return np.clip(image + amplitude * np.exp(-distance / (2 * sigma**2)), 0, 1)


@pytest.mark.real
def test_subtle_lesions_in_real_lungs_raise_the_score(real_data: Path) -> None:
    folder = real_data / "lung_masks"
    images, masks = [], []
    for path in sorted(folder.glob("*/images/*.png"))[::3]:
        outline = next(iter((path.parents[1] / "masks").glob(f"{path.stem}*.png")))
        gray = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        drawn = cv2.imread(str(outline), cv2.IMREAD_GRAYSCALE)
        images.append(cv2.resize(gray, (224, 224), interpolation=cv2.INTER_AREA) / 255)
        masks.append(cv2.resize(drawn, (224, 224), interpolation=cv2.INTER_NEAREST) > 0)
    assert len(images) > 50
    lungs = torch.from_numpy(np.stack(masks))

    def scores(pictures: list[np.ndarray]) -> torch.Tensor:
        views = torch.from_numpy(np.stack(pictures))[:, None].float()
        return norms(views, lungs).scores

    norms = LungNorms().train()
    scores(images)
    before = (norms.eval(), scores(images))[1]
    marked = np.stack(images)
    marked[:, 4:20, 4:24] = 1.0
    marked[:, np.arange(224), np.arange(224)] = 1.0
    marked = np.where(np.stack(masks), np.stack(images), marked)
    assert (scores(list(marked)) - before).median() < 0.02
    for amplitude, sigma, wanted in ((0.2, 8, 0.9), (0.2, 4, 0.75), (0.3, 8, 0.97)):
        rng = np.random.default_rng(0)
        ill = []
        for image, mask in zip(images, masks, strict=True):
            places = np.argwhere(mask)
            ill.append(planted(image, *places[rng.integers(len(places))], amplitude, sigma))
        assert (scores(ill) > before).float().mean() >= wanted, (amplitude, sigma)
