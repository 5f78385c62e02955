r"""Does the latent code carry anything? Units that copy the prior are switched off.

A unit is active when its posterior mean moves with x, :math:`\mathrm{Var}_x\,\mathbb{E}_q[z_j|x]
> 0.01`. Switched-off units are no fault in themselves: a VAE prunes what it does not need, and of
1000 units 20 may be plenty. Collapse is when (nearly) nothing is left: no active unit, or next to
no mutual information between x and z; and when units carry nats that the decoder ignores. Which
of these it is, and the treatment that goes with it, is said by :func:`cause_of`.

The file is long because the verdict, its causes and the table of units share thresholds.

References:
    | Importance Weighted Autoencoders (Burda et al., 2016), https://arxiv.org/abs/1509.00519
    | Don't Blame the ELBO! (Lucas et al., 2019), https://arxiv.org/abs/1911.02469
"""

from __future__ import annotations

__all__ = [
    "ACTIVE_VARIANCE",
    "NO_EFFECT",
    "Cause",
    "UnitRow",
    "cause_of",
    "posterior_collapse",
    "treatment",
    "unit_table",
    "units_by_state",
]

import math
from collections import Counter
from collections.abc import Mapping
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from elboscope.core import Estimate, Finding, Severity

from ..decision import ERRORS, check, exceeds
from ..evidence import Evidence
from ..quantities.latents import ACTIVE_UNITS, IMPLIED_KL_WEIGHT, UNIT_KL, ZEROING
from ..quantities.likelihood import SCALE
from ..quantities.prior import SURGERY

CHECK = "posterior collapse"
# Below a tenth of a nat, a code cannot even tell two halves of the data apart with an error of
# less than one in three (a noiseless bit is 0.69 nats).
NO_INFORMATION = 0.1
# Fewer than five active units of twenty or more (a quarter of fewer units): natural images and
# digits support more; Burda et al. count 19–25 of 50 on MNIST.
FEW_UNITS, FEW_SHARE = 5, 0.25
IGNORED_SHARE = 0.25


class Units(NamedTuple):
    """How many units are active: for certain, by their estimates, at most; of how many."""

    least: int
    active: int
    most: int
    total: int

    @property
    def few(self) -> float:
        """Fewer active units than this are a warning."""
        return min(float(FEW_UNITS), FEW_SHARE * self.total)


@check(CHECK, asked_in="latents")
def posterior_collapse(evidence: Evidence) -> Finding:
    """Judges active units, mutual information, and whether the decoder uses what is encoded.

    Args:
        evidence: Uses ``active_units``, ``unit_kl``, ``zeroing`` and the surgery's mutual
            information, the last three where they exist; ``implied_kl_weight`` and ``scale``
            to tell the cause.

    Returns:
        *problem* without an active unit or below 0.1 nats of mutual information; *warning* with
        fewer than five active units (a quarter, of less than twenty) or where a quarter of the
        KL lies in units that the decoder ignores. ``evidence["cause"]`` tells a collapse from a
        mis-scaled KL, from an encoder that ignores x, from a decoder that ignores z, and from
        units that were merely pruned.
    """
    variances, kl, weight = (
        evidence[ACTIVE_UNITS],
        evidence.get(UNIT_KL),
        evidence.get(IMPLIED_KL_WEIGHT),
    )
    units = _count(variances, len(evidence.x))
    information = evidence[SURGERY].mutual_information if SURGERY in evidence else None
    ignored = _ignored_share(evidence)
    severity = _severity(units, information, ignored)
    numbers: dict[str, object] = {
        "active_units": units.active,
        "units": units.total,
        "histogram": histogram(variances.values),
        "ignored_share": ignored,
    }
    if information is not None:
        numbers |= {"mutual_information": information.mean, "stderr": information.stderr}
    if kl is not None:
        numbers["kl_total"] = kl.total
    states = units_by_state(unit_table(evidence))
    cause = cause_of(
        evidence, states, starved=_is_starved(units, severity), ignored=ignored >= IGNORED_SHARE
    )
    numbers |= {"cause": cause.kind, "units_by_state": states}
    if weight is not None:
        numbers |= {"implied_kl_weight": weight.mean, "implied_kl_weight_stderr": weight.stderr}
    summary = _summary(units, information, kl, ignored) + _cause_sentence(cause)
    action = "" if severity in ("ok", "undecided") else treatment(cause)
    return Finding(CHECK, severity, summary, numbers, action)


def _is_starved(units: Units, severity: Severity) -> bool | None:
    """Whether too little is left; a share of next to no KL is ignored by chance: this is first."""
    if units.most < units.few or severity == "problem":
        return True
    return None if severity == "undecided" else False


