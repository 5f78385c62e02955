r"""Computes the evidence once: encodings, K weights per datapoint, the aggregate posterior.

Order: the contract first (a structural breach raises, because every later number would be
wrong), then a few timed decoder passes, which say how many datapoints the budget can afford, and
then each quantity for itself. A quantity that the model cannot be asked for, that the clock does
not allow, or that comes out NaN is left out with its reason; no other method replaces it. All
numbers are about β = 1 and about the data given: at most ``budget.num_data`` of it, one datapoint
drawn from each of as many equal stretches.
"""

from __future__ import annotations

__all__ = ["Interrupted", "Progress", "gather_evidence", "measure"]

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol, SupportsFloat, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from elboscope.core import (
    Capabilities,
    Estimate,
    InputError,
    Sampled,
    as_generative,
    evaluating,
    placed_like,
)
from elboscope.core.errors import first_line, met_nan
from elboscope.estimators import DiscriminatorKL, ElboSurgery, LogLikelihood

from .budget import STANDARD, Budget, budget_named
from .evidence import Evidence, Missing
from .kept import Kept, kept_in
from .plan import Plan, capabilities_of, paces_of, plan_for
from .quantities import QUANTITIES
from .quantity import Quantity, Subject


@runtime_checkable
class Progress(Protocol):
    """Called before each quantity."""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Receives the quantity about to be computed, and how many of all are done."""
        ...


class Interrupted(KeyboardInterrupt):
    """A diagnosis was stopped from outside; what was done until then is its evidence.

    Args:
        reason: "Ctrl-C", or what the one who stopped it said.
        evidence: The quantities that were done; the others are missing, for this reason.
        done: How many were gone through.
        total: How many there are.
    """

    def __init__(self, reason: str, evidence: Evidence, done: int, total: int) -> None:
        self.reason, self.evidence, self.done, self.total = reason, evidence, done, total
        super().__init__(f"Stopped by {reason} after {done} of {total} quantities.")


def gather_evidence(
    model: Sampled,
    x: Float[Tensor, "N *X"],
    *,
    x_train: Float[Tensor, "M *X"] | None = None,
    history: Sequence[Mapping[str, float]] = (),
    budget: Budget | str = STANDARD,
    seed: int = 0,
    condition: Tensor | None = None,
    condition_train: Tensor | None = None,
    images: Float[Tensor, "N *Y"] | None = None,
    settings: Mapping[str, object] | None = None,
    progress: Progress | None = None,
    keep_in: Path | None = None,
    resume: bool = False,
) -> Evidence:
    """Computes everything the checks and the report need, and says why anything is missing.

    Args:
        model: A model that keeps the contract; evaluated in evaluation mode, then restored.
        x: Evaluation data, binarised as they shall be.
        x_train: Training data; the aggregate posterior is then theirs.
        history: Rows of the training's metrics, for the divergence check.
        budget: A budget or its name.
        seed: Random seed of everything drawn.
        condition: One row per row of x, for ``model.given``.
        condition_train: The same for ``x_train``.
        images: What x shows, where x is a binary draw of it: samples are compared with these.
        settings: What is known about the run: binarisation, likelihood, kl_weight, reduction;
            repeated beside the numbers.
        progress: Called as ``progress(stage, done, total)`` before each quantity.
        keep_in: A folder in which each quantity is written down when it is done.
        resume: Go on with what was written there; the numbers are those of one sitting.

    Returns:
        The evidence.

    Raises:
        ContractError: A structural breach of the model's contract.
        InputError: A budget of another name; conditions that do not match the data; a history
            that is not rows of numbers; a folder that cannot be written, or that holds the
            quantities of something else.
        Interrupted: Ctrl-C came.

    Example:
        >>> from dataclasses import replace
        >>> import elboscope as es
        >>> model = es.models.LinearGaussian.instance_1()
        >>> x, _ = model.sample(50, seed=0)
        >>> budget = replace(es.diagnostics.QUICK, num_temperatures=0, num_optimised=0)
        >>> evidence = gather_evidence(model, x, budget=budget)
        >>> evidence.settings["n"], evidence["log_px"].num_samples
        (50, 1000)
    """
    sampled, budget, generative = model, budget_named(budget), as_generative(model)
    _check_rows("condition", condition, x)
    _check_rows("condition_train", condition_train, x_train)
    _check_rows("images", images, x)
    rows = _rows_of(history)
    x = placed_like(x, generative)
    x_train = None if x_train is None else placed_like(x_train, generative)
    with evaluating(generative):
        capabilities, broken = capabilities_of(generative, x, condition)
        asked = {"budget": repr(budget), "seed": seed}
        conditions = {"condition": condition, "condition_train": condition_train}
        data = {"x": x, "x_train": x_train, "images": images, **conditions}
        with kept_in(keep_in, generative, asked, data, resume=resume) as kept:
            paces = kept.read("paces") or kept.write(
                "paces", paces_of(generative, capabilities, x, budget, condition)
            )
            plan = plan_for(
                generative, capabilities, x, x_train, budget, seed, **conditions, paces=paces
            )
            evidence = _start(capabilities, plan, rows, dict(settings or {}), broken)
            suspect = bool(broken) or not capabilities.finite
            subject = Subject(generative, plan, evidence, sampled, x, images)
            return measure(subject, progress=progress, suspect=suspect, kept=kept)


def _check_rows(name: str, given: Tensor | None, x: Tensor | None) -> None:
    if given is not None and (x is None or len(given) != len(x)):
        rows = 0 if x is None else len(x)
        raise InputError(name, expected=f"one row per datapoint ({rows})", got=f"{len(given)} rows")


def _rows_of(history: Sequence[Mapping[str, float]]) -> tuple[Mapping[str, float], ...]:
    """The history as numbers: NaN for a value that was not taken (None, or an empty cell).

    A column that holds words only (the name of a phase) is left out.
    """
    if isinstance(history, Mapping | str) or not all(isinstance(row, Mapping) for row in history):
        raise InputError(
            "history",
            expected='a sequence of rows, such as [{"epoch": 1, "train_bound": -98.2}, …]',
            got=type(history).__name__,
            do='Of a data frame: frame.to_dict("records").',
        )
    names = dict.fromkeys(name for row in history for name in row)
    columns = {name: [_value(row.get(name)) for row in history] for name in names}
    for name, values in columns.items():
        words = [i for i, v in enumerate(values) if isinstance(v, str)]
        if words and any(isinstance(v, float) and not math.isnan(v) for v in values):
            raise InputError(
                f"history, column {name!r}",
                expected="numbers, or None where no value was taken",
                got=f"{values[words[0]]!r} in row {words[0]}",
            )
    kept = {k: v for k, v in columns.items() if not any(isinstance(w, str) for w in v)}
    return tuple(
        {name: float(kept[name][i]) for name in row if name in kept}
        for i, row in enumerate(history)
    )


def _value(given: object) -> float | str:
    """A number, or what stands where one was expected."""
    if given is None or given == "":
        return math.nan
    if not isinstance(given, SupportsFloat | str):
        return str(given)
    try:
        return float(given)
    except (TypeError, ValueError, RuntimeError):  # the last: a tensor of several values
        return str(given)


def _start(
    capabilities: Capabilities,
    plan: Plan,
    history: Sequence[Mapping[str, float]],
    settings: dict[str, object],
    broken: int,
) -> Evidence:
    families = {"likelihood": capabilities.likelihood, "posterior": capabilities.posterior}
    return Evidence(
        capabilities=capabilities,
        settings={**families, **settings, **plan.record()},
        x=plan.x,
        x_train=plan.x_train,
        history=tuple(history),
        nonfinite={"parameters": broken} if broken else {},
        num_given=plan.total,
    )


def measure(
    subject: Subject,
    quantities: Sequence[Quantity[Any]] = QUANTITIES,
    *,
    progress: Progress | None = None,
    suspect: bool = False,
    kept: Kept | None = None,
) -> Evidence:
    """Computes quantities one after the other, what they need first.

    Args:
        subject: The model, the plan and what is known already.
        quantities: What is computed.
        progress: Called before each quantity.
        suspect: The model is known not to be finite, so that any failure of torch is its doing.
        kept: Where each is written down, and read back instead of being computed again.

    Returns:
        The subject's evidence with these quantities, or the reasons why they are missing.

    Raises:
        Interrupted: Ctrl-C came.
    """
    order, kept = _in_order(quantities), kept or Kept(None)
    for done, quantity in enumerate(order):
        try:
            if progress is not None:
                progress(quantity.reported_as, done, len(order))
            found = kept.read(quantity.name)
            if not isinstance(found, Outcome):
                found = kept.write(quantity.name, _attempt(quantity, subject, suspect))
            subject = replace(subject, evidence=_added(quantity, subject, found))
        except KeyboardInterrupt as stop:
            raise _interrupted(stop, subject.evidence, order, done) from stop
    evidence = subject.evidence
    if kept.failures:
        evidence = evidence.replace(
            settings={**evidence.settings, "not kept": "; ".join(kept.failures)}
        )
    return evidence


def _interrupted(
    stop: KeyboardInterrupt, evidence: Evidence, order: Sequence[Quantity[Any]], done: int
) -> Interrupted:
    why = str(stop) or "Ctrl-C"
    reasons = {q.reported_as: f"the diagnosis was stopped by {why} before it" for q in order[done:]}
    where = f"stopped by {why} after {done} of {len(order)} quantities"
    evidence = evidence.replace(
        skipped={**reasons, **evidence.skipped},
        settings={**evidence.settings, "unfinished": where},
    )
    return Interrupted(why, evidence, done, len(order))


def _in_order(quantities: Sequence[Quantity[Any]]) -> tuple[Quantity[Any], ...]:
    """As they are listed, but what a quantity needs before it."""
    order: dict[str, Quantity[Any]] = {}

    def add(quantity: Quantity[Any]) -> None:
        for need in quantity.needs:
            if isinstance(need, Quantity) and need.name not in order:
                add(need)
        order.setdefault(quantity.name, quantity)

    for quantity in quantities:
        add(quantity)
    return tuple(order.values())


class Outcome(NamedTuple):
    """What came of a quantity: a value, or why there is none, and how many numbers were none."""

    value: Any = None
    reason: str = ""
    nonfinite: int = 0


def _attempt(quantity: Quantity[Any], subject: Subject, suspect: bool) -> Outcome:
    """The quantity, or the reason why it is missing.

    What torch refuses about values (a NaN parameter), what a distribution does not implement, and
    singular matrices are reasons; a defect of another kind is not caught.
    """
    reason = quantity.missing(subject)
    if reason:
        return Outcome(reason=reason)
    try:
        return _finite(quantity.compute(subject))
    except Missing as missing:
        reason = missing.reason
    except NotImplementedError as error:
        reason = f"a distribution of the model does not offer it ({first_line(error)})"
    except ValueError as error:
        reason = first_line(error)
    except RuntimeError as error:
        if not (suspect or met_nan(error)):
            raise
        reason = f"the model's numbers are not usable: {first_line(error)}"
    return Outcome(reason=reason)


def _finite(value: object) -> Outcome:
    numbers = _tensors(value)
    bad = sum(int((~v.isfinite()).sum()) for v in numbers)
    if bad:
        count = sum(v.numel() for v in numbers)
        return Outcome(reason=f"{bad} of its {count} values are NaN or infinite", nonfinite=bad)
    return Outcome(value)


def _added(quantity: Quantity[Any], subject: Subject, outcome: Outcome) -> Evidence:
    """The evidence with a quantity, or with the reason why it is missing."""
    evidence, (value, reason, bad) = subject.evidence, outcome
    if bad:
        nonfinite = {**evidence.nonfinite, quantity.reported_as: bad}
        evidence = evidence.replace(nonfinite=nonfinite)
    if reason:
        return evidence.replace(skipped={**evidence.skipped, quantity.reported_as: reason})
    rows, settings = dict(evidence.rows), dict(evidence.settings)
    if quantity.rows is not None:
        rows[quantity.name] = quantity.rows(subject.plan)
    if quantity.settings is not None:
        settings |= quantity.settings(value)
    return evidence.replace(**{quantity.name: value}, rows=rows, settings=settings)


def _tensors(value: object) -> list[Tensor]:
    """The numbers of an estimate, of several by name or in a tuple, or of a tensor."""
    if isinstance(value, DiscriminatorKL | ElboSurgery | LogLikelihood):
        value = value.parts()
    if isinstance(value, Estimate):
        return [value.values]
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = tuple(value.values())
    return [v for part in value for v in _tensors(part)] if isinstance(value, tuple) else []
