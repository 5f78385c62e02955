"""A weight on the KL is a decoder variance, once its reduction is named."""

import inspect
import math

import pytest
import torch
from torch import nn

from elboscope.core import InputError, seeded
from elboscope.models import from_modules, mlp_vae
from elboscope.objectives import elbo_analytic_kl, implied_variance, kl_weighted


@pytest.mark.parametrize(
    ("weight", "reduction", "pixels", "variance"),
    [
        (1.0, "sum", 784, 0.5),
        (0.01, "sum", 784, 0.005),  # "β = 100" on the reconstruction
        (0.01, "mean", 784, 3.92),
        (1.0, "mean", 784, 392.0),
    ],
)
def test_implied_variance_is_the_known_one(weight, reduction, pixels, variance):
    assert implied_variance(weight, reduction, pixels) == pytest.approx(variance)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("weight", [0.01, 3.0])
def test_it_is_the_elbo_of_the_gaussian_with_that_variance(weight, reduction):
    """Gradients agree up to the factor 2σ² (times 1/D for the mean), values exactly."""
    D = 6
    variance = implied_variance(weight, reduction, D)
    with seeded(0):
        x = torch.rand(8, D, dtype=torch.float64)
        model = mlp_vae((D,), 2, hidden=(5,), likelihood="gaussian", scale=math.sqrt(variance))
        model = model.double()
    with seeded(1):
        weighted = kl_weighted(model, x, weight, reduction)
    with seeded(1):
        bound = elbo_analytic_kl(model, x)
    torch.testing.assert_close(weighted.value, bound.value)
    factor = 2 * variance / (1 if reduction == "sum" else D)
    parameters = list(model.parameters())
    for a, b in zip(
        torch.autograd.grad(weighted.loss, parameters),
        torch.autograd.grad(bound.loss, parameters),
        strict=True,
    ):
        torch.testing.assert_close(a, factor * b)


def test_the_scale_that_the_model_declares_is_not_used():
    pair = nn.Linear(3, 4), nn.Linear(2, 3)
    x = torch.rand(5, 3)
    values = []
    for scale in (0.1, 10.0):
        model = from_modules(*pair, likelihood="gaussian", scale=scale)
        with seeded(0):
            values.append(kl_weighted(model, x, 1.0, "sum").value)
    assert torch.equal(*values)


@pytest.mark.parametrize("weight", [0.0, -1.0, math.nan, math.inf])
def test_a_weight_without_a_variance_is_refused(weight):
    with pytest.raises(InputError, match="kl_weight: expected a number > 0; got"):
        implied_variance(weight, "sum", 784)


def test_another_reduction_is_refused():
    with pytest.raises(InputError, match="reduction: expected 'sum' or 'mean'; got 'none'"):
        inspect.unwrap(implied_variance)(1.0, "none", 784)
