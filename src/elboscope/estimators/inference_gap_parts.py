r"""The parts of an inference gap, subtracted in pairs over the same datapoints.

A datapoint that has no finite value in one part is taken out of all: the parts still add up,
datapoint by datapoint. What contradicts itself (L[q*] below L[q], though q is one of the family)
speaks against the certificate and is no discovery.
"""

from __future__ import annotations

__all__ = ["measured"]

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from elboscope.core import Estimate, data_id, paired_difference

from .evaluation import SharedProgress
from .inference_gap_bounds import FROM_Q, Bounds, Data, Plan, bounds_of
from .inference_gap_result import InferenceGap, named
from .optimal_posterior import OptimalPosterior

# L[q*] below L[q] is counted beyond so many Monte Carlo errors and what is rounding of |L[q]|.
ERRORS, ROUNDING = 3.0, 1e-5
# Monte Carlo errors by which a candidate for log p̂ must be ahead.
SURE = 2.0
# How often noise alone may speak against the certificate, whatever the number of datapoints.
CHANCE = 0.01


def measured(plan: Plan, data: Data, seed: int, work: SharedProgress, share: float) -> InferenceGap:
    """Measures every bound on one data set and subtracts them in pairs."""
    bounds = bounds_of(plan, data, seed, work, share)
    kept, optimal = _kept(bounds, data), bounds.optimal
    elbo = kept.of(bounds.elbo)
    best = {name: kept.of(replace(q.elbo, name=f"L[q*_{name}]"), q.index)
            for name, q in optimal.items()}  # fmt: skip
    candidates = {name: kept.of(found) for name, found in bounds.candidates.items()}
    candidates |= {f"{FROM_Q}*_{name}": kept.of(q.log_px, q.index) for name, q in optimal.items()}
    log_px = _largest(candidates)
    amortisation = _gap(best[plan.family], elbo, "amortisation gap")
    reasons = (*_failures(optimal), *kept.lost(), *_negative(plan, amortisation, elbo, kept.index))
    return InferenceGap(
        log_px=log_px,
        optimal=optimal,
        optimal_elbo=best,
        elbo=elbo,
        family=plan.family,
        approximation=_gap(log_px, best[plan.family], "approximation gap"),
        amortisation=amortisation,
        inference=_gap(log_px, elbo, "inference gap"),
        richer=_gained(plan, best),
        index=kept.index,
        diverged=kept.diverged,
        below=_below(amortisation, elbo, kept.index, ERRORS),
        certified=not reasons,
        reasons=reasons,
        settings={**log_px.settings, **_settings(plan), "seed": seed, **kept.note},
    )


@dataclass(frozen=True, eq=False)
class _Kept:
    """The datapoints that have a finite value in every part."""

    finite: Bool[Tensor, " n"]
    data_id: str
    treatment: str

    @property
    def index(self) -> Int64[Tensor, " m"]:
        return self.finite.nonzero()[:, 0]

    @property
    def diverged(self) -> tuple[int, ...]:
        return _numbers((~self.finite).nonzero()[:, 0])

    @property
    def note(self) -> Mapping[str, object]:
        left_out = {"left_out": len(self.diverged)} if self.diverged else {}
        return {"data": self.treatment, **left_out}

    def of(self, estimate: Estimate, index: Int64[Tensor, " k"] | None = None) -> Estimate:
        """Returns these rows of an estimate, which has a value for the rows ``index`` or all."""
        rows = self.finite if index is None else self.finite[index]
        return Estimate.per_datapoint(
            estimate.name,
            estimate.method,
            estimate.values[rows],
            estimate.mc_stderr[rows],
            estimate.side,
            diagnostics={key: v[rows] for key, v in estimate.diagnostics.items()},
            settings={**estimate.settings, **self.note},
            data_id=self.data_id,
        )

    def lost(self) -> tuple[str, ...]:
        """Why that speaks against a certificate."""
        if not self.diverged:
            return ()
        return (
            f"{len(self.diverged)} of {len(self.finite)} datapoints diverged "
            f"({named(self.diverged)})",
        )


