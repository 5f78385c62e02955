r"""The aggregate posterior within a diagnosis: three estimators, a fitted prior, low-q samples.

All of it is of the data of the mixture (training data where given). What is fitted to q(z) is
evaluated on the evaluation data where training data were given, else on a quarter of the mixture's
that was kept aside. None of it decodes more than a few hundred latents, so that its time is that
of the fits and grows with the latents, not with the decoder.
"""

from __future__ import annotations

__all__ = ["matched"]

import math
from dataclasses import replace
from typing import NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor

from elboscope import estimators
from elboscope.core import Estimate, GenerativeModel, LatentVariableModel, given, seeded
from elboscope.estimators import (
    FittedPriorModel,
    LowSampleAnalysis,
    MarginalKLComparison,
    RatioClassifier,
)

from .attempts import Attempts
from .evidence import Evidence
from .measured import shown
from .pace import duration
from .plan import Plan, chosen, stratified
from .reasons import no_density, no_encoder, no_likelihood, no_weights

NUM_LOW, NUM_SHOWN = 100, 16
SCORED_DATA, SCORED_SAMPLES = 300, 50
# Points on the map of latents: t-SNE of a thousand takes seconds.
NUM_EMBEDDED = 200
# Components of the mixture where each pair is an evaluation of its own, not a matrix product.
OTHER_MIXTURE = 1000


class _Sets(NamedTuple):
    """What is fitted to, and what the fit is evaluated on."""

    x: Tensor
    condition: Tensor | None
    x_held_out: Tensor
    condition_held_out: Tensor | None


def matched(model: GenerativeModel, plan: Plan, evidence: Evidence, attempt: Attempts) -> Evidence:
    """Adds the comparison of estimators, the fitted prior and the low-posterior samples.

    Args:
        model: The model.
        plan: The data, the budget and the clock.
        evidence: What is known so far; its surgery's mixture is not drawn again.
        attempt: Takes the reasons of what is missing.
    """
    q = cast(LatentVariableModel, model)
    encoded, slow, unasked = no_encoder(evidence), _too_slow(plan, evidence), _unasked(plan)
    sets = _sets(plan)
    fitted = attempt("fitted_prior", encoded or unasked or slow, lambda: _fitted(q, sets, plan))
    found = replace(
        evidence,
        marginal_kl_comparison=attempt(
            "marginal_kl_comparison",
            encoded or _uncompared(plan) or slow,
            lambda: _compared(q, plan, evidence),
        ),
        fitted_prior=fitted,
        low_posterior=attempt(
            "low_posterior",
            no_density(evidence) or no_likelihood(evidence) or unasked or _slow_to_score(plan),
            lambda: _low_samples(q, plan, evidence),
        ),
    )
    why = attempt.skipped.get("fitted_prior", "")
    prior = cast(FittedPriorModel, fitted)
    return replace(
        found,
        fitted_prior_elbo=attempt(
            "fitted_prior_elbo",
            why or no_weights(evidence),
            lambda: _bounds(q, prior, sets, plan, evidence),
        ),
        fitted_prior_samples=attempt("fitted_prior_samples", why, lambda: _drawn(prior, plan)),
    )


def _too_slow(plan: Plan, evidence: Evidence) -> str:
    """Why nothing is fitted to q(z), or nothing."""
    budget = plan.budget
    seconds = budget.matching_seconds(math.prod(evidence.capabilities.latent_shape))
    if seconds <= budget.max_seconds / 2:
        return ""
    return (
        f"fitting densities to {math.prod(evidence.capabilities.latent_shape)} latents would take "
        f"about {duration(seconds)}; budget {budget.name!r} allows {duration(budget.max_seconds)} "
        "in all"
    )


def _unasked(plan: Plan) -> str:
    if plan.budget.num_prior:
        return ""
    return f"budget {plan.budget.name!r} draws no prior samples to compare with q(z)"


def _uncompared(plan: Plan) -> str:
    if plan.budget.ratio_steps:
        return ""
    return f"budget {plan.budget.name!r} trains no classifier and no density network"


