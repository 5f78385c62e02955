r"""Draws of an objective's gradient at fixed parameters and data: only the samples z vary.

Draws are vectorised: ``torch.func.vmap`` over the gradient of the model called with its
parameters handed in, with different random numbers for every draw, in chunks that stay in a
CPU's cache. Two things in :mod:`torch.distributions` are refused inside: argument checks, which
branch on values, and in-place sampling. A mode of this thread and this block alone answers the
first with *valid* (the objective was evaluated once with all checks on before) and samples out
of place for the second. Where the model itself branches on values, or has parameters outside
every ``nn.Module``, draws are made one after the other; the method is recorded.

The encoder follows ``Bound.encoder_loss`` where an objective has one, the decoder ``Bound.loss``.
"""

from __future__ import annotations

__all__ = [
    "Block",
    "Draws",
    "Part",
    "blocks_of",
    "gradient_draws",
    "kept_coordinates",
    "named_parts",
    "projections",
]

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor, nn
from torch._C import _functorch
from torch.func import functional_call, vjp, vmap
from torch.overrides import TorchFunctionMode

from elboscope.core import (
    Bound,
    LatentVariableModel,
    modules_of,
    rows_in_memory,
    seeded,
    split_parameters,
)
from elboscope.core.errors import first_line

# Elements (draws × samples × datapoints × pixels) of one chunk, and its gradients' elements.
CHUNK_ELEMENTS = 2**18
CHUNK_GRADIENTS = 2**22
CHECKS = ("torch.distributions.constraints", "torch.distributions.continuous_bernoulli")

Part = Literal["encoder", "decoder"]
Number = int | float


class Draws(NamedTuple):
    """A source of gradient draws that can be asked twice for the same ones.

    Attributes:
        chunks: Called without arguments, iterates over ``(draws, parameters)`` matrices of the
            encoder and the decoder together, encoder's parameters first.
        method: ``"vmap"`` or ``"loop"``.
        reason: Why not vmap; empty if it was.
    """

    chunks: Callable[[], Iterator[Float[Tensor, "r P"]]]
    method: str
    reason: str = ""


def named_parts(
    model: LatentVariableModel, x: Float[Tensor, "B *X"]
) -> Mapping[Part, Mapping[str, nn.Parameter]]:
    """Returns the trainable parameters of encoder and decoder by name; empty parts are left out."""
    holder = _Holder(model)
    prefix = 2 if len(holder.parts) == 1 else 1
    known = {p: name.split(".", prefix)[prefix] for name, p in holder.named_parameters()}
    found: dict[Part, Mapping[str, nn.Parameter]] = {}
    sides: tuple[Part, Part] = ("encoder", "decoder")
    for part, parameters in zip(sides, split_parameters(model, x), strict=True):
        if parameters:
            found[part] = {known.get(p, f"{part} {i}"): p for i, p in enumerate(parameters)}
    return found


def gradient_draws(
    model: LatentVariableModel,
    x: Float[Tensor, "B *X"],
    bound: Callable[[], Bound],
    parts: Mapping[Part, Mapping[str, nn.Parameter]],
    num_samples: int,
    num_draws: int,
    seed: int,
) -> Draws:
    """Returns the draws of one objective, after one evaluation with every check on.

    Args:
        model: The model, with its condition given and in evaluation mode.
        x: Data.
        bound: The objective at this model, x and K.
        parts: From :func:`named_parts`.
        num_samples: K, for the size of the chunks only.
        num_draws: R.
        seed: Random seed; None picks one and records it.
    """
    phi, theta = (list(parts.get(part, {}).values()) for part in ("encoder", "decoder"))
    with torch.enable_grad(), seeded(seed):
        two_losses = bound().encoder_loss is not None

    def one_by_one(r: int) -> Tensor:
        return torch.stack([_gradient(bound, phi, theta) for _ in range(r)])

    vectorised, reason = _vectorise(model, bound, phi, theta, two_losses)
    fitting = rows_in_memory(model, x) // (num_samples * len(x))
    size = min(_chunk_size(x, num_samples, sum(p.numel() for p in [*phi, *theta])), max(1, fitting))

    def chunks(draw: Callable[[int], Tensor]) -> Iterator[Tensor]:
        with torch.enable_grad(), seeded(seed):
            for start in range(0, num_draws, size):
                yield draw(min(size, num_draws - start)).detach()

    if vectorised is None:
        return Draws(lambda: chunks(one_by_one), "loop", reason)
    return Draws(lambda: chunks(vectorised), "vmap")


