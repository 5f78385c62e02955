"""Randomness belongs to the call: every public function runs in a forked random state."""

from __future__ import annotations

__all__ = ["seeded"]

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int | None) -> Iterator[int]:
    """Runs a block from one seed and leaves the caller's random state untouched.

    Args:
        seed: The seed; ``None`` draws a fresh one from the operating system, so that two calls
            differ.

    Yields:
        The seed that is in force, to be recorded beside the number it made.

    Example:
        >>> before = torch.get_rng_state()
        >>> with seeded(0) as seed:
        ...     x = torch.randn(2)
        >>> seed, torch.equal(before, torch.get_rng_state())
        (0, True)
    """
    used = secrets.randbits(32) if seed is None else seed
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(list(devices)):
        torch.manual_seed(used)
        yield used