def _cause_sentence(cause: Cause) -> str:
    if cause.kind == "pruned":
        return " Some of the others are pruned, which is no fault."
    return "" if cause.kind in ("none", "undecided") else f" Cause: {_cause_text(cause)}."


def _cause_text(cause: Cause) -> str:
    return f"{cause.kind} ({cause.because})" if cause.because else cause.kind


def _count(variances: Estimate, n: int) -> Units:
    v = variances.values.double()
    sampling = v * math.sqrt(2 / max(n - 1, 1))  # of a Gaussian's variance, from n datapoints
    error = 2 * torch.maximum(sampling, variances.mc_stderr.double().nan_to_num(0.0))
    least, count, most = (int((s > ACTIVE_VARIANCE).sum()) for s in (v - error, v, v + error))
    return Units(least, count, most, len(v))


def _ignored_share(evidence: Evidence) -> float:
    """The share of the KL that lies in units without effect on the reconstruction."""
    kl, effect = evidence.get(UNIT_KL), evidence.get(ZEROING)
    if kl is None or effect is None or kl.total < NO_INFORMATION:
        return 0.0
    reach = effect.values.double() + 2 * effect.mc_stderr.double().nan_to_num(0.0)
    return kl.values.double()[reach < NO_EFFECT].sum().item() / kl.total


def _severity(units: Units, information: Estimate | None, ignored: float) -> Severity:
    informed = None if information is None else _is_informed(information.mean, information.stderr)
    if units.most == 0 or informed is False:
        return "problem"
    if units.most < units.few or ignored >= IGNORED_SHARE:
        return "warning"
    if units.least < units.few or (information is not None and informed is None):
        return "undecided"
    return "ok"


def _is_informed(mean: float, stderr: float) -> bool | None:
    return exceeds(mean, 0.0 if math.isnan(stderr) else stderr, NO_INFORMATION)


def histogram(variances: Tensor) -> dict[str, int]:
    """Counts the variances of the posterior means by powers of ten.

    Example:
        >>> histogram(torch.tensor([1e-5, 0.02, 0.9]))
        {'<1e-4': 1, '1e-4…1e-3': 0, '1e-3…1e-2': 0, '1e-2…1e-1': 1, '≥1e-1': 1}
    """
    edges = torch.tensor([1e-4, 1e-3, 1e-2, 1e-1], dtype=torch.float64)
    counts = torch.bucketize(variances.double().cpu(), edges, right=True).bincount(minlength=5)
    names = ("<1e-4", "1e-4…1e-3", "1e-3…1e-2", "1e-2…1e-1", "≥1e-1")
    return dict(zip(names, counts.tolist(), strict=True))


def _summary(
    units: Units, information: Estimate | None, kl: Estimate | None, ignored: float
) -> str:
    parts = [f"{units.active} of {units.total} units are active (variance of their mean > 0.01)"]
    if units.least != units.most:
        parts[0] += f", between {units.least} and {units.most} within the error"
    if information is not None:
        parts.append(
            f"the code holds {information.mean:.3g} ± {information.stderr:.2g} nats of mutual "
            "information"
        )
    if kl is not None:
        parts.append(f"the KL is {kl.total:.3g} nats")
    if ignored >= IGNORED_SHARE:
        parts.append(f"{ignored:.0%} of it in units that the decoder ignores")
    return "; ".join(parts) + "."


# Why a code is (nearly) empty: five causes that look alike in a count of active units.
#
# - *mis-scaled KL*: the loss weighed the KL several times too heavily for its likelihood (a
#   cross-entropy averaged over pixels, β ≫ 1, a declared σ² far above the squared error). The
#   encoder's widths remember the weight, see :mod:`elboscope.estimators.latents.decoder_use`; a
#   Gaussian decoder's errors tell it as well. No trick of optimisation helps: the optimum itself is
#   collapsed (Lucas et al., 2019). Where *every* unit equals the prior the model remembers no
#   weight: then only the history of training or a Gaussian's scale can tell it from *collapsed*.
# - *encoder ignores x*: the decoder answers to z, but q(z|x) is the prior for every x.
# - *collapsed*: neither; at this weight a better optimum may exist, and training has missed it.
# - *decoder ignores z*: units carry nats that the reconstruction does not notice.
# - *pruned*: some units are switched off beside others that are used. No fault.
#
# References:
#     | Don't Blame the ELBO! (Lucas et al., 2019), https://arxiv.org/abs/1911.02469
#     | Lagging Inference Networks (He et al., 2019), https://arxiv.org/abs/1901.05534
#     | delta-VAE (Razavi et al., 2019), https://arxiv.org/abs/1901.03416

