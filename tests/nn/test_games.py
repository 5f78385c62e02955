"""Networks of games: shapes and counts of the published ones, formulas, and one logit a row."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from elboscope.core import InputError, seeded
from elboscope.nn import (
    AVBAdversary,
    NoiseBasisEncoder,
    code_discriminator,
    color_mnist_discriminator,
    color_mnist_encoder,
    color_mnist_generator,
    conv_joint_discriminator,
    dcgan_discriminator,
    dcgan_encoder,
    dcgan_generator,
    mlp_discriminator,
    mlp_joint_discriminator,
)
from elboscope.nn.dcgan import normalisation, output_layer


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_dcgan_has_the_published_layers() -> None:
    g = dcgan_generator(3, 100, (64, 128, 256, 512), side=64, output="tanh")
    layers = [(m.in_channels, m.out_channels) for m in g if isinstance(m, nn.ConvTranspose2d)]
    assert layers == [(100, 512), (512, 256), (256, 128), (128, 64), (64, 3)]
    # no biases beside batch normalisation: 16 weights a pair of maps, 2 numbers a map
    pairs = 100 * 512 + 512 * 256 + 256 * 128 + 128 * 64 + 64 * 3
    assert count(g) == 16 * pairs + 2 * (512 + 256 + 128 + 64)
    assert g(torch.zeros(2, 100)).shape == (2, 3, 64, 64)
    d = dcgan_discriminator(3, (64, 128, 256), side=32)
    pairs = 3 * 64 + 64 * 128 + 128 * 256 + 256
    assert count(d) == 16 * pairs + 2 * (128 + 256)  # none behind the first
    assert count(dcgan_discriminator(3, norm="none")) == 16 * pairs
    e = dcgan_encoder(3, 20)
    assert e(torch.zeros(2, 3, 32, 32)).shape == (2, 20)


def test_dcgan_starts_small() -> None:
    with seeded(0):
        g = dcgan_generator(3, 50)
    weights = torch.cat([m.weight.flatten() for m in g if isinstance(m, nn.ConvTranspose2d)])
    n = len(weights)
    assert abs(weights.std().item() - 0.02) < 4 * 0.02 / math.sqrt(2 * n)
    norms = torch.cat([m.weight for m in g if isinstance(m, nn.BatchNorm2d)])
    assert abs(norms.mean().item() - 1) < 4 * 0.02 / math.sqrt(len(norms))


def test_color_mnist_networks_have_the_published_layers() -> None:
    g = color_mnist_generator((3, 28, 28), 50, (32, 64))
    assert g[0].out_features == 3136
    layers = [m for m in g if isinstance(m, nn.ConvTranspose2d)]
    assert [(m.in_channels, m.out_channels, m.stride[0]) for m in layers] == [
        (64, 64, 2), (64, 32, 1), (32, 3, 2)]  # fmt: skip
    d = color_mnist_discriminator((3, 28, 28))
    layers = [m for m in d if isinstance(m, nn.Conv2d)]
    assert [(m.out_channels, m.stride[0], m.kernel_size[0]) for m in layers] == [
        (8, 2, 5), (16, 1, 5), (32, 2, 5), (64, 1, 5), (64, 2, 5)]  # fmt: skip
    assert d(torch.zeros(2, 3, 28, 28)).shape == (2,)
    assert color_mnist_encoder((3, 28, 28), 100)(torch.zeros(2, 3, 28, 28)).shape == (2, 100)


def test_the_code_discriminator_is_three_times_a_thousand_without_normalisation() -> None:
    C = code_discriminator(50)
    assert count(C) == 51 * 1000 + 2 * 1001 * 1000 + 1001
    assert not any(isinstance(m, nn.BatchNorm1d) for m in C)


@pytest.mark.parametrize(
    "network",
    [
        dcgan_discriminator(3, (4, 8), norm="layer"),
        dcgan_discriminator(3, (4, 8), norm="none"),
        dcgan_discriminator(3, (4, 8)).eval(),
        color_mnist_discriminator((3, 16, 16), (4, 8), norm="none"),
        mlp_discriminator((3, 16, 16), (8,)),
    ],
)
def test_each_logit_is_of_one_datapoint(network: nn.Module) -> None:
    x = torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(network(x)[:2], network(x[:2]))
    assert network(x).std() > 0


@pytest.mark.parametrize(
    "network",
    [mlp_joint_discriminator((3, 8, 8), 2, (8,)), conv_joint_discriminator((3, 8, 8), 2, (4, 8))],
)
def test_a_joint_discriminator_sees_both(network: nn.Module) -> None:
    with seeded(0):
        x, z = torch.rand(5, 3, 8, 8, requires_grad=True), torch.randn(5, 2, requires_grad=True)
    t = network(x, z)
    slopes = torch.autograd.grad(t[1], [x, z])
    for slope in slopes:  # of the same pair, and of no other
        assert (slope[1] != 0).any()
        assert not (slope[[0, 2, 3, 4]] != 0).any()


def test_avb_adversary_is_its_formula() -> None:
    with seeded(0):
        T = AVBAdversary((2, 2), 3, (8,), features=16)
        x, z = torch.randn(5, 2, 2), torch.randn(5, 3)
    flat = x.flatten(1)
    expected = torch.einsum("bf,bf->b", T.theta(flat), T.s(z))
    expected = expected + T.of_x(flat)[:, 0] + T.of_z(z)[:, 0] + 0.5 * (z**2).sum(1)
    torch.testing.assert_close(T(x, z), expected)


@pytest.mark.parametrize("shift", [5.0, 0.5])
def test_noise_basis_is_its_formula(shift: float) -> None:
    with seeded(0):
        network = nn.Linear(6, 2 * (1 + 4))
        net = NoiseBasisEncoder(network, 2, num_bases=4, noise_dim=3, hidden=(8,), shift=shift)
        x = torch.randn(5, 6)
        basis = net(x)
    rows = network(x).view(5, 5, 2)
    torch.testing.assert_close(basis.origin, rows[:, 0])
    torch.testing.assert_close(basis.coefficients, nn.functional.elu(rows[:, 1:] - shift) + 1)
    with seeded(1):
        v = basis.draw(7)
    with seeded(1):
        noise = torch.randn(4, 7, 3)
    for i in range(4):
        torch.testing.assert_close(v[:, i], net.basis.member(i)(noise[i]))


def test_messages() -> None:
    with pytest.raises(InputError, match="maps: expected n maps for sides of 4·2ⁿ, here 32; got"):
        dcgan_generator(3, 10, (64, 128, 256), side=64)
    with pytest.raises(InputError, match=r"maps: expected .*got no maps"):
        dcgan_discriminator(3, ())
    with pytest.raises(InputError, match=r"data_shape: expected .*divisible by 4; got"):
        color_mnist_generator((3, 30, 30), 10)
    with pytest.raises(InputError, match=r"data_shape: expected .*divisible by 4; got"):
        conv_joint_discriminator((3, 30), 10)
    with pytest.raises(InputError, match="noise basis: expected at least one of each; got 2 lat"):
        NoiseBasisEncoder(nn.Linear(6, 2), 2, num_bases=0)
    with pytest.raises(InputError, match="shift: expected a finite number; got nan"):
        NoiseBasisEncoder(nn.Linear(6, 2), 2, shift=float("nan"))
    assert normalisation("none", 3) == output_layer("linear") == []
