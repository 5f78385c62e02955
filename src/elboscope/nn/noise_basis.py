r"""The black-box encoder of AVB: noise enters as basis vectors that x weighs.

.. math:: z = z_0(x) + \sum_{i=1}^m a_i(x) \odot v_i(\varepsilon_i), \qquad
          \varepsilon_i \sim \mathcal N(0, I), \quad a_i = \mathrm{ELU}(\cdot - s) + 1

The networks vᵢ do not see x, so that the moments of their outputs serve every x: mean
:math:`z_0 + \sum a_i \odot \mathbb{E} v_i`, variance :math:`\sum a_i^2 \odot \mathrm{Var}\, v_i`.
The shift s says how small the noise begins: the coefficients are near e⁻ˢ. The authors' 5 starts
from a posterior of almost no width, where the gradient of the adaptive contrast, which divides by
that width, is large and of little meaning: they take millions of small steps. With s near 0 the
posterior begins about as wide as the prior, and rates of 1e-3 do. Such a posterior has no density.

References:
    | Adversarial Variational Bayes (Mescheder et al., 2017), https://arxiv.org/abs/1701.04722
"""

from __future__ import annotations

__all__ = ["NoiseBasis", "NoiseBasisEncoder"]

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import elu

from elboscope.core import InputError

from .stacked import stacked_mlp

SHIFT = 5.0


class NoiseBasis(NamedTuple):
    """What the encoder says of each x, and how noise is drawn.

    Attributes:
        origin: z₀, ``(B, d)``.
        coefficients: a, ``(B, m, d)``, not negative.
        draw: From a number N to fresh v, ``(N, m, d)``.
    """

    origin: Tensor
    coefficients: Tensor
    draw: Callable[[int], Tensor]


class NoiseBasisEncoder(nn.Module):
    """From x to :class:`NoiseBasis`.

    Args:
        network: From ``(N, *input_shape)`` to ``(N, (1 + num_bases)·latent_dim)``.
        latent_dim: d.
        num_bases: m; the authors take 16 for d = 8 and 32 for d = 32.
        noise_dim: Length of each ε.
        hidden: Of each v.
        shift: s.

    Raises:
        InputError: A number of anything below one, or a shift that is not finite.

    Example:
        >>> net = NoiseBasisEncoder(nn.Linear(6, 2 * (1 + 4)), 2, num_bases=4, noise_dim=3)
        >>> basis = net(torch.zeros(5, 6))
        >>> basis.origin.shape, basis.coefficients.shape, basis.draw(7).shape
        (torch.Size([5, 2]), torch.Size([5, 4, 2]), torch.Size([7, 4, 2]))
    """

    def __init__(
        self,
        network: nn.Module,
        latent_dim: int,
        num_bases: int = 16,
        noise_dim: int = 32,
        hidden: tuple[int, ...] = (128, 128, 128),
        shift: float = SHIFT,
    ) -> None:
        super().__init__()
        if min(latent_dim, num_bases, noise_dim) < 1:
            got = f"{latent_dim} latents, {num_bases} bases, noise of {noise_dim}"
            raise InputError("noise basis", expected="at least one of each", got=got)
        if not math.isfinite(shift):
            raise InputError("shift", expected="a finite number", got=repr(shift))
        self.network = network
        self.basis = stacked_mlp(num_bases, noise_dim, hidden, latent_dim, "elu")
        self.latent_dim, self.num_bases, self.noise_dim = latent_dim, num_bases, noise_dim
        self.shift = shift

    def forward(self, x: Float[Tensor, "B *X"]) -> NoiseBasis:
        """Returns origin and coefficients for each x."""
        rows = self.network(x).unflatten(1, (1 + self.num_bases, self.latent_dim))
        return NoiseBasis(rows[:, 0], elu(rows[:, 1:] - self.shift) + 1, self.draw)

    def draw(self, num: int) -> Float[Tensor, "N m d"]:
        """Returns fresh basis vectors, from the ambient random state."""
        like = next(self.basis.parameters())
        m, e = self.num_bases, self.noise_dim
        noise = torch.randn(m * num, e, dtype=like.dtype, device=like.device)
        v: Tensor = self.basis(noise)
        return v.reshape(m, num, self.latent_dim).transpose(0, 1)