Kind = Literal[
    "none", "pruned", "collapsed", "mis-scaled KL", "encoder ignores x", "decoder ignores z",
    "undecided",
]  # fmt: skip
# A KL that weighs twice what it should, by two errors: importance-weighted bounds leave widths
# that look like 1.5 to 2.
HEAVY = 2.0


class Cause(NamedTuple):
    """What is wrong, and the number that says so (empty where none is needed)."""

    kind: Kind
    because: str = ""


def cause_of(
    evidence: Evidence, states: Mapping[str, int], *, starved: bool | None, ignored: bool
) -> Cause:
    """Returns the cause.

    Args:
        evidence: Uses ``implied_kl_weight``, ``scale`` and the last weight of the history.
        states: How many units are in each state.
        starved: Whether too little is left in the code; None if that is undecided.
        ignored: Whether a large share of the KL lies in units that the decoder ignores.
    """
    if starved:
        heavy = _heavy_kl(evidence)
        if heavy:
            return Cause("mis-scaled KL", heavy)
        unread = states.get("unread", 0)
        if unread and not states.get("used", 0):
            return Cause(
                "encoder ignores x", f"the decoder answers to {unread} units that do not move"
            )
        return Cause("collapsed")
    if ignored:
        return Cause("decoder ignores z")
    if starved is None:
        return Cause("undecided")
    return Cause("pruned" if states.get("pruned", 0) else "none")


def _heavy_kl(evidence: Evidence) -> str:
    """What says that the KL weighed too much; empty if nothing does."""
    beta, scale = evidence.get(IMPLIED_KL_WEIGHT), evidence.get(SCALE)
    if beta is not None and exceeds(beta.mean, beta.stderr, HEAVY):
        return (
            f"the encoder's widths imply that training weighed the KL {beta.mean:.3g} ± "
            f"{beta.stderr:.2g} times"
        )
    if scale is not None and exceeds(scale.ratio, scale.ratio_stderr, 1 / HEAVY) is False:
        return (
            f"the decoder declares a variance {1 / scale.ratio:.3g} times its squared error, "
            "which weighs the KL as much"
        )
    last = evidence.history[-1].get("weight", 1.0) if evidence.history else 1.0
    if last >= HEAVY and "kl_weight" not in evidence.settings:  # whose unit is another
        return f"training ended with a KL weight of {last:g}"
    return ""


_SCALE = "First see the check 'likelihood scale': a KL weight that is too large for the scale of "
_SCALE += "the likelihood collapses any VAE, and so does β > 1 (--objective ELBO is β = 1). "
_MIS_SCALED = (
    "Sum the reconstruction over pixels and weigh the KL once: elboscope train CONFIG.yaml "
    "--objective ELBO; a Gaussian decoder learns its variance: elboscope train CONFIG.yaml "
    "--model.likelihood gaussian --model.scale learned. Free bits and warm-up would hide the "
    "symptom: this optimum is collapsed"
)
_COLLAPSED = _SCALE + (
    "Then weaken the KL early in training: elboscope train CONFIG.yaml --objective BetaELBO "
    "--objective.warm_up_epochs 50, or --objective FreeBits --objective.nats 0.25; or let the "
    "encoder catch up before each step of the decoder: elboscope train CONFIG.yaml "
    "--training.aggressive_epochs 10; or make every unit pay a toll that it may as well use "
    "(δ-VAE): elboscope train CONFIG.yaml --model.posterior CommittedGaussian"
)
_UNREAD = (
    "The decoder can use z, but the encoder says nothing about x. Train the encoder alone until it "
    "follows: model.decoder.requires_grad_(False), and train on; or improve its answers at "
    "inference time: es.refine(model, steps=20). If you train both again, let the encoder catch up "
    "first: elboscope train CONFIG.yaml --training.aggressive_epochs 10"
)
_UNHEARD = (
    "The decoder does not use what is encoded: train for longer (--training.epochs), or with "
    "fewer units (--model.latent_dim). If encoder and decoder come from two runs, train them "
    "together"
)


def treatment(cause: Cause) -> str:
    """Returns what to do about it, as commands; nothing for what is no fault.

    Example:
        >>> treatment(Cause("pruned"))
        ''
    """
    return {
        "mis-scaled KL": _MIS_SCALED,
        "encoder ignores x": _UNREAD,
        "collapsed": _COLLAPSED,
        "decoder ignores z": _UNHEARD,
    }.get(cause.kind, "")


