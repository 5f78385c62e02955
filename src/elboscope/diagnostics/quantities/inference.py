r"""The inference gap within a diagnosis: the best posteriors of some of the datapoints.

The rows are a part of x of their own, since each of them costs a search. What goes wrong in it (a
decoder without a gradient, a family that does not fit) is a reason why the split is missing, and
says nothing against the model's other numbers.
"""

from __future__ import annotations

__all__ = ["inference_parts", "local_pictures", "pictured", "split"]

import math
from dataclasses import replace
from typing import cast

from elboscope import estimators
from elboscope.core import GenerativeModel, LatentVariableModel, data_id
from elboscope.core.torch_errors import first_line, lacks_gradient
from elboscope.estimators import InferenceGap, LocalPosterior

from ..attempts import Attempts
from ..budget import REPORT_SAMPLES
from ..decision import no_weights
from ..evidence import Evidence
from ..plan import Plan, chosen


def inference_parts(model: LatentVariableModel, plan: Plan) -> InferenceGap:
    """Runs :func:`elboscope.estimators.inference.gap` on the plan's rows.

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
        if not lacks_gradient(error):
            raise
        raise ValueError(
            f"the search for q* needs the decoder's gradient: {first_line(error)}"
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


# The pictures within a diagnosis: true posteriors of four datapoints of a model with two latents.
#
# They need the inference gap, by which the datapoints are found, and a grid of z: more latents
# than two cannot be drawn as they are, and no projection takes their place.

NOT_A_PLANE = "the latents are not two-dimensional"


def pictured(
    model: LatentVariableModel, plan: Plan, evidence: Evidence
) -> tuple[LocalPosterior, ...]:
    """Runs :func:`elboscope.estimators.inference.local_posteriors`; its rows become those of x."""
    gap, rows = evidence.inference_gap, evidence.optimised
    assert gap is not None
    assert rows is not None
    found = estimators.local_posteriors(
        model,
        plan.x[rows.to(plan.x.device)],
        gap,
        seed=plan.seed,
        condition=chosen(plan.condition, rows),
    )
    return tuple(replace(one, row=int(rows[one.row])) for one in found)


def local_pictures(
    model: GenerativeModel, plan: Plan, evidence: Evidence, attempt: Attempts
) -> Evidence:
    """Adds the true posteriors of some datapoints, where they can be drawn."""
    reason = "" if math.prod(evidence.capabilities.latent_shape) == 2 else NOT_A_PLANE
    if evidence.inference_gap is None:
        reason = reason or attempt.skipped.get("inference_gap", "it needs the inference gap")
    q = cast(LatentVariableModel, model)
    found = attempt("local_posteriors", reason, lambda: pictured(q, plan, evidence))
    return replace(evidence, local_posteriors=found)
