r"""The certificate within a diagnosis: AIS of some datapoints, and of as many simulated ones.

Whatever goes wrong in annealing (a decoder without a gradient, bounds that are not finite) is a
reason why the certificate is missing, and says nothing against the model's other numbers.
"""

from __future__ import annotations

__all__ = [
    "annealed_likelihood",
    "bound_gap",
    "certified",
    "implied_scale",
    "implied_weight",
    "labelled",
    "posterior_kl",
    "posterior_means",
    "shown",
]

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions.kl import kl_divergence

from elboscope import estimators
from elboscope.core import (
    Estimate,
    GenerativeModel,
    LatentVariableModel,
    data_id,
    family,
    given,
    paired_difference,
    seeded,
    standard_error,
)
from elboscope.core.torch_errors import first_line, lacks_gradient
from elboscope.estimators import LogLikelihood, implied_kl_weight

from ..attempts import Attempts
from ..budget import NUM_LEAPFROG
from ..decision import no_likelihood
from ..evidence import Evidence, ImpliedScale
from ..plan import Plan, chosen

TOLERANCE = 0.1  # nats: published tables give that much


def annealed_likelihood(model: GenerativeModel, plan: Plan) -> LogLikelihood:
    """Runs :func:`elboscope.estimators.likelihood.log_likelihood` on the plan's rows.

    Raises:
        ValueError: The decoder has no gradient, or a bound is not finite.
    """
    budget = plan.budget
    try:
        found = estimators.log_likelihood(
            model,
            plan.x[plan.annealed.to(plan.x.device)],
            budget.num_samples,
            num_temperatures=budget.num_temperatures,
            num_chains=budget.num_chains,
            num_leapfrog=NUM_LEAPFROG,
            num_simulated=plan.num_simulated,
            tolerance=TOLERANCE,
            seed=plan.seed,
            condition=chosen(plan.condition, plan.annealed),
        )
    except RuntimeError as error:
        if not lacks_gradient(error):
            raise
        raise ValueError(f"AIS needs the decoder's gradient: {first_line(error)}") from error
    bounds = (found.log_px, found.certificate.width)
    if not all(bool(bound.values.isfinite().all()) for bound in bounds):
        raise ValueError("annealing gave bounds that are not finite")
    return found


def certified(
    model: GenerativeModel, plan: Plan, evidence: Evidence, attempt: Attempts
) -> Evidence:
    """Adds what AIS says of some of the datapoints, and of data that the model simulates."""
    reason = no_likelihood(evidence) or plan.too_slow_to_anneal
    if not evidence.capabilities.finite:
        reason = reason or "; ".join(evidence.capabilities.problems)
    found = attempt("log_likelihood", reason, lambda: annealed_likelihood(model, plan))
    return replace(
        evidence, log_likelihood=found, annealed=None if found is None else plan.annealed
    )


# Small measurements that no estimator owns: rates, posterior means, the decoder's own variance.
#
# The implied variance of a Gaussian decoder is its mean squared error under the posterior,
#
# .. math:: \hat\sigma^2 = \frac{1}{nD} \sum_n \mathbb{E}_{q(z|x_n)} \|x_n - \mu(z)\|^2 ,
#
# the maximum of the ELBO over one σ² shared by all values (σ-VAE).
#
# References:
#     | Simple and Effective VAE Training with Calibrated Decoders (Rybkin et al., 2020),
#       https://arxiv.org/abs/2006.13202

BATCH = 256
WIDTH_SAMPLES = 64  # per datapoint: near a collapse the widths balance hundredths of a nat
SCALE_SAMPLES = 8  # per datapoint: the spread between datapoints dominates the error


def posterior_kl(
    model: LatentVariableModel, x: Float[Tensor, "n *X"], condition: Tensor | None = None
) -> Estimate:
    r"""Returns :math:`\mathrm{KL}(q(z|x) \| p(z))` of each datapoint, in closed form."""
    values = torch.cat(
        [
            kl_divergence(local.encode(rows), local.prior()).reshape(len(rows))
            for local, rows in _batches(model, x, condition)
        ]
    ).double()
    return Estimate.per_datapoint(
        "KL(q(z|x)‖p(z))",
        "closed form",
        values,
        torch.zeros_like(values),
        "unbiased",
        data_id=data_id(x),
        nonnegative=True,
    )


