r"""Log-weights whose gradient reaches the encoder through the draws.

An objective built from :math:`\log w_k` at :math:`z_k = z_\phi(\varepsilon_k)` has its pathwise
gradient only where the draws are differentiable. With a posterior that can only ``sample`` the
same lines would run and follow a gradient that means nothing, so they are refused.
"""

from __future__ import annotations

__all__ = ["count", "pathwise_draws", "pathwise_weights", "require_reparameterised"]

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from elboscope.core import (
    ContractError,
    InputError,
    LatentVariableModel,
    family,
    given,
    log_joint,
    sample_posterior,
)
from elboscope.core.weights import SamplesWithDensity


def pathwise_weights(
    model: LatentVariableModel,
    x: Float[Tensor, "B *X"],
    num_samples: int,
    *,
    freeze: bool = False,
    condition: Tensor | None = None,
) -> Float[Tensor, "K B"]:
    r"""Returns :math:`\log p(x, z_k) - \log q(z_k | x)` with gradients through z.

    Args:
        model: The model.
        x: A minibatch.
        num_samples: K.
        freeze: Stop the gradient through the density's parameters, not through z.
        condition: One row per datapoint.

    Raises:
        ContractError: Gradients are asked for, and the posterior is not reparameterised.

    Example:
        >>> import elboscope as es
        >>> model = es.models.LinearGaussian.instance_1()
        >>> pathwise_weights(model, model.sample(4, seed=0)[0], 3).shape
        torch.Size([3, 4])
    """
    local = given(model, condition)
    z, log_q = pathwise_draws(local, x, num_samples, freeze=freeze)
    return log_joint(local, x, z) - log_q


def pathwise_draws(
    model: LatentVariableModel, x: Float[Tensor, "B *X"], num_samples: int, *, freeze: bool = False
) -> tuple[Float[Tensor, "K B *Z"], Float[Tensor, "K B"]]:
    """Returns z and log q(z|x) as :func:`elboscope.core.sample_posterior`, refusing z that have
    no gradient because the posterior cannot give any.

    Raises:
        ContractError: Gradients are asked for, and the posterior is not reparameterised.
    """
    z, log_q = sample_posterior(model, x, num_samples, freeze=freeze)
    # An encoder whose weights are all frozen gives draws without gradient too: that is fine.
    if torch.is_grad_enabled() and not z.requires_grad:
        require_reparameterised(model.encode(x[:1]))
    return z, log_q


def require_reparameterised(q: Distribution) -> None:
    """Refuses a posterior without differentiable draws."""
    if not q.has_rsample and not isinstance(q, SamplesWithDensity):
        raise ContractError(
            "encode(x)",
            expected="a posterior that is reparameterised (rsample)",
            got=f"{family(q)}, which can only be sampled",
            do="Use objectives.score_function or objectives.wake_phase, or another posterior.",
        )


def count(name: str, value: int, least: int = 1) -> int:
    """Returns the value if it is a whole number that is large enough.

    Raises:
        InputError: It is not.

    Example:
        >>> count("num_samples", 8)
        8
    """
    if isinstance(value, bool) or not hasattr(value, "__index__") or value < least:
        raise InputError(name, expected=f"a whole number ≥ {least}", got=repr(value))
    return value
