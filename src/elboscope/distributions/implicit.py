r"""A posterior that can only be drawn: z = f(x, ε), of which nobody knows the density.

Its ``log_prob`` is honestly absent. Importance weights, the ELBO and everything built from them
are then unavailable; a ratio estimated by a classifier does not take their place. Its moments are
known where whoever draws it can tell them, by samples: a mean and a variance, no density.

References:
    | Adversarial Variational Bayes (Mescheder et al., 2017), https://arxiv.org/abs/1701.04722
"""

from __future__ import annotations

__all__ = ["ImplicitPosterior"]

import math
from collections.abc import Callable
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution, constraints

Shape = torch.Size | list[int] | tuple[int, ...]


class ImplicitPosterior(Distribution):
    """q(z|x) by its draws.

    Args:
        draw: From a number K to K reparameterised draws of each datapoint, ``(K, B, *Z)``.
        batch_shape: ``(B,)``.
        event_shape: ``(*Z)``.
        moments: Returns mean and variance, ``(B, *Z)`` each, estimated by samples; None where
            they are not offered.

    Example:
        >>> mu = torch.zeros(3, 2)
        >>> q = ImplicitPosterior(lambda K: mu + torch.rand(K, 3, 2), mu.shape[:1], mu.shape[1:])
        >>> q.rsample(torch.Size((7,))).shape
        torch.Size([7, 3, 2])
        >>> q.log_prob(mu)
        Traceback (most recent call last):
        NotImplementedError: an implicit posterior can be drawn and has no density
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}
    has_rsample = True

    def __init__(
        self,
        draw: Callable[[int], Tensor],
        batch_shape: torch.Size,
        event_shape: torch.Size,
        moments: Callable[[], tuple[Tensor, Tensor]] | None = None,
    ) -> None:
        self._draw, self._moments = draw, moments
        super().__init__(batch_shape, event_shape, validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """All of the latent space."""
        return constraints.independent(constraints.real, len(self.event_shape))

    def rsample(self, sample_shape: Shape = ()) -> Float[Tensor, "..."]:
        """Returns draws, differentiable."""
        z = self._draw(math.prod(sample_shape))
        return z.reshape(*sample_shape, *self.batch_shape, *self.event_shape)

    def moments(self) -> tuple[Tensor, Tensor]:
        """Returns mean and variance from one set of samples.

        Raises:
            NotImplementedError: They are not offered.
        """
        if self._moments is None:
            raise NotImplementedError("this implicit posterior does not tell its moments")
        return self._moments()

    @property
    def mean(self) -> Tensor:
        """The mean, estimated by samples."""
        return self.moments()[0]

    @property
    def variance(self) -> Tensor:
        """The variance, estimated by samples."""
        return self.moments()[1]

    def log_prob(self, value: Tensor) -> Tensor:
        """Raises NotImplementedError."""
        raise NotImplementedError("an implicit posterior can be drawn and has no density")