def posterior_means(
    model: LatentVariableModel, x: Float[Tensor, "n *X"], condition: Tensor | None = None
) -> Float[Tensor, "n d"]:
    """Returns E_q[z|x], flattened."""
    means = [local.encode(rows).mean.flatten(1) for local, rows in _batches(model, x, condition)]
    return torch.cat(means)


def implied_scale(
    model: LatentVariableModel,
    x: Float[Tensor, "n *X"],
    condition: Tensor | None = None,
    *,
    seed: int | None = None,
) -> ImpliedScale:
    """Returns the σ² (b) a Gaussian (Laplace) decoder declares and the one its errors imply."""
    laplace = False
    errors, ratios, declared, spread = [], [], [], []
    with seeded(seed):
        for local, rows in _batches(model, x, condition):
            p = local.decode(local.encode(rows).sample(torch.Size((SCALE_SAMPLES,))))
            square, variance = (rows - p.mean).double().square(), p.variance.double()
            laplace = family(p) == "Laplace"
            if laplace:  # whose variance is 2b²
                square, variance = square.sqrt(), (variance / 2).sqrt()
            errors.append(_per_datapoint(square))
            ratios.append(_per_datapoint(square / variance))
            declared.append(_per_datapoint(variance))
            spread.append(bool((variance - variance.flatten()[0]).abs().max() > 1e-9))
    error, ratio = torch.cat(errors), torch.cat(ratios)
    return ImpliedScale(
        implied=error.mean().item(),
        implied_stderr=standard_error(error),
        declared=torch.cat(declared).mean().item(),
        ratio=ratio.mean().item(),
        ratio_stderr=standard_error(ratio),
        dimensions=x[0].numel(),
        constant=not any(spread),
        family="Laplace" if laplace else "Normal",
    )


def implied_weight(
    model: LatentVariableModel,
    x: Float[Tensor, "n *X"],
    condition: Tensor | None = None,
    *,
    seed: int | None = None,
) -> Estimate:
    """Returns the KL weight that the encoder's widths imply.

    Raises:
        ValueError: The decoder has no gradient; the widths have nothing to balance.
    """
    try:
        return implied_kl_weight(model, x, WIDTH_SAMPLES, seed=seed, condition=condition)
    except RuntimeError as error:
        if not lacks_gradient(error):
            raise
        raise ValueError(f"it needs the decoder's gradient: {first_line(error)}") from error


def bound_gap(log_px: Estimate | None, elbo: Estimate | None) -> Estimate:
    """Returns log p̂(x) − ELBO, of the pairs."""
    assert log_px is not None
    assert elbo is not None
    return paired_difference(log_px, elbo, "log p(x) − ELBO")


def labelled(evidence: Evidence) -> Evidence:
    """Returns it with likelihood and binarisation repeated in each estimate."""
    settings = evidence.settings
    known = {k: settings[k] for k in ("likelihood", "binarisation", "data") if k in settings}
    names = ("log_px", "elbo", "reconstruction", "prior_sampling", "train_log_px", "train_elbo")
    found = {name: getattr(evidence, name) for name in names}
    marked = {
        name: replace(estimate, settings={**estimate.settings, **known})
        for name, estimate in found.items()
        if estimate is not None
    }
    return replace(evidence, **marked)


def _per_datapoint(values: Float[Tensor, "K B *X"]) -> Float[Tensor, " B"]:
    return values.transpose(0, 1).flatten(1).mean(1)


def shown(
    model: GenerativeModel, z: Float[Tensor, "n *Z"], condition: Tensor | None = None
) -> Tensor:
    """Returns the decoder's means for latents z, to be looked at."""
    local = given(model, None if condition is None else condition[: len(z)])
    return local.decode(z).mean


def _batches(
    model: LatentVariableModel, x: Tensor, condition: Tensor | None
) -> list[tuple[LatentVariableModel, Tensor]]:
    starts = range(0, len(x), BATCH)
    return [
        (
            given(model, None if condition is None else condition[s : s + BATCH]),
            x[s : s + BATCH],
        )
        for s in starts
    ]
