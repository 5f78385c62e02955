r"""What :func:`~elboscope.estimators.inference.gap` returns: a gap in two parts.

Every part is an estimate over the same datapoints, so that parts are subtracted in pairs. What is
set against each other between training and test data is not paired: the error of the difference of
their means is :math:`\sqrt{\mathrm{se}_\mathrm{test}^2 + \mathrm{se}_\mathrm{train}^2}`.

The file is long because the result, its words and the bounds it is made of are read together.
"""

from __future__ import annotations

__all__ = [
    "FROM_Q",
    "Bounds",
    "Data",
    "Generalisation",
    "InferenceGap",
    "Plan",
    "Richer",
    "UnpairedDifference",
    "bounds_of",
    "largest",
    "own_family",
]

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float64, Int64
from torch import Tensor
from torch.distributions import Distribution, Independent, MultivariateNormal

from elboscope.core import Estimate, LatentVariableModel, given, standard_error
from elboscope.core.errors import refuses_values

from ..inputs import Inputs, first_answered
from ..likelihood.annealed import annealed_importance_sampling
from ..likelihood.certificate import Certificate
from ..likelihood.importance import Weigh, as_estimate, averages, from_posterior, reduce_weights
from ..likelihood.log_likelihood import LogLikelihood
from ..streaming import Progress, Samples, SharedProgress, Streaming
from .optimal_posterior import FamilyName, OptimalPosterior, optimal_posterior
from .target import Target, own_gaussian

# At most so many indices of these datapoints are printed.
NAMED = 8


@dataclass(frozen=True)
class UnpairedDifference:
    """The difference of two means over independent samples of datapoints, test − train.

    Attributes:
        name: What was compared.
        value: In nats.
        stderr: Standard error of ``value``; NaN where either has a single datapoint.
        num_data: Datapoints of the first sample, test.
        num_train: Datapoints of the second.
    """

    name: str
    value: float
    stderr: float
    num_data: int
    num_train: int

    def __str__(self) -> str:
        return (
            f"{self.name}, test − train: {_number(self.value, self.stderr)} nats "
            f"(independent samples, n={self.num_data} and {self.num_train})"
        )


@dataclass(frozen=True)
class Generalisation:
    """How much larger each gap is on test data than on training data, in nats.

    Attributes:
        approximation: The family's part; about zero unless the posteriors themselves differ.
        amortisation: The encoder's part: above zero, inference itself has overfitted.
        inference: Both.
    """

    approximation: UnpairedDifference
    amortisation: UnpairedDifference
    inference: UnpairedDifference

    def __str__(self) -> str:
        return f"{self.approximation}\n{self.amortisation}\n{self.inference}"


