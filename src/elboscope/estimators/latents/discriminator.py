r"""What a hybrid's own discriminator of codes makes of KL(q(z) ‖ p(z)): a number, and no bound.

AAE, WAE-GAN, VGH and VGH++ train a classifier C of codes, label 1 for draws of the prior. The best
one has the logit :math:`C(z) = \log p(z) - \log q(z)`, and then

.. math:: \mathrm{KL}(q(z) \| p(z)) = -\mathbb{E}_{q(z)} C(z) .

The one that was trained is another: it followed an encoder that moved, and an encoder that fooled
it. Its value may lie anywhere, and is published to be far too small. Beside the mixture and the
lower bounds, which are about the same q(z), it shows what the game was told.

References:
    Distribution Matching in Variational Inference (Rosca et al., 2018),
    https://arxiv.org/abs/1802.06847
"""

from __future__ import annotations

__all__ = ["DiscriminatorKL", "discriminator_kl"]

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from elboscope.core import Estimate, InputError, LatentVariableModel, evaluating, given, seeded

from ..inputs import Inputs, blocks, prepared, require_positive

AT_ONCE = 256


@dataclass(frozen=True, eq=False)
class DiscriminatorKL:
    """By the discriminator of codes that a model carries.

    Attributes:
        kl: −E_q C(z), nats; no bound on either side.
        accuracy: The mean share of codes and of draws of the prior that it tells; ½ is blind.
    """

    kl: Estimate
    accuracy: Estimate

    def parts(self) -> tuple[Estimate, ...]:
        """Returns both estimates."""
        return self.kl, self.accuracy


def discriminator_kl(
    model: LatentVariableModel,
    x: object,
    num_samples: int = 16,
    *,
    seed: int | None = None,
    condition: Tensor | None = None,
) -> DiscriminatorKL:
    r"""Estimates :math:`-\mathbb{E}_{q(z)} C(z)` with C = ``model.adversaries["code"]``.

    It is about q(z) = mean of q(z|x) over all x, of which these are a sample, and about this C:
    neither a bound on KL(q(z) ‖ p(z)), nor an estimate of known error.

    Args:
        model: A model with an encoder and a discriminator of codes, whose logit is high for z of
            the prior.
        x: Data, best such that it was not trained on.
        num_samples: K, codes of each datapoint and as many draws of the prior.
        seed: Random seed; None picks one and records it.
        condition: One row per datapoint.

    Returns:
        Both, one value a datapoint.

    Raises:
        InputError: The model carries no discriminator of codes.

    References:
        | Distribution Matching in Variational Inference (Rosca et al., 2018),
          https://arxiv.org/abs/1802.06847

    Example:
        >>> import elboscope as es
        >>> model = es.models.mlp_hybrid((6,), 2, (8,), code_hidden=(8,))
        >>> found = discriminator_kl(model, torch.rand(50, 6), seed=0)
        >>> found.kl.side, found.accuracy.measured_in
        ('none', 'of draws')
    """
    require_positive("num_samples", num_samples)
    inputs = prepared(model, x, condition)
    C = _discriminator(model)
    with evaluating(model), seeded(seed):
        rows = blocks(len(inputs.x), AT_ONCE)
        parts = [_logits(model, C, *inputs.rows(some), num_samples) for some in rows]
    of_codes, of_prior = (torch.cat(part, 1).double() for part in zip(*parts, strict=True))
    told = (_right(-of_codes) + _right(of_prior)) / 2
    return DiscriminatorKL(
        _estimate("KL(q(z) ‖ p(z))", -of_codes, inputs, "nats"),
        _estimate("accuracy", told, inputs, "of draws"),
    )


def _discriminator(model: object) -> nn.Module:
    carried: dict[str, nn.Module] = dict(getattr(model, "adversaries", {}))
    if "code" not in carried:
        raise InputError(
            "model",
            expected="a discriminator of codes, model.adversaries['code']",
            got=f"adversaries {', '.join(map(repr, carried))}" if carried else "no adversaries",
        )
    return carried["code"]


def _logits(
    model: LatentVariableModel, C: nn.Module, x: Tensor, condition: Tensor | None, K: int
) -> tuple[Float[Tensor, "K b"], Float[Tensor, "K b"]]:
    """C of codes and of as many draws of the prior."""
    local = given(model, condition)
    codes = local.encode(x).sample(torch.Size((K,)))
    prior = local.prior().sample(torch.Size((K, len(x))))
    both = (C(z.flatten(0, 1)).reshape(K, len(x)) for z in (codes, prior))
    return next(both), next(both)


def _right(logits: Float[Tensor, "K n"]) -> Float[Tensor, "K n"]:
    """1 where it is right, ½ where it does not say."""
    return (logits.sign() + 1) / 2


def _estimate(name: str, values: Float[Tensor, "K n"], inputs: Inputs, unit: str) -> Estimate:
    K = len(values)
    spread = values.std(0) if K > 1 else torch.full_like(values[0], torch.nan)
    return Estimate.per_datapoint(
        name,
        "the model's own discriminator",
        values.mean(0),
        spread / K**0.5,
        "none",
        data_id=inputs.data_id,
        measured_in=unit,
        num_samples=K,
        notes=inputs.notes,
    )
