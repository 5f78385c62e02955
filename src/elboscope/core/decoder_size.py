r"""How many numbers a decoder makes of one z: what decides how many z are decoded at once.

A Bernoulli decoder gives a number a value, a categorical one 256, and an autoregressive one runs
its network, with all its feature maps, only when a density is asked for. So one z is decoded and
scored, and the largest tensor counts: of those that the distribution keeps, and of those that
modules return while it scores. A decoder that has scored before it returns (feature maps of its
own) is not measured: they are freed layer by layer.
"""

from __future__ import annotations

__all__ = ["values_per_sample"]

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution

from .model import GenerativeModel, evaluating, given, modules_of
from .random import seeded


def values_per_sample(
    model: GenerativeModel, x: Float[Tensor, "B *X"], condition: Tensor | None = None
) -> int:
    """Returns the numbers of the largest tensor that decoding and scoring one z makes.

    At least the values of a datapoint. The random state is left alone.

    Args:
        model: The model.
        x: Data; the first is scored.
        condition: One row per datapoint.

    Example:
        >>> import elboscope as es
        >>> model = es.models.mlp_vae((6,), 2, hidden=(8,), likelihood="categorical", levels=17)
        >>> values_per_sample(model, torch.zeros(1, 6))  # six values of 17 levels
        102
    """
    found = [x[:1].numel()]
    with evaluating(model), seeded(0), _sizes(model) as returned:
        local = given(model, None if condition is None else condition[:1])
        p = local.decode(local.prior().sample(torch.Size((1, 1))))
        returned.clear()  # what the decoder made on its way is freed again
        _kept(p, found)
        try:
            p.log_prob(x[:1])
        except (NotImplementedError, ValueError, RuntimeError):
            return max(found)  # told where it is asked for
    return max(found + returned)


@contextmanager
def _sizes(model: object) -> Iterator[list[int]]:
    """Collects the numbers of every tensor that a module of the model returns."""
    returned: list[int] = []

    def note(_module: nn.Module, _arguments: object, answer: object) -> None:
        if isinstance(answer, Tensor):
            returned.append(answer.numel())

    with ExitStack() as hooks:
        for module in {m for root in modules_of(model) for m in root.modules()}:
            hooks.callback(module.register_forward_hook(note).remove)
        yield returned


def _kept(p: Distribution, found: list[int]) -> None:
    for value in vars(p).values():
        if isinstance(value, Tensor):
            found.append(value.numel())
        elif isinstance(value, Distribution):
            _kept(value, found)
