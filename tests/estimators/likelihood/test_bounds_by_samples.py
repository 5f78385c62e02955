"""L_K from blocks of one set of weights, against the L_K of instance 1."""

import pytest
import torch

from elboscope.core import InputError, log_mean_exp, paired_difference
from elboscope.estimators import importance_sampling, importance_weighted_bounds, sample_ladder
from elboscope.estimators.likelihood.bounds import block_averages
from elboscope.models import LinearGaussian

from .test_importance import X

# Monte Carlo ± 3e-5; L_1 is the ELBO in closed form.
TRUTH = {
    1: -3.7639911095,
    2: -3.73402,
    5: -3.71412,
    8: -3.70834,
    10: -3.70622,
    50: -3.69869,
    64: -3.69817,
    1000: -3.69658,
}


@pytest.fixture(scope="module")
def bounds():
    return importance_weighted_bounds(
        LinearGaussian.instance_1(), X.expand(100, 3), TRUTH, seed=1, batch_size=25
    )


def test_every_bound_is_unbiased_for_its_own_k(bounds) -> None:
    assert list(bounds) == list(TRUTH)
    for K, truth in TRUTH.items():
        assert abs(bounds[K].mean - truth) < 3.5 * bounds[K].stderr + 3e-5, K
        assert bounds[K].side == "lower"
        assert bounds[K].settings["blocks"] == 1000 // K


def test_the_errors_of_single_values_are_those_of_repetition(bounds) -> None:
    for K in (1, 5, 50, 64, 1000):  # many blocks, few blocks, one block
        z2 = ((bounds[K].values - TRUTH[K]) / bounds[K].mc_stderr).square().mean()
        assert 0.6 < z2 < 1.6, K


def test_nested_blocks_are_ordered_datapoint_by_datapoint(bounds) -> None:
    for low, high in ((1, 2), (2, 10), (10, 50), (5, 10), (50, 1000)):
        assert (bounds[low].values <= bounds[high].values + 1e-12).all()
    for low, high in ((5, 8), (8, 10), (50, 64)):
        step = paired_difference(bounds[high], bounds[low], "step")
        assert step.mean > -2 * step.stderr


def test_the_largest_k_is_importance_sampling_itself() -> None:
    model = LinearGaussian.instance_1()
    x, _ = model.sample(5, seed=0)
    last = importance_weighted_bounds(model, x, (3, 40), seed=4)[40]
    plain = importance_sampling(model, x, 40, seed=4)
    assert torch.equal(last.values, plain.values)
    assert torch.equal(last.diagnostics["khat"], plain.diagnostics["khat"])


def test_block_averages_against_the_literal_loop() -> None:
    log_w = torch.linspace(-3, 2, 22, dtype=torch.float64).sin().reshape(11, 2)
    literal = (log_mean_exp(log_w[:4]) + log_mean_exp(log_w[4:8])) / 2
    assert torch.allclose(block_averages(log_w, 4)["value"], literal)


def test_ladder_and_wrong_numbers_of_samples() -> None:
    assert sample_ladder(5000)[-3:] == (500, 1000, 5000)
    assert sample_ladder(1) == (1,)
    model = LinearGaussian.instance_1()
    with pytest.raises(InputError, match="num_samples: expected at least 1; got 0"):
        importance_weighted_bounds(model, X, (5, 0))
    with pytest.raises(InputError, match="num_samples: expected at least one number of samples"):
        importance_weighted_bounds(model, X, ())
