r"""What an objective returns, and whose parameters follow which of its losses.

The encoder's :math:`\phi` are the parameters from which the posterior's draws and density are
computed; the decoder's :math:`\theta` are the rest. Names and attributes are not asked, so that
a VampPrior (which shares the encoder) or a tied weight is counted once, as the encoder's.
"""

from __future__ import annotations

__all__ = ["Bound", "reached_parameters", "split_parameters"]

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .errors import ContractError
from .model import LatentVariableModel, modules_of
from .random import seeded
from .weights import log_joint, sample_posterior


def split_parameters(
    model: LatentVariableModel, x: Float[Tensor, "B *X"]
) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Returns the trainable parameters of the encoder and those of the rest of the model.

    Args:
        model: A model; parameters that neither q(z|x) nor p(x, z) reaches are left out for
            plain objects, and counted with the decoder where an ``nn.Module`` lists them.
        x: A few datapoints, through which the graph is traced.

    Raises:
        ContractError: Nothing in the model is trainable.

    Example:
        >>> import elboscope as es
        >>> model = es.from_modules(nn.Linear(3, 4), nn.Linear(2, 3), encoder_output="mu_logvar")
        >>> phi, theta = split_parameters(model, torch.zeros(1, 3))
        >>> [tuple(p.shape) for p in phi], [tuple(p.shape) for p in theta]
        ([(4, 3), (4,)], [(3, 2), (3,)])
    """
    with torch.enable_grad(), seeded(0):
        z, log_q = sample_posterior(model, x, 1)
        encoder = reached_parameters(z) | reached_parameters(log_q)
        joint = reached_parameters(log_joint(model, x, z.detach()))
    named = [p for module in modules_of(model) for p in module.parameters() if p.requires_grad]
    everything = dict.fromkeys([*named, *encoder, *joint])
    if not everything:
        raise ContractError(
            "parameters",
            expected="at least one that requires a gradient",
            got="none",
            do="Unfreeze the model: parameter.requires_grad_(True).",
        )
    phi = [p for p in everything if p in encoder]
    return phi, [p for p in everything if p not in encoder]


def reached_parameters(output: Tensor) -> set[nn.Parameter]:
    """Walks the autograd graph back from a tensor to the parameters it was computed from.

    Example:
        >>> first, second = nn.Linear(2, 3), nn.Linear(2, 3)
        >>> reached_parameters(first(torch.zeros(1, 2))) == set(first.parameters())
        True
    """
    leaves: set[nn.Parameter] = set()
    queue, seen = [output.grad_fn], set()
    while queue:
        node = queue.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if isinstance(leaf, nn.Parameter):
            leaves.add(leaf)
        queue.extend(parent for parent, _ in node.next_functions)
    return leaves


# What an objective returns: what is reported and what is differentiated are two things.


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