def _slow_to_score(plan: Plan) -> str:
    """The ELBO of data and samples decodes SCORED_SAMPLES latents each."""
    budget, num_scored = plan.budget, SCORED_DATA + 4 * NUM_LOW
    one = budget.expected_seconds(1.0, len(plan.x), plan.total_train)
    seconds = plan.seconds / one * num_scored * SCORED_SAMPLES if one else 0.0
    if seconds <= budget.max_seconds / 2:
        return ""
    return (
        f"scoring {num_scored} datapoints and samples would take about {duration(seconds)}; "
        f"budget {budget.name!r} allows {duration(budget.max_seconds)} in all"
    )


def _sets(plan: Plan) -> _Sets:
    """Without training data a quarter of the mixture's is kept aside."""
    x, condition = plan.x_mixture, plan.condition_mixture
    if plan.x_train is not None:
        return _Sets(x, condition, plan.x, plan.condition)
    aside = torch.zeros(len(x), dtype=torch.bool)
    aside[stratified(len(x), max(1, len(x) // 4), plan.seed + 6)] = True
    rest = (~aside).nonzero()[:, 0].to(x.device)
    held_out = aside.nonzero()[:, 0].to(x.device)
    return _Sets(x[rest], chosen(condition, rest), x[held_out], chosen(condition, held_out))


def _fitted(model: LatentVariableModel, sets: _Sets, plan: Plan) -> FittedPriorModel:
    return estimators.fit_prior(
        model,
        sets.x,
        x_held_out=sets.x_held_out,
        seed=plan.seed,
        condition=sets.condition,
        condition_held_out=sets.condition_held_out,
    )


def _compared(model: LatentVariableModel, plan: Plan, evidence: Evidence) -> MarginalKLComparison:
    budget = plan.budget
    held_out = plan.x_train is not None
    return estimators.compare_marginal_kl(
        model,
        plan.x_mixture,
        x_held_out=plan.x if held_out else None,
        classifier=RatioClassifier(max_steps=budget.ratio_steps),
        densities=budget.densities,
        max_steps=budget.ratio_steps,
        surgery=evidence.surgery,
        seed=plan.seed,
        condition=plan.condition_mixture,
        condition_held_out=plan.condition if held_out else None,
    )


def _bounds(
    model: LatentVariableModel,
    fitted: FittedPriorModel,
    sets: _Sets,
    plan: Plan,
    evidence: Evidence,
) -> tuple[Estimate, Estimate]:
    """The ELBO before and after: the same draws of the first, and the gain, datapoint by datapoint.

    Raises:
        ValueError: The gain is not known of each datapoint.
    """
    gain = fitted.gain
    before = evidence.elbo if plan.x_train is not None else None
    before = before or estimators.evidence_lower_bound(
        model,
        sets.x_held_out,
        plan.budget.num_elbo_samples,
        seed=plan.seed,
        condition=sets.condition_held_out,
    )
    if len(before.values) != len(gain.values):
        raise ValueError("the gain is not of the same datapoints as the ELBO")
    values = before.values.double() + gain.values.to(before.values.device)
    mc_stderr = (before.mc_stderr.double().square() + gain.mc_stderr.square().to(values)).sqrt()
    density = str(gain.settings["density"])
    after = Estimate.per_datapoint(
        "ELBO with the fitted prior",
        f"{before.method}, prior: {density}",
        values,
        mc_stderr,
        "lower",
        settings={**before.settings, "density": density},
        data_id=before.data_id,
    )
    return before, after


def _drawn(fitted: FittedPriorModel, plan: Plan) -> Float[Tensor, "n *X"]:
    few = min(NUM_SHOWN, len(plan.x))
    with seeded(plan.seed):
        z = (
            given(fitted, chosen(plan.condition, torch.arange(1)))
            .prior()
            .sample(torch.Size((few,)))
        )
    return shown(fitted, z, plan.condition)


def _low_samples(model: LatentVariableModel, plan: Plan, evidence: Evidence) -> LowSampleAnalysis:
    """Of x_mixture the samples; the data they are compared with are the evaluation data."""
    x, condition = plan.x_mixture, plan.condition_mixture
    if evidence.capabilities.posterior not in ("Normal", "MultivariateNormal"):
        rows = stratified(len(x), OTHER_MIXTURE, plan.seed)
        x, condition = x[rows.to(x.device)], chosen(condition, rows)
    low = estimators.low_posterior_samples(
        model,
        x,
        min(NUM_LOW, plan.budget.num_prior),
        num_prior=plan.budget.num_prior,
        seed=plan.seed,
        condition=condition,
    )
    found = estimators.examine_low_samples(
        model,
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
