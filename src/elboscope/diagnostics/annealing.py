r"""The certificate within a diagnosis: AIS of some datapoints, and of as many simulated ones.

Whatever goes wrong in annealing (a decoder without a gradient, bounds that are not finite) is a
reason why the certificate is missing, and says nothing against the model's other numbers.
"""

from __future__ import annotations

__all__ = ["annealed_likelihood", "certified"]

from dataclasses import replace

from elboscope import estimators
from elboscope.core import GenerativeModel
from elboscope.estimators import LogLikelihood

from .attempts import Attempts
from .budget import NUM_LEAPFROG
from .evidence import Evidence
from .plan import Plan, chosen
from .reasons import no_likelihood

TOLERANCE = 0.1  # nats: published tables give that much


def annealed_likelihood(model: GenerativeModel, plan: Plan) -> LogLikelihood:
    """Runs :func:`elboscope.estimators.log_likelihood` on the plan's rows.

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
        if "grad" not in str(error):
            raise
        raise ValueError(
            f"AIS needs the decoder's gradient: {str(error).splitlines()[0]}"
        ) from error
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
