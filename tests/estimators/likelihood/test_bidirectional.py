"""The sandwich of log p(x) against models that know the answer."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Distribution, Independent, Normal

from elboscope.core import ContractError, InputError, seeded
from elboscope.estimators import (
    Sandwich,
    bidirectional_monte_carlo,
    reverse_annealed_importance_sampling,
)
from elboscope.models import Bimodal, EnumerableBernoulli, LinearGaussian, mlp_vae

EXACT = {
    "instance 1": LinearGaussian.instance_1(),
    "instance 2": LinearGaussian.instance_2(),
    "conjugate": LinearGaussian.conjugate(sigma2=0.25),
    "five units": LinearGaussian.perfect(5, 12, sigma2=0.1),
    "enumerable": EnumerableBernoulli.random(10, 2, seed=0),
}


def sandwich(model: object, n: int = 200, T: int = 30, **settings: object) -> Sandwich:
    return bidirectional_monte_carlo(
        model,
        n,
        **{"num_temperatures": T, "num_chains": 8, "num_leapfrog": 5, "seed": 0, **settings},
    )


@pytest.mark.parametrize("path", ["prior", "posterior"])
@pytest.mark.parametrize(
    "name",
    [
        "instance 2",
        "enumerable",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("instance 1", "conjugate", "five units")
        ),
    ],
)
def test_it_contains_the_truth(name, path):
    """Per datapoint: mean of upper − truth and of truth − lower are ≥ 0 within their errors."""
    model = EXACT[name]
    s = sandwich(model, path=path)
    truth = model.log_likelihood(s.x).detach()
    for lower, upper in ((s.lower, s.upper), (s.lower_doubled, s.upper_doubled)):
        for gap in (truth - lower.values, upper.values - truth):
            assert gap.mean() > -3.5 * gap.std() / math.sqrt(len(gap)) - 1e-9
    assert s.width.mean < 0.6
    assert (s.lower.side, s.upper.side) == ("lower", "upper")


@pytest.mark.slow
def test_it_contains_the_truth_of_two_modes():
    """z* lies in one mode, chains of the reverse run all begin there; it holds nevertheless."""
    model = Bimodal(0.5)
    s = sandwich(model, 300, T=30)
    truth = model.log_likelihood(s.x).detach()
    for gap in (truth - s.lower_doubled.values, s.upper_doubled.values - truth):
        assert gap.mean() > -3.5 * gap.std() / math.sqrt(len(gap))


@pytest.mark.slow
def test_bounds_have_a_gap_where_the_chains_are_few_and_it_halves_with_twice_as_many():
    model = LinearGaussian.instance_2()
    s = sandwich(model, 2000, T=24, num_chains=1, num_leapfrog=6, schedule="linear")
    assert s.width_before.mean > 8 * s.width_before.stderr
    twice = 2 * s.width.mean - s.width_before.mean
    assert abs(twice) < 4 * math.hypot(2 * s.width.stderr, s.width_before.stderr) + 0.05
    truth = model.log_likelihood(s.x).mean().item()
    assert s.lower.mean < s.lower_doubled.mean < truth < s.upper_doubled.mean < s.upper.mean
    assert abs(s.extrapolated.mean - truth) < 4 * _error(s, model) + 0.02
    assert s.extrapolated.side == "none"


def _error(s: Sandwich, model: LinearGaussian) -> float:
    left = s.extrapolated.values - model.log_likelihood(s.x)
    return left.std().item() / math.sqrt(len(left))


def test_a_z_that_is_no_posterior_sample_bounds_nothing():
    """Why the upper bound exists on simulated data only: from elsewhere it may lie below."""
    model = LinearGaussian.instance_1()
    x, z = model.sample(500, seed=0)
    truth = model.log_likelihood(x)
    settings = {"num_temperatures": 3, "num_chains": 1, "num_leapfrog": 1, "seed": 0}
    well = reverse_annealed_importance_sampling(model, x, z, **settings)
    sick = reverse_annealed_importance_sampling(model, x, z + 3.0, **settings)
    assert (well.values - truth).mean() > 0
    assert (sick.values - truth).mean() < -1


def test_simulated_data_are_drawn_from_the_model_with_their_z():
    with seeded(0):
        model = mlp_vae((20,), 3, hidden=(10,))
    s = sandwich(model, 400, T=2, num_chains=1, num_leapfrog=1)
    assert set(s.x.unique().tolist()) == {0.0, 1.0}  # drawn, not the mean
    p = model.decode(s.z[None]).mean[0].detach()
    deviation = ((s.x - p) / (p * (1 - p)).sqrt()).mean()
    assert abs(deviation) * math.sqrt(s.x.numel()) < 3.5
    again = sandwich(model, 400, T=2, num_chains=1, num_leapfrog=1)
    assert torch.equal(s.x, again.x)
    assert torch.equal(s.upper.values, again.upper.values)


def test_it_says_that_the_data_are_simulated_and_what_was_done():
    calls: list[tuple[int, int]] = []
    s = sandwich(
        LinearGaussian.instance_1(), 4, T=5, num_chains=2, batch_size=3,
        progress=lambda *a: calls.append(a),
    )  # fmt: skip
    text = str(s)
    assert text.startswith("simulated data (n=4): ")
    assert "≤ mean log p(x) ≤" in text
    assert "nats at 10 temperatures; width" in text
    assert s.lower.settings["num_temperatures"] == 5
    assert s.lower_doubled.settings["num_temperatures"] == 10
    assert s.width.values.shape == (4,)
    assert s.width.mean == pytest.approx(s.upper_doubled.mean - s.lower_doubled.mean)
    assert calls[-1] == (4 * 2 * 2 * (4 + 9),) * 2
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)


def test_given_schedules_are_halved():
    s = sandwich(
        LinearGaussian.instance_1(), 3, schedule=torch.tensor([0.0, 0.2, 1.0]), num_leapfrog=1
    )
    assert s.lower.settings["num_temperatures"] == 2
    assert s.lower_doubled.settings["num_temperatures"] == 4


def test_given_step_sizes_are_interpolated():
    steps = torch.tensor([0.4, 0.1]).double()
    s = sandwich(LinearGaussian.instance_1(), 3, T=3, schedule="linear", step_sizes=steps)
    found = s.lower_doubled.settings
    assert found["largest_step"] == pytest.approx(0.4)
    assert found["smallest_step"] == pytest.approx(0.1)
    with pytest.raises(InputError, match="step_sizes: expected None for T = 1"):
        sandwich(LinearGaussian.instance_1(), 3, T=1, step_sizes=torch.ones(0))


class Shifted:
    """x = z + c + noise."""

    def __init__(self, c: torch.Tensor | None = None) -> None:
        self.c = c

    def given(self, c: torch.Tensor) -> Shifted:
        return Shifted(c)

    def prior(self) -> Distribution:
        return Independent(Normal(torch.zeros(1).double(), torch.ones(1).double()), 1)

    def decode(self, z: torch.Tensor) -> Distribution:
        return Independent(Normal(z + self.c, torch.ones(1).double()), 1)


@pytest.mark.slow
def test_conditions_make_the_data_and_are_used_with_them():
    c = torch.arange(30.0).double()[:, None] * 10
    s = sandwich(Shifted(), 30, condition=c, batch_size=11)
    assert ((s.x - c).abs() < 8).all()
    truth = Normal(0.0, math.sqrt(2)).log_prob(s.x - c)[:, 0]
    for gap in (truth - s.lower_doubled.values, s.upper_doubled.values - truth):
        assert gap.mean() > -3.5 * gap.std() / math.sqrt(30)
    assert s.width.mean < 0.3


class Density(Normal):
    """Cannot be sampled."""

    def sample(self, sample_shape: torch.Size = torch.Size()) -> torch.Tensor:  # noqa: B008
        raise NotImplementedError


class Unsampled(Shifted):
    def decode(self, z: torch.Tensor) -> Distribution:
        return Independent(Density(z, torch.ones_like(z)), 1)


def test_what_gives_no_sandwich_is_refused():
    with pytest.raises(InputError, match="num_data: expected at least 1; got 0"):
        bidirectional_monte_carlo(LinearGaussian.instance_1(), 0)
    with pytest.raises(InputError, match="one row for each of the 5 datapoints to simulate; got 3"):
        bidirectional_monte_carlo(Shifted(), 5, condition=torch.zeros(3, 1).double())
    with pytest.raises(
        ContractError, match=r"decode\(z\).sample: expected a likelihood that can be"
    ):
        bidirectional_monte_carlo(Unsampled(), 5)