@dataclass(frozen=True, eq=False, repr=False)
class InferenceGap:
    """log p̂(x) − L[q] of each datapoint and its two parts; see :func:`.inference_gap`.

    All estimates are of the datapoints in ``index``, in this order.

    Attributes:
        log_px: log p̂(x), a lower bound: the candidate with the largest mean, less two Monte Carlo
            errors, named in ``settings["chosen"]``; ``settings["candidates"]`` holds the means.
        optimal: q* of each family with its certificate: always ``"diagonal"``.
        optimal_elbo: L[q*] of each of these families.
        elbo: L[q] of the encoder.
        family: Whose q* splits the gap: the encoder's own family unless another was asked for.
        approximation: log p̂ − L[q*], what the family loses.
        amortisation: L[q*] − L[q], what the encoder loses.
        inference: log p̂ − L[q], their sum.
        richer: L[q* of the richer family] − L[q*_diagonal], or ``None`` if none was asked for.
        index: Which rows of x.
        diverged: The rows that have no value in some part, and are in none.
        below: The rows where L[q*] lies more than three Monte Carlo errors below L[q]: by chance
            about one of a thousand; more are a search that failed.
        optimal_posterior_certified: Whether q* of every family is certified, no datapoint
            diverged, and L[q*] lies below L[q] nowhere beyond its error. It says nothing of log p̂:
            where that is loose the approximation gap is too small.
        reasons: Why q* is not certified.
        settings: What was done.
        train: The same on training data, or ``None``.
        log_px_certificate: How far log p̂ can be off on model-like data, where
            ``log_likelihood`` was given; else ``None``, and nothing is known from above.
    """

    log_px: Estimate
    optimal: Mapping[str, OptimalPosterior]
    optimal_elbo: Mapping[str, Estimate]
    elbo: Estimate
    family: str
    approximation: Estimate
    amortisation: Estimate
    inference: Estimate
    richer: Estimate | None
    index: Int64[Tensor, " m"]
    diverged: tuple[int, ...]
    below: tuple[int, ...]
    optimal_posterior_certified: bool
    reasons: tuple[str, ...]
    settings: Mapping[str, object]
    train: InferenceGap | None = None
    log_px_certificate: Certificate | None = None

    @property
    def log_px_certified(self) -> bool:
        """Whether the mean of log p̂ is certified from above, on model-like data."""
        return self.log_px_certificate is not None and self.log_px_certificate.certified

    @property
    def certified(self) -> bool:
        """Whether both are: every q*, and log p̂."""
        return self.optimal_posterior_certified and self.log_px_certified

    @property
    def fraction_below(self) -> float:
        """The part of the datapoints whose L[q*] lies below L[q] by three errors; ideally 0."""
        return len(self.below) / len(self.index) if len(self.index) else math.nan

    @property
    def generalisation(self) -> Generalisation | None:
        """The gaps of test data minus those of training data; ``None`` without training data."""
        if self.train is None:
            return None
        pairs = ((getattr(self, part), getattr(self.train, part)) for part in GAPS)
        return Generalisation(*(_unpaired(test, train) for test, train in pairs))

    def __repr__(self) -> str:
        return f"<InferenceGap: {self._head()}>"

    def __str__(self) -> str:
        lines = [self._head(), *self._rows(), self._verdict()]
        if self.diverged:
            n = len(self.index) + len(self.diverged)
            lines.append(
                f"diverged and left out: {len(self.diverged)} of {n} datapoints "
                f"({name_rows(self.diverged)})"
            )
        if self.train is not None:
            lines += ["on training data:", *self.train._rows(), self.train._verdict()]
            lines.append(str(self.generalisation))
        return "\n".join(lines)

    def _head(self) -> str:
        return (
            f"inference gap in nats ± standard error, n={len(self.index)}, "
            f"K={self.settings['num_samples']}; family {self.family} ({self.settings['split_by']})"
        )

    def _rows(self) -> list[str]:
        best = f"L[q*_{self.family}]"
        rows = [("log p̂(x)", self.log_px, f"{self.settings['chosen']}{_trust(self.log_px)}")]
        rows += [(f"L[q*_{name}]", found, _certificate(self.optimal[name]))
                 for name, found in self.optimal_elbo.items()]  # fmt: skip
        rows += [
            ("L[q]", self.elbo, "the encoder's"),
            ("approximation", self.approximation, f"log p̂ − {best}"),
            ("amortisation", self.amortisation, f"{best} − L[q]"),
            ("inference", self.inference, "both"),
        ]
        if self.richer is not None:
            rows.append(("richer family", self.richer, self.richer.name))
        return [f"  {name:<15} {_value(found):>18}  {note}" for name, found, note in rows]

    def _verdict(self) -> str:
        if self.certified:
            return "certified: no q* is farther from its optimum than said, nor log p̂ from log p"
        if self.optimal_posterior_certified:
            best = "q* certified: none is farther from its optimum than said"
        else:
            best = f"q* not certified, because {'; '.join(self.reasons)}"
        return f"{best}; {self._of_log_px()}"

    def _of_log_px(self) -> str:
        found = self.log_px_certificate
        if found is None:
            return (
                "log p̂ not certified: a lower bound, so that the approximation gap may be larger; "
                "es.inference_gap(…, log_likelihood=es.log_likelihood(model, x)) bounds it"
            )
        return f"log p̂ {found}"


