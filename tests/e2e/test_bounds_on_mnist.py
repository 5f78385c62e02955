"""On trained MNIST checkpoints: L_K rises with K, and everything lies below the upper bound.

The upper bound, reverse annealing, exists only for data simulated from the model itself. Two
checkpoints are looked at: an early one, whose encoder is poor, and a later one.
"""

import os
from itertools import pairwise

import pytest

from elboscope import bidirectional_monte_carlo, importance_sampling, seeded, train
from elboscope.core import paired_difference
from elboscope.data import Binarisation, mnist
from elboscope.estimators.likelihood import importance_weighted_bounds
from elboscope.models import VAE, mlp_vae
from elboscope.training import TrainingSettings

DYNAMIC = Binarisation("dynamic", seed=0)


@pytest.fixture(scope="module", params=[1, 4])
def model(request) -> VAE:
    images = mnist(os.environ["ELBOSCOPE_DATA"], download=False)
    with seeded(0):
        vae = mlp_vae(images.data_shape, latent_dim=20, hidden=(200, 200))
    settings = TrainingSettings(epochs=request.param, batch_size=128, validation_fraction=0.0)
    train(vae, images.train[:20_000], settings, binarisation=DYNAMIC)
    return vae


@pytest.mark.full_data
@pytest.mark.slow
def test_the_bound_rises_with_k_on_test_images(model):
    x = DYNAMIC.fixed_draw(mnist(os.environ["ELBOSCOPE_DATA"], download=False).test[::100])
    bounds = importance_weighted_bounds(model, x, (1, 5, 50, 500, 5000), seed=0)
    for small, large in pairwise(bounds.values()):
        step = paired_difference(large, small, "step")
        assert step.mean > 2 * step.stderr, str(step)
    assert bounds[5000].mean - bounds[1].mean > 3


@pytest.mark.full_data
@pytest.mark.slow
def test_both_estimates_lie_below_the_upper_bound_on_simulated_images(model):
    sandwich = bidirectional_monte_carlo(
        model, 20, num_temperatures=60, num_chains=8, num_leapfrog=10, seed=0
    )
    importance = importance_sampling(model, sandwich.x, 5000, seed=1)
    for lower in (importance, sandwich.lower, sandwich.lower_doubled):
        room = paired_difference(sandwich.upper_doubled, lower, "upper − lower")
        assert room.mean > -3 * room.stderr, str(room)
    # an upper bound that says something: within two nats of the better of the lower ones
    best = max(importance.mean, sandwich.lower_doubled.mean)
    assert sandwich.upper_doubled.mean - best < 2
    assert sandwich.upper_doubled.mean < sandwich.upper.mean + 0.2
