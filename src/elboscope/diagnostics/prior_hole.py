r"""Do samples from the prior fall where the encoder never went? KL(q(z)‖p(z)) in nats.

That KL is what the average ELBO would gain from a prior equal to q(z). It cannot simply be read
off a mixture: :math:`\mathrm{KL}(q_N \| p) \in [\mathrm{avgKL} - \log N, \mathrm{avgKL}]` is about
N datapoints, and where their posteriors hardly overlap (mutual information near log N) it is
large for a perfect model too: 32 nats with 20 latents and N = 1000. So a hole is *asserted* only
by a lower bound on the population's KL, from a density fitted to other datapoints; it is *ruled
out* only by a mixture that resolves q(z), or by a rate that leaves no room. Else: undecided.

References:
    | ELBO surgery (Hoffman and Johnson, 2016)
    | Distribution Matching in Variational Inference (Rosca et al., 2018),
      https://arxiv.org/abs/1802.06847
"""

from __future__ import annotations

__all__ = ["prior_hole"]

from elboscope.core import Estimate, Finding, Severity
from elboscope.estimators import ElboSurgery

from .decision import exceeds, graded, needs
from .evidence import Evidence

CHECK = "prior hole"
# One nat per datapoint: as much as better priors are published to gain on MNIST (VampPrior: one
# to two nats). Below it no prior is worth fitting.
WARNING_NATS = 1.0
# At three nats a draw of the prior lands where q(z) lives about once in e³ ≈ 20 times.
PROBLEM_NATS = 3.0
# Within half a nat of its ceiling log N, the mutual information says that the posteriors do not
# overlap: the mixture is N spikes, and its KL a property of N, not of the model.
SATURATED_NATS = 0.5


def prior_hole(evidence: Evidence) -> Finding:
    """Judges KL(q(z)‖p(z)) by a held-out lower bound and, where it resolves q(z), the mixture.

    Args:
        evidence: Uses ``surgery``; ``log_px`` to show that reconstruction − marginal KL is no
            bound.

    Returns:
        *warning* from one nat, *problem* from three; *undecided* where the mutual information
        lies within half a nat of log N, or the mixture's value above a nat, and the held-out
        bound does not reach a nat.
    """
    missing = needs(CHECK, evidence, "surgery")
    if missing is not None:
        return missing
    surgery = evidence.surgery
    assert surgery is not None
    saturated = is_saturated(surgery)
    severity = _severity(surgery, saturated)
    return Finding(
        CHECK,
        severity,
        _summary(surgery, saturated, severity) + _beside(evidence, surgery),
        _numbers(evidence, surgery, saturated),
        _action(severity),
    )


def is_saturated(surgery: ElboSurgery) -> bool:
    """Whether the mixture is evidence about N only: I > log N − 0.5."""
    return surgery.mutual_information.mean > surgery.log_n - SATURATED_NATS


def _severity(surgery: ElboSurgery, saturated: bool) -> Severity:
    held_out = surgery.marginal_kl_held_out
    asserted = "undecided" if held_out is None else _graded(held_out)
    if asserted in ("warning", "problem"):
        return asserted
    if exceeds(surgery.kl.mean, surgery.kl.stderr, WARNING_NATS) is False:
        return "ok"  # KL(q‖p) ≤ avgKL: the rate leaves no room for a hole
    return "undecided" if saturated else _resolved(surgery)


def _resolved(surgery: ElboSurgery) -> Severity:
    """What the mixture can say: it overstates the population's KL, so it can only rule out."""
    return "ok" if _graded(surgery.marginal_kl) == "ok" else "undecided"


def _graded(estimate: Estimate) -> Severity:
    return graded(estimate.mean, estimate.stderr, warning=WARNING_NATS, problem=PROBLEM_NATS)


def _summary(surgery: ElboSurgery, saturated: bool, severity: Severity) -> str:
    low, high = surgery.interval
    value, held_out = surgery.marginal_kl, surgery.marginal_kl_held_out
    information = surgery.mutual_information
    of_mixture = (
        f"KL(q_N‖p) = {value.mean:.2f} ± {value.stderr:.2f} nats, in "
        f"[{max(low, 0.0):.2f}, {high:.2f}]; mutual information {information.mean:.2f} of at most "
        f"log N = {surgery.log_n:.2f}"
    )
    at_least = (
        f"held-out bound KL(q‖p) ≥ {held_out.mean:.2f} ± {held_out.stderr:.2f} nats"
        if held_out is not None
        else "no held-out bound: " + surgery.unavailable.get("marginal_kl_held_out", "not computed")
    )
    verdict = {
        "ok": "No hole: the aggregate posterior matches the prior",
        "undecided": "No hole was found, and none can be ruled out",
        "warning": "The prior misses the aggregate posterior",
        "problem": "Samples of the prior fall where the encoder never went",
    }[severity]
    spikes = ", so the mixture is N spikes that overstate the population's KL" if saturated else ""
    return f"{verdict}: {at_least}; {of_mixture}{spikes}."


def _beside(evidence: Evidence, surgery: ElboSurgery) -> str:
    """Swapping the average KL for the marginal KL loses the bound: shown, where it can be."""
    if evidence.log_px is None:
        return ""
    swapped = surgery.reconstruction.mean - surgery.marginal_kl.mean
    log_px = evidence.log_px.mean
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
    if evidence.log_px is not None:
        numbers["log_px"] = evidence.log_px.mean
    return numbers


def _action(severity: Severity) -> str:
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
        "(--model.latent_dim) leave less to match. Without training again: es.fit_prior(model, x) "
        "puts a density of the codes in the prior's place and measures what it gains; a learned "
        "prior: --model.prior VampPrior --objective.analytic_kl false."
    )
