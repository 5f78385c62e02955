r"""What a diagnosis measures of log p(x) and of its bounds, on evaluation and on training data.

The list is long because each number says here what it is called and what it is not.

The implied variance of a Gaussian decoder is its mean squared error under the posterior,

.. math:: \hat\sigma^2 = \frac{1}{nD} \sum_n \mathbb{E}_{q(z|x_n)} \|x_n - \mu(z)\|^2 ,

the maximum of the ELBO over one σ² shared by all values (σ-VAE).

References:
    | Simple and Effective VAE Training with Calibrated Decoders (Rybkin et al., 2020),
      https://arxiv.org/abs/2006.13202
"""

from __future__ import annotations

__all__ = [
    "BOUNDS_BY_SAMPLES",
    "BOUND_GAP",
    "ELBO",
    "KL",
    "LOG_LIKELIHOOD",
    "LOG_PX",
    "PRIOR_SAMPLING",
    "QUANTITIES",
    "RECONSTRUCTION",
    "SCALE",
    "TRAIN_ELBO",
    "TRAIN_LOG_PX",
    "annealed_likelihood",
    "implied_scale",
]

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from elboscope import estimators
from elboscope.core import (
    Estimate,
    LatentVariableModel,
    closed_form_kl,
    data_id,
    family,
    paired_difference,
    seeded,
    standard_error,
)
from elboscope.estimators import LogLikelihood
from elboscope.estimators.likelihood.bounds import LADDER

from ..budget import NUM_LEAPFROG, PRIOR_DATA, WEIGHED_TRAIN
from ..evidence import ImpliedScale
from ..plan import batches, rows_of, stratified
from ..quantity import (
    Number,
    Quantity,
    Subject,
    gradient_needed_by,
    no_closed_form,
    no_encoder,
    no_likelihood,
    no_training_data,
    no_weights,
    not_finite,
    not_gaussian,
)

TOLERANCE = 0.1  # nats: published tables give that much
SCALE_SAMPLES = 8  # per datapoint: the spread between datapoints dominates the error


def _labelled(subject: Subject, estimate: Estimate) -> Estimate:
    """Repeats the likelihood, the binarisation and the data's name beside the number."""
    settings = subject.evidence.settings
    known = {k: settings[k] for k in ("likelihood", "binarisation", "data") if k in settings}
    return replace(estimate, settings={**estimate.settings, **known})


def _too_slow(subject: Subject) -> str:
    return subject.plan.too_slow


# log p(x) by importance sampling: the bounds of blocks of K' samples, up to all K.


def _bounds_by_samples(subject: Subject) -> dict[int, Estimate]:
    plan = subject.plan
    ladder = estimators.sample_ladder(plan.budget.num_samples)
    bounds = estimators.importance_weighted_bounds(
        subject.vae, plan.x, ladder, seed=plan.seed, condition=plan.condition
    )
    return dict(bounds)


def _bound(K: int) -> Number[Mapping[int, Estimate]]:
    """The bound of K samples, below the largest K, which is log_px itself."""
    return Number(
        f"bound_{K}",
        f"log p(x), importance-weighted bound L_{K}",
        f"Not a second opinion: the samples of log_px in blocks of {K}, whose bound lies below it "
        "by construction.",
        lambda bounds: bounds.get(K) if max(bounds) > K else None,
        in_panel=True,
        optional=True,
    )


def _half(log_px: Estimate) -> Estimate | None:
    """The value of the first half of the samples."""
    values = log_px.diagnostics.get("half")
    if values is None or not bool(values.isfinite().all()):
        return None
    K = log_px.num_samples
    return Estimate.per_datapoint(
        "log p(x), first half of the samples",
        log_px.method,
        values,
        log_px.mc_stderr * 2**0.5,
        "lower",
        settings=log_px.settings,
        data_id=log_px.data_id,
        num_samples=None if K is None else K // 2,
        notes=log_px.notes,
    )


def _smoothed(log_px: Estimate) -> Estimate | None:
    """The value after Pareto smoothing of the largest weights."""
    values = log_px.diagnostics.get("psis")
    if values is None or not bool(values.isfinite().all()):
        return None
    return Estimate.per_datapoint(
        "log p(x), Pareto-smoothed",
        f"{log_px.method}, Pareto-smoothed",
        values,
        log_px.mc_stderr * 1.0,
        "none",
        settings=log_px.settings,
        data_id=log_px.data_id,
        num_samples=log_px.num_samples,
        notes=log_px.notes,
    )


