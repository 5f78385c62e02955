"""Units that are known to be used or collapsed."""

import math

import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.distributions import Bernoulli, Distribution, Independent, Normal

from elboscope.core import ContractError, InputError, seeded
from elboscope.estimators import (
    active_units,
    implied_variance,
    posterior_variance,
    unit_kl,
    zeroing_effect,
)
from elboscope.models import LinearGaussian

from ..likelihood.test_lower_bound import Flowing
from .test_surgery import Given


class HalfCollapsed(Given):
    """Units 0 and 1 follow x; unit 2 is collapsed; unit 3 is active and ignored by the decoder."""

    def __init__(self) -> None:
        super().__init__(4, torch.tensor([0.5, 0.5, 1.0, 0.5]))

    def encode(self, x: Tensor) -> Distribution:
        weight = torch.tensor([0.8, 0.8, 0.0, 0.8], dtype=x.dtype)
        return Independent(Normal(x * weight, self.sigma.expand_as(x)), 1)

    def decode(self, z: Tensor) -> Distribution:
        used = torch.tensor([1.0, 1.0, 0.0, 0.0], dtype=z.dtype)
        return Independent(Normal(z * used, torch.ones_like(z)), 1)


def data(N: int = 4000) -> Tensor:
    with seeded(0):
        return torch.randn(N, 4, dtype=torch.float64)


def test_active_and_collapsed_units_are_told_apart() -> None:
    found = active_units(HalfCollapsed(), data())
    assert found.diagnostics["active"].tolist() == [1, 1, 0, 1]
    assert found.settings["active"] == 3
    used = torch.tensor([0, 1, 3])
    z = (found.values[used] - 0.64) / found.diagnostics["stderr"][used]
    assert z.abs().max() < 3.5
    assert found.values[2] == 0
    assert "3 of 4 above 0.01" in str(found)
    assert "nats" not in str(found)


def test_error_of_the_variance_is_calibrated() -> None:
    with seeded(1):
        x = torch.randn(200, 300, 4, dtype=torch.float64)
    found = [active_units(HalfCollapsed(), rows) for rows in x]
    z = torch.stack([(e.values - 0.64) / e.diagnostics["stderr"] for e in found])[:, 0]
    low, high = stats.chi2.ppf([0.0005, 0.9995], len(z))
    assert low * 0.8 < z.square().sum() < high * 1.2  # the error is itself estimated


def test_sampled_moments_subtract_their_noise() -> None:
    class Meanless(Flowing):
        pass

    exact = LinearGaussian.instance_1()
    x, _ = exact.sample(2000, seed=0)
    a, b = active_units(exact, x), active_units(Meanless(exact), x, seed=0)
    assert b.method.startswith("sampled means, their noise subtracted")
    assert ((a.values - b.values).abs() < 4 * b.mc_stderr + 0.02).all()
    v, w = posterior_variance(exact, x), posterior_variance(Meanless(exact), x, seed=0)
    assert (v.values - w.values).abs().max() < 0.01


def test_variances_of_a_matched_aggregate_add_to_one() -> None:
    model = LinearGaussian.perfect(3, 5)
    x, _ = model.sample(20_000, seed=0)
    means, within = active_units(model, x), posterior_variance(model, x)
    z = (means.values + within.values - 1) / means.diagnostics["stderr"]
    assert z.abs().max() < 3.3


def test_kl_per_unit() -> None:
    x = data()
    found = unit_kl(HalfCollapsed(), x)
    sigma = torch.tensor([0.5, 0.5, 1.0, 0.5]).double()
    mu = x * torch.tensor([0.8, 0.8, 0.0, 0.8]).double()
    truth = (0.5 * (mu.square() + sigma.square() - 1) - sigma.log()).mean(0)
    assert torch.allclose(found.values, truth)
    assert found.values[2] == 0
    assert found.diagnostics["collapsed"].tolist() == [0, 0, 1, 0]
    assert found.total == pytest.approx(truth.sum().item())


def test_kl_per_unit_needs_factors() -> None:
    model = LinearGaussian.instance_1().with_exact_posterior()
    x, _ = model.sample(10, seed=0)
    with pytest.raises(ContractError, match="factorised Gaussians, whose KL is a sum over units"):
        unit_kl(model, x)


def test_zeroing_costs_what_the_decoder_uses() -> None:
    x = data(8000)
    found = zeroing_effect(HalfCollapsed(), x, 4, seed=0)
    # E[x²/2 − (x − z)²/2] with z ~ N(.8x, .25): (1 − .04 − .25)/2
    truth = torch.tensor([0.355, 0.355, 0, 0]).double()
    assert ((found.values - truth).abs() <= 3.5 * found.diagnostics["stderr"]).all()
    assert found.values[2:].abs().max() == 0
    assert (found.mc_stderr[:2] < found.diagnostics["stderr"][:2]).all()


def test_implied_variance_against_declared() -> None:
    model = LinearGaussian.perfect(4, 16, sigma2=0.05)
    x, _ = model.sample(3000, seed=0)
    honest = implied_variance(model, x, seed=0)
    assert abs(honest.mean - 0.05) < 3.3 * honest.stderr
    assert honest.diagnostics["declared"].mean().item() == pytest.approx(0.05)
    z = (honest.diagnostics["standardised"] - 1) / math.sqrt(2 / 16)
    assert abs(z.mean() * math.sqrt(3000)) < 5


def test_wrong_scale_shows() -> None:
    found = implied_variance(Given(2, torch.tensor(0.1)), data()[:, :2], seed=0)
    assert found.diagnostics["declared"].mean() == 1
    assert abs(found.mean - 0.01) < 3.3 * found.stderr


def test_implied_variance_needs_a_gaussian() -> None:
    class Binary(Given):
        def decode(self, z: Tensor) -> Distribution:
            return Independent(Bernoulli(logits=z), 1)

    with pytest.raises(ContractError, match="Gaussian likelihood, which declares a variance"):
        implied_variance(Binary(2, torch.tensor(1.0)), (data()[:, :2] > 0).double())


def test_one_datapoint_has_no_variance() -> None:
    with pytest.raises(InputError, match="number of datapoints: expected at least 2; got 1"):
        active_units(HalfCollapsed(), data(1))
