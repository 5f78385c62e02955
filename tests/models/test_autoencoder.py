"""The autoencoder, and what the regularisation it lacks buys on handwritten digits."""

import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal

from elboscope import data
from elboscope.core import GenerativeModel, InputError, seeded
from elboscope.models import completeness, continuity, conv_autoencoder, mlp_autoencoder, mlp_vae
from elboscope.objectives import elbo_analytic_kl, reconstruction


def test_reconstruction_scores_x_at_its_own_code():
    model = conv_autoencoder((1, 8, 8), 2, channels=(3, 4)).double()
    with seeded(0):
        x = (torch.rand(5, 1, 8, 8) < 0.5).double()
    logits = model.decoder(model.encoder(x))
    slow = -nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="none")
    bound = reconstruction(model, x)
    torch.testing.assert_close(bound.value, slow.flatten(1).sum(1).detach())
    torch.testing.assert_close(bound.loss, -slow.flatten(1).sum(1).mean())
    torch.testing.assert_close(model.decode(model.encode(x)), logits.sigmoid())
    assert not bound.value.requires_grad


def test_it_is_not_a_latent_variable_model():
    assert not isinstance(mlp_autoencoder((4,), 2), GenerativeModel)


def test_identity_is_as_complete_as_the_data_and_a_wide_prior_is_not():
    with seeded(0):
        x = torch.randn(1000, 2)
    right = MultivariateNormal(torch.zeros(2), torch.eye(2))
    wide = MultivariateNormal(torch.zeros(2), 25 * torch.eye(2))
    good, bad = (completeness(lambda z: z, x, p, seed=1) for p in (right, wide))
    assert abs(good.value - 1) < 4 * good.stderr + 0.1  # 0.1: the data's own spacing is noisy
    assert bad.value > 10


def test_completeness_without_a_prior_draws_from_the_codes():
    with seeded(0):
        z = torch.randn(500, 2) * torch.tensor([3.0, 0.1]) + 7
    p = MultivariateNormal(z.mean(0), torch.cov(z.T))
    assert completeness(lambda z: z, z, z=z, seed=0) == completeness(lambda z: z, z, p, seed=0)
    with pytest.raises(InputError, match="completeness: expected a prior, or the codes z"):
        completeness(lambda z: z, z)


def test_continuity_of_an_affine_decoder_is_the_step_squared_in_units_of_its_error():
    with seeded(0):
        z, Q = torch.randn(4000, 3).double(), torch.linalg.qr(torch.randn(9, 9)).Q[:3].double()
    for step in (0.05, 0.5):
        found = continuity(lambda z: 4 * z @ Q + 1, z, step=step, num_samples=4000, seed=1)
        assert found.value == pytest.approx(step**2, rel=0.05)


def test_a_decoder_that_jumps_is_less_continuous():
    with seeded(0):
        z = torch.randn(2000, 2)
    smooth, rough = (continuity(f, z, seed=0) for f in (torch.tanh, lambda z: (20 * z).sin()))
    assert rough.value - smooth.value > 10 * (rough.stderr + smooth.stderr)


@pytest.fixture(scope="module")
def trained():
    images = data.digits()
    x = data.Binarisation("fixed").fixed_draw(images.train)
    shape = tuple(x.shape[1:])

    def fit(model, objective):
        optimiser = torch.optim.Adam(model.parameters(), lr=2e-3)
        for _ in range(40):
            for rows in torch.randperm(len(x)).split(100):
                optimiser.zero_grad()
                objective(model, x[rows]).loss.backward()
                optimiser.step()
        return model.eval()

    with seeded(0):
        vae = fit(mlp_vae(shape, 8, hidden=(128,)), elbo_analytic_kl)
        autoencoder = fit(mlp_autoencoder(shape, 8, hidden=(128,)), reconstruction)
    return images.train, x, vae, autoencoder


@pytest.mark.slow
def test_regularisation_buys_completeness_and_costs_reconstruction(trained):
    grey, x, vae, autoencoder = trained
    with torch.no_grad():
        q = vae.encode(x)
        codes = autoencoder.encode(x)
        here = vae.decode(q.rsample(torch.Size((10,)))).log_prob(x).mean()
        there = autoencoder.log_reconstruction(x).mean()
    assert there > here + 1  # nats

    def mean_image(z):
        return vae.decode(z).mean

    a = completeness(mean_image, grey, vae.prior(), seed=0)
    b = completeness(autoencoder.decode, grey, z=codes, seed=0)
    assert b.value - a.value > 3 * (a.stderr**2 + b.stderr**2) ** 0.5
    a, b = continuity(mean_image, q.mean, seed=0), continuity(autoencoder.decode, codes, seed=0)
    assert b.value - a.value > 3 * (a.stderr**2 + b.stderr**2) ** 0.5