GAPS = ("approximation", "amortisation", "inference")


def _unpaired(test: Estimate, train: Estimate) -> UnpairedDifference:
    return UnpairedDifference(
        test.name,
        test.mean - train.mean,
        math.hypot(test.stderr, train.stderr),
        len(test.values),
        len(train.values),
    )


def _value(estimate: Estimate) -> str:
    return _number(estimate.mean, estimate.stderr)


def _number(value: float, error: float) -> str:
    """Two decimals, and up to four where the error is smaller."""
    small = math.isfinite(error) and 0 < error < 0.1
    digits = min(4, 1 - math.floor(math.log10(error))) if small else 2
    return f"{value:.{digits}f} ± {error:.{digits}f}"


def _certificate(best: OptimalPosterior) -> str:
    found = best.certificate
    return f"{'certified' if found.certified else 'not certified'}, ± {found.within:.3f}"


def _trust(log_px: Estimate) -> str:
    """k̂ and ESS, where importance weights were used."""
    khat, ess = (log_px.diagnostics.get(key, torch.empty(0)) for key in ("khat", "ess"))
    khat = khat[~khat.isnan()]
    text = f", k̂ ≤ {khat.max().item():.2f}, median {khat.median().item():.2f}" if len(khat) else ""
    return text + (f", ESS ≥ {ess.min().item():.3g}" if len(ess) else "")


def name_rows(index: tuple[int, ...]) -> str:
    """Returns the first few indices, as text."""
    shown = ", ".join(str(i) for i in index[:NAMED])
    return shown + (", …" if len(index) > NAMED else "")


# The bounds of an inference gap: L[q] and L[q*], and candidates for log p(x).
#
# The encoder's weights :math:`\log p(x, z_k) - \log q(z_k|x)` give two numbers in one pass: their
# mean is L[q], the log of the mean of the weights is importance sampling from q. Those of each q*
# do the same in :func:`.optimal_posterior`.

Richer = Literal["full", "flow"]

# Samples of each datapoint for L[q], at least.
LEAST = 1000
# Monte Carlo errors by which a candidate for log p̂ must be ahead.
SURE = 2.0
FROM_Q, FROM_AIS = "importance sampling from q", "AIS from the prior"
FROM_BOTH = "importance sampling and AIS"


class Plan(NamedTuple):
    """What is done alike to test and training data; ``own`` is the encoder's family."""

    model: LatentVariableModel
    family: FamilyName
    own: FamilyName
    richer: Richer | None
    num_samples: int
    tolerance: float
    max_steps: int
    num_temperatures: int
    log_likelihood: LogLikelihood | None = None

    @property
    def families(self) -> tuple[FamilyName, ...]:
        """Each once, the diagonal one first."""
        wanted: tuple[FamilyName | None, ...] = ("diagonal", self.family, self.richer)
        return tuple(dict.fromkeys(name for name in wanted if name is not None))

    def record(self) -> dict[str, object]:
        """Returns what is stored beside a gap."""
        asked = "asked for; the encoder's own is " + self.own
        return {
            "family": self.family,
            "split_by": "the encoder's own" if self.family == self.own else asked,
            "richer": self.richer,
            "num_samples": self.num_samples,
            "tolerance": self.tolerance,
            "max_steps": self.max_steps,
            "num_temperatures": self.num_temperatures,
        }


class Data(NamedTuple):
    """One data set: as a tensor, what was done to make it one, and on the model's device."""

    x: Tensor
    treatment: str
    inputs: Inputs


