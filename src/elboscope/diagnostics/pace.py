"""How long a decoder pass takes on this machine."""

from __future__ import annotations

__all__ = ["duration", "seconds_per_sample"]

import time

import torch
from jaxtyping import Float
from torch import Tensor

from elboscope.core import GenerativeModel, given, seeded

TIMED_DATA, TIMED_ELEMENTS = 32, 2**20


def seconds_per_sample(
    model: GenerativeModel,
    x: Float[Tensor, "n *X"],
    condition: Tensor | None = None,
    num_samples: int | None = None,
) -> float:
    """Times two decoder passes (the first warms up) and returns seconds per decoded z.

    Args:
        model: The model.
        x: Data.
        condition: Their conditions.
        num_samples: Samples of each of the 32 first x; by default as many as fill a batch.
    """
    x, condition = x[:TIMED_DATA], None if condition is None else condition[:TIMED_DATA]
    K = num_samples or max(1, min(256, TIMED_ELEMENTS // max(1, x.numel())))
    local = given(model, condition)
    with seeded(0):
        z = model.prior().sample(torch.Size((K, len(x))))
    for _ in range(2):
        start = time.perf_counter()
        local.decode(z).log_prob(x).sum().item()
        elapsed = time.perf_counter() - start
    return elapsed / (K * len(x))


def duration(seconds: float) -> str:
    """Returns a time in words.

    Example:
        >>> duration(90.0), duration(600.0)
        ('90 s', '10 min')
    """
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
