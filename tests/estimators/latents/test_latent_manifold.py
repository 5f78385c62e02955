"""The manifold: cells of equal prior mass, decoded."""

import math

import pytest
import torch
from torch.distributions import Categorical, Independent, Laplace, MixtureSameFamily, Normal

import elboscope as es
from elboscope.core import InputError
from elboscope.estimators.latents.pictures import EXACT
from elboscope.models import LinearGaussian


class WithPrior:
    """A decoder, under another prior."""

    def __init__(self, base, prior):
        self.base, self.p = base, prior
        self.decode = base.decode

    def prior(self):
        return self.p


def test_nodes_are_equidistant_in_the_priors_own_probability():
    model = LinearGaussian.instance_1()
    grid = es.latents.latent_manifold(model, num_steps=8)
    u = torch.special.ndtr(grid.z)
    middles = (torch.arange(8).double() + 0.5) / 8
    assert torch.allclose(u[..., 0], middles[:, None].expand(8, 8), atol=1e-12)
    assert torch.allclose(u[..., 1], middles.expand(8, 8), atol=1e-12)
    assert grid.nodes_by == EXACT
    assert torch.allclose(grid.mean, grid.z @ model.W.T + model.b, atol=1e-12)


def test_any_factorised_prior_has_its_own_quantiles():
    zeros, scale = torch.zeros(2).double(), torch.tensor([1.0, 3.0]).double()
    prior = Independent(Laplace(zeros, scale), 1)
    grid = es.latents.latent_manifold(WithPrior(LinearGaussian.instance_1(), prior), num_steps=5)
    u = Laplace(zeros, scale).cdf(grid.z)
    assert torch.allclose(u[:, 0, 0], grid.levels, atol=1e-12)
    assert torch.allclose(u[0, :, 1], grid.levels, atol=1e-12)


def test_cells_of_a_mixture_have_equal_mass_by_draws():
    """Two far clusters on a diagonal: z₂ given z₁ is known, its own quantiles would be wrong."""
    centres = torch.tensor([[-4.0, -4.0], [4.0, 4.0]]).double()
    parts = Independent(Normal(centres, torch.ones_like(centres)), 1)
    prior = MixtureSameFamily(Categorical(torch.ones(2)), parts)
    grid = es.latents.latent_manifold(
        WithPrior(LinearGaussian.instance_1(), prior), num_steps=6, seed=0
    )
    assert "draws of the prior, those of z₂ within strips of z₁" in grid.nodes_by
    S = 400 * 36
    of_first = 0.5 * torch.special.ndtr(grid.z[:, 0, 0, None] - centres[:, 0]).sum(1)
    assert bool(((of_first - grid.levels).abs() < 4 * 0.5 / math.sqrt(S)).all())
    # In the first two strips only the lower cluster lives; z₂ there is N(−4, 1).
    of_second = torch.special.ndtr(grid.z[:2, :, 1] + 4)
    assert bool(((of_second - grid.levels).abs() < 4 * 0.5 / math.sqrt(S / 6)).all())


def test_a_single_latent_makes_a_strip():
    model = LinearGaussian.conjugate(0.5)
    grid = es.latents.latent_manifold(model, num_steps=7)
    assert grid.z.shape == (7, 1, 1)
    assert torch.allclose(torch.special.ndtr(grid.z[:, 0, 0]), grid.levels, atol=1e-12)
    assert torch.allclose(grid.mean[:, 0, 0], grid.z[:, 0, 0], atol=1e-12)


def test_beside_each_tile_stands_the_ratio_of_q_to_the_prior():
    model = LinearGaussian.instance_2()
    x, _ = model.sample(200, seed=0)
    grid = es.latents.latent_manifold(model, x, num_steps=4)
    z = grid.z.flatten(0, 1)
    truth = model.encode(x).log_prob(z[:, None]).logsumexp(1) - math.log(200)
    truth = truth - model.prior().log_prob(z)
    assert torch.allclose(grid.log_ratio.flatten(), truth, atol=1e-9)
    assert es.latents.latent_manifold(model).why_no_ratio == "no data were given"
    alone = WithPrior(model, model.prior())
    assert es.latents.latent_manifold(alone, x).why_no_ratio == "the model has no encoder"


def test_more_than_two_latents_are_refused():
    model = LinearGaussian.perfect(3, 5)
    with pytest.raises(InputError, match="expected one or two latents, which can be laid out; got"):
        es.latents.latent_manifold(model)
