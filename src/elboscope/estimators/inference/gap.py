r"""Why inference is suboptimal: the gap of the bound in the family's part and the encoder's part.

.. math:: \underbrace{\log p(x) - L[q]}_{\text{inference}}
          = \underbrace{\log p(x) - L[q^*]}_{\text{approximation}}
          + \underbrace{L[q^*] - L[q]}_{\text{amortisation}}, \qquad
          q^* = \arg\max_{q \in \mathcal Q} L[q]

The first part is :math:`\mathrm{KL}(q^* \| p(z|x))`: no encoder of this family can win it back, a
richer family can. The second is what a network that answers for all x at once loses against one
search for each x; a larger encoder, or steps at inference time, can win it back.

log p(x) is not known. Each candidate for it (importance sampling from q, from every q*, AIS where
asked for) is a lower bound in expectation, so the larger is the tighter. The one with the largest
*mean over the datapoints*, less two of its Monte Carlo errors, is taken for all of them: the
largest of each datapoint would be picked by its noise and is no bound. The approximation gap is,
if anything, too small. A mode that no q covers is in none of the importance sampling: AIS from
the prior may find it.

The file is long because what is refused, measured and certified is one call.
"""

from __future__ import annotations

__all__ = ["inference_gap", "measure_gap"]

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from numbers import Real

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from elboscope.core import (
    ContractError,
    Estimate,
    GenerativeModel,
    InputError,
    LatentVariableModel,
    data_id,
    evaluating,
    given,
    paired_difference,
    sample_posterior,
    seeded,
    standard_error,
)
from elboscope.data import as_tensor

from ..inputs import first_answered, likelihood_of, prepared, require_conditions, require_positive
from ..likelihood.certificate import Certificate
from ..likelihood.log_likelihood import LogLikelihood
from ..streaming import Progress, SharedProgress
from .gap_result import (
    FROM_Q,
    Bounds,
    Data,
    InferenceGap,
    Plan,
    Richer,
    bounds_of,
    largest,
    name_rows,
    own_family,
)
from .gaussian_search import WINDOW
from .optimal_posterior import FamilyName, OptimalPosterior
from .target import require_real_latents

TRAIN_STREAM = 0x7EA1  # training data have draws of their own
FAMILIES = ("diagonal", "full", "flow")
WITHOUT_ENCODER = (
    "What the prior and decoder allow is known without q(z|x): es.optimal_posterior(model, x) "
    "finds the best q* of a family for each datapoint, and the approximation gap is its log_px "
    "minus its elbo."
)


