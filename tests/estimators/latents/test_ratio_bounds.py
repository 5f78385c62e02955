"""Both lower bounds hold for any critic; with the optimal one they are near the truth."""

import math

import torch

from elboscope.core import seeded
from elboscope.estimators.latents.ratio import Scores, ratio_bounds
from elboscope.models.exact.gaussian_pair import gaussian_kl, optimal_logit, random_gaussian

P, Q = random_gaussian(2, seed=0), random_gaussian(2, seed=1)
KL = gaussian_kl(Q, P).item()


def scored(critic, num_draws=20_000):
    return Scores(critic(Q.sample((num_draws,))), critic(P.sample((num_draws,))))


def bounds_of(critic, seed=0):
    with seeded(seed):
        return ratio_bounds(scored(critic), scored(critic))


def optimal(x):
    return optimal_logit(x, Q, P)


def mean(values):
    return values.mean().item()


def test_bounds_of_the_optimal_critic_are_near_and_below():
    found = bounds_of(optimal)
    for values, shared in (
        (found.donsker_varadhan, found.donsker_varadhan_error),
        (found.nwj, found.nwj_error),
    ):
        error = math.hypot(values.std().item() / math.sqrt(len(values)), shared)
        assert mean(values) < KL + 3 * error
        assert mean(values) > 0.6 * KL


def test_an_overconfident_critic_inflates_its_mean_but_not_the_bounds():
    loud = bounds_of(lambda x: 100 * optimal(x))
    with seeded(1):
        assert mean(100 * optimal(Q.sample((1000,)))) > 50 * KL
    assert mean(loud.donsker_varadhan) < KL
    assert mean(loud.nwj) < KL


def test_no_bound_exceeds_what_its_draws_can_show():
    S = 2000
    apart = Scores(torch.full((S,), 1e3).double(), torch.full((S,), -1e3).double())
    found = ratio_bounds(apart, apart)
    for values in (found.donsker_varadhan, found.nwj):
        assert mean(values) <= math.log(S / 3) + 1 + 1e-9
    assert mean(found.donsker_varadhan) > math.log(S / 3) - 0.1
