"""Densities on a part of the line: AIS and the widened mixture against quadrature."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from torch.distributions import (
    Distribution,
    Exponential,
    Independent,
    LogNormal,
    Normal,
    Uniform,
)

from elboscope.estimators import (
    annealed_importance_sampling,
    reverse_annealed_importance_sampling,
    widened_importance_sampling,
)

ONE = torch.ones(1, 1, dtype=torch.float64)

PARTS_OF_THE_LINE = {
    "Uniform(1, 2)": (Uniform(ONE[0] + 0, ONE[0] + 1), 1.0, 2.0),
    "LogNormal": (LogNormal(0 * ONE[0], 0.7 * ONE[0]), 0.0, 30.0),
    "unchecked Exponential": (Exponential(ONE[0], validate_args=False), 0.0, 40.0),
}


class OnAPart:
    """x ~ N(z, 0.3²) with a prior, and perhaps a posterior, on a part of the line."""

    def __init__(self, prior: Distribution) -> None:
        self._prior = Independent(prior, 1)

    def prior(self) -> Distribution:
        return self._prior

    def decode(self, z: torch.Tensor) -> Distribution:
        return Independent(Normal(z, 0.3), 1)


@pytest.mark.parametrize("name", PARTS_OF_THE_LINE)
def test_priors_on_a_part_of_the_line_against_quadrature(name):
    prior, low, high = PARTS_OF_THE_LINE[name]
    model, x = OnAPart(prior), torch.full((60, 1), 1.3, dtype=torch.float64)
    e = annealed_importance_sampling(
        model, x, num_temperatures=10, num_chains=100, num_leapfrog=3, seed=0
    )
    z = torch.linspace(low, high, 20_001, dtype=torch.float64)[1:-1]
    joint = prior.log_prob(z[:, None])[:, 0] + Normal(z, 0.3).log_prob(torch.tensor(1.3).double())
    truth = joint.logsumexp(0).item() + math.log((high - low) / 20_000)
    assert e.diagnostics["divergent"].sum() > 0  # chains do leave
    z = (e.values - truth) / e.mc_stderr
    assert abs(z.mean()) * math.sqrt(len(z)) < 3.3
    low, high = stats.chi2.ppf([0.0005, 0.9995], len(z))
    assert low < z.square().sum() < high


class Positive(OnAPart):
    def encode(self, x: torch.Tensor) -> Distribution:
        return Independent(LogNormal(torch.zeros_like(x), 0.5), 1)


def test_a_posterior_that_cannot_reach_z_gives_no_upper_bound():
    z = torch.tensor([[-0.5], [0.5]], dtype=torch.float64)
    above = reverse_annealed_importance_sampling(
        Positive(Normal(0 * ONE[0], ONE[0])), z, z, num_temperatures=5, num_chains=4,
        path="posterior", seed=0,
    )  # fmt: skip
    assert above.values[0] == math.inf
    assert above.values[1].isfinite()


def test_the_prior_mends_a_posterior_on_a_part_of_the_line():
    x = torch.tensor([[-0.3], [0.0], [0.8]], dtype=torch.float64).repeat(20, 1)
    e = widened_importance_sampling(Positive(Normal(0 * ONE[0], ONE[0])), x, 4000, seed=0)
    truth = Normal(0.0, math.sqrt(1.09)).log_prob(x)[:, 0]
    assert e.settings["widened"] == "the prior"
    # The printed error is that of independent draws: fixed shares have less.
    z = (e.values - truth) / e.mc_stderr
    assert abs(z.mean()) * math.sqrt(len(z)) < 3.3
    assert z.square().mean() < 1.5


def test_a_posterior_that_leaves_the_prior_loses_nothing_along_its_path():
    class Everywhere(OnAPart):
        def encode(self, x: torch.Tensor) -> Distribution:
            return Independent(Normal(x, 0.5), 1)

    prior = LogNormal(0 * ONE[0], 0.7 * ONE[0])
    x = torch.full((60, 1), 0.3, dtype=torch.float64)
    e = annealed_importance_sampling(
        Everywhere(prior), x, num_temperatures=8, num_chains=100, num_leapfrog=3,
        path="posterior", seed=0,
    )  # fmt: skip
    z = torch.linspace(0, 10, 20_001, dtype=torch.float64)[1:]
    joint = prior.log_prob(z[:, None])[:, 0] + Normal(z, 0.3).log_prob(torch.tensor(0.3).double())
    truth = joint.logsumexp(0).item() + math.log(10 / 20_000)
    score = (e.values - truth) / e.mc_stderr
    assert abs(score.mean()) * math.sqrt(60) < 3.3
    assert score.square().mean() < 1.8
