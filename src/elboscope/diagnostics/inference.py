r"""The inference gap within a diagnosis: the best posteriors of some of the datapoints.

The rows are a part of x of their own, since each of them costs a search. What goes wrong in it (a
decoder without a gradient, a family that does not fit) is a reason why the split is missing, and
says nothing against the model's other numbers.
"""

from __future__ import annotations

__all__ = ["inference_parts", "split"]

from dataclasses import replace
from typing import cast

from elboscope import estimators
from elboscope.core import GenerativeModel, LatentVariableModel, data_id
from elboscope.estimators import InferenceGap

from .attempts import Attempts
from .budget import REPORT_SAMPLES
from .evidence import Evidence
from .plan import Plan, chosen
from .reasons import no_weights


def inference_parts(model: LatentVariableModel, plan: Plan) -> InferenceGap:
    """Runs :func:`elboscope.estimators.inference_gap` on the plan's rows.

    Raises:
        ValueError: The decoder has no gradient, the latents are not real numbers, or no search
            ended in finite numbers.
    """
    x = plan.x[plan.optimised.to(plan.x.device)]
    x_train = None
    if plan.x_train is not None and len(plan.optimised_train):
        x_train = plan.x_train[plan.optimised_train.to(plan.x.device)]
        x_train = None if data_id(x_train) == data_id(x) else x_train
    try:
        found = estimators.inference_gap(
            model,
            x,
            x_train=x_train,
            richer=plan.budget.richer,
            num_samples=REPORT_SAMPLES,
            seed=plan.seed,
            condition=chosen(plan.condition, plan.optimised),
            condition_train=(
                None if x_train is None else chosen(plan.condition_train, plan.optimised_train)
            ),
        )
    except RuntimeError as error:
        if "grad" not in str(error):
            raise
        raise ValueError(
            f"the search for q* needs the decoder's gradient: {str(error).splitlines()[0]}"
        ) from error
    if not len(found.index):
        raise ValueError("the search for q* diverged for every datapoint")
    return found


def split(model: GenerativeModel, plan: Plan, evidence: Evidence, attempt: Attempts) -> Evidence:
    """Adds what the family loses and what the encoder loses, of some of the datapoints."""
    reason = no_weights(evidence) or plan.too_slow_to_optimise
    if not evidence.capabilities.finite:
        reason = reason or "; ".join(evidence.capabilities.problems)
    q = cast(LatentVariableModel, model)
    found = attempt("inference_gap", reason, lambda: inference_parts(q, plan))
    return replace(
        evidence, inference_gap=found, optimised=None if found is None else plan.optimised
    )
