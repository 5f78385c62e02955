r"""Do samples from the prior fall where the encoder never went? KL(q(z)‖p(z)) in nats.

That KL is what the average ELBO would gain from a prior equal to q(z). It cannot simply be read
off a mixture: :math:`\mathrm{KL}(q_N \| p) \in [\mathrm{avgKL} - \log N, \mathrm{avgKL}]` is about
N datapoints, and where their posteriors hardly overlap (mutual information near log N) it is
large for a perfect model too: 32 nats with 20 latents and N = 1000. So a hole is *asserted* only
by a lower bound on the population's KL, from a density fitted to other datapoints; it is *ruled
out* only by a mixture that resolves q(z), or by a KL term that leaves no room. Else: undecided.

References:
    | ELBO surgery (Hoffman and Johnson, 2016)
    | Distribution Matching in Variational Inference (Rosca et al., 2018),
      https://arxiv.org/abs/1802.06847
"""

from __future__ import annotations

__all__ = ["PopulationBound", "population_bound", "population_bounds", "prior_hole"]

import math
from collections.abc import Iterator, Mapping
from statistics import NormalDist
from typing import NamedTuple

from elboscope.core import Estimate, Finding, Severity
from elboscope.estimators import ElboSurgery

from ..decision import ERRORS, breach, check, exceeds, graded
from ..evidence import Evidence
from ..quantities.likelihood import KL, LOG_PX
from ..quantities.prior import FITTED_PRIOR, MARGINAL_KL_COMPARISON, SURGERY

CHECK = "prior hole"
# One nat per datapoint: as much as better priors are published to gain on MNIST (VampPrior: one
# to two nats). Below it no prior is worth fitting.
WARNING_NATS = 1.0
# At three nats a draw of the prior lands where q(z) lives about once in e³ ≈ 20 times.
PROBLEM_NATS = 3.0
# Within half a nat of its ceiling log N, the mutual information says that the posteriors do not
# overlap: the mixture is N spikes, and its KL a property of N, not of the model.
SATURATED_NATS = 0.5
VERDICTS: Mapping[Severity, str] = {
    "ok": "No hole: the aggregate posterior lies within a nat of the prior",
    "undecided": "No hole was found, and none can be ruled out",
    "warning": "The prior misses the aggregate posterior",
    "problem": "Samples of the prior fall where the encoder never went",
}


def _below_average_kl(evidence: Evidence) -> Iterator[str]:
    """KL(q(z)‖p(z)) ≤ E KL(q(z|x)‖p(z)): no lower bound on the first exceeds the second."""
    surgery = evidence.get(SURGERY)
    # Bounds may be measured on other data than the mixture: the larger of both averages counts.
    averages = [evidence.get(KL), None if surgery is None else surgery.kl]
    known = [average for average in averages if average is not None]
    if not known:
        return
    kl = max(known, key=lambda average: average.mean)
    for bound in population_bounds(evidence).values():
        error = math.hypot(bound.stderr, kl.stderr)
        name = f"a lower bound on KL(q‖p) ({bound.method}) exceeds the average KL"
        text = breach(name, bound.mean - kl.mean, error, kl.mean)
        if text:
            yield text


@check(CHECK, asked_in="prior", invariants=(_below_average_kl,))
def prior_hole(evidence: Evidence) -> Finding:
    """Judges KL(q(z)‖p(z)) by a held-out lower bound and, where it resolves q(z), the mixture.

    Args:
        evidence: Uses ``surgery``; the bounds of ``marginal_kl_comparison`` and ``fitted_prior``
            where they are there; ``log_px`` to show that reconstruction − marginal KL is no bound.

    Returns:
        *warning* from one nat, *problem* from three; *undecided* where the mutual information
        lies within half a nat of log N, or the mixture's value above a nat, and the held-out
        bound does not reach a nat. Without a mixture the bounds alone decide, and never for *ok*.
    """
    best = population_bound(population_bounds(evidence))
    if SURGERY not in evidence and best is not None:
        return _by_bounds_alone(evidence, best)
    surgery = evidence[SURGERY]
    saturated = is_saturated(surgery)
    severity = _severity(surgery, saturated, best)
    return Finding(
        CHECK,
        severity,
        _summary(surgery, saturated, severity, best) + _beside(evidence, surgery),
        _numbers(evidence, surgery, saturated) | _bound_numbers(evidence, best),
        _action(severity, evidence),
    )


