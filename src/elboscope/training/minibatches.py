r"""Minibatches: index selections from data that already lie on the device.

The order of epoch e is a permutation drawn from the pair (seed, e) alone, so a run that stopped
within an epoch finds its place again from the number of its next step. Every datapoint is used
once an epoch; the last, smaller minibatch is not dropped. There are no worker processes.
"""

from __future__ import annotations

__all__ = ["Minibatch", "minibatches", "permutation", "steps_per_epoch"]

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Int64, Shaped
from torch import Tensor

from elboscope.data import Binarisation


class Minibatch(NamedTuple):
    """What one step sees.

    Attributes:
        x: Datapoints ``(B, *X)``, binarised.
        epoch: Training time at the end of this step, in epochs.
        condition: One row per datapoint, or ``None``.
    """

    x: Tensor
    epoch: float
    condition: Tensor | None = None


def steps_per_epoch(num_data: int, batch_size: int) -> int:
    """Returns ⌈N/B⌉; one datapoint left over joins the minibatch before it.

    Batch normalisation cannot normalise a minibatch of one.

    Example:
        >>> steps_per_epoch(102, 100), steps_per_epoch(101, 100), steps_per_epoch(1, 100)
        (2, 1, 1)
    """
    if batch_size == 1:
        return num_data
    return max(1, -(-(num_data - 1) // batch_size))


def permutation(num_data: int, seed: int, epoch: int) -> Int64[Tensor, " N"]:
    """Returns the order of an epoch, a function of the seed and the epoch's number alone.

    Example:
        >>> permutation(4, seed=0, epoch=3).sort().values.tolist()
        [0, 1, 2, 3]
        >>> torch.equal(permutation(99, seed=0, epoch=3), permutation(99, seed=0, epoch=3))
        True
    """
    digest = hashlib.sha256(f"permutation {seed} {epoch}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
    return torch.randperm(num_data, generator=generator)


def minibatches(
    x: Shaped[Tensor, "N *X"],
    batch_size: int,
    seed: int,
    *,
    condition: Shaped[Tensor, "N *C"] | None = None,
    binarisation: Binarisation | None = None,
    start: int = 0,
) -> Iterator[Minibatch]:
    """Yields minibatches without end, from any step on.

    Args:
        x: Data ``(N, *X)``, on the device where they are used.
        batch_size: B.
        seed: Seed of the permutations.
        condition: One row per datapoint.
        binarisation: Applied to each minibatch, from the ambient random state.
        start: Number of the first step; 0 is the beginning of training.

    Example:
        >>> batches = minibatches(torch.arange(5.0).reshape(5, 1), 2, seed=0)
        >>> [len(next(batches).x) for _ in range(4)]
        [2, 3, 2, 3]
    """
    T = steps_per_epoch(len(x), batch_size)
    epoch, first = divmod(start, T)
    while True:
        order = permutation(len(x), seed, epoch).to(x.device)
        for t in range(first, T):
            rows = order[t * batch_size : (t + 1) * batch_size if t < T - 1 else None]
            batch = x.index_select(0, rows)
            yield Minibatch(
                batch if binarisation is None else binarisation.batch(batch),
                epoch + (t + 1) / T,
                None if condition is None else condition.index_select(0, rows),
            )
        epoch, first = epoch + 1, 0
