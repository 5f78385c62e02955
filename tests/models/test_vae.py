"""Built-in architectures: what they compute, and that a configuration file can name them."""

import math

import pytest
import torch
from jsonargparse import ArgumentParser
from torch import nn
from torch.distributions import Independent, MultivariateNormal, Normal

from elboscope.core import ContractError, InputError, check_model, seeded, split_parameters
from elboscope.distributions import GaussianLikelihood
from elboscope.models import VAE, LinearGaussian, conv_vae, mlp_vae, start_at_mean


def linear_vae():
    """The modules of instance 1: a VAE whose every quantity is known."""
    truth = LinearGaussian.instance_1()
    q = truth.encode(torch.zeros(1, 3, dtype=torch.float64))
    encoder, decoder = nn.Linear(3, 4).double(), nn.Linear(2, 3).double()
    with torch.no_grad():
        decoder.weight.copy_(truth.W)
        decoder.bias.copy_(truth.b)
        A = truth.encode(torch.eye(3, dtype=torch.float64)).mean - q.mean
        encoder.weight.copy_(torch.cat([A.T, torch.zeros_like(A.T)]))
        encoder.bias.copy_(torch.cat([q.mean[0], q.variance[0].log()]))
    head = GaussianLikelihood((3,), math.sqrt(0.5))
    return VAE(encoder, decoder, head, latent_shape=(2,), data_shape=(3,)), truth


def test_densities_of_a_linear_vae_are_those_of_instance_1():
    model, truth = linear_vae()
    x, z = truth.sample(6, seed=0)
    for mine, other, value in (
        (model.encode(x), truth.encode(x), z),
        (model.decode(z), truth.decode(z), x),
        (model.prior(), truth.prior(), z),
    ):
        torch.testing.assert_close(mine.log_prob(value), other.log_prob(value))


@pytest.mark.parametrize(
    "model",
    [
        mlp_vae((3, 4), 2, hidden=(8,)),
        conv_vae((1, 8, 8), 2, channels=(3, 4)),
        conv_vae((1, 28, 28), 2, channels=(3, 4)),
        conv_vae((3, 32, 32), 2, channels=(3, 4), likelihood="gaussian", scale=0.1),
        mlp_vae((6,), 2, hidden=(), likelihood="gaussian", scale="learned"),
        mlp_vae((6,), 2, likelihood="gaussian", scale="learned_per_pixel"),
        mlp_vae((6,), 2, likelihood="continuous_bernoulli"),
    ],
    ids=lambda m: "x".join(map(str, m.data_shape)),
)
def test_the_contract_holds(model):
    with seeded(0):
        x = (torch.rand(5, *model.data_shape) < 0.5).float()
    found = check_model(model, x)
    assert found.problems == ()
    assert (found.latent_shape, found.data_shape) == ((2,), model.data_shape)
    assert found.analytic_kl
    phi, theta = split_parameters(model, x)
    assert {id(p) for p in phi} == {id(p) for p in model.encoder.parameters()}
    assert len(phi) + len(theta) == len(list(model.parameters()))


def test_samples_and_batches_are_decoded_row_by_row():
    model = conv_vae((1, 8, 8), 2, channels=(3, 4)).double()
    with seeded(0):
        z = torch.randn(4, 5, 2, dtype=torch.float64)
    together = model.decode(z).mean
    alone = torch.stack([torch.stack([model.decode(v).mean for v in row]) for row in z])
    torch.testing.assert_close(together, alone)


def test_the_prior_follows_the_models_dtype():
    model = mlp_vae((4,), 2)
    assert model.prior().sample().dtype == torch.float32
    assert model.double().prior().sample().dtype == torch.float64
    assert not any(k.startswith("prior") for k in model.state_dict())


