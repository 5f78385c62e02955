"""GANs, hybrids and implicit posteriors as models: the contract, moments, what is absent."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from elboscope.core import (
    ContractError,
    InputError,
    LatentVariableModel,
    check_model,
    generated,
    is_implicit,
    sample_posterior,
    seeded,
)
from elboscope.distributions import ImplicitPosterior
from elboscope.models import (
    GAN,
    VAE,
    color_mnist_gan,
    color_mnist_hybrid,
    dcgan,
    dcgan_hybrid,
    mlp_avb,
    mlp_gan,
    mlp_hybrid,
)
from elboscope.models.hybrids import chosen


@pytest.mark.parametrize(
    ("gan", "shape"),
    [
        (mlp_gan((6,), 2, (8,), (8,)), (6,)),
        (dcgan((3, 16, 16), 4, (4, 8)), (3, 16, 16)),
        (color_mnist_gan((3, 8, 8), 4, (4, 8), (4, 8)), (3, 8, 8)),
    ],
)
def test_a_gan_keeps_the_contract_of_a_generator(gan: GAN, shape: tuple[int, ...]) -> None:
    x = torch.rand(4, *shape)
    found = check_model(gan.eval(), x)
    assert (found.latent_shape, found.data_shape) == (tuple(gan.latent_shape), shape)
    told = (found.has_encoder, found.has_likelihood, found.has_posterior_density, found.posterior)
    assert told == (False, False, False, "")
    assert found.problems == ()
    assert is_implicit(gan)
    z = torch.randn(3, 5, *gan.latent_shape)
    torch.testing.assert_close(generated(gan, z)[1, 2], gan.generate(z[1:2, 2])[0])
    assert gan.discriminator(x).shape == (4,)
    assert all(0 <= v <= 1 for v in generated(gan, z).aminmax())  # a sigmoid: data in [0, 1]


def test_breaches_of_a_generator_are_told_by_its_name() -> None:
    x = torch.rand(4, 6)
    mixing = GAN(nn.BatchNorm1d(6), nn.Linear(6, 1), latent_shape=(6,), data_shape=(6,))
    with pytest.raises(ContractError, match=r"generate\(z\): expected each datapoint's value .*ev"):
        check_model(mixing, x)
    check_model(mixing.eval(), x)
    other = mlp_gan((5,), 2, (8,))
    with pytest.raises(ContractError, match=r"generate\(z\): expected .*event shape \(6,\); got"):
        check_model(other, x)
    broken = mlp_gan((6,), 2, (8,))
    broken.generator[0].bias.data[0] = math.nan
    found = check_model(broken, x)
    assert found.problems == ("generate(z) is NaN or infinite for 48 of 48 values",)
    assert not found.finite


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (mlp_hybrid((6,), 2, (8,), ("data", "code", "joint"), (8,), (8,)), (6,)),
        (dcgan_hybrid((3, 16, 16), 4, (4, 8), ("data", "code", "joint"), (8,)), (3, 16, 16)),
        (color_mnist_hybrid((3, 8, 8), 4, (4, 8), ("data", "code", "joint"), (4, 8), (8,)),
         (3, 8, 8)),
    ],
)  # fmt: skip
def test_a_hybrid_is_a_vae_with_adversaries(model: VAE, shape: tuple[int, ...]) -> None:
    x = torch.rand(4, *shape).round()
    found = check_model(model.eval(), x)
    assert (found.has_likelihood, found.has_posterior_density, found.problems) == (True, True, ())
    z = model.prior().sample((4,))
    torch.testing.assert_close(generated(model, z), model.decode(z).mean)
    adversaries = model.adversaries
    assert adversaries["data"](x).shape == adversaries["code"](z).shape == (4,)
    assert adversaries["joint"](x, z).shape == (4,)
    assert any(name.startswith("adversaries.data.") for name in model.state_dict())


def test_the_noise_basis_posterior_has_moments_and_no_density() -> None:
    with seeded(0):
        model = mlp_avb((6,), 2, (8,), 3, 4, (8,), (8,), 8)
        model.encoder.network[-1].bias.data += 6  # noise of the size of a prior
        x = torch.rand(5, 6).round()
        q = model.encode(x)
        z = q.rsample((4000,))
        mean, variance = q.moments()
        many = [q.moments() for _ in range(50)]
    assert isinstance(q, ImplicitPosterior)
    sd = torch.stack([m for m, _ in many]).std(0)
    assert ((z.mean(0) - mean).abs() < 5 * (sd + (variance / 4000).sqrt())).all()
    sd = torch.stack([v for _, v in many]).std(0)
    assert ((z.var(0) - variance).abs() < 5 * (sd + variance * math.sqrt(8 / 4000))).all()
    assert (variance > 0.01).all()
    apart = z - z.mean(0)
    other = (apart[:, 0, 0] * apart[:, 1, 0]).mean() / variance[:2, 0].prod().sqrt()
    assert abs(other) < 5 / math.sqrt(4000)  # datapoints have noise of their own
    found = check_model(model, x)
    assert (found.posterior, found.has_posterior_density) == ("ImplicitPosterior", False)
    assert (found.has_likelihood, found.reparameterised) == (True, True)
    with pytest.raises(ContractError, match="ImplicitPosterior, which can only be sampled"):
        sample_posterior(model, x, 3)


def test_an_implicit_posterior_without_moments_says_so() -> None:
    def draw(K: int) -> Tensor:
        return torch.zeros(K, 3, 2)

    q = ImplicitPosterior(draw, torch.Size((3,)), torch.Size((2,)))
    with pytest.raises(NotImplementedError, match="does not tell its moments"):
        _ = q.mean
    with pytest.raises(NotImplementedError, match="has no density"):
        q.log_prob(torch.zeros(3, 2))
    assert q.sample((4, 5)).shape == (4, 5, 3, 2)


def test_messages() -> None:
    with pytest.raises(InputError, match="adversaries: expected some of data; got 'joint'"):
        chosen(("joint",), data=lambda: nn.Linear(6, 1))


@pytest.mark.parametrize("part", ["encode", "decode"])
def test_a_generator_says_that_it_has_no_density(part: str) -> None:
    gan = mlp_gan((6,), 2, (8,), (8,))
    with pytest.raises(InputError, match=rf"GAN.{part}: expected a model with an encoder q"):
        getattr(gan, part)
    assert not hasattr(gan, part)
    assert not isinstance(gan, LatentVariableModel)
    with pytest.raises(AttributeError, match="no attribute 'other'"):
        _ = gan.other
