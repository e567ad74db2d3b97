from __future__ import annotations

import numpy as np
import pytest
import torch

from medsgssl.losses.domain import coral, domain_distance, mmd

RNG = np.random.default_rng(0)
A, B = RNG.normal(size=(9, 4)), RNG.normal(size=(7, 4)) * 2 + 1


def test_coral_is_its_formula() -> None:
    wanted = ((np.cov(A.T) - np.cov(B.T)) ** 2).sum() / (4 * 4**2)
    assert coral(torch.from_numpy(A), torch.from_numpy(B)).item() == pytest.approx(wanted, rel=1e-5)


def test_domains_of_one_or_two_images_have_a_covariance() -> None:
    two, one = torch.from_numpy(A[:2]), torch.from_numpy(A[:1])
    wanted = ((np.cov(A[:2].T) - np.cov(B.T)) ** 2).sum() / (4 * 4**2)
    assert coral(two, torch.from_numpy(B)).item() == pytest.approx(wanted, rel=1e-5)
    alone = (np.cov(B.T) ** 2).sum() / (4 * 4**2)
    assert coral(one, torch.from_numpy(B)).item() == pytest.approx(alone, rel=1e-5)


def test_mmd_is_its_formula() -> None:
    every = np.concatenate([A, B])
    squared = ((every[:, None] - every[None]) ** 2).sum(-1)
    widths = (0.25, 0.5, 1.0, 2.0, 4.0)
    kernel = np.mean([np.exp(-squared / (w * squared.mean())) for w in widths], axis=0)
    wanted = kernel[:9, :9].mean() + kernel[9:, 9:].mean() - 2 * kernel[:9, 9:].mean()
    assert mmd(torch.from_numpy(A), torch.from_numpy(B)).item() == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("distance", [coral, mmd])
def test_equal_distributions_are_at_distance_zero(distance) -> None:
    same = torch.from_numpy(A)
    assert distance(same, same).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("kind", ["coral", "mmd"])
def test_the_distance_has_a_gradient_to_every_image(kind) -> None:
    features = torch.randn(8, 5, requires_grad=True)
    value = domain_distance(features, torch.tensor([0, 1] * 4), kind)
    assert value is not None
    value.backward()
    assert features.grad is not None
    assert (features.grad.norm(dim=1) > 0).all()


def test_there_is_no_distance_within_a_single_domain() -> None:
    assert domain_distance(torch.randn(4, 5), torch.zeros(4).long(), "coral") is None


def test_several_domains_are_compared_pair_by_pair() -> None:
    features, domains = torch.randn(9, 5), torch.tensor([4, 0, 2] * 3)
    parts = [features[domains == number] for number in (0, 2, 4)]
    pairs = [coral(parts[0], parts[1]), coral(parts[0], parts[2]), coral(parts[1], parts[2])]
    found = domain_distance(features, domains, "coral")
    torch.testing.assert_close(found, torch.stack(pairs).mean())


def test_half_precision_does_not_coarsen_it() -> None:
    features, domains = torch.randn(8, 5) + 10, torch.tensor([0, 1] * 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = domain_distance(features, domains, "coral")
    torch.testing.assert_close(found, domain_distance(features, domains, "coral"))
