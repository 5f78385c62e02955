r"""How far q(z) is from the prior: estimates, a fitted prior, samples from where q(z) is low.

All of it is of the data of the mixture (training data where given). What is fitted to q(z) is
evaluated on the evaluation data where training data were given, else on a quarter of the mixture's
that was kept aside. None of it decodes more than a few hundred latents, so that its time is that
of the fits and grows with the latents, not with the decoder.

The list is long because each number says here what it is called and what it is not.
"""

from __future__ import annotations

__all__ = [
    "FITTED_PRIOR",
    "FITTED_PRIOR_ELBO",
    "FITTED_PRIOR_SAMPLES",
    "LOW_POSTERIOR",
    "MARGINAL_KL_COMPARISON",
    "QUANTITIES",
    "SURGERY",
]

import math
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from elboscope import estimators
from elboscope.core import Estimate, given, mean_of, seeded
from elboscope.estimators import (
    ElboSurgery,
    FittedPriorModel,
    LowSampleAnalysis,
    MarginalKLComparison,
    RatioClassifier,
)

from ..plan import Plan, duration, rows_of, stratified
from ..quantity import Number, Quantity, Subject, no_density, no_encoder, no_likelihood, no_weights
from .likelihood import ELBO

NUM_LOW, NUM_SHOWN = 100, 16
SCORED_DATA, SCORED_SAMPLES = 300, 50
# Points on the map of latents: t-SNE of a thousand takes seconds.
NUM_EMBEDDED = 200
# Components of the mixture where each pair is an evaluation of its own, not a matrix product.
OTHER_MIXTURE = 1000


# The ELBO taken apart over the mixture of posteriors.


def _surgery(subject: Subject) -> ElboSurgery:
    plan = subject.plan
    held_out = plan.x_train is not None
    return estimators.elbo_surgery(
        subject.vae,
        plan.x if held_out else plan.x_mixture,
        seed=plan.seed,
        x_train=plan.x_mixture if held_out else None,
        condition=plan.condition if held_out else plan.condition_mixture,
        condition_train=plan.condition_mixture if held_out else None,
    )


SURGERY = Quantity[ElboSurgery](
    "surgery",
    "The aggregate posterior",
    "",
    _surgery,
    needs=(no_density, no_likelihood),
    unavailable=lambda found: found.unavailable,
    shown_as=(
        Number(
            "mixture_kl",
            "average KL(q(z|x) ‖ p(z)) of the mixture",
            "Not of the evaluation data where training data were given: of the N datapoints that "
            "form the mixture q_N.",
            lambda found: found.kl,
            ("prior",),
        ),
        Number(
            "mutual_information",
            "mutual information I(n; z)",
            "Not the information in the population: it cannot exceed log N of the data that form "
            "the mixture.",
            lambda found: found.mutual_information,
            ("latents", "prior"),
        ),
        Number(
            "marginal_kl",
            "KL(q_N(z) ‖ p(z))",
            "Not KL(q ‖ p) of the population: for narrow posteriors the mixture of N points "
            "overstates it.",
            lambda found: found.marginal_kl,
            ("prior",),
        ),
        Number(
            "marginal_kl_plain",
            "KL(q_N(z) ‖ p(z)), plain Monte Carlo",
            "Not a second measurement: the same quantity in a noisier form; the two must agree.",
            lambda found: found.marginal_kl_plain,
            ("prior",),
        ),
        Number(
            "marginal_kl_held_out",
            "KL(q(z) ‖ p(z)), held-out bound",
            "Not an estimate of KL(q ‖ p): a lower bound, from a density fitted to other draws.",
            lambda found: found.marginal_kl_held_out,
            ("prior",),
        ),
        Number(
            "total_correlation",
            "total correlation",
            "Not a defect by itself: dependence between units under the mixture.",
            lambda found: found.total_correlation,
            ("prior",),
        ),
        Number(
            "dimensionwise_kl",
            "dimension-wise KL(q_N(z_j) ‖ p(z_j))",
            "Not KL(q ‖ p): each unit on its own, without their dependence.",
            lambda found: found.dimensionwise_kl,
            ("prior",),
        ),
    ),
)


# What is fitted to q(z): a classifier, densities, and a prior.


def _too_slow(subject: Subject) -> str:
    budget = subject.plan.budget
    dim = math.prod(subject.evidence.capabilities.latent_shape)
    seconds = budget.matching_seconds(dim)
    if seconds <= budget.max_seconds / 2:
        return ""
    return (
        f"fitting densities to {dim} latents would take about {duration(seconds)}; budget "
        f"{budget.name!r} allows {duration(budget.max_seconds)} in all"
    )


def _no_draws(subject: Subject) -> str:
    budget = subject.plan.budget
    if budget.num_prior:
        return ""
    return f"budget {budget.name!r} draws no prior samples to compare with q(z)"


