r"""Which networks a local flow has, and how they begin.

Two steps with one hidden layer each, v₀ ~ N(0, I) (the first step moves v given z all the same),
unless the encoder's own posterior is a flow on (z, v): then its architecture, so that what it
answered with is a member of the family. Last layers are zero at first: each gate is 1/2, each shift
0, and r(v|z) has the standard deviation :math:`2^{-T}` of v.
"""

from __future__ import annotations

__all__ = ["local_flow"]

import copy
import math

import torch
from torch import Tensor, nn

from elboscope.core import seeded
from elboscope.distributions import AuxiliaryFlow, AuxiliaryPosterior
from elboscope.nn import mlp

from .flow_family import LocalFlow

STEPS, HIDDEN = 2, 100


def local_flow(
    latent_shape: tuple[int, ...], like: Tensor, encoder: object = None, *, seed: int = 0
) -> LocalFlow:
    """Returns the family, of the encoder's architecture where that is such a flow.

    Args:
        latent_shape: ``(*Z)``.
        like: A tensor of the device and dtype.
        encoder: The encoder's answer to some x, or None.
        seed: Of the weights of a fresh start.
    """
    d = math.prod(latent_shape)
    with seeded(seed):
        if isinstance(encoder, AuxiliaryPosterior) and _can_begin(encoder.flow):
            flow, e = _begun_anew(encoder.flow), _last_layer(encoder.flow.reverse).out_features // 2
            c = 0 if encoder.context is None else encoder.context.shape[-1]
            return LocalFlow(latent_shape, _placed(flow, like), c, e, like_encoder=True)
        return LocalFlow(latent_shape, _placed(_fresh(d), like), 0, d, like_encoder=False)


def _networks(flow: AuxiliaryFlow) -> tuple[nn.Module, ...]:
    return (flow.auxiliary, *flow.move_v, *flow.move_z, flow.reverse)


def _can_begin(flow: AuxiliaryFlow) -> bool:
    """Whether all networks end in a linear layer, which can be zeroed."""
    return all(
        isinstance(net, nn.Sequential) and isinstance(net[-1], nn.Linear) for net in _networks(flow)
    )


def _begun_anew(flow: AuxiliaryFlow) -> AuxiliaryFlow:
    flow = copy.deepcopy(flow)
    for module in flow.modules():
        if isinstance(module, nn.Linear):
            module.reset_parameters()
    return flow


def _placed(flow: AuxiliaryFlow, like: Tensor) -> AuxiliaryFlow:
    _begin_as_identity(flow)
    return flow.to(like).requires_grad_(False)


def _fresh(d: int) -> AuxiliaryFlow:
    def net() -> nn.Module:
        return mlp(d, (HIDDEN,), 2 * d, "elu")

    move_v, move_z = ([net() for _ in range(STEPS)] for _ in range(2))
    return AuxiliaryFlow(move_v, move_z, _Still(d), net())


@torch.no_grad()
def _begin_as_identity(flow: AuxiliaryFlow) -> None:
    """Zeroes the last layers; r(v|z) then has the standard deviation 2^−T of v."""
    for network in _networks(flow):
        layers = [module for module in network.modules() if isinstance(module, nn.Linear)]
        for p in layers[-1].parameters() if layers else ():
            p.zero_()
    last = _last_layer(flow.reverse)
    d = last.out_features // 2
    last.bias[d:] = -2 * len(flow.move_z) * math.log(2)


def _last_layer(network: nn.Module) -> nn.Linear:
    return [module for module in network.modules() if isinstance(module, nn.Linear)][-1]


class _Still(nn.Module):
    """N(0, I) for v₀, whatever z₀ is: the first step moves v given z all the same."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.numbers = nn.Parameter(torch.zeros(2 * d))

    def forward(self, z: Tensor) -> Tensor:
        return self.numbers.expand(*z.shape[:-1], -1)
