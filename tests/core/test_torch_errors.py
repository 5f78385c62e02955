"""Torch's errors, provoked: a version that words them differently fails here."""

import pytest
import torch
from torch.distributions import Bernoulli, MultivariateNormal, Normal

from elboscope.core.errors import first_line, lacks_gradient, met_nan, refuses_nan, refuses_values

NAN = torch.full((3, 3), torch.nan)


@pytest.mark.parametrize(
    "refused",
    [
        lambda: Normal(NAN, 1.0),
        lambda: Normal(0.0, 1.0).log_prob(NAN),
        lambda: Bernoulli(torch.tensor(0.5)).log_prob(torch.tensor(0.5)),
        lambda: MultivariateNormal(torch.zeros(3), scale_tril=NAN),
    ],
)
def test_validation_of_distributions(refused):
    with pytest.raises(ValueError) as raised:
        refused()
    assert refuses_values(raised.value)
    assert not lacks_gradient(raised.value)


def test_validation_shows_the_nan_it_met():
    with pytest.raises(ValueError) as raised:
        Normal(NAN, 1.0)
    assert refuses_nan(raised.value)
    with pytest.raises(ValueError) as raised:
        Bernoulli(torch.tensor(0.5)).log_prob(torch.tensor(0.5))
    assert not refuses_nan(raised.value)


@pytest.mark.parametrize(
    "broken",
    [
        lambda: Normal(NAN, NAN, validate_args=False).sample(),
        lambda: Bernoulli(NAN, validate_args=False).sample(),
        lambda: torch.linalg.eigh(NAN),
        lambda: torch.linalg.svd(NAN),
        lambda: torch.linalg.eig(NAN),
        lambda: torch.linalg.cholesky(NAN),
        lambda: torch.linalg.inv(torch.zeros(2, 2)),
    ],
)
def test_samplers_and_factorisations_that_meet_nan(broken):
    with pytest.raises(RuntimeError) as raised:
        broken()
    assert met_nan(raised.value)
    assert not lacks_gradient(raised.value)


def without_gradient():
    x = torch.ones(2)
    return torch.autograd.grad(x.sum(), x)


def through_a_detached_sum():
    x = torch.ones(2, requires_grad=True)
    return torch.autograd.grad(x.detach().sum(), x)


def through_inference_mode():
    with torch.inference_mode():
        x = torch.ones(2)
    return torch.autograd.grad((x * 2).sum(), x)


@pytest.mark.parametrize(
    "undifferentiable", [without_gradient, through_a_detached_sum, through_inference_mode]
)
def test_what_autograd_cannot_differentiate(undifferentiable):
    with pytest.raises(RuntimeError) as raised:
        undifferentiable()
    assert lacks_gradient(raised.value)
    assert not met_nan(raised.value)


def test_an_unrelated_error_is_none_of_them():
    with pytest.raises(RuntimeError) as raised:
        torch.ones(2, 3) @ torch.ones(2, 3)
    error = raised.value
    assert [p(error) for p in (refuses_values, lacks_gradient, met_nan)] == [False] * 3
    assert first_line(error).startswith("mat1 and mat2 shapes cannot be multiplied")