def _no_networks(subject: Subject) -> str:
    budget = subject.plan.budget
    if budget.ratio_steps:
        return ""
    return f"budget {budget.name!r} trains no classifier and no density network"


def _comparison(subject: Subject) -> MarginalKLComparison:
    """The surgery's mixture, where there is one, is not drawn again."""
    plan, budget = subject.plan, subject.plan.budget
    held_out = plan.x_train is not None
    return estimators.compare_marginal_kl(
        subject.vae,
        plan.x if held_out else plan.x_mixture,
        x_train=plan.x_mixture if held_out else None,
        classifier=RatioClassifier(max_steps=budget.ratio_steps),
        densities=budget.densities,
        max_steps=budget.ratio_steps,
        surgery=subject.evidence.get(SURGERY),
        seed=plan.seed,
        condition=plan.condition if held_out else plan.condition_mixture,
        condition_train=plan.condition_mixture if held_out else None,
    )


_DENSITY = "Not an estimate of KL(q ‖ p): it lacks what the density misses of q(z)."
_CRITIC = "Not an estimate of KL(q ‖ p): no such bound exceeds the logarithm of the prior draws."


def _learned(name: str, words: str, is_not: str) -> Number[MarginalKLComparison]:
    return Number(
        f"marginal_kl_{name}",
        f"KL(q(z) ‖ p(z)), {words}",
        is_not,
        lambda found: found.estimates.get(name),
        ("prior",),
    )


MARGINAL_KL_COMPARISON = Quantity[MarginalKLComparison](
    "marginal_kl_comparison",
    "KL(q(z) ‖ p(z)) by learned estimates",
    "",
    _comparison,
    needs=(no_encoder, _no_networks, _too_slow),
    unavailable=lambda found: {f"marginal_kl_{k}": why for k, why in found.unavailable.items()},
    shown_as=(
        _learned(
            "ratio",
            "classifier (no bound)",
            "Not a bound on either side: classifiers are off by orders of magnitude.",
        ),
        _learned("donsker_varadhan", "Donsker–Varadhan bound", _CRITIC),
        _learned("nwj", "NWJ bound", _CRITIC),
        _learned("gmm", "bound by Gaussian mixtures", _DENSITY),
        _learned("maf", "bound by a flow", _DENSITY),
        _learned("lstm", "bound by an LSTM", _DENSITY),
    ),
)


class _Sets(NamedTuple):
    """What is fitted to, and what the fit is evaluated on."""

    x: Tensor
    condition: Tensor | None
    x_held_out: Tensor
    condition_held_out: Tensor | None