def _by_bounds_alone(evidence: Evidence, best: PopulationBound) -> Finding:
    """Without a mixture a hole can be asserted, not ruled out."""
    asserted = _grade(best)
    severity: Severity = asserted if asserted in ("warning", "problem") else "undecided"
    why = evidence.reason(SURGERY)
    summary = (
        f"{VERDICTS[severity]}: held-out bound KL(q‖p) ≥ {best.mean:.2f} ± {best.stderr:.2f} nats"
        f"{_choice(best)}; no mixture of the posteriors: {why}."
    )
    numbers = {"held_out": best.mean, "held_out_stderr": best.stderr} | _bound_numbers(
        evidence, best
    )
    action = "" if severity == "undecided" else _action(severity, evidence)
    return Finding(CHECK, severity, summary, numbers, action)


def is_saturated(surgery: ElboSurgery) -> bool:
    """Whether the mixture is evidence about N only: I > log N − 0.5."""
    return surgery.mutual_information.mean > surgery.log_n - SATURATED_NATS


def _severity(surgery: ElboSurgery, saturated: bool, best: PopulationBound | None) -> Severity:
    asserted = "undecided" if best is None else _grade(best)
    if asserted in ("warning", "problem"):
        return asserted
    if exceeds(surgery.kl.mean, surgery.kl.stderr, WARNING_NATS) is False:
        return "ok"  # KL(q‖p) ≤ avgKL: the KL term leaves no room for a hole
    return "undecided" if saturated else _mixture_verdict(surgery)


def _mixture_verdict(surgery: ElboSurgery) -> Severity:
    """What the mixture can say: it overstates the population's KL, so it can only rule out."""
    return "ok" if _grade(surgery.marginal_kl) == "ok" else "undecided"


def _grade(estimate: Estimate | PopulationBound) -> Severity:
    return graded(estimate.mean, estimate.stderr, warning=WARNING_NATS, problem=PROBLEM_NATS)


def _summary(
    surgery: ElboSurgery, saturated: bool, severity: Severity, best: PopulationBound | None
) -> str:
    low, high = surgery.interval
    value = surgery.marginal_kl
    information = surgery.mutual_information
    of_mixture = (
        f"KL(q_N‖p) = {value.mean:.2f} ± {value.stderr:.2f} nats, in "
        f"[{max(low, 0.0):.2f}, {high:.2f}]; mutual information {information.mean:.2f} of at most "
        f"log N = {surgery.log_n:.2f}"
    )
    at_least = (
        f"held-out bound KL(q‖p) ≥ {best.mean:.2f} ± {best.stderr:.2f} nats{_choice(best)}"
        if best is not None
        else "no held-out bound: " + surgery.unavailable.get("marginal_kl_held_out", "not computed")
    )
    spikes = ", so the mixture is N spikes that overstate the population's KL" if saturated else ""
    return f"{VERDICTS[severity]}: {at_least}; {of_mixture}{spikes}."


def _choice(best: PopulationBound) -> str:
    return f" (the best of {best.picked_of}, ± widened for that)" if best.picked_of > 1 else ""


def _beside(evidence: Evidence, surgery: ElboSurgery) -> str:
    """Swapping the average KL for the marginal KL loses the bound: shown, where it can be."""
    if LOG_PX not in evidence:
        return ""
    swapped = surgery.reconstruction.mean - surgery.marginal_kl.mean
    log_px = evidence[LOG_PX].mean
    where = "it exceeds" if swapped > log_px else "here it lies below"
    return (
        f" Reconstruction − marginal KL = {swapped:.2f} nats is not a bound on log p(x): {where} "
        f"log p̂ = {log_px:.2f}."
    )