BOUNDS_BY_SAMPLES = Quantity[Mapping[int, Estimate]](
    "bounds_by_samples",
    "the importance-weighted bounds",
    "",
    _bounds_by_samples,
    needs=(no_weights, _too_slow),
    shown_as=tuple(map(_bound, LADDER)),
    failure="log_px",
)


def _log_px(subject: Subject) -> Estimate:
    bounds = subject.evidence[BOUNDS_BY_SAMPLES]
    return _labelled(subject, bounds[max(bounds)])


LOG_PX = Quantity[Estimate](
    "log_px",
    "log p(x)",
    "",
    _log_px,
    needs=(BOUNDS_BY_SAMPLES,),
    shown_as=(
        Number(
            "log_px",
            "log p(x)",
            "Not log p(x) itself: the estimate lies below it on average. Not comparable across "
            "likelihoods, binarisations or dequantisations.",
            asked_in=("trust", "bound", "overfitting"),
        ),
        Number(
            "log_px_half",
            "log p(x), first half of the samples",
            "Not a second opinion: the same samples, half as many. If it lies clearly below the "
            "full estimate, K is too small.",
            _half,
            ("trust",),
            optional=True,
        ),
        Number(
            "log_px_psis",
            "log p(x), Pareto-smoothed",
            "Not a bound: smoothing the largest weights lowers the variance at the price of a bias "
            "of unknown side.",
            _smoothed,
            ("trust",),
            optional=True,
        ),
    ),
)


def _prior_sampling(subject: Subject) -> Estimate:
    plan = subject.plan
    some = stratified(len(plan.x), PRIOR_DATA, plan.seed)
    found = estimators.prior_sampling(
        subject.model,
        plan.x[some],
        plan.budget.num_samples,
        seed=plan.seed,
        condition=rows_of(plan.condition, some),
    )
    return _labelled(subject, found)


PRIOR_SAMPLING = Quantity(
    "prior_sampling",
    "log p(x), sampling the prior",
    "Not an estimate to use: it shows how badly sampling from the prior does with the same number "
    "of samples.",
    _prior_sampling,
    needs=(no_likelihood, _too_slow),
    asked_in=("trust",),
)


def _train_log_px(subject: Subject) -> Estimate:
    plan = subject.plan
    assert plan.x_train is not None
    few = stratified(len(plan.x_train), WEIGHED_TRAIN, plan.seed)
    found = estimators.importance_sampling(
        subject.vae,
        plan.x_train[few],
        plan.budget.num_samples,
        seed=plan.seed + 1,
        condition=rows_of(plan.condition_train, few),
    )
    return _labelled(subject, found)


TRAIN_LOG_PX = Quantity(
    "train_log_px",
    "log p(x) of training data",
    "Not evidence of quality: on data the model was fitted to.",
    _train_log_px,
    needs=(no_training_data, no_weights, _too_slow),
    asked_in=("overfitting",),
)


# The ELBO, and what stands between it and log p(x).


def _elbo(subject: Subject) -> Estimate:
    plan = subject.plan
    found = estimators.evidence_lower_bound(
        subject.vae,
        plan.x,
        plan.budget.num_elbo_samples,
        seed=plan.seed,
        condition=plan.condition,
    )
    return _labelled(subject, found)


ELBO = Quantity(
    "elbo",
    "ELBO",
    "Not a likelihood: it differs from log p(x) by KL(q(z|x) ‖ p(z|x)).",
    _elbo,
    needs=(no_weights,),
    asked_in=("bound", "overfitting"),
)


def _train_elbo(subject: Subject) -> Estimate:
    plan = subject.plan
    assert plan.x_train is not None
    found = estimators.evidence_lower_bound(
        subject.vae,
        plan.x_train,
        plan.budget.num_elbo_samples,
        seed=plan.seed + 1,
        condition=plan.condition_train,
    )
    return _labelled(subject, found)