def inference_gap(
    model: GenerativeModel,
    x: object,
    family: FamilyName | None = None,
    *,
    x_train: object | None = None,
    richer: Richer | None = "flow",
    num_samples: int = 5000,
    tolerance: float = 0.02,
    max_steps: int = 400,
    num_temperatures: int = 0,
    log_likelihood: LogLikelihood | None = None,
    seed: int | None = None,
    condition: Tensor | None = None,
    condition_train: Tensor | None = None,
    progress: Progress | bool | None = None,
) -> InferenceGap:
    r"""Splits log p(x) − L[q] into what the posterior's family loses and what its encoder loses.

    It says nothing about the decoder: a model with no gap at all may be a poor one. Nor is the
    amortisation gap a test error; that of training data is there as well (``x_train``), and the
    difference is how badly inference generalises. Where log p̂ is loose the approximation gap is
    too small: q* has a certificate, log p̂ has one only with ``log_likelihood``.

    Args:
        model: The model: an encoder whose posterior has a density, real latents.
        x: Data, ``(N, *X)``, in the support of the likelihood.
        family: Whose optimum splits the gap. By default the encoder's own: ``"diagonal"`` or
            ``"full"`` for these Gaussians, ``"flow"`` for every other density; it is named in the
            result. If it is narrower than the encoder's, L[q*] may lie below L[q].
        x_train: Data that the model was trained on, for the generalisation of inference.
        richer: A second family, whose L[q*] is set against that of the diagonal Gaussian: how far
            the true posteriors are from one.
        num_samples: K, samples of each datapoint and bound; those of L[q] are at least 1000.
        tolerance: Certify the mean of each L[q*] to within so many nats.
        max_steps: Steps of each local optimisation, at most.
        num_temperatures: T of annealed importance sampling, a further candidate for log p̂ that
            does not depend on any q; 0 leaves it out.
        log_likelihood: What :func:`.log_likelihood` found for the same x: its estimate is a
            further candidate for log p̂, and its certificate says how far that can be off.
        seed: Random seed; None picks one and records it.
        condition: One row per datapoint of x.
        condition_train: One row per datapoint of x_train.
        progress: Called with the work done and its total; True shows a bar.

    Returns:
        The bounds, the gaps with paired errors, the certificates of every q*, the datapoints left
        out; :attr:`InferenceGap.generalisation` with ``x_train``.

    Raises:
        InputError: x cannot be data; training data that are the same; an unknown family; a
            log-likelihood of other data.
        ContractError: The model has no encoder, or one without a density; latents not real.

    References:
        | Inference Suboptimality in Variational Autoencoders (Cremer, Li, Duvenaud, 2018),
          https://arxiv.org/abs/1801.03558

    Example:
        >>> import elboscope as es
        >>> model = es.models.LinearGaussian.instance_1().with_mistuned_posterior(0.3)
        >>> x, _ = model.sample(4, seed=0)
        >>> gap = inference_gap(model, x, richer=None, num_samples=1000, seed=0)
        >>> abs(gap.approximation.mean - model.approximation_gap().item()) < 0.02
        True
        >>> abs(gap.amortisation.mean - model.amortisation_gap(x).mean().item()) < 0.04
        True
        >>> gap.family, gap.optimal_posterior_certified, gap.log_px_certified
        ('diagonal', True, False)
    """
    _require_settings(family, richer, num_samples, tolerance, max_steps, num_temperatures)
    require_conditions(x_train, condition, condition_train)
    data = _read(model, x, condition, "x")
    encoded = _with_density(model, data)
    _require_same_data(data, log_likelihood)
    train = None if x_train is None else _read(model, x_train, condition_train, "x_train")
    if train is not None:
        _require_other_data(data, train)
    with evaluating(model), seeded(seed) as used:
        own = own_family(encoded, data.inputs)
        plan = Plan(encoded, family or own, own, richer, num_samples, tolerance, max_steps,
                    num_temperatures, log_likelihood)  # fmt: skip
        work, share = SharedProgress(progress), 1.0 if train is None else 0.5
        gap = measure_gap(plan, data, used, work, share)
        if train is None:
            return gap
        return replace(gap, train=measure_gap(plan, train, used ^ TRAIN_STREAM, work, share))


def _read(model: GenerativeModel, x: object, condition: Tensor | None, name: str) -> Data:
    """Converts data once: a loader may shuffle."""
    batch = as_tensor(x, name=name)
    inputs = prepared(model, batch.x, condition, name)
    try:
        with evaluating(model), seeded(0):
            likelihood_of(model, inputs)  # refuses another shape and support
    except InputError as error:
        if error.what != "x":
            raise
        raise InputError(name, expected=error.expected, got=error.got, do=error.do) from error
    return Data(batch.x, batch.treatment, inputs)


def _with_density(model: GenerativeModel, data: Data) -> LatentVariableModel:
    """Returns the model; refuses one without a q(z|x) whose bound could be measured."""
    if not isinstance(model, LatentVariableModel):
        raise ContractError(
            "encode(x)",
            expected="an encoder, whose bound L[q] is set against that of q*",
            got=f"{type(model).__name__} without one",
            do=WITHOUT_ENCODER,
        )
    with evaluating(model), seeded(0):
        x, condition = data.inputs.rows(first_answered(model, data.inputs))
        require_real_latents(given(model, condition))
        try:
            sample_posterior(given(model, condition), x, 1)
        except ContractError as error:
            if error.what != "encode(x).log_prob":
                raise
            raise ContractError(
                error.what,
                expected="a density of q(z|x), log_prob or rsample_and_log_prob, for L[q]",
                got=error.got,
                do=WITHOUT_ENCODER,
            ) from error
    return model


def _require_other_data(test: Data, train: Data) -> None:
    if test.inputs.data_id == train.inputs.data_id:
        raise InputError(
            "x_train",
            expected="other data than x: the difference of the two is the generalisation",
            got="the same",
            do="Give held-out data as x, or leave x_train out.",
        )


