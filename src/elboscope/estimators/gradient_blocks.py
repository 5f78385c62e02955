"""Where each tensor of parameters lies in a draw, and what is kept and projected of it."""

from __future__ import annotations

__all__ = ["Block", "blocks_of", "kept_coordinates", "projections"]

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float64, Int64
from torch import Tensor, nn

from .gradient_draws import Part

# Coordinates whose draws are kept for the bootstrap, at least of every block; and their elements.
KEPT, KEPT_OF_BLOCK, KEPT_ELEMENTS = 4096, 32, 2**24


class Block(NamedTuple):
    """Where one tensor of parameters lies in a draw."""

    part: Part
    name: str
    where: slice


def blocks_of(parts: Mapping[Part, Mapping[str, nn.Parameter]]) -> list[Block]:
    """Returns the tensors of all parts in the order of a draw."""
    found, start = [], 0
    for part, tensors in parts.items():
        for name, parameter in tensors.items():
            found.append(Block(part, name, slice(start, start + parameter.numel())))
            start += parameter.numel()
    return found


def kept_coordinates(
    blocks: Sequence[Block], R: int, generator: torch.Generator
) -> tuple[Int64[Tensor, " C"], Float64[Tensor, " C"]]:
    """Some coordinates of every block, in order, and how many each of them stands for."""
    total, limit = blocks[-1].where.stop, max(1, min(KEPT, KEPT_ELEMENTS // R))
    index, weights = [], []
    for block in blocks:
        size = block.where.stop - block.where.start
        n = min(size, max(min(KEPT_OF_BLOCK, limit), limit * size // total))
        chosen = torch.randperm(size, generator=generator)[:n].sort().values
        index.append(block.where.start + chosen)
        weights.append(torch.full((n,), size / n, dtype=torch.float64))
    return torch.cat(index), torch.cat(weights)


def projections(
    chunks: Iterator[Tensor], mean: Float64[Tensor, " P"], blocks: Sequence[Block]
) -> tuple[Float64[Tensor, "R n"], Float64[Tensor, "R n"]]:
    """Δᵀ E Δ and ‖Δ‖² of every draw and block."""
    dots, norms = [], []
    for chunk in chunks:
        parts = [(chunk[:, b.where].double(), mean[b.where]) for b in blocks]
        dots.append(torch.stack([draws @ centre for draws, centre in parts], 1))
        norms.append(torch.stack([draws.square().sum(1) for draws, _ in parts], 1))
    return torch.cat(dots), torch.cat(norms)
