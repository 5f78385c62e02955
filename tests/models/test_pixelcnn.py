import math

import pytest
import torch

import elboscope as es
from elboscope.core import InputError, check_model, seeded
from elboscope.models import FlowPrior
from elboscope.models.pixelcnn import pixelcnn_vae


def small(shape=(1, 3, 3), seed=0, **settings):
    with seeded(seed):
        model = pixelcnn_vae(shape, 2, (8,), features=6, kernels=(3, 3), **settings)
        for p in model.parameters():
            p.data += 0.3 * torch.randn_like(p)
    return model.double()


def images(values, D):
    return torch.cartesian_prod(*D * [torch.tensor(values, dtype=torch.float64)])


def test_all_binary_images_of_3_by_3_pixels_sum_to_one():
    model, x = small(), images([0.0, 1.0], 9).reshape(512, 1, 3, 3)
    with seeded(1):
        z = torch.randn(3, 1, 2, dtype=torch.float64)
    total = model.decode(z.expand(3, 512, 2)).log_prob(x).logsumexp(1)
    torch.testing.assert_close(total, torch.zeros_like(total), rtol=0, atol=1e-12)


def test_all_images_of_three_colours_and_three_levels_sum_to_one():
    for name, scale in (("categorical", None), ("discretised_logistic", "predicted")):
        model = small((3, 1, 2), likelihood=name, levels=3, scale=scale)
        x = images([0.0, 0.5, 1.0], 6).reshape(729, 3, 1, 2)
        z = torch.ones(729, 2, dtype=torch.float64)
        assert model.decode(z).log_prob(x).logsumexp(0).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("shape", "settings"),
    [
        ((1, 2, 2), {}),
        ((2, 1, 2), {}),
        ((1, 2, 2), {"likelihood": "quantized_normal", "scale": "learned_per_pixel", "levels": 2}),
    ],
)
def test_draws_have_the_probabilities_of_the_images(shape, settings):
    model, x = small(shape, **settings), images([0.0, 1.0], 4).reshape(16, *shape)
    z = torch.ones(2, dtype=torch.float64)
    P = model.decode(z.expand(16, 2)).log_prob(x).exp().detach()
    with seeded(0):
        draws = model.decode(z.expand(1, 2)).sample((20_000,))[:, 0]
    share = (draws[:, None] == x).flatten(2).all(2).double().mean(0)
    rare = 3 / 20_000  # counts of what is hardly ever drawn are not normal
    assert ((share - P).abs() < 4 * (P * (1 - P) / 20_000).sqrt() + rare).all()
    assert model.decode(z).sample().shape == shape


def test_the_pixels_depend_on_each_other_given_z():
    """What a factorised decoder cannot have: log p(x|z) is not a sum over pixels."""
    model, z = small((1, 2, 2)), torch.zeros(4, 2, dtype=torch.float64)
    corners = torch.tensor([[0.0, 0], [0, 1], [1, 0], [1, 1]]).double()
    x = torch.zeros(4, 1, 2, 2, dtype=torch.float64)
    x[:, 0, 0, 0], x[:, 0, 1, 1] = corners.T
    log_p = model.decode(z).log_prob(x)
    assert (log_p[0] + log_p[3] - log_p[1] - log_p[2]).abs() > 1e-3


def test_it_keeps_the_contract_and_is_estimated_like_any_other():
    model = small(prior=FlowPrior(1, 4))
    with seeded(0):
        x = (torch.rand(6, 1, 3, 3) < 0.5).double()
    found = check_model(model, x)
    assert found.finite
    assert found.in_support
    assert found.likelihood == "AutoregressiveImage"
    assert not check_model(model, torch.rand(6, 1, 3, 3).double()).in_support
    assert es.importance_sampling(model, x, 200, seed=0).mean > -9 * 2
    with pytest.raises(NotImplementedError):
        _ = model.decode(torch.zeros(1, 2).double()).mean


@pytest.mark.slow
def test_a_strong_decoder_learns_without_the_code():
    """All pixels equal, black or white: −ln 2 nats, of which z need not tell anything."""
    with seeded(0):
        x = (torch.rand(256, 1, 1, 1) < 0.5).float().expand(256, 1, 3, 3)
        model = pixelcnn_vae((1, 3, 3), 2, (16,), features=8, kernels=(3, 3))
        optimiser = torch.optim.Adam(model.parameters(), 0.01)
        for _ in range(200):
            optimiser.zero_grad()
            es.objectives.elbo(model, x).loss.backward()
            optimiser.step()
    elbo = es.evidence_lower_bound(model, x, 50, seed=0)
    assert elbo.mean == pytest.approx(-math.log(2), abs=0.05)
    assert elbo.mean < -0.6
    assert es.latents.mutual_information(model, x, seed=0).mean < 0.1


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="latent_dim: expected at least 1; got 0"):
        pixelcnn_vae((1, 3, 3), 0)
    with pytest.raises(InputError, match="hidden: expected a multiple of the 3 channels"):
        pixelcnn_vae((3, 3, 3), 2)
