"""The mixture whose components do not overlap: I(n; z) = ln N."""

from __future__ import annotations

import math

import pytest
import torch

from elboscope.core import seeded
from elboscope.models.exact.bimodal import SeparatedPosteriors


@pytest.mark.parametrize("n", [1, 2, 10, 50])
def test_mutual_information_is_its_ceiling(n):
    model = SeparatedPosteriors()
    x = model.data(n)
    assert model.mutual_information(x).item() == pytest.approx(math.log(n), abs=1e-12)
    average = 200 * sum(i * i for i in range(n)) / n
    assert model.kl(x).mean().item() == pytest.approx(average, rel=1e-14)
    assert model.marginal_kl(x).item() == pytest.approx(average - math.log(n), rel=1e-13)


def test_equal_posteriors_hold_no_information():
    model = SeparatedPosteriors(spacing=0.0)
    assert model.mutual_information(model.data(10)).item() == pytest.approx(0, abs=1e-12)


def test_overlapping_posteriors_by_simulation():
    model = SeparatedPosteriors(spacing=1.0)
    x = model.data(5)
    with seeded(0), torch.no_grad():
        z = model.encode(x).sample((100_000,))
        own = model.encode(x).log_prob(z)
        everyone = model.encode(x).log_prob(z[:, :, None].expand(-1, -1, 5, 1))
    i = own - (everyone.logsumexp(-1) - math.log(5))
    stderr = i.std() / math.sqrt(i.numel())
    assert abs(i.mean() - model.mutual_information(x)) < 3.5 * stderr