def _sets(plan: Plan) -> _Sets:
    """Without training data a quarter of the mixture's is kept aside."""
    x, condition = plan.x_mixture, plan.condition_mixture
    if plan.x_train is not None:
        return _Sets(x, condition, plan.x, plan.condition)
    aside = torch.zeros(len(x), dtype=torch.bool)
    aside[stratified(len(x), max(1, len(x) // 4), plan.seed + 6)] = True
    rest = (~aside).nonzero()[:, 0].to(x.device)
    held_out = aside.nonzero()[:, 0].to(x.device)
    return _Sets(x[rest], rows_of(condition, rest), x[held_out], rows_of(condition, held_out))


def _fitted_prior(subject: Subject) -> FittedPriorModel:
    sets = _sets(subject.plan)
    return estimators.fit_prior(
        subject.vae,
        sets.x_held_out,
        x_train=sets.x,
        seed=subject.plan.seed,
        condition=sets.condition_held_out,
        condition_train=sets.condition,
    )


FITTED_PRIOR = Quantity[FittedPriorModel](
    "fitted_prior",
    "the model with a prior fitted to q(z)",
    "",
    _fitted_prior,
    needs=(no_encoder, _no_draws, _too_slow),
    shown_as=(
        Number(
            "fitted_prior_gain",
            "held-out gain of the fitted prior",
            "Not a gain of log p(x) itself, nor more than KL(q ‖ p): of the bound, by the prior "
            "alone.",
            lambda found: found.gain,
            ("prior",),
        ),
    ),
)


def _fitted_prior_elbo(subject: Subject) -> tuple[Estimate, Estimate]:
    """The ELBO before and after: the same draws of the first, and the gain of each datapoint.

    Raises:
        ValueError: The gain is not known of each datapoint.
    """
    plan, sets = subject.plan, _sets(subject.plan)
    gain = subject.evidence[FITTED_PRIOR].gain
    before = subject.evidence.get(ELBO) if plan.x_train is not None else None
    before = before or estimators.evidence_lower_bound(
        subject.vae,
        sets.x_held_out,
        plan.budget.num_elbo_samples,
        seed=plan.seed,
        condition=sets.condition_held_out,
    )
    if len(before.values) != len(gain.values):
        raise ValueError("the gain is not of the same datapoints as the ELBO")
    return before, _after(before, gain)


def _after(before: Estimate, gain: Estimate) -> Estimate:
    values = before.values.double() + gain.values.to(before.values.device)
    mc_stderr = (before.mc_stderr.double().square() + gain.mc_stderr.square().to(values)).sqrt()
    density = str(gain.settings["density"])
    return Estimate.per_datapoint(
        "ELBO with the fitted prior",
        f"{before.method}, prior: {density}",
        values,
        mc_stderr,
        "lower",
        settings={**before.settings, "density": density},
        data_id=before.data_id,
        num_samples=before.num_samples,
        notes=before.notes,
    )


FITTED_PRIOR_ELBO = Quantity[tuple[Estimate, Estimate]](
    "fitted_prior_elbo",
    "the ELBO before and after a prior was fitted",
    "",
    _fitted_prior_elbo,
    needs=(FITTED_PRIOR, no_weights),
    shown_as=(
        Number(
            "fitted_prior_elbo_before",
            "ELBO, of the datapoints of that gain",
            "Not of all evaluation data where no training data were given: a part of them was kept "
            "aside.",
            lambda pair: pair[0],
            ("prior",),
        ),
        Number(
            "fitted_prior_elbo",
            "ELBO with the fitted prior",
            "Not a bound on this model's log p(x): on that of the model with the fitted prior.",
            lambda pair: pair[1],
            ("prior",),
        ),
    ),
)


def _fitted_prior_samples(subject: Subject) -> Float[Tensor, "n *X"]:
    plan, fitted = subject.plan, subject.evidence[FITTED_PRIOR]
    few = min(NUM_SHOWN, len(plan.x))
    with seeded(plan.seed):
        prior = given(fitted, rows_of(plan.condition, torch.arange(1))).prior()
        z = prior.sample(torch.Size((few,)))
    condition = None if plan.condition is None else plan.condition[:few]
    return mean_of(given(fitted, condition).decode(z))


FITTED_PRIOR_SAMPLES = Quantity[Tensor](
    "fitted_prior_samples",
    "samples of the fitted prior",
    "",
    _fitted_prior_samples,
    needs=(FITTED_PRIOR,),
    shown_as=(),
)


# Samples of the prior from where q(z) hardly goes.


def _slow_to_score(subject: Subject) -> str:
    """The ELBO of data and samples decodes SCORED_SAMPLES latents each."""
    plan, budget = subject.plan, subject.plan.budget
    num_scored = SCORED_DATA + 4 * NUM_LOW
    one = budget.expected_seconds(1.0, len(plan.x), plan.total_train)
    seconds = plan.seconds / one * num_scored * SCORED_SAMPLES if one else 0.0
    if seconds <= budget.max_seconds / 2:
        return ""
    return (
        f"scoring {num_scored} datapoints and samples would take about {duration(seconds)}; "
        f"budget {budget.name!r} allows {duration(budget.max_seconds)} in all"
    )


def _low_posterior(subject: Subject) -> LowSampleAnalysis:
    """The samples are those of the mixture; they are compared with the evaluation data."""
    plan, x, condition = subject.plan, subject.plan.x_mixture, subject.plan.condition_mixture
    if subject.evidence.capabilities.posterior not in ("Normal", "MultivariateNormal"):
        rows = stratified(len(x), OTHER_MIXTURE, plan.seed)
        x, condition = x[rows.to(x.device)], rows_of(condition, rows)
    low = estimators.low_posterior_samples(
        subject.vae,
        x,
        min(NUM_LOW, plan.budget.num_prior),
        num_prior=plan.budget.num_prior,
        seed=plan.seed,
        condition=condition,
    )
    found = estimators.examine_low_samples(
        subject.vae,
        plan.x,
        low,
        num_data=SCORED_DATA,
        num_samples=SCORED_SAMPLES,
        num_embedded=NUM_EMBEDDED if plan.budget.ratio_steps else 0,
        seed=plan.seed,
        condition=plan.condition,
    )
    for name, values in found.elbo.items():
        if bool(values.isnan().any()):
            raise ValueError(f"the ELBO of {name} is NaN for {int(values.isnan().sum())} of them")
    return found


LOW_POSTERIOR = Quantity[LowSampleAnalysis](
    "low_posterior",
    "Samples from where q(z) hardly goes",
    "",
    _low_posterior,
    needs=(no_density, no_likelihood, _no_draws, _slow_to_score),
    shown_as=(),
)

QUANTITIES: tuple[Quantity[Any], ...] = (
    SURGERY,
    MARGINAL_KL_COMPARISON,
    FITTED_PRIOR,
    FITTED_PRIOR_ELBO,
    FITTED_PRIOR_SAMPLES,
    LOW_POSTERIOR,
)