# Unit by unit: what it costs, whether it moves, what it tells, whether the decoder listens.
#
# ======================== ======= ======== =========== =======================================
# state                    KL      mean     decoder     what it means
# ======================== ======= ======== =========== =======================================
# used                     > 0     moves    loses nats  as it should be
# pruned                   ≈ 0     still    indifferent switched off: harmless by itself
# ignored                  > 0     moves    indifferent encoded for nothing: the decoder ignores it
# constant                 > 0     still    indifferent a toll that says nothing about x
# unread                   ≈ 0     still    loses nats  the decoder uses z, the encoder ignores x
# ======================== ======= ======== =========== =======================================
#
# The information of a unit is I(n; z_j) of the mixture, KL_j less the KL of its marginal. Units
# that repeat each other look dispensable one by one, since each effect is of one unit alone.

State = Literal["used", "pruned", "ignored", "constant", "unread", "undecided", "unknown"]
# Burda et al.: the histogram of log variances has two modes; 0.01 lies between them.
ACTIVE_VARIANCE = 0.01
# Nats in units whose removal costs the reconstruction less than this are ignored by the decoder.
NO_EFFECT = 0.01
# A unit that stands still and costs less than this equals the prior to within training's noise.
FREE = 0.02


class UnitRow(NamedTuple):
    """One latent unit; NaN where a number is missing.

    Attributes:
        unit: Its index in z, flattened.
        kl: KL(q(z_j|x) ‖ p(z_j)), in nats.
        variance: Var_x E[z_j|x], in z².
        information: I(n; z_j), in nats.
        effect: Nats of reconstruction lost when it is set to the prior's mean.
        state: What these say together.
    """

    unit: int
    kl: float
    variance: float
    information: float
    effect: float
    state: State


def unit_table(evidence: Evidence) -> tuple[UnitRow, ...]:
    """Returns one row per latent unit, the most expensive first; none without active units.

    Example:
        >>> from dataclasses import replace
        >>> import elboscope as es
        >>> model = es.models.LinearGaussian.perfect(2, 8, sigma2=0.1)
        >>> x, _ = model.sample(50, seed=0)
        >>> budget = replace(es.diagnostics.QUICK, num_temperatures=0, num_optimised=0)
        >>> evidence = es.diagnostics.gather_evidence(model, x, budget=budget)
        >>> [row.state for row in unit_table(evidence)]
        ['used', 'used']
    """
    if ACTIVE_UNITS not in evidence:
        return ()
    variance, zeroing = evidence[ACTIVE_UNITS].values.double().cpu(), evidence.get(ZEROING)
    kl, effect = _values(evidence.get(UNIT_KL), variance), _values(zeroing, variance)
    error = ERRORS * _errors(zeroing, variance)
    told = _information(evidence, variance)
    columns = zip(kl.tolist(), variance.tolist(), told.tolist(), effect.tolist(),
                  error.tolist(), strict=True)  # fmt: skip
    rows = [
        UnitRow(j, k, v, i, e, _state(k, v, e, within))
        for j, (k, v, i, e, within) in enumerate(columns)
    ]
    return tuple(sorted(rows, key=lambda row: -row.kl if row.kl == row.kl else 0.0))


def _state(kl: float, variance: float, effect: float, error: float) -> State:
    """An effect below zero is no use: the reconstruction is better without the unit."""
    if math.isnan(kl) or math.isnan(effect):
        return "unknown"
    if variance > ACTIVE_VARIANCE:
        if effect - error >= NO_EFFECT:
            return "used"
        return "ignored" if effect + error < NO_EFFECT else "undecided"
    if abs(effect) - error >= NO_EFFECT and kl < FREE:
        return "unread"
    return "pruned" if kl < FREE else "constant"


def units_by_state(rows: tuple[UnitRow, ...]) -> Mapping[str, int]:
    """Counts the units of each state.

    Example:
        >>> units_by_state((UnitRow(0, 1.0, 0.9, 0.8, 2.0, "used"),))
        {'used': 1}
    """
    return dict(Counter(row.state for row in rows))


def _information(evidence: Evidence, like: Tensor) -> Tensor:
    marginal = evidence[SURGERY].dimensionwise_kl if SURGERY in evidence else None
    found = None if marginal is None else marginal.diagnostics.get("information")
    same = found is not None and len(found) == len(like)
    return found.double().cpu() if same and found is not None else torch.full_like(like, math.nan)


def _values(estimate: Estimate | None, like: Tensor) -> Tensor:
    if estimate is None or len(estimate.values) != len(like):
        return torch.full_like(like, math.nan)
    return estimate.values.double().cpu()


def _errors(estimate: Estimate | None, like: Tensor) -> Tensor:
    """The error of each unit: over the data where it is known, else of the draws alone."""
    if estimate is None or len(estimate.values) != len(like):
        return torch.full_like(like, math.nan)
    error = estimate.diagnostics.get("stderr", estimate.mc_stderr)
    return error.double().cpu().nan_to_num(0.0)
