r"""The aggregate posterior within a diagnosis: three estimators, a fitted prior, low-q samples.

All of it is of the data of the mixture (training data where given). What is fitted to q(z) is
evaluated on the evaluation data where training data were given, else on a quarter of the mixture's
that was kept aside. None of it decodes more than a few hundred latents, so that its time is that
of the fits and grows with the latents, not with the decoder.
"""

from __future__ import annotations

__all__ = ["PopulationBound", "latent_pictures", "matched", "population_bound", "population_bounds"]

import math
from collections.abc import Mapping
from dataclasses import replace
from statistics import NormalDist
from typing import NamedTuple, Protocol, TypeVar, cast, runtime_checkable

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
from elboscope.estimators.latents.traversals import LEVELS

from ..attempts import Attempts
from ..decision import ERRORS, no_density, no_encoder, no_likelihood, no_weights
from ..evidence import Evidence
from ..plan import Plan, chosen, duration, stratified
from .inference import local_pictures
from .likelihood import shown

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
        sets.x_held_out,
        x_train=sets.x,
        seed=plan.seed,
        condition=sets.condition_held_out,
        condition_train=sets.condition,
    )


def _compared(model: LatentVariableModel, plan: Plan, evidence: Evidence) -> MarginalKLComparison:
    budget = plan.budget
    held_out = plan.x_train is not None
    return estimators.compare_marginal_kl(
        model,
        plan.x if held_out else plan.x_mixture,
        x_train=plan.x_mixture if held_out else None,
        classifier=RatioClassifier(max_steps=budget.ratio_steps),
        densities=budget.densities,
        max_steps=budget.ratio_steps,
        surgery=evidence.surgery,
        seed=plan.seed,
        condition=plan.condition if held_out else plan.condition_mixture,
        condition_train=plan.condition_mixture if held_out else None,
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


# The pictures within a diagnosis: what units show, what lies between two codes, and the plane.
#
# None of them is a number by which a model is judged: they show what the numbers are about. All
# come from the data behind q(z); paths lead from evaluation data to evaluation data.

TOO_MANY = "there are more than two latents: no plane through them is what the prior samples"


class _Size(NamedTuple):
    """How many tiles each picture has."""

    units: int
    levels: tuple[float, ...]
    pairs: int
    steps: int
    nodes: int


# Draws of an autoregressive decoder take a pass per value: fifty of them, not three hundred.
SIZES = {True: _Size(8, LEVELS, 4, 9, 15), False: _Size(3, (0.05, 0.3, 0.5, 0.7, 0.95), 2, 5, 5)}


@runtime_checkable
class _Decoded(Protocol):
    @property
    def mean(self) -> Tensor: ...


T = TypeVar("T", bound=_Decoded)


def latent_pictures(
    model: GenerativeModel, plan: Plan, evidence: Evidence, attempt: Attempts
) -> Evidence:
    """Adds the true posteriors, the traversals, the paths between codes and the manifold."""
    evidence = local_pictures(model, plan, evidence, attempt)
    q, shape = cast(LatentVariableModel, model), evidence.capabilities.latent_shape
    broken = "" if shape else "; ".join(evidence.capabilities.problems)
    encoded = broken or no_encoder(evidence)
    seed, x, c = plan.seed, plan.x_mixture, plan.condition_mixture
    size = SIZES[not broken and _has_mean(model, plan)]
    return replace(
        evidence,
        traversals=attempt(
            "traversals",
            encoded,
            lambda: _finite(
                estimators.latent_traversals(
                    q, x, num_units=size.units, levels=size.levels, seed=seed, condition=c
                )
            ),
        ),
        interpolations=attempt("interpolations", encoded, lambda: _finite(_paths(q, plan, size))),
        manifold=attempt(
            "manifold",
            broken or (TOO_MANY if math.prod(shape) > 2 else ""),
            lambda: _finite(
                estimators.latent_manifold(
                    model,
                    None if no_encoder(evidence) else x,
                    num_steps=size.nodes,
                    seed=seed,
                    condition=c,
                )
            ),
        ),
    )


def _has_mean(model: GenerativeModel, plan: Plan) -> bool:
    """Whether p(x|z) tells its mean; else every tile is a draw, of which fewer are taken."""
    c = plan.condition_mixture
    local = given(model, None if c is None else c[:1])
    with seeded(plan.seed):
        z = local.prior().sample(torch.Size((1, 1)))
    try:
        local.decode(z).mean  # noqa: B018
    except NotImplementedError:
        return False
    except (ValueError, RuntimeError):
        return True  # broken otherwise: told where it is decoded
    return True


def _paths(model: LatentVariableModel, plan: Plan, size: _Size) -> estimators.LatentInterpolations:
    """Between evaluation data where training data are behind q(z); else between its own."""
    if plan.x_train is None:
        return estimators.latent_interpolations(
            model,
            plan.x_mixture,
            size.pairs,
            num_steps=size.steps,
            seed=plan.seed,
            condition=plan.condition_mixture,
        )
    return estimators.latent_interpolations(
        model,
        plan.x,
        size.pairs,
        num_steps=size.steps,
        seed=plan.seed,
        x_train=plan.x_mixture,
        condition=plan.condition,
        condition_train=plan.condition_mixture,
    )


def _finite(found: T) -> T:
    bad = int((~found.mean.isfinite()).sum())
    if bad:
        raise ValueError(f"{bad} of its {found.mean.numel()} values are NaN or infinite")
    return found


# Of several lower bounds on the population's KL(q(z) ‖ p(z)), the one that shows most.
#
# A richer density of q(z) gives a larger bound, so each is worth a look; but the largest of m
# bounds that were looked at on the same data is larger by chance. Each keeps its side when its
# interval is widened as Bonferroni's inequality demands: :math:`m (1 - \Phi(c_m)) = 1 - \Phi(2)`,
# whatever the dependence between them. At m = 7 two errors become 2.7.


class PopulationBound(NamedTuple):
    """A lower bound on the population's marginal KL, picked out of several.

    Attributes:
        name: Which of them.
        mean: Its value, in nats.
        stderr: Its standard error, widened for the choice.
        picked_of: Of how many it was picked.
        method: How it was estimated.
    """

    name: str
    mean: float
    stderr: float
    picked_of: int
    method: str


def population_bounds(evidence: Evidence) -> dict[str, Estimate]:
    """Returns every lower bound on KL(q(z) ‖ p(z)) of fresh data, by name.

    ``held_out`` is the surgery's, ``fitted_prior`` the gain of that prior, which is one too.

    Args:
        evidence: What was computed.
    """
    surgery, found = evidence.surgery, evidence.marginal_kl_comparison
    bounds: dict[str, Estimate] = {}
    if surgery is not None and surgery.marginal_kl_held_out is not None:
        bounds["held_out"] = surgery.marginal_kl_held_out
    if evidence.fitted_prior is not None:
        bounds["fitted_prior"] = evidence.fitted_prior.gain
    if found is not None:
        bounds |= {name: e for name, e in found.estimates.items() if e.side == "lower"}
    return {name: e for name, e in bounds.items() if math.isfinite(e.mean)}


def population_bound(bounds: Mapping[str, Estimate]) -> PopulationBound | None:
    """Returns the bound that surely shows most: the largest of mean − 2 widened errors.

    Args:
        bounds: By name.

    Example:
        >>> import torch
        >>> zero = torch.zeros(2)
        >>> wide = Estimate("KL", "a", zero + 2, zero, "lower", 1.0)
        >>> sharp = Estimate("KL", "b", zero + 1, zero, "lower", 0.1)
        >>> best = population_bound({"a": wide, "b": sharp})
        >>> best.name, round(best.stderr, 3)
        ('b', 0.114)
    """
    if not bounds:
        return None
    factor = widening(len(bounds))
    name = max(bounds, key=lambda b: bounds[b].mean - ERRORS * factor * bounds[b].stderr)
    best = bounds[name]
    return PopulationBound(name, best.mean, best.stderr * factor, len(bounds), best.method)


def widening(count: int) -> float:
    """Returns by how much the error grows when one of ``count`` is picked: c_m / 2.

    Example:
        >>> widening(1), round(2 * widening(7), 2)
        (1.0, 2.72)
    """
    normal = NormalDist()
    tail = (1 - normal.cdf(ERRORS)) / count
    return normal.inv_cdf(1 - tail) / ERRORS if count > 1 else 1.0