TRAIN_ELBO = Quantity(
    "train_elbo",
    "ELBO of training data",
    "Not evidence of quality: on data the model was fitted to.",
    _train_elbo,
    needs=(no_training_data, no_weights),
    asked_in=("overfitting",),
)


def _no_gap(subject: Subject) -> str:
    """The reason of the one of log p(x) and the ELBO that is missing."""
    evidence = subject.evidence
    missing = [key for key in (ELBO, LOG_PX) if key not in evidence]
    return f"it needs log p(x) and the ELBO: {evidence.reason(missing[0])}" if missing else ""


def _bound_gap(subject: Subject) -> Estimate:
    evidence = subject.evidence
    return paired_difference(evidence[LOG_PX], evidence[ELBO], "log p(x) − ELBO")


BOUND_GAP = Quantity(
    "bound_gap",
    "log p(x) − ELBO",
    "Not the whole gap: log p̂(x) itself lies below log p(x). It does not tell amortisation from "
    "the posterior's family.",
    _bound_gap,
    needs=(_no_gap,),
    asked_in=("bound",),
)


def _reconstruction(subject: Subject) -> Estimate:
    plan = subject.plan
    found = estimators.reconstruction(
        subject.vae,
        plan.x,
        plan.budget.num_elbo_samples,
        seed=plan.seed,
        condition=plan.condition,
    )
    return _labelled(subject, found)


RECONSTRUCTION = Quantity(
    "reconstruction",
    "E_q log p(x|z)",
    "Not a likelihood: the latent code is given for free.",
    _reconstruction,
    needs=(no_encoder, no_likelihood),
    asked_in=("bound",),
)


def _kl(subject: Subject) -> Estimate:
    """KL(q(z|x) ‖ p(z)) of each datapoint, in closed form."""
    plan = subject.plan
    parts = [
        closed_form_kl(local.encode(rows), local.prior())
        for local, rows in batches(subject.vae, plan.x, plan.condition)
    ]
    values = torch.cat([kl.reshape(-1) for kl in parts if kl is not None]).double()
    return Estimate.per_datapoint(
        "KL(q(z|x)‖p(z))",
        "closed form",
        values,
        torch.zeros_like(values),
        "unbiased",
        data_id=data_id(plan.x),
        nonnegative=True,
    )


KL = Quantity(
    "kl",
    "KL(q(z|x)‖p(z))",
    "Not a sign of quality by itself: it is information about x plus mismatch with the prior.",
    _kl,
    needs=(no_closed_form,),
    asked_in=("bound",),
)


# The scale of the likelihood, which a table of its own shows.


def implied_scale(
    model: LatentVariableModel,
    x: Float[Tensor, "n *X"],
    condition: Tensor | None = None,
    *,
    seed: int | None = None,
) -> ImpliedScale:
    """Returns the σ² (b) a Gaussian (Laplace) decoder declares and the one its errors imply.

    Args:
        model: The model, with an encoder.
        x: Data.
        condition: One row per datapoint.
        seed: Random seed; None picks one.
    """
    laplace = False
    errors, ratios, declared, spread = [], [], [], []
    with seeded(seed):
        for local, rows in batches(model, x, condition):
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


def _per_datapoint(values: Float[Tensor, "K B *X"]) -> Float[Tensor, " B"]:
    return values.transpose(0, 1).flatten(1).mean(1)


def _scale(subject: Subject) -> ImpliedScale:
    plan = subject.plan
    return implied_scale(subject.vae, plan.x, plan.condition, seed=plan.seed)


SCALE = Quantity[ImpliedScale](
    "scale",
    "the decoder's variance",
    "",
    _scale,
    needs=(no_encoder, not_gaussian),
    asked_in=("scale",),
    shown_as=(),
)


# The certificate: AIS of some datapoints, and of as many that the model simulates. Whatever goes
# wrong in annealing says nothing against the model's other numbers.


