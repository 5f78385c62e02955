import inspect

import pytest
import torch
from torch import nn

from elboscope.core import InputError, seeded
from elboscope.nn import activation, conv_decoder, conv_encoder, mlp


def test_without_hidden_layers_it_is_affine():
    with seeded(0):
        net = mlp(3, (), 2).double()
        a, b = torch.randn(2, 3, dtype=torch.float64)
    torch.testing.assert_close(net(a + b) + net(torch.zeros_like(a)), net(a) + net(b))


def test_widths_and_activations_come_in_order():
    net = mlp(5, (4, 3), 2, "tanh")
    widths = [(m.in_features, m.out_features) for m in net if isinstance(m, nn.Linear)]
    assert widths == [(5, 4), (4, 3), (3, 2)]
    assert [type(m) for m in net][1::2] == [nn.Tanh, nn.Tanh]


def test_leaky_relu_has_the_slope_it_says():
    assert activation("leaky_relu")(torch.tensor(-1.0)).item() == pytest.approx(-0.2)


def test_an_unknown_activation_is_refused():
    with pytest.raises(InputError, match=r"activation: expected one of relu, .*got 'sine'"):
        inspect.unwrap(activation)("sine")  # past the type check that runs in tests only


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (2, 8, 12)])
def test_every_pixel_reaches_the_code_and_every_code_every_pixel(shape):
    with seeded(0):
        encoder, decoder = conv_encoder(shape, 4, (3, 5)), conv_decoder(2, shape, (3, 5))
        x, z = torch.rand(1, *shape, requires_grad=True), torch.randn(1, 2, requires_grad=True)
    (grad,) = torch.autograd.grad(encoder(x).sum(), x)
    assert bool((grad != 0).all())
    moved = decoder(z + 1) - decoder(z)
    assert moved.shape == (1, *shape)
    assert bool((moved != 0).all())


@pytest.mark.parametrize("shape", [(1, 30, 28), (1, 28, 30), (28, 28)])
def test_sides_that_cannot_be_halved_twice_are_refused(shape):
    for build in (lambda: conv_encoder(shape, 4), lambda: conv_decoder(2, shape)):
        with pytest.raises(InputError, match=r"data_shape: expected .*divisible by 4; got"):
            build()
