r"""Behind the encoder: the module that reads its numbers as q(z|x), for a family of posteriors.

A family says how many numbers the encoder has to give, and builds a :class:`PosteriorHead`, which
holds the networks of a flow. How many latent units there are is measured by one forward pass.
"""

from __future__ import annotations

__all__ = ["PosteriorFamily", "PosteriorHead", "joined_output", "latent_dim_of", "measured_head"]

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from elboscope.core import InputError, evaluating, seeded

Read = Callable[[nn.Module | None, Tensor, Tensor, Tensor], Distribution]


@runtime_checkable
class PosteriorFamily(Protocol):
    """What ``mlp_vae``, ``conv_vae`` and ``from_modules`` take as ``posterior``."""

    def num_outputs(self, latent_dim: int) -> int:
        """Returns how many numbers a datapoint the encoder has to give."""
        ...

    def head(self, latent_dim: int) -> PosteriorHead:
        """Returns a new module from the encoder's output to q(z|x)."""
        ...


class PosteriorHead(nn.Module):
    r"""From the encoder's output, :math:`(\mu, \log\sigma^2, \text{rest})`, to q(z|x).

    Args:
        family: Which family, for messages and ``repr``.
        latent_dim: d.
        read: From (flow, μ, log σ², rest) to q(z|x).
        flow: The networks of the flow, if it has any.
    """

    def __init__(
        self, family: PosteriorFamily, latent_dim: int, read: Read, flow: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.family, self.latent_dim, self.read, self.flow = family, latent_dim, read, flow

    def forward(self, output: object) -> Distribution:
        """Returns q(z|x), batch ``(B,)``, event ``(d,)``.

        Args:
            output: ``(B, n)``, or a tuple of tensors that are joined along axis 1.

        Raises:
            InputError: Another number of numbers than the family takes.
        """
        d, n = self.latent_dim, self.family.num_outputs(self.latent_dim)
        joined = joined_output(output)
        if tuple(joined.shape[1:]) != (n,):
            raise InputError(
                "encoder output",
                expected=f"(B, {n}) for {self.family} with {d} latent units",
                got=str(tuple(joined.shape)),
                do="Let the encoder return μ, log σ² and what the family takes beside them.",
            )
        return self.read(self.flow, joined[:, :d], joined[:, d : 2 * d], joined[:, 2 * d :])

    def extra_repr(self) -> str:
        """States the family."""
        return str(self.family)


def joined_output(output: object) -> Tensor:
    """Returns what an encoder returned as one tensor ``(B, n)``.

    Raises:
        InputError: Neither a tensor nor a tuple of tensors with one latent axis.
    """
    parts = output if isinstance(output, tuple | list) else (output,)
    tensors = [part for part in parts if isinstance(part, Tensor) and part.ndim == 2]
    if len(tensors) == len(parts) > 0:
        return torch.cat(tensors, dim=1)
    shapes = [str(tuple(p.shape)) if isinstance(p, Tensor) else type(p).__name__ for p in parts]
    raise InputError(
        "encoder output",
        expected="tensors (B, n), latents on one axis, since a posterior family mixes all of them",
        got=", ".join(shapes) or "nothing",
        do="Flatten the latents: encoder.append(nn.Flatten()), and unflatten them in the decoder.",
    )


def latent_dim_of(family: PosteriorFamily, num_outputs: int) -> int:
    """Returns the d for which a family takes that many numbers.

    Raises:
        InputError: There is none.

    Example:
        >>> from elboscope.models import RealNVP
        >>> latent_dim_of(RealNVP(context=50), 150)
        50
    """
    for d in range(1, num_outputs + 1):
        if family.num_outputs(d) == num_outputs:
            return d
    raise InputError(
        "encoder output",
        expected=f"as many numbers as {family} takes: {family.num_outputs(1)} for one latent unit, "
        f"{family.num_outputs(2)} for two, …",
        got=f"{num_outputs} numbers",
        do="A flow with context=0 takes μ and log σ² alone.",
    )


def measured_head(
    family: PosteriorFamily,
    encoder: nn.Module,
    encoder_output: object,
    probe: Tensor,
    latent_shape: tuple[int, ...] | None,
) -> PosteriorHead:
    """Returns the family's head, of the size that the encoder's output or ``latent_shape`` says.

    Args:
        family: The family.
        encoder: Used for one forward pass where ``latent_shape`` is None.
        encoder_output: What from_modules was told; only ``"mu_logvar"`` fits.
        probe: An input of the encoder, whose device and dtype the head gets.
        latent_shape: (d,), if it is known.

    Raises:
        InputError: Another ``encoder_output``; latents on several axes; numbers that do not fit.
    """
    if encoder_output != "mu_logvar":
        raise InputError(
            "encoder_output",
            expected="'mu_logvar', in which a posterior family reads the encoder",
            got=repr(encoder_output),
            do="Let the encoder return log σ², or leave posterior out.",
        )
    if latent_shape is not None and len(latent_shape) != 1:
        raise InputError(
            "latent_shape",
            expected=f"(d,): {family} mixes all latents, on one axis",
            got=str(tuple(latent_shape)),
            do="Flatten the latents in the encoder, and unflatten them in the decoder.",
        )
    if latent_shape is None:
        with evaluating(encoder), seeded(0):
            latent_shape = (latent_dim_of(family, joined_output(encoder(probe)).shape[1]),)
    return family.head(latent_shape[0]).to(probe)
