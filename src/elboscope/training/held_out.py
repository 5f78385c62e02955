r"""The held-out bound that training is judged by, and the rule that stops it.

.. math:: \mathrm{ELBO}(x) = \mathbb{E}_{q(z \mid x)}[\log p(x \mid z) + \log p(z) - \log q(z \mid x)]

always at β = 1, whatever the objective, on one fixed draw of the data and of the noise: two
epochs differ by the model alone, not by luck. One sample per datapoint suffices for the mean;
it is not a per-datapoint estimate.
"""  # noqa: E501

from __future__ import annotations

__all__ = ["HeldOut", "held_out_bound"]

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from elboscope.core import LatentVariableModel, evaluating, given, sample_posterior, seeded


class HeldOut(NamedTuple):
    """Means over the held-out data, in nats."""

    elbo: float
    kl: float


def held_out_bound(
    model: LatentVariableModel,
    x: Float[Tensor, "N *X"],
    *,
    seed: int = 0,
    num_samples: int = 1,
    batch_size: int = 500,
    condition: Tensor | None = None,
) -> HeldOut:
    """Returns the mean ELBO (all-sampled) and its KL part; the model's mode is left as it was.

    Args:
        model: The model.
        x: Held-out data, binarised.
        seed: Seed of the noise, the same at each call.
        num_samples: K, per datapoint.
        batch_size: Datapoints of one block.
        condition: One row per datapoint.

    Example:
        >>> import elboscope as es
        >>> model = es.models.LinearGaussian.instance_1()
        >>> x, _ = model.sample(2000, seed=0)
        >>> held_out_bound(model, x).elbo < model.log_likelihood(x).mean().item()
        True
    """
    elbos, kls = [], []
    with evaluating(model), seeded(seed):
        for start in range(0, len(x), batch_size):
            rows = slice(start, start + batch_size)
            local = given(model, None if condition is None else condition[rows])
            z, log_q = sample_posterior(local, x[rows], num_samples)
            kl = (log_q - local.prior().log_prob(z)).double()
            elbos.append(local.decode(z).log_prob(x[rows]).double() - kl)
            kls.append(kl)
        return HeldOut(torch.cat(elbos, 1).mean().item(), torch.cat(kls, 1).mean().item())
