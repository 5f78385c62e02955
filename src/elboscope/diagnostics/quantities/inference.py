r"""What inference loses: the best posteriors of some of the datapoints, and their pictures.

The rows are a part of x of their own, since each of them costs a search. What goes wrong in it (a
decoder without a gradient, a family that does not fit) is a reason why the split is missing, and
says nothing against the model's other numbers.
"""

from __future__ import annotations

__all__ = ["INFERENCE_GAP", "LOCAL_POSTERIORS", "QUANTITIES", "searched_rows"]

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from elboscope import estimators
from elboscope.core import Estimate, data_id
from elboscope.estimators import InferenceGap, LocalPosterior

from ..budget import REPORT_SAMPLES
from ..evidence import Evidence
from ..plan import Plan, rows_of
from ..quantity import Number, Quantity, Subject, gradient_needed_by, no_weights, not_finite


def _inference_gap(subject: Subject) -> InferenceGap:
    """Raises ValueError where no search ended in finite numbers."""
    plan = subject.plan
    x = plan.x[plan.optimised.to(plan.x.device)]
    x_train = _train_rows(plan, x)
    with gradient_needed_by("the search for q*"):
        found = estimators.inference_gap(
            subject.vae,
            x,
            x_train=x_train,
            richer=plan.budget.richer,
            num_samples=REPORT_SAMPLES,
            seed=plan.seed,
            condition=rows_of(plan.condition, plan.optimised),
            condition_train=(
                None if x_train is None else rows_of(plan.condition_train, plan.optimised_train)
            ),
        )
    if not len(found.index):
        raise ValueError("the search for q* diverged for every datapoint")
    return found


def _train_rows(plan: Plan, x: Tensor) -> Tensor | None:
    """The training data that are searched; the evaluation data are no second set."""
    if plan.x_train is None or not len(plan.optimised_train):
        return None
    x_train = plan.x_train[plan.optimised_train.to(plan.x.device)]
    return None if data_id(x_train) == data_id(x) else x_train


def _of_searched(gap: InferenceGap, rows: Tensor) -> Tensor:
    """The rows of x of those datapoints whose search ended in finite numbers."""
    return rows.cpu()[gap.index.cpu()]


Read = Callable[[InferenceGap], Estimate | None]


def _part(
    name: str, title: str, is_not: str, read: Read, *, optional: bool = False
) -> Number[InferenceGap]:
    return Number(name, title, is_not, read, ("inference",), optional=optional, rows=_of_searched)


def _best(family: str, words: str) -> Number[InferenceGap]:
    return _part(
        f"optimal_{family}",
        f"L[q*], {words}",
        "Not what an encoder reaches: the best q of this family that a search for each datapoint "
        "found. How much better ones may exist is in its certificate.",
        lambda gap: gap.optimal_elbo.get(family),
        optional=True,
    )


INFERENCE_GAP = Quantity[InferenceGap](
    "inference_gap",
    "The best posterior of each datapoint",
    "",
    _inference_gap,
    needs=(no_weights, lambda subject: subject.plan.too_slow_to_optimise, not_finite),
    rows=lambda plan: plan.optimised,
    shown_as=(
        _part(
            "inference_log_px",
            "log p(x), the best estimate",
            "Not of all datapoints: of those whose best posteriors were searched. The estimate, "
            "among several, whose mean is the largest.",
            lambda gap: gap.log_px,
        ),
        _best("flow", "flows"),
        _best("full", "full covariance"),
        _best("diagonal", "diagonal Gaussians"),
        _part(
            "inference_elbo",
            "L[q], of the encoder",
            "Not of all datapoints: of those whose best posteriors were searched.",
            lambda gap: gap.elbo,
        ),
        _part(
            "approximation_gap",
            "approximation gap",
            "Not the encoder's fault: no encoder of this family can win it back. Too small where "
            "log p̂ is.",
            lambda gap: gap.approximation,
        ),
        _part(
            "amortisation_gap",
            "amortisation gap",
            "Not a lack of the family: its best q for each datapoint is that much better than the "
            "encoder's.",
            lambda gap: gap.amortisation,
        ),
        _part(
            "inference_gap",
            "inference gap",
            "Not the decoder's fault: a model without any gap may be a poor one.",
            lambda gap: gap.inference,
        ),
        _part(
            "richer_gain",
            "L[q*], richer family − diagonal",
            "Not what training with that family would win: the decoder would change too.",
            lambda gap: gap.richer,
            optional=True,
        ),
        Number(
            "train_approximation_gap",
            "approximation gap, training data",
            "Not paired with that of the evaluation data: other datapoints.",
            lambda gap: None if gap.train is None else gap.train.approximation,
            ("inference",),
            optional=True,
        ),
        Number(
            "train_amortisation_gap",
            "amortisation gap, training data",
            "Not evidence of quality: the encoder was fitted to these data.",
            lambda gap: None if gap.train is None else gap.train.amortisation,
            ("inference",),
            optional=True,
        ),
    ),
)


def searched_rows(evidence: Evidence, places: Sequence[int]) -> tuple[int, ...]:
    """Returns the rows of x of searched datapoints that are named by their place among these.

    Args:
        evidence: What was computed.
        places: Such as ``evidence["inference_gap"].diverged``.
    """
    searched = evidence.rows.get(INFERENCE_GAP.name)
    return tuple(places) if searched is None else tuple(int(searched[i]) for i in places)


# True posteriors of four datapoints of a model with two latents. They need the inference gap, by
# which the datapoints are found, and a grid of z: more latents than two cannot be drawn as they
# are, and no projection stands in for them.

NOT_A_PLANE = "the latents are not two-dimensional"


def _not_a_plane(subject: Subject) -> str:
    return "" if math.prod(subject.evidence.capabilities.latent_shape) == 2 else NOT_A_PLANE


def _local_posteriors(subject: Subject) -> tuple[LocalPosterior, ...]:
    """The rows of what is found become those of x."""
    plan = subject.plan
    rows = subject.evidence.rows[INFERENCE_GAP.name]
    found = estimators.local_posteriors(
        subject.vae,
        plan.x[rows.to(plan.x.device)],
        subject.evidence[INFERENCE_GAP],
        seed=plan.seed,
        condition=rows_of(plan.condition, rows),
    )
    return tuple(replace(one, row=int(rows[one.row])) for one in found)


LOCAL_POSTERIORS = Quantity[tuple[LocalPosterior, ...]](
    "local_posteriors",
    "true posteriors of some datapoints",
    "",
    _local_posteriors,
    needs=(_not_a_plane, INFERENCE_GAP),
    shown_as=(),
)

QUANTITIES: tuple[Quantity[Any], ...] = (INFERENCE_GAP, LOCAL_POSTERIORS)
