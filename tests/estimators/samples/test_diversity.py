"""MS-SSIM: the written-out convention, a literal slow version, and a peer."""

import math

import numpy as np
import pytest
import torch

import elboscope as es
from elboscope.core import InputError, seeded
from elboscope.estimators.samples.classifier import (
    WEIGHTS,
    _contrast_and_product,
    ms_ssim,
    ms_ssim_diversity,
)


def images(n: int, *shape: int) -> torch.Tensor:
    """Smooth images with some noise, in [0, 1]."""
    with seeded(0):
        coarse = torch.rand(n, shape[0], 4, 4)
        smooth = torch.nn.functional.interpolate(coarse, shape[1:], mode="bilinear")
        return (0.8 * smooth + 0.2 * torch.rand(n, *shape)).clamp(0, 1)


def literal(a: np.ndarray, b: np.ndarray) -> float:
    """One pair of grey images, window by window."""
    value = 1.0
    scales = min(5, int(math.log2(min(a.shape))) + 1)
    weights = np.array(WEIGHTS[:scales])
    weights = weights / weights.sum() if scales < 5 else weights
    for scale in range(scales):
        contrast, product = literal_scale(a, b)
        value *= max(product if scale == scales - 1 else contrast, 1e-6) ** weights[scale]
        h, w = a.shape[0] // 2 * 2, a.shape[1] // 2 * 2
        a, b = (x[:h, :w].reshape(h // 2, 2, w // 2, 2).mean((1, 3)) for x in (a, b))
    return value


def literal_scale(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    size = min(11, *a.shape)
    sigma = 1.5 * size / 11
    at = np.arange(size) - (size - 1) / 2
    g = np.exp(-(at[:, None] ** 2 + at[None, :] ** 2) / (2 * sigma**2))
    g /= g.sum()
    contrasts, products = [], []
    for i in range(a.shape[0] - size + 1):
        for j in range(a.shape[1] - size + 1):
            u, v = a[i : i + size, j : j + size], b[i : i + size, j : j + size]
            mu, nu = (g * u).sum(), (g * v).sum()
            var, war = (g * (u - mu) ** 2).sum(), (g * (v - nu) ** 2).sum()
            cov = (g * (u - mu) * (v - nu)).sum()
            cs = (2 * cov + 0.03**2) / (var + war + 0.03**2)
            contrasts.append(cs)
            products.append(cs * (2 * mu * nu + 0.01**2) / (mu**2 + nu**2 + 0.01**2))
    return float(np.mean(contrasts)), float(np.mean(products))


@pytest.mark.parametrize("side", [8, 28, 32, 64])
def test_it_is_the_literal_version(side):
    x = images(4, 1, side, side).double()
    fast = ms_ssim(x[:2], x[2:])
    slow = [literal(a[0].numpy(), b[0].numpy()) for a, b in zip(x[:2], x[2:], strict=True)]
    assert fast.tolist() == pytest.approx(slow, rel=1e-9)


def test_contrast_is_that_of_the_peer():
    ssim = pytest.importorskip("torchmetrics.functional.image")
    x = images(8, 3, 64, 64).double()
    _, theirs = ssim.structural_similarity_index_measure(
        x[:4], x[4:], data_range=1.0, return_contrast_sensitivity=True, reduction="none"
    )
    ours, _ = _contrast_and_product(x[:4], x[4:], 1.0)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-8)


def test_four_scales_of_large_images_are_those_of_the_peer():
    """Its fifth, of luminance, is computed on padded images: ours has no padding."""
    ssim = pytest.importorskip("torchmetrics.functional.image")
    x = images(4, 1, 192, 192).double()
    x[2:] = 0.6 * x[:2] + 0.4 * x[2:]  # alike, so that no contrast is negative
    theirs = ssim.multiscale_structural_similarity_index_measure(
        x[:2], x[2:], data_range=1.0, reduction="none", betas=(*WEIGHTS[:4], 0.0)
    )
    ours, a, b = torch.ones(2).double(), x[:2], x[2:]
    for weight in WEIGHTS[:4]:
        ours = ours * _contrast_and_product(a, b, 1.0)[0].clamp(min=1e-6) ** weight
        a, b = (torch.nn.functional.avg_pool2d(part, 2) for part in (a, b))
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-8)


def test_equal_images_have_no_diversity():
    x = images(1, 3, 32, 32).expand(20, 3, 32, 32)
    assert ms_ssim_diversity(x).mean == pytest.approx(0, abs=1e-12)


def test_it_is_symmetric():
    x = images(20, 1, 28, 28)
    torch.testing.assert_close(ms_ssim(x[:10], x[10:]), ms_ssim(x[10:], x[:10]))


def test_colours_are_averaged_within_each_scale():
    x = images(2, 1, 28, 28)
    grey = ms_ssim(x[:1], x[1:])
    three = ms_ssim(x[:1].expand(1, 3, 28, 28), x[1:].expand(1, 3, 28, 28))
    torch.testing.assert_close(grey, three)


def test_opposite_contrast_counts_as_almost_none():
    """cs < 0 at every scale: each factor is the floor, and no NaN comes of a root."""
    with seeded(0):
        x = torch.rand(1, 1, 32, 32).round()
    assert ms_ssim(x, 1 - x).item() < 1e-3


def test_a_sampler_of_few_images_is_less_diverse_than_data():
    x = es.data.digits().train
    with seeded(0):
        data = ms_ssim_diversity(x[torch.randperm(len(x))])
        copies = ms_ssim_diversity(x[torch.randint(3, (1000,))])
    assert copies.mean + 4 * copies.stderr < data.mean
    assert (data.settings["pairs"], data.settings["scales"]) == (len(x) // 2, 4)


def test_pairs_are_disjoint_and_their_error_that_of_the_mean():
    x = images(60, 1, 16, 16)
    found = ms_ssim_diversity(x, num_pairs=20)
    torch.testing.assert_close(found.values, 1 - ms_ssim(x[:40:2], x[1:40:2]))
    assert found.stderr == pytest.approx(found.values.std().item() / math.sqrt(20))


def test_different_shapes_and_single_images_are_refused():
    with pytest.raises(InputError, match=r"b: expected shape \(2, 1, 8, 8\)"):
        ms_ssim(torch.zeros(2, 1, 8, 8), torch.zeros(2, 1, 9, 8))
    with pytest.raises(InputError, match="at least one pair; got 1 images"):
        ms_ssim_diversity(torch.zeros(1, 1, 8, 8))