def _require_same_data(data: Data, log_likelihood: LogLikelihood | None) -> None:
    if log_likelihood is not None and log_likelihood.log_px.data_id != data.inputs.data_id:
        raise InputError(
            "log_likelihood",
            expected="es.log_likelihood of the same model and x",
            got=f"one of {len(log_likelihood.log_px.values)} other datapoints",
        )


def _require_settings(
    family: object,
    richer: object,
    num_samples: int,
    tolerance: float,
    max_steps: int,
    num_temperatures: int,
) -> None:
    require_positive("num_samples", num_samples, least=2)
    require_positive("max_steps", max_steps, least=2 * WINDOW)
    require_positive("num_temperatures", num_temperatures, least=0)
    if not isinstance(tolerance, Real) or not tolerance > 0:
        raise InputError("tolerance", expected="a positive number of nats", got=repr(tolerance))
    if family not in (None, *FAMILIES):
        raise InputError("family", expected=f"None or one of {FAMILIES}", got=repr(family))
    if richer not in (None, *FAMILIES[1:]):
        raise InputError("richer", expected=f"None or one of {FAMILIES[1:]}", got=repr(richer))


# The parts of an inference gap, subtracted in pairs over the same datapoints.
#
# A datapoint that has no finite value in one part is taken out of all: the parts still add up,
# datapoint by datapoint. What contradicts itself (L[q*] below L[q], though q is one of the
# family) speaks against the certificate and is no discovery.

# L[q*] below L[q] is counted beyond so many Monte Carlo errors and what is rounding of |L[q]|.
ERRORS, ROUNDING = 3.0, 1e-5
# How often noise alone may speak against the certificate, whatever the number of datapoints.
CHANCE = 0.01


def measure_gap(
    plan: Plan, data: Data, seed: int, work: SharedProgress, share: float
) -> InferenceGap:
    """Measures every bound on one data set and subtracts them in pairs."""
    bounds = bounds_of(plan, data, seed, work, share)
    kept, optimal = _keep(bounds, data), bounds.optimal
    elbo = kept.of(bounds.elbo)
    best = {name: kept.of(replace(q.elbo, name=f"L[q*_{name}]"), q.index)
            for name, q in optimal.items()}  # fmt: skip
    candidates = {name: kept.of(found) for name, found in bounds.candidates.items()}
    candidates |= {f"{FROM_Q}*_{name}": kept.of(q.log_px, q.index) for name, q in optimal.items()}
    log_px = largest(candidates)
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
        richer=_gain(plan, best),
        index=kept.index,
        diverged=kept.diverged,
        below=_below(amortisation, elbo, kept.index, ERRORS),
        optimal_posterior_certified=not reasons,
        log_px_certificate=_certificate(plan, data),
        reasons=reasons,
        settings={**log_px.settings, **plan.record(), "seed": seed, **kept.note},
    )


def _certificate(plan: Plan, data: Data) -> Certificate | None:
    """That of log p̂ on these data: the candidate that is taken is no lower than the certified."""
    found = plan.log_likelihood
    same = found is not None and found.log_px.data_id == data.inputs.data_id
    return found.certificate if found is not None and same else None


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
        values = estimate.values[rows]
        return replace(
            estimate,
            values=values,
            mc_stderr=estimate.mc_stderr[rows],
            stderr=standard_error(values),
            diagnostics={key: v[rows] for key, v in estimate.diagnostics.items()},
            settings={**estimate.settings, **self.note},
            data_id=self.data_id,
            notes=(self.treatment,),
        )

    def lost(self) -> tuple[str, ...]:
        """Why that speaks against a certificate."""
        if not self.diverged:
            return ()
        return (
            f"{len(self.diverged)} of {len(self.finite)} datapoints diverged "
            f"({name_rows(self.diverged)})",
        )


def _keep(bounds: Bounds, data: Data) -> _Kept:
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


def _gap(a: Estimate, b: Estimate, name: str) -> Estimate:
    return replace(paired_difference(a, b, name), nonnegative=True)


def _gain(plan: Plan, best: Mapping[str, Estimate]) -> Estimate | None:
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
                f"({name_rows(rows)}): {why}",)  # fmt: skip
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


def _numbers(index: Tensor) -> tuple[int, ...]:
    return tuple(int(i) for i in index.tolist())
