import math

import pytest
import torch
from torch import nn
from torch.distributions import kl_divergence

import elboscope as es
from elboscope.core import InputError, check_model, seeded, split_parameters
from elboscope.models import (
    MAF,
    FlowPrior,
    MixturePrior,
    VampPrior,
    conv_vae,
    from_modules,
    mlp_vae,
)
from elboscope.models.priors import PseudoInputs
from elboscope.nn import mlp

FAMILIES = (MixturePrior(4), VampPrior(num_components=4), FlowPrior(num_steps=2, hidden=8))


def grid(half=8.0, n=401):
    axis = torch.linspace(-half, half, n, dtype=torch.float64)
    return torch.cartesian_prod(axis, axis), 2 * math.log(2 * half / (n - 1))


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_every_prior_is_a_density_and_draws_from_it(family):
    with seeded(0):
        model = mlp_vae((6,), 2, (8,), prior=family).double()
        for p in model.parameters():
            p.data += 0.1 * torch.randn_like(p)
    z, cell = grid()
    with torch.no_grad(), seeded(1):
        p = model.prior()
        log_p = p.log_prob(z)
        draws = p.sample((20_000,))
    assert (log_p.logsumexp(0) + cell).item() == pytest.approx(0, abs=1e-4)
    mean = (log_p + cell).exp() @ z
    error = draws.std(0) / math.sqrt(len(draws))
    assert ((draws.mean(0) - mean).abs() < 4 * error).all()


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_every_prior_keeps_the_contract_and_trains(family):
    with seeded(0):
        x = (torch.rand(200, 6) < 0.3).float()
        for model in (
            mlp_vae((6,), 2, (8,), prior=family),
            from_modules(mlp(6, (8,), 4), mlp(2, (8,), 6), prior=family),
        ):
            assert check_model(model, x).finite
            assert str(family) in repr(model)
            phi, theta = split_parameters(model, x)
            assert len(phi) == len(list(model.encoder.parameters()))
            own = {id(p) for p in model.given_prior.parameters()}
            assert own <= {id(p) for p in theta}
            assert own


def test_the_vamp_prior_with_the_data_as_pseudo_inputs_is_the_aggregate_posterior():
    """p(z) = q(z): the marginal KL is zero, and the ELBO is E log p(x|z) − I."""
    with seeded(0):
        x = torch.rand(50, 6, dtype=torch.float64)
        model = mlp_vae((6,), 2, (8,), prior=VampPrior(num_components=50)).double()
        nn.init.normal_(model.encoder[-1].weight, std=2.0)
        z = torch.randn(9, 2, dtype=torch.float64)
    model.given_prior.values.data = x
    kl = es.marginal_kl(model, x, num_draws=500, seed=0)
    assert kl.mean == pytest.approx(0, abs=1e-9)
    slow = model.encode(x).log_prob(z[:, None]).logsumexp(1) - math.log(50)
    torch.testing.assert_close(model.prior().log_prob(z), slow)


def test_the_vamp_prior_shares_the_encoder_and_follows_it():
    model = mlp_vae((6,), 2, (8,), prior=VampPrior(num_components=3))
    names = [name for name, _ in model.named_parameters()]
    assert [n for n in names if n.startswith("given_prior")] == ["given_prior.values"]
    before = model.prior().mean
    model.encoder[-1].bias.data += 1.0
    assert not torch.allclose(model.prior().mean, before)


def test_the_vamp_prior_of_a_flow_posterior():
    with seeded(0):
        model = mlp_vae(
            (6,), 2, (8,), posterior=MAF(1, 8, 3), prior=VampPrior(num_components=4)
        ).double()
        z = torch.randn(5, 3, 2, dtype=torch.float64)
    q = model.encode(model.given_prior.pseudo_inputs)
    slow = q.log_prob(z[:, :, None]).logsumexp(-1) - math.log(4)
    torch.testing.assert_close(model.prior().log_prob(z), slow)
    assert model.prior().sample((7, 3)).shape == (7, 3, 2)


def test_pseudo_inputs_stay_between_their_limits():
    module = PseudoInputs(VampPrior(2, low=0.0, high=1.0), (3,))
    module.values.data = torch.tensor([[-1.0, 0.5, 2.0], [0.0, 0.1, 1.0]])
    assert module.pseudo_inputs[0].tolist() == [0.0, 0.5, 1.0]


def test_the_learned_mixture_reaches_the_aggregate_posterior():
    """Frozen encoder and decoder: the gain of the bound is the marginal KL, and no more."""
    model = es.models.LinearGaussian.instance_2()
    with seeded(0):
        x, _ = model.sample(4000)
        z = model.encode(x).sample().detach().float()
    prior = MixturePrior(2).prior_module((2,), (3,))
    optimiser = torch.optim.Adam(prior.parameters(), 0.02)
    for _ in range(400):
        optimiser.zero_grad()
        (-prior().log_prob(z).mean()).backward()
        optimiser.step()
    log_p = model.prior().log_prob(z.double())
    gain = (prior().log_prob(z).double() - log_p).detach()
    error = gain.std().item() / math.sqrt(len(gain))
    assert gain.mean().item() < model.marginal_kl().item() + 4 * error
    assert gain.mean().item() > 0.02


def test_latents_on_several_axes():
    class Reshaped(nn.Sequential):
        pass

    with seeded(0):
        encoder = Reshaped(nn.Flatten(), nn.Linear(8, 8), nn.Unflatten(1, (4, 2)))
        decoder = Reshaped(nn.Flatten(), nn.Linear(4, 8))
        for family in FAMILIES:
            model = from_modules(encoder, decoder, data_shape=(1, 8), prior=family)
            assert model.prior().event_shape == (2, 2)
            assert model.prior().log_prob(model.prior().sample((3,))).shape == (3,)


def test_convolutions_and_analytic_kl():
    model = conv_vae((1, 8, 8), 3, (2, 2), prior=FlowPrior(1, 4))
    with pytest.raises(NotImplementedError):
        kl_divergence(model.encode(torch.zeros(1, 1, 8, 8)), model.prior())
    x = (torch.rand(20, 1, 8, 8) < 0.5).float()
    assert es.evidence_lower_bound(model, x, 5, seed=0).method == "ELBO, sampled KL"


def test_a_vamp_prior_and_a_condition_are_refused():
    with pytest.raises(InputError, match=r"prior: expected one that does not use the encoder"):
        from_modules(
            nn.Linear(6, 4),
            nn.Linear(2, 6),
            data_shape=(6,),
            latent_shape=(2,),
            conditional=True,
            prior=VampPrior(3),
        )
    with pytest.raises(InputError, match="num_components: expected at least 1; got 0"):
        mlp_vae((6,), 2, prior=MixturePrior(0))
