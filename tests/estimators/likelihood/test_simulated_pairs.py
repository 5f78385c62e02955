"""Pairs that the model simulated: U_K bounds from above, and a mode that q never visits is seen."""

import math

import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from elboscope.core import InputError
from elboscope.estimators import log_likelihood
from elboscope.estimators.likelihood.simulated_pairs import pairs_at, simulated_pairs
from elboscope.models import LinearGaussian

from .test_importance import Shifted

SETTINGS = {"num_temperatures": 5, "num_chains": 4, "num_leapfrog": 3, "num_simulated": 20}


def normal(mean: torch.Tensor, sd: torch.Tensor) -> Independent:
    return Independent(Normal(mean, sd), 1)


class Fold:
    """x = |z| + noise; a share of the prior is negative, and q looks on the positive side only."""

    def __init__(self, share: float) -> None:
        self.weights = torch.tensor([1 - share, share], dtype=torch.float64)

    def prior(self) -> MixtureSameFamily:
        means, sds = torch.tensor([[[6.0], [-12.0]], [[1.0], [0.5]]], dtype=torch.float64)
        return MixtureSameFamily(Categorical(self.weights), normal(means, sds))

    def decode(self, z: torch.Tensor) -> Independent:
        return normal(z.abs(), torch.full_like(z, 0.3))

    def encode(self, x: torch.Tensor) -> Independent:
        v = 1 / (1 + 1 / 0.3**2)
        return normal(v * (x / 0.3**2 + 6), torch.full_like(x, math.sqrt(v)))

    def sample(self, n: int) -> torch.Tensor:
        return self.decode(self.prior().sample((n,))).sample()


@pytest.mark.parametrize(("instance", "fall"), [("instance_1", 2.0), ("instance_2", 1.5)])
def test_the_bounds_hold_the_truth_and_close_with_the_samples(instance, fall) -> None:
    """Like 1/K at first, more slowly where the weights have no variance (instance 2)."""
    model = getattr(LinearGaussian, instance)()
    truth, widths = model.expected_log_likelihood().item(), []
    for K in (2, 8, 32):
        pairs = simulated_pairs(model, 4000, K, seed=1)
        assert pairs.lower.mean < truth + 4 * pairs.lower.stderr
        assert pairs.upper.mean > truth - 4 * pairs.upper.stderr
        widths.append((pairs.upper.values - pairs.lower.values).mean().item())
    assert widths[0] > fall * widths[1] > fall**2 * widths[2] > 0


def test_u_k_is_the_literal_average_of_z_star_among_the_draws() -> None:
    """With the exact posterior all weights are p(x), and so is their average with any z*."""
    model = LinearGaussian.instance_1().with_exact_posterior()
    pairs = simulated_pairs(model, 50, 4, seed=0)
    x, z, _ = pairs_at(model, pairs, torch.arange(50), None)
    truth = model.log_likelihood(x)
    assert (pairs.upper.values - truth).abs().max() < 1e-9
    joint = model.prior().log_prob(z) + model.decode(z).log_prob(x)
    at_z = joint - model.encode(x).log_prob(z)
    assert (pairs.excess - (at_z - pairs.lower.values)).abs().max() < 1e-9


def test_pairs_are_simulated_again_as_they_were_with_their_conditions() -> None:
    c = torch.arange(7.0).double()[:, None] * 10
    pairs = simulated_pairs(Shifted(), 600, 8, seed=3, condition=c)
    rows = torch.tensor([599, 3, 300])
    x, z, taken = pairs_at(Shifted(), pairs, rows, c)
    assert torch.equal(taken, c[rows % 7])
    model = Shifted().given(taken)
    at_z = (model.prior().log_prob(z) + model.decode(z).log_prob(x)) - model.encode(x).log_prob(z)
    assert (at_z - pairs.lower.values[rows] - pairs.excess[rows]).abs().max() < 1e-6


@pytest.mark.parametrize("share", [0.05, 0.006])
def test_a_mode_that_q_never_visits_is_not_certified(share) -> None:
    """Twenty datapoints miss a share of 0.6 % nine times of ten; of 5000 pairs it has thirty."""
    model = Fold(share)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        x = model.sample(10)
    found = log_likelihood(model, x, 100, seed=1, **SETTINGS)
    assert abs(found.pairs.share - max(share, 0.004)) < 0.01
    assert found.certificate.others.mean < 0.05
    assert found.certificate.far.mean > 50
    assert not found.certificate.certified
    assert "of model-like data lie where q hardly goes" in str(found.certificate)
    assert "path='prior'" in found.certificate.more


def test_fewer_pairs_than_can_be_chosen_among_are_refused() -> None:
    model = LinearGaussian.instance_1()
    x, _ = model.sample(3, seed=0)
    with pytest.raises(InputError, match="num_pairs: expected at least 80, four times"):
        log_likelihood(model, x, 10, num_pairs=50, seed=0, **SETTINGS)
