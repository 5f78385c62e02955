r"""The importance-weighted bound.

.. math:: L_K = \mathbb{E}\,\log \frac1K \sum_{k=1}^K \frac{p(x, z_k)}{q(z_k | x)},
          \qquad z_k \sim q(z|x) \text{ independently}

:math:`L_1` is the ELBO, :math:`L_K \le L_{K+1} \le \log p(x)`, and the gap falls like
:math:`\chi^2/(2K)` where the weights have a variance. As K grows the bound needs q less and less,
and the signal-to-noise ratio of the encoder's gradient falls like :math:`1/\sqrt K`.
"""

from __future__ import annotations

__all__ = ["iwae"]

from jaxtyping import Float
from torch import Tensor

from elboscope.core import Bound, LatentVariableModel, log_mean_exp, log_weights


def iwae(
    model: LatentVariableModel,
    x: Float[Tensor, "B *X"],
    num_samples: int,
    *,
    condition: Tensor | None = None,
) -> Bound:
    r"""One draw of :math:`\log \frac1K \sum_k w_k` per datapoint, with its pathwise gradient.

    Args:
        model: The model; any posterior with a density.
        x: A minibatch.
        num_samples: K.
        condition: One row per datapoint.

    References:
        | Importance Weighted Autoencoders (Burda et al., 2016), https://arxiv.org/abs/1509.00519
        | Tighter Variational Bounds are Not Necessarily Better (Rainforth et al., 2018),
          https://arxiv.org/abs/1802.04537

    Example:
        >>> import elboscope as es
        >>> model = es.models.LinearGaussian.instance_1()
        >>> iwae(model, model.sample(4, seed=0)[0], num_samples=8).value.shape
        torch.Size([4])
    """
    log_w = log_weights(model, x, num_samples, condition=condition)
    value = log_mean_exp(log_w).to(log_w.dtype)
    return Bound(value.detach(), -value.mean())
