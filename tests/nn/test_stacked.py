"""S networks as one: each row meets its own member's weights and no others."""

import pytest
import torch
from torch import nn

from elboscope.core import InputError, seeded
from elboscope.nn import StackedLinear, StackedMLP, mlp, num_members, stacked_mlp


def test_layer_and_network_give_each_member_its_rows():
    with seeded(0):
        singles = [mlp(5, (7, 6), 3, "tanh") for _ in range(4)]
        h = torch.randn(2, 3, 4 * 10, 5)
    net = StackedMLP.of(singles)
    expected = torch.cat([m(rows) for m, rows in zip(singles, h.split(10, -2), strict=True)], -2)
    torch.testing.assert_close(net(h), expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(net(h[0, 0]), expected[0, 0], atol=1e-6, rtol=0)
    layer = StackedLinear.of([m[0] for m in singles])
    first = torch.cat([m[0](rows) for m, rows in zip(singles, h.split(10, -2), strict=True)], -2)
    torch.testing.assert_close(layer(h), first, atol=1e-6, rtol=0)


def test_members_are_taken_out_bit_for_bit_and_load_as_singles():
    with seeded(1):
        singles = [mlp(5, (7,), 3, "tanh") for _ in range(3)]
    net = StackedMLP.of(singles)
    for s, single in enumerate(singles):
        state = net.member(s).state_dict()
        assert state.keys() == single.state_dict().keys()
        assert all(torch.equal(state[k], v) for k, v in single.state_dict().items())
    assert num_members(nn.Sequential(net)) == 3


def test_newly_drawn_layers_have_the_distribution_of_single_ones():
    with seeded(2):
        net = stacked_mlp(2, 100, (50,), 4)
    with seeded(2):
        singles = [mlp(100, (50,), 4) for _ in range(2)]
    assert torch.equal(net.member(0)[0].weight, singles[0][0].weight)
    assert not torch.equal(net.layers[0].weight[0], net.layers[0].weight[1])


def test_gradient_of_one_members_rows_for_the_others_is_exactly_zero():
    net = stacked_mlp(3, 4, (5,), 2, "tanh")
    net(torch.ones(7, 3 * 2, 4))[:, :2].square().sum().backward()
    for p in net.parameters():
        assert p.grad[0].abs().max() > 0
        assert not p.grad[1:].any()


def test_bad_stacks_are_named():
    net = stacked_mlp(3, 4, (5,), 2)
    with pytest.raises(InputError, match=r"rows of the batch.*3 members, got: 7|3 members"):
        net(torch.ones(7, 4))
    with pytest.raises(InputError, match="the same linear layers and activations"):
        StackedMLP.of([mlp(4, (5,), 2), mlp(4, (6,), 2)])
    with pytest.raises(InputError, match=r"same linear layers.*BatchNorm1d"):
        StackedMLP.of([nn.Sequential(nn.Linear(4, 2), nn.BatchNorm1d(2))])
    with pytest.raises(InputError, match="members: expected at least 1"):
        StackedLinear(0, 4, 2)
