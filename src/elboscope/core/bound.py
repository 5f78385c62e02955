"""What an objective returns: what is reported and what is differentiated are two things."""

from __future__ import annotations

__all__ = ["Bound"]

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor


class Bound(NamedTuple):
    r"""A lower bound on :math:`\log p(x)` and the loss whose gradient is followed.

    Attributes:
        value: The bound per datapoint, in nats, detached, to be maximised. It is never the
            surrogate whose gradient is right but whose value exceeds the bound.
        loss: The scalar to minimise.
        encoder_loss: A second scalar, where the encoder follows another one.
    """

    value: Float[Tensor, " B"]
    loss: Float[Tensor, ""]
    encoder_loss: Float[Tensor, ""] | None = None