def test_a_given_prior_is_used():
    p = MultivariateNormal(torch.ones(2), 4 * torch.eye(2))

    class Learned(nn.Module):
        def __init__(self):
            super().__init__()
            self.mu = nn.Parameter(torch.ones(2))

        def forward(self):
            return Independent(Normal(self.mu, torch.full((2,), 2.0)), 1)

    z = torch.tensor([0.3, -1.0])
    for prior in (p, Learned()):
        model = VAE(
            nn.Linear(3, 4),
            nn.Linear(2, 3),
            GaussianLikelihood((3,), 1.0),
            latent_shape=(2,),
            data_shape=(3,),
            prior=prior,
        )
        torch.testing.assert_close(model.prior().log_prob(z).detach(), p.log_prob(z))
        assert type(prior).__name__ in repr(model)
        assert len(split_parameters(model, torch.zeros(2, 3))[1]) == 2 + (prior is not p)


def test_x_of_another_shape_is_refused():
    with pytest.raises(InputError, match=r"x: expected shape \(B, 1, 8, 8\); got \(5, 64\)"):
        conv_vae((1, 8, 8), 2).encode(torch.zeros(5, 64))


def test_a_condition_to_a_model_without_one_is_refused():
    with pytest.raises(ContractError, match=r"condition: expected none.*conditional=True"):
        mlp_vae((4,), 2).given(torch.zeros(3, 1))


def test_start_at_mean_makes_the_mean_image_the_reconstruction():
    x = torch.rand(200, 1, 8, 8)
    x[:, :, 0] = 0  # margins that are never inked: clipped, so that the logit is finite
    for model in (mlp_vae((1, 8, 8), 2), conv_vae((1, 8, 8), 2)):
        last = start_at_mean(model, x).decoder[-1]
        nn.init.zeros_(last.weight)
        image = model.decode(torch.randn(1, 2)).mean[0]
        mean = x.mean(0).clamp(0.001, 0.999)
        per_channel = x.mean().expand(1, 8, 8)
        torch.testing.assert_close(image, mean if isinstance(last, nn.Linear) else per_channel)


def test_start_at_mean_of_a_gaussian_is_the_mean_itself():
    x = 5 + torch.rand(50, 3)
    model = start_at_mean(mlp_vae((3,), 1, likelihood="gaussian", scale=1.0), x)
    torch.testing.assert_close(model.decoder[-1].bias.detach(), x.mean(0))


def test_start_at_mean_needs_a_bias():
    model = mlp_vae((3,), 1)
    model.decoder.append(nn.Tanh())
    with pytest.raises(InputError, match="the decoder's last layer: expected a linear layer"):
        start_at_mean(model, torch.rand(5, 3))


@pytest.mark.parametrize(
    ("path", "settings", "expected"),
    [
        ("mlp_vae", "{data_shape: [1, 8, 8], latent_dim: 3, hidden: [7]}", "(3,)"),
        (
            "conv_vae",
            "{data_shape: [1, 8, 8], latent_dim: 2, likelihood: gaussian, scale: 0.5}",
            "σ = 0.5 (fixed)",
        ),
    ],
)
def test_a_configuration_file_can_name_them(path, settings, expected):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(VAE, "model")
    text = f"{{class_path: elboscope.models.{path}, init_args: {settings}}}"
    made = parser.instantiate(parser.parse_args([f"--model={text}"])).model
    assert expected in repr(made)


@pytest.mark.slow
def test_training_reaches_the_maximum_likelihood_of_the_linear_model():
    """A trained linear VAE is probabilistic PCA: the closed form is where it ends."""
    truth = LinearGaussian.instance_1()
    x, _ = truth.sample(400, seed=0)
    best = LinearGaussian.fit(x, 1)
    with seeded(1):
        model = mlp_vae((3,), 1, hidden=(), likelihood="gaussian", scale="learned").double()
        optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
        for _ in range(1500):
            q = model.encode(x)
            kl = torch.distributions.kl_divergence(q, model.prior())
            z = q.rsample(torch.Size((4,)))
            loss = (kl - model.decode(z).log_prob(x).mean(0)).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    W, b = model.decoder[0].weight, model.decoder[0].bias
    sigma2 = model.likelihood.sigma(x).item() ** 2
    found = LinearGaussian(W.detach(), b.detach(), sigma2).log_likelihood(x).mean()
    assert 0 <= (best.log_likelihood(x).mean() - found).item() < 0.01
