r"""The first noun: a model, which is a prior, a decoder and (perhaps) an encoder.

Nothing is inherited. Any object with these methods is a model; densities are in nats with all
additive constants kept, and shapes follow :mod:`torch.distributions`: ``(sample K, batch B,
*event)``. Pixels and latents are *event* dimensions, so no one sums after ``log_prob``.
"""

from __future__ import annotations

__all__ = [
    "GenerativeModel",
    "HasPrior",
    "LatentVariableModel",
    "evaluating",
    "given",
    "modules_of",
    "placed_like",
    "require_precision",
]

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Protocol, TypeVar, cast, runtime_checkable

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from .errors import ContractError, InputError, blamed_on
from .random import seeded


@runtime_checkable
class HasPrior(Protocol):
    """What every model has, with or without densities."""

    def prior(self) -> Distribution:
        r""":math:`p(z)`, with batch shape ``()`` and event shape ``(*Z)``."""
        ...


@runtime_checkable
class GenerativeModel(Protocol):
    r"""A joint density :math:`p(x, z) = p(z)\, p(x \mid z)`: enough to sample, for AIS and BDMC."""

    def prior(self) -> Distribution:
        r""":math:`p(z)`, with batch shape ``()`` and event shape ``(*Z)``."""
        ...

    def decode(self, z: Tensor) -> Distribution:
        r""":math:`p(x \mid z)`, with batch shape ``z.shape[:-len(Z)]`` and event shape ``(*X)``."""
        ...


@runtime_checkable
class LatentVariableModel(GenerativeModel, Protocol):
    r"""A generative model with an amortised posterior."""

    def encode(self, x: Tensor) -> Distribution:
        r""":math:`q(z \mid x)`, with batch shape ``(B,)`` and event shape ``(*Z)``."""
        ...


M = TypeVar("M", bound=GenerativeModel)
# How deep modules are looked for in a model that is none itself: self.parts["nets"][0] is 3.
DEPTH = 4


def given(model: M, condition: Tensor | None) -> M:
    """Returns the model for one batch of conditions (labels, covariates).

    Args:
        model: A model; with a condition it must offer ``given(condition) -> model``.
        condition: One row per datapoint, or ``None`` for the model itself.

    Raises:
        ContractError: A condition came, and the model has no ``given``.
    """
    if condition is None:
        return model
    if not hasattr(model, "given"):
        raise ContractError(
            "condition",
            expected="a model with a method given(condition) -> model",
            got=f"{type(model).__name__} without one",
            do="Add the method, or leave the condition out.",
        )
    return cast(M, model.given(condition))


def modules_of(model: object) -> list[nn.Module]:
    """Returns the ``nn.Module``s that make up a model, which need not be one itself."""
    if isinstance(model, nn.Module):
        return [model]
    found: dict[int, nn.Module] = {}
    _collect(getattr(model, "__dict__", {}), found, set(), DEPTH)
    return list(found.values())


def _collect(value: object, found: dict[int, nn.Module], seen: set[int], depth: int) -> None:
    """Looks into containers and plain objects: a module forgotten there keeps its dropout on."""
    if id(value) in seen or depth < 0:
        return
    seen.add(id(value))
    if isinstance(value, nn.Module):
        found[id(value)] = value
        return
    parts: Iterable[object] = ()
    if isinstance(value, Mapping):
        parts = value.values()
    elif isinstance(value, list | tuple):
        parts = value
    elif not isinstance(value, Tensor | type | ModuleType):
        parts = getattr(value, "__dict__", {}).values()
    for part in parts:
        _collect(part, found, seen, depth - 1)


@contextmanager
def evaluating(model: object) -> Iterator[None]:
    """Puts every module of a model in evaluation mode, without gradients, and restores it.

    A model in training mode couples the datapoints of a batch (BatchNorm) or randomises its
    answers (Dropout): neither is a density of one datapoint.
    """
    modules = [module for root in modules_of(model) for module in root.modules()]
    flags = [module.training for module in modules]
    try:
        for module in modules:
            module.training = False
        with torch.no_grad():
            yield
    finally:
        for module, flag in zip(modules, flags, strict=True):
            module.training = flag


def placed_like(x: Tensor, model: HasPrior) -> Tensor:
    """Returns x on the device and in the floating dtype of the model's prior.

    Where the latents are whole numbers x keeps its own dtype, or takes torch's default.

    Raises:
        InputError: x is complex.
        ContractError: The prior cannot be sampled; a model in half precision, or on two devices.
    """
    if x.is_complex():
        raise InputError("x", expected="real numbers", got=str(x.dtype), do="Split real and imag.")
    expected = "a torch.distributions.Distribution that can be sampled"
    do = "Fix the model's prior(), which takes no argument."
    with blamed_on("prior()", expected, do, ContractError), seeded(0):
        z = model.prior().sample()
        z.device, z.dtype  # noqa: B018 - whatever else was returned is blamed on the prior too
    require_precision(z.dtype)
    for name, p in (found for root in modules_of(model) for found in root.named_parameters()):
        require_precision(p.dtype)
        if p.device != z.device:
            raise ContractError(
                "device",
                expected=f"the whole model on one device; prior() draws on {z.device}",
                got=f"parameter {name} on {p.device}",
                do=f"Use model.to({str(z.device)!r}), and let prior() follow its parameters.",
            )
    own = x.dtype if x.is_floating_point() else torch.get_default_dtype()
    return x.to(device=z.device, dtype=z.dtype if z.is_floating_point() else own)


def require_precision(dtype: torch.dtype) -> None:
    """Refuses half precision: sums over pixels are rounded, and no error bar would show it."""
    if dtype not in (torch.float16, torch.bfloat16):
        return
    step = 100 * torch.finfo(dtype).eps / 2
    raise ContractError(
        "dtype",
        expected="a model in float32 or float64",
        got=f"{dtype}, which rounds a log-density of 100 nats by up to {step:.2g} nats",
        do="Use model.float() for evaluation; training in half precision is not touched.",
    )
