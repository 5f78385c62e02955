"""Where a decoder's last bias begins: the best likelihood without z, of every head."""

import math

import pytest
import torch
from torch import nn

from elboscope.models import conv_vae, mlp_vae, start_at_mean


def begun(make, x, **settings):
    """A model whose decoder is its last bias alone."""
    model = start_at_mean(make(tuple(x.shape[1:]), 2, **settings), x)
    nn.init.zeros_(model.decoder[-1].weight)
    return model


def mean_score(model, x):
    return model.decode(torch.zeros(1, 2)).log_prob(x).mean().item()


@pytest.fixture
def levels():
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 4, (500, 1, 4, 4), generator=generator).clamp(max=2) / 3


@pytest.mark.parametrize("make", [mlp_vae, conv_vae])
def test_a_categorical_bias_is_the_entropy_of_the_frequencies(make, levels):
    x = torch.cat([levels] * 4, dim=2).repeat(1, 1, 1, 4)  # 16 by 16, as convolutions need
    model = begun(make, x, likelihood="categorical", levels=4)
    axis = (0, 1, 2, 3) if make is conv_vae else (0,)
    share = torch.stack([(x * 3).round().eq(k).double().mean(axis) for k in range(4)])
    entropy = -(torch.special.xlogy(share, share)).sum(0).expand(1, 16, 16).sum().item()
    # One datapoint more among 500, spread over four levels: at most about 4/500 nats a value.
    assert -entropy - 256 * 4 / 500 < mean_score(model, x) <= -entropy + 1e-3
    assert model.decode(torch.zeros(1, 2)).log_prob(torch.ones(1, 1, 16, 16)).isfinite().all()


@pytest.mark.parametrize(
    ("likelihood", "of_error"),
    [
        ("gaussian", lambda e: e.square().mean(0).sqrt()),
        ("laplace", lambda e: e.abs().mean(0)),
        ("discretised_logistic", lambda e: e.square().mean(0).sqrt() * math.sqrt(3) / math.pi),
    ],
)
def test_a_predicted_scale_begins_at_that_of_the_data(likelihood, of_error):
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(300, 6, generator=generator) * torch.linspace(0.5, 1, 6)
    x[:, 0] = 0.25  # never changes
    model = begun(mlp_vae, x, likelihood=likelihood, scale="predicted")
    p = model.decode(torch.zeros(1, 2)).base_dist
    error = x - x.mean(0)
    torch.testing.assert_close(p.loc[0], x.mean(0))
    torch.testing.assert_close(p.scale[0, 1:], of_error(error)[1:])
    least = 0.1 * of_error(error.reshape(-1, 1))
    torch.testing.assert_close(p.scale[0, :1], least)


def test_no_other_gaussian_start_scores_higher():
    x = torch.randn(400, 3, generator=torch.Generator().manual_seed(2)) * torch.tensor([1.0, 2, 3])
    model = begun(mlp_vae, x, likelihood="gaussian", scale="predicted")
    best, bias = mean_score(model, x), model.decoder[-1].bias
    for j in range(6):
        for step in (-0.05, 0.05):
            with torch.no_grad():
                bias[j] += step
            assert mean_score(model, x) < best
            with torch.no_grad():
                bias[j] -= step
