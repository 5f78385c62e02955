"""Quadrature values of the two-mode posterior, its best Gaussian and what a mixture recovers."""

from __future__ import annotations

import math

import pytest
import torch

from elboscope.core import InputError
from elboscope.models.exact.bimodal import Bimodal

CASES = [
    (1.0, 0.25, -1.3651923785, -2.0752300528, 0.7100377),
    (1.0, 0.1, -1.4113145545, -2.1064210199, 0.6951065),
    (2.0, 0.25, -2.2435691005, -2.9399118731, 0.6963428),
]


def datum(value: float) -> torch.Tensor:
    return torch.tensor([[value]], dtype=torch.float64)


@pytest.mark.parametrize(("x", "s", "log_px", "elbo", "gap"), CASES)
def test_values(x, s, log_px, elbo, gap):
    model = Bimodal(s)
    assert model.log_likelihood(datum(x)).item() == pytest.approx(log_px, abs=5.1e-11)
    assert model.elbo(datum(x)).item() == pytest.approx(elbo, abs=5.1e-11)
    assert model.approximation_gap(datum(x)).item() == pytest.approx(gap, abs=5.1e-8)


def test_the_best_gaussian_sits_on_one_mode():
    q = Bimodal(0.25).encode(datum(1.0))
    assert q.mean.item() == pytest.approx(0.95795, abs=5.1e-6)
    assert q.stddev.item() == pytest.approx(0.130487, abs=5.1e-7)


@pytest.mark.parametrize("x", [-1.0, 0.0, 0.3, 0.6, 1.0, 2.0])
@pytest.mark.parametrize("s", [0.1, 0.25, 1.0])
def test_the_closed_form_optimum_beats_a_search(x, s):
    model = Bimodal(s)
    mean, log_v = torch.meshgrid(
        torch.linspace(0, 2, 201, dtype=torch.float64),
        torch.linspace(-7, 1, 201, dtype=torch.float64),
        indexing="ij",
    )
    found = model.elbo(
        datum(x).expand(mean.numel(), 1), mean.reshape(-1, 1), log_v.exp().reshape(-1, 1)
    )
    best = model.elbo(datum(x))
    assert best >= found.max()
    assert best - found.max() < 5e-3
    assert best < model.log_likelihood(datum(x))


def test_a_start_at_zero_stays_there():
    model, x = Bimodal(0.25), datum(1.0)
    mean = torch.zeros(1, 1, dtype=torch.float64, requires_grad=True)
    variance = torch.full((1, 1), 0.3, dtype=torch.float64)
    (slope,) = torch.autograd.grad(model.elbo(x, mean, variance).sum(), mean)
    assert slope.item() == 0.0
    assert model.elbo(x) - model.elbo(x, mean, variance) > 3.0


@pytest.mark.parametrize(("x", "s", "log_px", "elbo", "gap"), CASES)
def test_two_components_recover_ln_2(x, s, log_px, elbo, gap):
    mixture = Bimodal(s).mixture_elbo(datum(x)).item()
    assert mixture - elbo == pytest.approx(math.log(2), abs=1e-6)
    assert 0 < log_px - mixture < 0.02


def test_mistake_is_named():
    with pytest.raises(InputError, match="scale of Bimodal: expected a positive number; got 0"):
        Bimodal(0.0)
