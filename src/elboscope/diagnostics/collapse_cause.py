r"""Why a code is (nearly) empty: five causes that look alike in a count of active units.

- *mis-scaled KL*: the loss weighed the KL several times too heavily for its likelihood (a
  cross-entropy averaged over pixels, β ≫ 1, a declared σ² far above the squared error). The
  encoder's widths remember the weight, see :mod:`elboscope.estimators.implied_kl_weight`; a
  Gaussian decoder's errors tell it as well. No trick of optimisation helps: the optimum itself is
  collapsed (Lucas et al., 2019). Where *every* unit equals the prior the model remembers no
  weight: then only the history of training or a Gaussian's scale can tell it from *collapsed*.
- *encoder ignores x*: the decoder answers to z, but q(z|x) is the prior for every x.
- *collapsed*: neither; at this weight a better optimum may exist, and training has missed it.
- *decoder ignores z*: units carry nats that the reconstruction does not notice.
- *pruned*: some units are switched off beside others that are used. No fault.

References:
    | Don't Blame the ELBO! (Lucas et al., 2019), https://arxiv.org/abs/1911.02469
    | Lagging Inference Networks (He et al., 2019), https://arxiv.org/abs/1901.05534
    | delta-VAE (Razavi et al., 2019), https://arxiv.org/abs/1901.03416
"""

from __future__ import annotations

__all__ = ["Cause", "cause_of", "treatment"]

from collections.abc import Mapping
from typing import Literal, NamedTuple

from .decision import exceeds
from .evidence import Evidence

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
    beta, scale = evidence.implied_kl_weight, evidence.scale
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
    "The decoder is fit to be used, the encoder says nothing about x. Train the encoder alone "
    "until it follows: model.decoder.requires_grad_(False), and train on; or improve its answers "
    "when they are used: es.refine(model, steps=20). Training both again, let it catch up first: "
    "elboscope train CONFIG.yaml --training.aggressive_epochs 10"
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