def _numbers(evidence: Evidence, surgery: ElboSurgery, saturated: bool) -> dict[str, object]:
    held_out = surgery.marginal_kl_held_out
    numbers: dict[str, object] = {
        "marginal_kl": surgery.marginal_kl.mean,
        "marginal_kl_stderr": surgery.marginal_kl.stderr,
        "interval": surgery.interval,
        "held_out": None if held_out is None else held_out.mean,
        "held_out_stderr": None if held_out is None else held_out.stderr,
        "mutual_information": surgery.mutual_information.mean,
        "log_n": surgery.log_n,
        "saturated": saturated,
        "reconstruction_minus_marginal_kl": surgery.reconstruction.mean - surgery.marginal_kl.mean,
    }
    if LOG_PX in evidence:
        numbers["log_px"] = evidence[LOG_PX].mean
    return numbers


def _bound_numbers(evidence: Evidence, best: PopulationBound | None) -> dict[str, object]:
    """All lower bounds, the one that was picked, what disagrees, and the gain."""
    bounds, found = population_bounds(evidence), evidence.get(MARGINAL_KL_COMPARISON)
    numbers: dict[str, object] = {
        "bounds": {name: (e.mean, e.stderr) for name, e in bounds.items()},
        "best_bound": None if best is None else best.mean,
        "best_bound_stderr": None if best is None else best.stderr,
        "best_bound_by": None if best is None else best.name,
    }
    if found is not None:
        numbers["disagreements"] = tuple(map(str, found.disagreements))
    if FITTED_PRIOR in evidence:
        gain = evidence[FITTED_PRIOR].gain
        numbers |= {"fitted_prior_gain": gain.mean, "fitted_prior_gain_stderr": gain.stderr}
    return numbers


def _action(severity: Severity, evidence: Evidence) -> str:
    if severity == "ok":
        return ""
    if severity == "undecided":
        return (
            "Give more training data to the mixture: es.diagnose(model, x, x_train=x_train, "
            "budget='thorough')."
        )
    return (
        "First see 'likelihood scale': a KL weighed too little leaves a hole. Train at the full "
        "weight: elboscope train CONFIG.yaml --objective ELBO (β = 1), after a warm-up where it "
        "collapses: --objective BetaELBO --objective.warm_up_epochs 50; fewer units "
        f"(--model.latent_dim) leave less to match. Without training again: {_gain(evidence)}; a "
        "learned prior: --model.prior VampPrior --objective.analytic_kl false."
    )


def _gain(evidence: Evidence) -> str:
    """What a prior fitted to q(z) was measured to win."""
    if FITTED_PRIOR not in evidence:
        return (
            "es.fit_prior(model, x) replaces the prior by a density of the codes and measures "
            "what it gains"
        )
    gain = evidence[FITTED_PRIOR].gain
    digits = 1 if gain.stderr >= 0.05 else 2
    amount = f"{gain.mean:.{digits}f} ± {gain.stderr:.{digits}f} nats"
    data = "x" if evidence.x_train is None else "x_train"
    return (
        f"es.fit_prior(model, {data}) gains {amount} on held-out data "
        f"({gain.settings['density']} as the prior)"
    )


# Which of several lower bounds on the population's KL(q(z) ‖ p(z)) shows most.
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
        picked_of: The number of bounds it was picked from.
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
    surgery, found = evidence.get(SURGERY), evidence.get(MARGINAL_KL_COMPARISON)
    fitted = evidence.get(FITTED_PRIOR)
    bounds: dict[str, Estimate] = {}
    if surgery is not None and surgery.marginal_kl_held_out is not None:
        bounds["held_out"] = surgery.marginal_kl_held_out
    if fitted is not None:
        bounds["fitted_prior"] = fitted.gain
    if found is not None:
        bounds |= {name: e for name, e in found.estimates.items() if e.side == "lower"}
    return {name: e for name, e in bounds.items() if math.isfinite(e.mean)}


def population_bound(bounds: Mapping[str, Estimate]) -> PopulationBound | None:
    """Returns the bound that surely shows most: the largest of mean − 2 widened errors.

    Args:
        bounds: The bounds by name.

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
