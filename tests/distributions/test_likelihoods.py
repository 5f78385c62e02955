import inspect
import math

import pytest
import torch
from torch.distributions import Normal

from elboscope.core import InputError, seeded
from elboscope.distributions import (
    BernoulliLikelihood,
    ContinuousBernoulliLikelihood,
    GaussianLikelihood,
)


def test_probabilities_and_logits_are_the_same_likelihood():
    with seeded(0):
        a = torch.randn(4, 3, dtype=torch.float64)
        x = (torch.rand(4, 3) < 0.5).double()
    for kind in (BernoulliLikelihood, ContinuousBernoulliLikelihood):
        by_logits = kind((3,))(a).log_prob(x)
        torch.testing.assert_close(kind((3,), "probs")(a.sigmoid()).log_prob(x), by_logits)


def test_saturated_probabilities_cost_a_bounded_number_of_nats():
    p = BernoulliLikelihood((1,), "probs")(torch.tensor([[1.0]], dtype=torch.float64))
    value = p.log_prob(torch.zeros(1, 1, dtype=torch.float64)).item()
    assert value == pytest.approx(math.log(1e-6), abs=1e-6)


@pytest.mark.parametrize("scale", [0.3, "learned", "learned_per_pixel"])
def test_gaussian_density_keeps_its_constants(scale):
    head = GaussianLikelihood((2, 3), scale, initial_scale=0.3).double()
    with seeded(0):
        mu, x = torch.randn(2, 5, 2, 3, dtype=torch.float64)
    sigma = torch.tensor(0.3, dtype=torch.float64 if scale == 0.3 else torch.float32).log().exp()
    slow = Normal(mu, sigma.double()).log_prob(x).sum((-2, -1))
    torch.testing.assert_close(head(mu).log_prob(x).detach(), slow, rtol=0, atol=1e-5)


def test_a_fixed_scale_is_exact_in_float64_and_no_parameter():
    head = GaussianLikelihood((1,), 0.1)
    assert head(torch.zeros(1, 1, dtype=torch.float64)).stddev.item() == 0.1
    assert list(head.parameters()) == []
    assert dict(head.state_dict()) == {}


@pytest.mark.parametrize(("scale", "shape"), [("learned", ()), ("learned_per_pixel", (3,))])
def test_the_learned_scale_ends_at_the_root_mean_square_error(scale, shape):
    with seeded(0):
        x = torch.tensor([0.2, 1.0, 3.0], dtype=torch.float64) * torch.randn(500, 3).double()
    head = GaussianLikelihood((3,), scale).double()
    assert head.log_scale.shape == shape
    optimiser = torch.optim.LBFGS(head.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def closure():
        optimiser.zero_grad()
        loss = -head(torch.zeros_like(x)).log_prob(x).mean()
        loss.backward()
        return loss

    optimiser.step(closure)
    mse = x.square().mean() if shape == () else x.square().mean(0)
    torch.testing.assert_close(head.sigma(x).detach() ** 2, mse, rtol=1e-4, atol=0)


def test_the_learned_scale_has_a_floor():
    head = GaussianLikelihood((1,), "learned")
    torch.nn.init.constant_(head.log_scale, -50.0)
    assert head.sigma(torch.zeros(1)).item() == pytest.approx(math.exp(-6))


@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan, math.inf, "per pixel"])
def test_a_bad_scale_is_refused_by_name(scale):
    unchecked = inspect.unwrap(GaussianLikelihood.__init__)  # no type check, as for users
    with pytest.raises(InputError, match=r"scale: expected a standard deviation σ > 0.*got"):
        unchecked(GaussianLikelihood.__new__(GaussianLikelihood), (1,), scale)


def test_what_is_printed():
    assert str(GaussianLikelihood((1,), 0.5)) == "GaussianLikelihood(σ = 0.5 (fixed))"
    assert "σ learned per pixel" in str(GaussianLikelihood((1,), "learned_per_pixel"))
    assert "decoder output: probs" in str(BernoulliLikelihood((1,), "probs"))
    assert "pixels in [0, 1]" in str(ContinuousBernoulliLikelihood((1,)))
