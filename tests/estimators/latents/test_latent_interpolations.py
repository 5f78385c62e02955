"""Paths between codes: their ends are the reconstructions, their density the closed form."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal

import elboscope as es
from elboscope.core import InputError
from elboscope.estimators.latents.paths import _is_pair
from elboscope.models import LinearGaussian, mlp_vae
from elboscope.models.exact.affine_encoder import AffineDiagonal


@pytest.fixture(scope="module")
def model():
    return LinearGaussian.instance_2()


@pytest.fixture(scope="module")
def x(model):
    return model.sample(300, seed=0)[0]


@pytest.mark.parametrize("path", ["linear", "spherical"])
def test_the_ends_are_the_two_reconstructions(model, x, path):
    ways = es.latents.latent_interpolations(model, x, [(4, 9), (0, 1)], path=path)
    means = model.encode(x[[4, 9, 0, 1]]).mean @ model.W.T + model.b
    assert torch.allclose(ways.mean[:, 0], means[[0, 2]], atol=1e-12)
    assert torch.allclose(ways.mean[:, -1], means[[1, 3]], atol=1e-12)
    assert torch.equal(ways.ends[0], x[[4, 9]])


def test_between_them_a_line_or_an_arc(model, x):
    linear = es.latents.latent_interpolations(model, x, [(4, 9)], num_steps=3)
    a, b = model.encode(x[[4, 9]]).mean
    assert torch.allclose(linear.z[0, 1], (a + b) / 2, atol=1e-12)
    arc = es.latents.latent_interpolations(model, x, [(4, 9)], path="spherical", num_steps=3)
    middle = arc.z[0, 1]
    half = 0.5 * math.acos((a @ b / (a.norm() * b.norm())).item())
    for end in (a, b):
        assert math.acos((middle @ end / (middle.norm() * end.norm())).item()) <= 2 * half + 1e-12
    same = 0.5 / math.cos(half)  # slerp at ½ is (a + b)/(2 cos(Ω/2))
    assert torch.allclose(middle, same * (a + b), atol=1e-12)


def test_codes_of_equal_length_keep_it_on_the_arc():
    encoder = AffineDiagonal(torch.eye(2).double(), torch.zeros(2).double(), torch.ones(2).double())
    model = LinearGaussian(torch.eye(2).double(), torch.zeros(2).double(), 1.0, encoder)
    x = torch.tensor([[3.0, 0], [0, 3.0], [-3.0, 0], [0.5, 0.5]]).double()
    arc = es.latents.latent_interpolations(model, x, [(0, 1)], path="spherical", num_steps=4)
    assert torch.allclose(arc.z[0].norm(dim=1), torch.full((4,), 3.0).double(), atol=1e-12)
    opposite = es.latents.latent_interpolations(model, x, [(0, 2)], path="spherical", num_steps=3)
    assert torch.allclose(opposite.z[0, 1], torch.zeros(2).double(), atol=1e-12)


def test_the_ratio_is_that_of_the_others_mixture(model, x):
    ways = es.latents.latent_interpolations(model, x, [(4, 9), (0, 1)])
    rest = [i for i in range(300) if i not in (0, 1, 4, 9)]
    q = model.encode(x[rest])
    z = ways.z.flatten(0, 1)
    mixture = q.log_prob(z[:, None]).logsumexp(1) - math.log(len(rest))
    truth = mixture - model.prior().log_prob(z)
    assert torch.allclose(ways.log_ratio.flatten(), truth, atol=1e-9)
    assert ways.settings["mixture_size"] == 296


def test_in_the_population_it_is_the_closed_form(model):
    x, _ = model.sample(20_000, seed=1)
    ways = es.latents.latent_interpolations(model, x, [(0, 1)], num_steps=5)
    q: MultivariateNormal = model.aggregate_posterior()
    z = ways.z[0]
    truth = q.log_prob(z) - model.prior().log_prob(z)
    each = (model.encode(x).log_prob(z[:, None]) - q.log_prob(z)[:, None]).exp()
    error = each.std(1) / math.sqrt(len(x))
    assert bool(((ways.log_ratio[0] - truth).abs() < 4 * error).all())


def test_a_hole_between_two_clusters_dips_and_a_matching_posterior_does_not():
    clusters = torch.cat([torch.randn(200, 1) * 0.1 - 2, torch.randn(200, 1) * 0.1 + 2]).double()
    one, zero = torch.ones(1, 1).double(), torch.zeros(1).double()
    narrow = AffineDiagonal(one, zero, 0.04 * torch.ones(1).double())
    model = LinearGaussian(one, zero, 0.05, narrow)
    sick = es.latents.latent_interpolations(model, clusters, [(0, 399), (1, 2)])
    truth = sick.log_ratio[0, 0] - sick.log_ratio[0, 4]
    assert sick.dips[0] > 20
    assert abs(sick.dips[0] - truth) < 3
    assert sick.dips[1] < 1  # within a cluster
    healthy = LinearGaussian.perfect(1, 4, sigma2=0.1)
    x, _ = healthy.sample(2000, seed=0)
    assert es.latents.latent_interpolations(healthy, x, seed=0).dips.max() < 1.5


def test_other_data_may_stand_behind_q(model, x):
    ways = es.latents.latent_interpolations(model, x[:2], [(0, 1)], x_train=x[100:])
    mixture = model.encode(x[100:]).log_prob(ways.z[0][:, None]).logsumexp(1) - math.log(200)
    truth = mixture - model.prior().log_prob(ways.z[0])
    assert torch.allclose(ways.log_ratio[0], truth, atol=1e-9)


def test_drawn_pairs_are_disjoint_and_repeat_with_the_seed(model, x):
    first, again = (es.latents.latent_interpolations(model, x, 5, seed=3) for _ in range(2))
    assert len(first.pairs.unique()) == 10
    assert torch.equal(first.pairs, again.pairs)


def test_a_posterior_without_a_density_leaves_the_ratio_out_with_its_reason():
    from elboscope.models.posteriors import Planar

    model = mlp_vae((6,), 2, hidden=(8,), posterior=Planar())
    ways = es.latents.latent_interpolations(model, torch.rand(20, 6), 2, seed=0)
    assert ways.log_ratio is None
    assert ways.dips is None
    assert "can only be sampled" in ways.why_no_ratio
    assert ways.why_no_ratio in str(ways)


@pytest.mark.parametrize("pair", [(2,), (0, 1, 2), (0, 1.5), (0, 300), (-1, 0), 7, "ab"])
def test_what_is_no_pair_of_rows(pair):
    assert not _is_pair(pair, 300)
    assert _is_pair((0, 299), 300)


@pytest.mark.parametrize("pairs", [[], [(0, 300)], [(0, 1), (-1, 2)]])
def test_pairs_that_are_none_are_refused(model, x, pairs):
    with pytest.raises(InputError, match="pairs: expected pairs of rows of x, 0 to 299; got"):
        es.latents.latent_interpolations(model, x, pairs)


def test_errors_name_what_came(model, x):
    with pytest.raises(InputError, match="path: expected 'linear' or 'spherical'; got 'curved'"):
        es.latents.latent_interpolations(model, x, path="curved")
    with pytest.raises(InputError, match="pairs: expected pairs of rows of x, 0 to 299; got"):
        es.latents.latent_interpolations(model, x, [(0, 300)])
    with pytest.raises(InputError, match="expected datapoints besides those of the pairs"):
        es.latents.latent_interpolations(model, x[:2], [(0, 1)])
