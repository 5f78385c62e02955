r"""Networks of games: adversaries that tell codes or pairs apart, and the encoder of AVB.

- on codes z: a multilayer perceptron, without batch normalisation (Rosca et al.: three layers of
  1000 units with leaky ReLUs; wider ones were no better);
- on pairs (x, z): z laid over the image as further channels, or both flat; and the one of AVB,

.. math:: T(x, z) = \langle \theta(x), s(z) \rangle + T_x(x) + T_z(z) + \tfrac12 \|z\|^2

whose last term is −log p(z) of a standard normal up to a constant, so that the rest has only
log q(z|x) to learn.

References:
    | Distribution Matching in Variational Inference (Rosca et al., 2018),
      https://arxiv.org/abs/1802.06847
    | Adversarial Variational Bayes (Mescheder et al., 2017), https://arxiv.org/abs/1701.04722
"""

from __future__ import annotations

__all__ = [
    "AVBAdversary",
    "JointDiscriminator",
    "NoiseBasis",
    "NoiseBasisEncoder",
    "code_discriminator",
    "conv_joint_discriminator",
    "mlp_discriminator",
    "mlp_joint_discriminator",
]

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import elu

from elboscope.core import InputError

from .networks import Activation, mlp
from .stacked import stacked_mlp

CODE_HIDDEN = (1000, 1000, 1000)


def code_discriminator(
    latent_dim: int, hidden: tuple[int, ...] = CODE_HIDDEN, nonlinearity: Activation = "leaky_relu"
) -> nn.Sequential:
    """Returns a network from codes ``(N, latent_dim)`` to logits ``(N,)``.

    Example:
        >>> code_discriminator(2, (8,))(torch.zeros(5, 2)).shape
        torch.Size([5])
    """
    return nn.Sequential(*mlp(latent_dim, hidden, 1, nonlinearity), nn.Flatten(0))


def mlp_discriminator(
    data_shape: tuple[int, ...],
    hidden: tuple[int, ...] = (512, 512),
    nonlinearity: Activation = "leaky_relu",
) -> nn.Sequential:
    """Returns a network from data of any shape, flattened, to logits ``(N,)``.

    Example:
        >>> mlp_discriminator((1, 8, 8), (16,))(torch.zeros(5, 1, 8, 8)).shape
        torch.Size([5])
    """
    flat = mlp(math.prod(data_shape), hidden, 1, nonlinearity)
    return nn.Sequential(nn.Flatten(), *flat, nn.Flatten(0))


class JointDiscriminator(nn.Module):
    """Logits of pairs (x, z), by a network that sees both side by side.

    Args:
        network: From ``(N, C, …)`` to ``(N,)``.
        tiled: Whether z becomes further channels of an image, the same at every pixel; else x is
            flattened and z stands behind it.

    Example:
        >>> T = mlp_joint_discriminator((1, 4, 4), 2, (8,))
        >>> T(torch.zeros(5, 1, 4, 4), torch.zeros(5, 2)).shape
        torch.Size([5])
    """

    def __init__(self, network: nn.Module, *, tiled: bool) -> None:
        super().__init__()
        self.network, self.tiled = network, tiled

    def forward(self, x: Float[Tensor, "N *X"], z: Float[Tensor, "N d"]) -> Float[Tensor, " N"]:
        """Returns the logits."""
        if self.tiled:
            z = z.reshape(*z.shape, *[1] * (x.ndim - 2)).expand(-1, -1, *x.shape[2:])
        else:
            x = x.flatten(1)
        logits: Tensor = self.network(torch.cat([x, z], 1))
        return logits


def mlp_joint_discriminator(
    data_shape: tuple[int, ...],
    latent_dim: int,
    hidden: tuple[int, ...] = (512, 512),
    nonlinearity: Activation = "leaky_relu",
) -> JointDiscriminator:
    """Returns a perceptron on (x, z)."""
    width = math.prod(data_shape) + latent_dim
    net = nn.Sequential(*mlp(width, hidden, 1, nonlinearity), nn.Flatten(0))
    return JointDiscriminator(net, tiled=False)


