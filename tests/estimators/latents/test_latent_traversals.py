"""Latent traversals: places at the stated quantiles, decoded in closed form, ranked by nats."""

import pytest
import torch
from torch.distributions import Normal

import elboscope as es
from elboscope.core import InputError
from elboscope.estimators import mutual_information
from elboscope.estimators.latents.pictures import DRAWS
from elboscope.models import (
    FlowPrior,
    LinearGaussian,
    MixturePrior,
    VampPrior,
    mlp_vae,
    pixelcnn_vae,
)


def three_units():
    """One strong unit, one weak, one that nothing uses."""
    W = torch.tensor([[0.0, 0.5, 3.0], [0.0, -0.5, 1.0], [0.0, 0.2, -1.0], [0, 0, 0]]).double()
    return LinearGaussian(W, torch.arange(4).double(), 0.5)


@pytest.fixture(scope="module")
def model():
    return three_units()


@pytest.fixture(scope="module")
def x(model):
    return model.sample(700, seed=0)[0]


def test_each_place_is_decoded_to_w_z_plus_b(model, x):
    shown = es.latents.latent_traversals(model, x, datapoint=3, levels=(0.1, 0.5, 0.9), seed=0)
    start = model.encode(x[3:4]).mean[0]
    for i, unit in enumerate(shown.units.tolist()):
        for j in range(3):
            z = start.clone()
            z[unit] = shown.values[i, j]
            assert torch.allclose(shown.mean[i, j], model.W @ z + model.b, atol=1e-12)
    assert shown.start_is == "the posterior mean of x[3]"


def test_values_are_the_quantiles_of_the_aggregate_posterior(model, x):
    shown = es.latents.latent_traversals(model, x, seed=0)
    q = model.encode(x)
    for unit, values in zip(shown.units.tolist(), shown.values, strict=True):
        each = Normal(q.mean[:, unit], q.stddev[:, unit]).cdf(values[:, None])
        assert torch.allclose(each.mean(1), shown.levels, atol=1e-10)


def test_in_the_population_they_are_those_of_the_closed_form(model):
    x, _ = model.sample(20_000, seed=1)
    shown = es.latents.latent_traversals(model, x, levels=(0.05, 0.5, 0.95), num_units=1, seed=0)
    q = model.aggregate_posterior()
    unit = shown.units[0]
    sd = q.covariance_matrix[unit, unit].sqrt()
    truth = Normal(q.mean[unit], sd).icdf(shown.levels)
    density = Normal(q.mean[unit], sd).log_prob(truth).exp()
    error = (shown.levels * (1 - shown.levels) / len(x)).sqrt() / density  # at most, of draws
    assert bool(((shown.values[0] - truth).abs() < 4 * error).all())


def test_units_are_ranked_by_their_information_in_nats(model, x):
    shown = es.latents.latent_traversals(model, x, seed=0)
    assert shown.units.tolist() == [2, 1, 0]
    q = model.aggregate_posterior().covariance_matrix.diagonal()
    within = model.encode(x[:1]).variance[0]
    truth = (0.5 * (q / within).log())[shown.units]
    z = (shown.information - truth) / shown.information_stderr
    assert bool((z[:2].abs() < 4).all())
    assert shown.information[2].abs() < 1e-12
    assert "unit" in str(shown)


def test_a_toll_that_says_nothing_does_not_come_first(model, x):
    """The unused unit pays ½·3² nats of KL for a constant mean: it tells nothing."""
    shift = torch.tensor([3.0, 0, 0]).double()
    sick = model.with_mistuned_posterior(mean_shift=shift)
    assert es.latents.unit_kl(sick, x).values.argmax() == 0
    assert es.latents.latent_traversals(sick, x, seed=0).units.tolist() == [2, 1, 0]


def test_of_one_unit_the_information_is_the_mutual_information():
    model = LinearGaussian.conjugate(0.2)
    x, _ = model.sample(500, seed=0)
    shown = es.latents.latent_traversals(model, x, seed=0)
    whole = mutual_information(model, x, seed=1)
    error = (shown.information_stderr.square() + whole.stderr**2).sqrt()
    assert abs(shown.information[0] - whole.mean) < 4 * error


