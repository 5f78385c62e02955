"""Randomness belongs to the call: every public function runs in a forked random state."""

from __future__ import annotations

__all__ = ["next_stream", "seeded"]

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from operator import index
from typing import SupportsIndex

import torch

from .errors import InputError


@contextmanager
def seeded(seed: int | None) -> Iterator[int]:
    """Runs a block from one seed and leaves the caller's random state untouched.

    Args:
        seed: The seed; ``None`` draws a fresh one from the operating system, so that two calls
            differ.

    Yields:
        The seed that is in force, to be recorded beside the number it made.

    Raises:
        InputError: No whole number, or one of more than 64 bits.

    Example:
        >>> before = torch.get_rng_state()
        >>> with seeded(0) as seed:
        ...     x = torch.randn(2)
        >>> seed, torch.equal(before, torch.get_rng_state())
        (0, True)
    """
    used = secrets.randbits(32) if seed is None else _check(seed)
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(list(devices)):
        torch.manual_seed(used)
        yield used


def next_stream() -> int:
    """Draws a seed from the stream in force; it and those after it begin streams of their own.

    Example:
        >>> with seeded(0):
        ...     first = next_stream()
        ...     with seeded(first + 1):
        ...         x = torch.randn(2)
        >>> with seeded(0), seeded(next_stream() + 1):
        ...     print(torch.equal(x, torch.randn(2)))
        True
    """
    return int(torch.randint(2**31, (), device="cpu"))


def _check(seed: object) -> int:
    """Returns the seed as an int: torch would cut 2.5 down to 2 and say nothing."""
    if isinstance(seed, bool) or not isinstance(seed, SupportsIndex):
        raise InputError("seed", expected="a whole number or None", got=repr(seed))
    if not -(2**63) <= (whole := index(seed)) < 2**64:
        raise InputError("seed", expected="a whole number of at most 64 bits", got=str(whole))
    return whole