def _kept(bounds: Bounds, data: Data) -> _Kept:
    finite = bounds.elbo.values.isfinite()
    for found in bounds.candidates.values():
        finite = finite & found.values.isfinite()
    for q in bounds.optimal.values():
        has_value = torch.zeros_like(finite)
        has_value[q.index[q.log_px.values.isfinite()]] = True
        finite = finite & has_value
    some = not bool(finite.all())
    checksum = data_id(data.x[finite.to(data.x.device)]) if some else data.inputs.data_id
    return _Kept(finite, checksum, data.treatment)


def _largest(candidates: Mapping[str, Estimate]) -> Estimate:
    """The candidate of the largest mean, two Monte Carlo errors taken off; settings tell of all.

    Without these a heavy weight in a hundred datapoints would let the worst proposal win.
    """
    means = {name: found.mean for name, found in candidates.items()}
    errors = {name: _error(found) for name, found in candidates.items()}
    chosen = max(means, key=lambda name: means[name] - SURE * errors[name])
    found = candidates[chosen]
    told = {"chosen": chosen, "candidates": means, "candidate_errors": errors}
    return replace(found, method=chosen, settings={**found.settings, **told})


def _error(estimate: Estimate) -> float:
    return estimate.mc_error_of_mean if len(estimate.values) else math.nan


def _gap(a: Estimate, b: Estimate, name: str) -> Estimate:
    return replace(paired_difference(a, b, name), nonnegative=True)


def _gained(plan: Plan, best: Mapping[str, Estimate]) -> Estimate | None:
    if plan.richer is None:
        return None
    name = f"L[q*_{plan.richer}] − L[q*_diagonal]"
    return _gap(best[plan.richer], best["diagonal"], name)


def _failures(optimal: Mapping[str, OptimalPosterior]) -> tuple[str, ...]:
    """What the certificates say, but for the datapoints that diverged, which are told once."""
    return tuple(
        f"q*_{name}: {reason}"
        for name, q in optimal.items()
        for reason in q.certificate.reasons
        if not reason.endswith("diverged")
    )


def _negative(
    plan: Plan, amortisation: Estimate, elbo: Estimate, index: Int64[Tensor, " m"]
) -> tuple[str, ...]:
    """What speaks against q* being the best: values below the encoder's that are no noise.

    With n datapoints some lie three errors below by chance; a reason is what only one in a hundred
    data sets would show, and more than the tolerance.
    """
    n = len(index)
    if not n:
        return ()
    beyond = max(ERRORS, math.sqrt(2 * math.log(n / (2 * CHANCE))))
    rows = _below(amortisation, elbo, index, beyond, plan.tolerance)
    why = "q* was not found there"
    if plan.family != plan.own:
        why = f"the encoder's q is no {plan.family} one, and the gap does not split by it"
    elif plan.family == "flow":
        why += ", or the encoder's flow is richer than the one that was searched"
    if rows:
        return (f"L[q*] < L[q] beyond the error for {len(rows)} of {n} datapoints "
                f"({named(rows)}): {why}",)  # fmt: skip
    if amortisation.mean < -ERRORS * amortisation.mc_error_of_mean - plan.tolerance:
        return (f"L[q*] < L[q] beyond the error in the mean: {why}",)
    return ()


def _below(
    amortisation: Estimate,
    elbo: Estimate,
    index: Int64[Tensor, " m"],
    errors: float,
    slack: float = 0.0,
) -> tuple[int, ...]:
    """The rows of x whose L[q*] lies below L[q] by more than so many Monte Carlo errors."""
    rounding = ROUNDING * elbo.values.abs().clamp(min=1)
    below = amortisation.values < -(errors * amortisation.mc_stderr + rounding + slack)
    return _numbers(index[below])


def _settings(plan: Plan) -> dict[str, object]:
    asked = "asked for; the encoder's own is " + plan.own
    return {
        "family": plan.family,
        "split_by": "the encoder's own" if plan.family == plan.own else asked,
        "richer": plan.richer,
        "num_samples": plan.num_samples,
        "tolerance": plan.tolerance,
        "max_steps": plan.max_steps,
        "num_temperatures": plan.num_temperatures,
    }


def _numbers(index: Tensor) -> tuple[int, ...]:
    return tuple(int(i) for i in index.tolist())