def test_the_start_may_be_the_priors_mean(model, x):
    shown = es.latents.latent_traversals(model, x, datapoint=None, seed=0, num_units=1)
    assert shown.start.abs().max() == 0
    assert shown.start_is == "the prior's mean"


@pytest.mark.parametrize("prior", [MixturePrior(4), VampPrior(5), FlowPrior(hidden=4)])
def test_learned_priors_are_walked_too(prior):
    model = mlp_vae((6,), 3, hidden=(8,), prior=prior)
    shown = es.latents.latent_traversals(
        model, torch.rand(40, 6), datapoint=None, seed=0, num_units=2
    )
    z = shown.start.repeat(9, 1)
    z[:, shown.units[1]] = shown.values[1]
    assert torch.allclose(shown.mean[1], model.decode(z.float()).mean, atol=1e-6)


def test_posteriors_that_are_only_drawn_are_ranked_by_their_variances(model, x):
    class Drawn(torch.distributions.Distribution):
        """Implicit: the exact posterior's draws, nothing else."""

        def __init__(self, q):
            super().__init__(q.batch_shape, q.event_shape, validate_args=False)
            self.q, self.has_rsample = q, True

        def rsample(self, shape=()):
            return self.q.rsample(torch.Size(shape))

        def sample(self, shape=()):
            return self.q.sample(torch.Size(shape))

    class Implicit:
        prior, decode = model.prior, model.decode

        def encode(self, x):
            return Drawn(model.encode(x))

    shown = es.latents.latent_traversals(Implicit(), x, seed=0)
    assert shown.units.tolist()[0] == 2
    q = model.aggregate_posterior().covariance_matrix.diagonal()
    truth = 0.5 * (q[2] / model.encode(x[:1]).variance[0, 2]).log()
    # The error of half the logarithm of a variance of n datapoints is about 1/√(2n).
    assert abs(shown.information[0] - truth) < 4 / (2 * 500) ** 0.5
    assert shown.ranked_by.startswith("½ ln")


def test_a_condition_is_that_of_the_datapoint():
    class Conditional:
        def __init__(self, base, c=None):
            self.base, self.c = base, c

        def given(self, c):
            return Conditional(self.base, c)

        def prior(self):
            return self.base.prior()

        def encode(self, x):
            return self.base.encode(x - self.c)

        def decode(self, z):
            p = self.base.decode(z)
            noise = p.base_dist.scale
            shifted = torch.distributions.Normal(p.mean + self.c, noise)
            return torch.distributions.Independent(shifted, 1)

    base = three_units()
    x, _ = base.sample(50, seed=0)
    c = torch.arange(50.0).double()[:, None].expand(50, 4)
    model = Conditional(base)
    shown = es.latents.latent_traversals(model, x + c, datapoint=7, condition=c, seed=0)
    plain = es.latents.latent_traversals(base, x, datapoint=7, seed=0)
    assert torch.allclose(shown.mean, plain.mean + 7)


def test_a_decoder_without_a_mean_shows_draws_and_says_so():
    model = pixelcnn_vae((1, 4, 4), 2)
    x = (torch.rand(10, 1, 4, 4) > 0.5).float()
    shown = es.latents.latent_traversals(model, x, num_units=1, levels=(0.2, 0.8), seed=0)
    assert shown.decoded == shown.settings["decoded"] == DRAWS
    assert set(shown.mean.unique().tolist()) <= {0.0, 1.0}


def test_errors_name_what_came(model, x):
    with pytest.raises(InputError, match=r"levels: expected numbers between 0 and 1; got \(0.0"):
        es.latents.latent_traversals(model, x, levels=(0.0, 0.5))
    with pytest.raises(InputError, match="datapoint: expected a row of x, 0 to 699; got 700"):
        es.latents.latent_traversals(model, x, datapoint=700)