def annealed_likelihood(subject: Subject) -> LogLikelihood:
    """Runs :func:`elboscope.estimators.log_likelihood` on the plan's rows.

    Args:
        subject: The model and the plan.

    Raises:
        ValueError: The decoder has no gradient, or a bound is not finite.
    """
    plan, budget = subject.plan, subject.plan.budget
    with gradient_needed_by("AIS"):
        found = estimators.log_likelihood(
            subject.model,
            plan.x[plan.annealed.to(plan.x.device)],
            budget.num_samples,
            num_temperatures=budget.num_temperatures,
            num_chains=budget.num_chains,
            num_leapfrog=NUM_LEAPFROG,
            num_simulated=plan.num_simulated,
            num_pairs=plan.num_pairs,
            tolerance=TOLERANCE,
            seed=plan.seed,
            condition=rows_of(plan.condition, plan.annealed),
        )
    bounds = (found.log_px, found.certificate.others)
    if not all(bool(bound.values.isfinite().all()) for bound in bounds):
        raise ValueError("annealing gave bounds that are not finite")
    return found


def _of_annealed(found: LogLikelihood, rows: Tensor) -> Tensor:
    return rows


LOG_LIKELIHOOD = Quantity[LogLikelihood](
    "log_likelihood",
    "Annealed importance sampling",
    "",
    annealed_likelihood,
    needs=(no_likelihood, lambda subject: subject.plan.too_slow_to_anneal, not_finite),
    rows=lambda plan: plan.annealed,
    shown_as=(
        Number(
            "log_px_combined",
            "log p(x), combined",
            "Not the larger of the two, which would be no bound: a weighted mean of both averages, "
            "each half weighted by what the other half says.",
            lambda found: found.log_px if found.widened is not None else None,
            ("certificate",),
            rows=_of_annealed,
        ),
        Number(
            "log_px_widened",
            "log p(x), widened posterior",
            "Not of q alone: half of the samples come from a stretched q, and all are weighted by "
            "the density of both.",
            lambda found: found.widened,
            ("certificate",),
            rows=_of_annealed,
        ),
        Number(
            "log_px_annealed",
            "log p(x), AIS",
            "Not independent of the number of temperatures: too few, and it lies far below "
            "log p(x), with a small error.",
            lambda found: found.annealed,
            ("certificate",),
            rows=_of_annealed,
        ),
        Number(
            "simulated_upper",
            "log p(x) of simulated data, reverse AIS",
            "Not of the real data, for which no upper bound is known: of data that the model "
            "simulated.",
            lambda found: found.sandwich.upper_doubled,
            ("certificate",),
        ),
        Number(
            "simulated_combined",
            "log p(x) of simulated data, combined",
            "Not of the real data: the same estimate with the same settings on data that the model "
            "simulated.",
            lambda found: found.simulated if found.widened is not None else None,
            ("certificate",),
        ),
        Number(
            "simulated_importance",
            "log p(x) of simulated data, importance sampling",
            "Not of the real data: what importance sampling from q alone reads on data that the "
            "model simulated.",
            lambda found: found.simulated_importance,
            ("certificate",),
        ),
        Number(
            "simulated_lower",
            "log p(x) of simulated data, AIS",
            "Not of the real data: of data that the model simulated, with twice the temperatures.",
            lambda found: found.sandwich.lower_doubled,
            ("certificate",),
        ),
        Number(
            "certificate_width",
            "upper bound − estimate, simulated data",
            "Not the error on the real data: the most that the mean is off on simulated ones, but "
            "for its own error.",
            lambda found: found.certificate.others,
            ("certificate",),
        ),
        Number(
            "certificate_width_far",
            "upper bound − estimate, where q hardly goes",
            "Not typical of simulated data: of those whose z* lies far beyond what q finds, a "
            "stratum of its own.",
            lambda found: found.certificate.far,
            ("certificate",),
        ),
        Number(
            "simulated_upper_by_q",
            "log p(x) of simulated data, U_K of q",
            "Not of the real data, and not tight: the z* that made x among a few draws of q, for "
            "thousands of pairs.",
            lambda found: None if found.pairs is None else found.pairs.upper,
            ("certificate",),
        ),
    ),
)

QUANTITIES: tuple[Quantity[Any], ...] = (
    LOG_PX,
    BOUNDS_BY_SAMPLES,
    PRIOR_SAMPLING,
    TRAIN_LOG_PX,
    ELBO,
    TRAIN_ELBO,
    BOUND_GAP,
    RECONSTRUCTION,
    KL,
    SCALE,
    LOG_LIKELIHOOD,
)
