"""The independent critic: the distance of shifted Gaussians, and memorised data."""

import dataclasses
import functools
import math

import pytest
import torch

from elboscope.core import InputError, seeded
from elboscope.estimators.samples.critic import CriticTraining, critic_network, wasserstein_critic

SMALL = CriticTraining(steps=200, hidden=(32, 32), learning_rate=5e-3, num_seeds=2)


def normal(n: int, seed: int, d: int = 2) -> torch.Tensor:
    with seeded(seed):
        return torch.randn(n, d)


SETS = normal(2000, 0), normal(2000, 1)


@pytest.mark.slow
def test_shifted_gaussians_lie_as_far_apart_as_their_means_and_the_penalty_s_slope():
    """‖δ‖ = 2, and ‖δ‖ + ‖δ‖²/(2λ) with the slope that a penalty of λ allows: 2.2, or 2.02."""
    delta = torch.tensor([1.2, 1.6])
    for penalty in (10.0, 100.0):
        training = dataclasses.replace(SMALL, penalty=penalty)
        found = wasserstein_critic(
            lambda n: torch.randn(n, 2) + delta, *SETS, training=training, seed=0
        )
        truth = 2 + 4 / (2 * penalty)
        assert abs(found.test.mean - truth) < 3 * found.test.stderr
    assert found.train is None
    assert found.overfitting is None


def test_equal_distributions_lie_at_zero_on_test_data():
    found = wasserstein_critic(lambda n: torch.randn(n, 2), *SETS, training=SMALL, seed=0)
    assert abs(found.test.mean) < 3 * found.test.stderr


def far(shift: float):
    sampler = lambda n: torch.randn(n, 2) + shift  # noqa: E731
    return wasserstein_critic(sampler, *SETS, training=SMALL, seed=0).test


@pytest.mark.slow
def test_it_grows_with_the_distance():
    near, away = far(0.5), far(2.0)
    assert away.mean - near.mean > 3 * math.hypot(near.stderr, away.stderr)


@pytest.fixture(scope="module")
def memoriser():
    """A sampler that returns its 60 training points; 20 dimensions lie far apart."""
    train = normal(60, 5, d=20)
    training = CriticTraining(steps=250, hidden=(64, 64), learning_rate=3e-3, num_seeds=2)
    sets = normal(1000, 6, d=20), normal(1000, 7, d=20)

    @functools.cache
    def score(memorised):
        known = lambda n: train[torch.randint(len(train), (n,))]  # noqa: E731
        sampler = known if memorised else (lambda n: torch.randn(n, 20))
        return wasserstein_critic(sampler, *sets, train=train, training=training, seed=0)

    return score


def test_a_memoriser_scores_best_on_its_training_data(memoriser):
    found = memoriser(True)
    assert found.overfitting.mean > 3 * found.overfitting.stderr
    assert abs(found.train.mean) < 3 * found.train.stderr
    assert found.test.mean > 3 * found.test.stderr


def test_a_sampler_of_the_distribution_shows_no_overfitting(memoriser):
    found = memoriser(False)
    assert abs(found.overfitting.mean) < 3 * found.overfitting.stderr


def test_the_difference_is_that_of_one_critic(memoriser):
    found = memoriser(True)
    difference = found.test.values - found.train.values
    torch.testing.assert_close(found.overfitting.values, difference)
    assert "Ŵ(test) − Ŵ(train)" in str(found)
    assert "seeds=2, WGAN-GP critics of 250 steps" in str(found.test)


def test_a_seed_gives_the_same_numbers_and_leaves_the_random_state():
    training = CriticTraining(steps=3, num_seeds=2, hidden=(8,))
    before = torch.get_rng_state()
    first, second = (
        wasserstein_critic(lambda n: torch.randn(n, 2), normal(50, 0),
                           normal(50, 1), training=training, seed=3)
        for _ in range(2)
    )  # fmt: skip
    assert torch.equal(first.test.values, second.test.values)
    assert torch.equal(before, torch.get_rng_state())
    assert first.test.values[0] != first.test.values[1]


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 28, 28), (3, 32, 32), (1, 5, 9)])
def test_the_critic_of_images_sees_each_alone(shape):
    """No normalisation couples the datapoints of a batch."""
    critic = critic_network(shape, CriticTraining())
    x = torch.rand(4, *shape)
    torch.testing.assert_close(critic(x)[:1], critic(x[:1]))


def test_the_evaluations_lie_in_the_last_fifth_and_end_with_the_last_step():
    training = CriticTraining(steps=100, evaluations=5)
    assert sorted(training.evaluated_after) == [84, 88, 92, 96, 100]
    assert sorted(CriticTraining(steps=2, evaluations=5).evaluated_after) == [1, 2]


def test_samples_of_another_shape_are_refused():
    with pytest.raises(InputError, match=r"sampler: expected n → samples \(n, 2\), as the data"):
        wasserstein_critic(lambda n: torch.randn(n, 3), normal(50, 0), normal(50, 1), seed=0)


def test_impossible_settings_are_refused():
    with pytest.raises(InputError, match="num_seeds: expected at least 1; got 0"):
        CriticTraining(num_seeds=0)
    with pytest.raises(InputError, match=r"critic: expected finite numbers.* learning_rate=-1"):
        CriticTraining(learning_rate=-1.0)
    with pytest.raises(InputError, match=r"critic: expected finite numbers.* penalty=nan"):
        CriticTraining(penalty=math.nan)


def test_data_without_a_spread_are_refused():
    few = CriticTraining(steps=2, num_seeds=1)
    with pytest.raises(InputError, match="train: expected at least two datapoints; got 1"):
        wasserstein_critic(lambda n: normal(n, 0), normal(9, 0), normal(9, 1), train=normal(1, 2),
                           training=few, seed=0)  # fmt: skip


def test_samples_that_are_no_numbers_are_refused():
    with pytest.raises(InputError, match="sampler: expected finite samples; got NaN"):
        wasserstein_critic(lambda n: normal(n, 0) / 0, normal(9, 0), normal(9, 1), seed=0)