def own_family(model: LatentVariableModel, inputs: Inputs) -> FamilyName:
    """Returns the family of the encoder's answer to the first datapoint that has one."""
    first = inputs.take(first_answered(model, inputs))
    if own_gaussian(Target(model, first), torch.zeros(1, dtype=torch.long)) is not None:
        return "diagonal"
    q: Distribution = given(model, first.condition).encode(first.x)
    while isinstance(q, Independent):
        q = q.base_dist
    return "full" if isinstance(q, MultivariateNormal) else "flow"


class Bounds(NamedTuple):
    """L[q] and candidates for log p̂ that need no q*, by name; and q* of each family."""

    elbo: Estimate
    candidates: Mapping[str, Estimate]
    optimal: Mapping[str, OptimalPosterior]


def bounds_of(plan: Plan, data: Data, seed: int, work: SharedProgress, share: float) -> Bounds:
    """Measures all that costs time. Searches have one seed: their noise is common."""
    part = share / (0.2 + len(plan.families) + bool(plan.num_temperatures))
    elbo, log_px = _by_encoder(plan, data, seed + 1, work.part(0.2 * part))
    optimal: dict[str, OptimalPosterior] = {
        name: _optimal(plan, name, data, seed, work.part(part)) for name in plan.families
    }
    candidates = {FROM_Q: log_px}
    if plan.num_temperatures:
        candidates[FROM_AIS] = annealed_importance_sampling(
            plan.model,
            data.x,
            num_temperatures=plan.num_temperatures,
            seed=seed + 2,
            condition=data.inputs.condition,
            progress=work.part(part),
        )
    combined = plan.log_likelihood
    if combined is not None and combined.log_px.data_id == data.inputs.data_id:
        candidates[FROM_BOTH] = combined.log_px
    return Bounds(elbo, candidates, optimal)


def _optimal(
    plan: Plan, name: FamilyName, data: Data, seed: int, progress: Progress | None
) -> OptimalPosterior:
    return optimal_posterior(
        plan.model,
        data.x,
        name,
        num_samples=plan.num_samples,
        max_steps=plan.max_steps,
        tolerance=plan.tolerance,
        seed=seed,
        condition=data.inputs.condition,
        progress=progress,
    )


def _by_encoder(
    plan: Plan, data: Data, seed: int, progress: Progress | None
) -> tuple[Estimate, Estimate]:
    """L[q] and importance sampling from q, from the same weights."""
    K = max(plan.num_samples, LEAST)
    weigh = _unrefused(from_posterior(plan.model))
    streaming = Streaming(K, seed, progress=progress)
    found, used = reduce_weights(plan.model, data.inputs, weigh, _both, streaming)
    elbo, error = found.pop("elbo"), found.pop("elbo_error")
    log_px = as_estimate(FROM_Q, found, K, used, data.inputs)
    method = "the encoder's q"
    bound = replace(log_px, name="L[q]", method=method, values=elbo, mc_stderr=error,
                    stderr=standard_error(elbo), diagnostics={})  # fmt: skip
    return bound, log_px


def _both(log_w: Float64[Tensor, "K B"]) -> Mapping[str, Tensor]:
    error = log_w.std(0) / math.sqrt(len(log_w))
    return {**averages(log_w), "elbo": log_w.mean(0), "elbo_error": error}


def _unrefused(weigh: Weigh) -> Weigh:
    """Weights of −∞ for datapoints of which a distribution of the model refuses NaN by raising."""

    def weighed(x: Tensor, condition: Tensor | None, samples: Samples) -> Tensor:
        try:
            return weigh(x, condition, samples)
        except ValueError as error:
            if not refuses_values(error):
                raise
        if len(x) == 1:
            return x.new_full((samples.stop - samples.start, 1), -math.inf)
        halves = (slice(0, len(x) // 2), slice(len(x) // 2, len(x)))
        parts = ((x[h], None if condition is None else condition[h]) for h in halves)
        return torch.cat([weighed(*part, samples) for part in parts], 1)

    return weighed


def largest(candidates: Mapping[str, Estimate]) -> Estimate:
    """Returns the candidate of the largest mean, two Monte Carlo errors taken off.

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