def _chunk_size(x: Tensor, K: int, parameters: int) -> int:
    work = CHUNK_ELEMENTS // (K * x.numel())
    return max(1, min(work, CHUNK_GRADIENTS // max(1, parameters)))


def _gradient(
    bound: Callable[[], Bound], phi: Sequence[Tensor], theta: Sequence[Tensor]
) -> Float[Tensor, " P"]:
    """One draw, by plain autograd."""
    drawn = bound()
    follows = drawn.loss if drawn.encoder_loss is None else drawn.encoder_loss
    sides = [(follows, phi), (drawn.loss, theta)]
    found: list[Tensor] = []
    for loss, parameters in sides:
        if parameters:
            found += torch.autograd.grad(
                loss, list(parameters), retain_graph=True, materialize_grads=True
            )
    return torch.cat([g.flatten() for g in found])


def _vectorise(
    model: LatentVariableModel,
    bound: Callable[[], Bound],
    phi: Sequence[Tensor],
    theta: Sequence[Tensor],
    two_losses: bool,
) -> tuple[Callable[[int], Tensor] | None, str]:
    """Returns the vectorised sampler and "", or None and the reason why there is none."""
    holder = _Holder(model)
    names: dict[Tensor, str] = {p: name for name, p in holder.named_parameters()}
    if any(p not in names for p in [*phi, *theta]):
        return None, "the model has parameters outside its modules"
    values = tuple(p.detach() for p in [*phi, *theta])
    keys = [names[p] for p in [*phi, *theta]]

    def losses(*at: Tensor) -> tuple[Tensor, ...]:
        found: Bound = functional_call(holder, dict(zip(keys, at, strict=True)), (bound,))
        return (found.loss, found.encoder_loss) if found.encoder_loss is not None else (found.loss,)

    def one(_: Tensor) -> Tensor:
        value, pull = vjp(losses, *values)[:2]
        zero, unit = torch.zeros_like(value[0]), torch.ones_like(value[0])
        gradients = pull((unit, zero) if two_losses else (unit,))
        if two_losses:
            gradients = (*pull((zero, unit))[: len(phi)], *gradients[len(phi) :])
        return torch.cat([g.flatten() for g in gradients])

    def draw(r: int) -> Tensor:
        with _Trusting():
            drawn: Tensor = vmap(one, randomness="different")(torch.empty(r))
        return drawn

    try:
        with torch.enable_grad(), seeded(0):
            draw(2)
    except RuntimeError as error:  # what vmap refuses; the objective itself has been evaluated
        return None, "vmap refused: " + first_line(error).removeprefix("vmap: ")[:100]
    return draw, ""


class _Holder(nn.Module):
    """A model's modules as one, to be called with other parameters: a model need not be one."""

    def __init__(self, model: object) -> None:
        super().__init__()
        self.parts = nn.ModuleList(modules_of(model))

    def forward(self, bound: Callable[[], Bound]) -> Bound:
        return bound()


def _normal(t: Tensor, mean: Number = 0.0, std: Number = 1.0) -> Tensor:
    return torch.randn_like(t) * std + mean


def _uniform(t: Tensor, low: Number = 0.0, high: Number = 1.0) -> Tensor:
    return torch.rand_like(t) * (high - low) + low


def _exponential(t: Tensor, rate: Number = 1.0) -> Tensor:
    return -torch.log1p(-torch.rand_like(t)) / rate


OUT_OF_PLACE: Mapping[object, Callable[..., Tensor]] = {
    torch.Tensor.normal_: _normal,
    torch.Tensor.uniform_: _uniform,
    torch.Tensor.exponential_: _exponential,
}


class _Trusting(TorchFunctionMode):
    """Lets :mod:`torch.distributions` run under vmap: in this thread, in this block, no longer."""

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is torch._is_all_true or (func is torch.Tensor.all and _asked_by_a_check()):
            return True
        if func in OUT_OF_PLACE and not kwargs and not _functorch.is_batchedtensor(args[0]):
            return OUT_OF_PLACE[func](*args)
        return func(*args, **(kwargs or {}))


def _asked_by_a_check() -> bool:
    return sys._getframe(2).f_globals.get("__name__", "") in CHECKS


# Where each tensor of parameters lies in a draw, and what is kept and projected of it.

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