def conv_joint_discriminator(
    data_shape: tuple[int, ...], latent_dim: int, maps: tuple[int, int] = (64, 128)
) -> JointDiscriminator:
    """Returns two convolutions of stride 2 on x with z as further channels, and a linear logit.

    Raises:
        InputError: No image with sides divisible by 4.

    Example:
        >>> T = conv_joint_discriminator((3, 8, 8), 2, (4, 8))
        >>> T(torch.zeros(5, 3, 8, 8), torch.zeros(5, 2)).shape
        torch.Size([5])
    """
    if len(data_shape) != 3 or data_shape[1] % 4 or data_shape[2] % 4:
        expected = "(channels, height, width) with sides divisible by 4"
        raise InputError("data_shape", expected=expected, got=str(tuple(data_shape)))
    colours, height, width = data_shape
    first, second = maps
    network = nn.Sequential(
        nn.Conv2d(colours + latent_dim, first, 4, 2, 1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(first, second, 4, 2, 1),
        nn.LeakyReLU(0.2),
        nn.Flatten(),
        nn.Linear(second * (height // 4) * (width // 4), 1),
        nn.Flatten(0),
    )
    return JointDiscriminator(network, tiled=True)


class AVBAdversary(nn.Module):
    r""":math:`T(x, z) = \langle \theta(x), s(z) \rangle + T_x(x) + T_z(z) + \frac12 \|z\|^2`.

    Args:
        data_shape: ``(*X)``, flattened.
        latent_dim: d.
        hidden: Widths of the hidden layers of each of the four networks.
        features: Length of θ and s; 8192 in the authors' program.

    Example:
        >>> T = AVBAdversary((4,), 2, (8,), features=16)
        >>> T(torch.zeros(5, 4), torch.zeros(5, 2)).shape
        torch.Size([5])
    """

    def __init__(
        self,
        data_shape: tuple[int, ...],
        latent_dim: int,
        hidden: tuple[int, ...] = (1024, 1024, 1024),
        features: int = 8192,
    ) -> None:
        super().__init__()
        pixels = math.prod(data_shape)
        self.theta = mlp(pixels, hidden, features, "leaky_relu")
        self.s = mlp(latent_dim, hidden, features, "leaky_relu")
        self.of_x = mlp(pixels, hidden, 1, "leaky_relu")
        self.of_z = mlp(latent_dim, hidden, 1, "leaky_relu")

    def forward(self, x: Float[Tensor, "N *X"], z: Float[Tensor, "N d"]) -> Float[Tensor, " N"]:
        """Returns T."""
        x = x.flatten(1)
        together = (self.theta(x) * self.s(z)).sum(1)
        t: Tensor = together + self.of_x(x)[:, 0] + self.of_z(z)[:, 0]
        return t + 0.5 * z.square().sum(1)


# The black-box encoder of AVB: noise enters as basis vectors that x weighs.
#
# .. math:: z = z_0(x) + \sum_{i=1}^m a_i(x) \odot v_i(\varepsilon_i), \qquad
#           \varepsilon_i \sim \mathcal N(0, I), \quad a_i = \mathrm{ELU}(\cdot - s) + 1
#
# The networks vᵢ do not see x, so that the moments of their outputs serve every x: mean
# :math:`z_0 + \sum a_i \odot \mathbb{E} v_i`, variance :math:`\sum a_i^2 \odot \mathrm{Var}\,
# v_i`. The shift s says how small the noise begins: the coefficients are near e⁻ˢ. The authors' 5
# starts from a posterior of almost no width, where the gradient of the adaptive contrast, which
# divides by that width, is large and of little meaning: they take millions of small steps. With s
# near 0 the posterior begins about as wide as the prior, and rates of 1e-3 do. Such a posterior
# has no density.
#
# References:
#     | Adversarial Variational Bayes (Mescheder et al., 2017), https://arxiv.org/abs/1701.04722

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
        hidden: Widths of the hidden layers of each network v.
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
