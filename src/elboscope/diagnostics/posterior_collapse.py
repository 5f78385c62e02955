r"""Does the latent code carry anything? Units that copy the prior are switched off.

A unit is active when its posterior mean moves with x, :math:`\mathrm{Var}_x\,\mathbb{E}_q[z_j|x]
> 0.01`. Switched-off units are no fault in themselves: a VAE prunes what it does not need, and of
1000 units 20 may be plenty. Collapse is when (nearly) nothing is left: no active unit, or next to
no mutual information between x and z; and when units carry nats that the decoder ignores. Which
of these it is, and the treatment that goes with it, is told in :mod:`.collapse_cause`.

References:
    | Importance Weighted Autoencoders (Burda et al., 2016), https://arxiv.org/abs/1509.00519
    | Don't Blame the ELBO! (Lucas et al., 2019), https://arxiv.org/abs/1911.02469
"""

from __future__ import annotations

__all__ = ["posterior_collapse"]

import math
from typing import NamedTuple

import torch
from torch import Tensor

from elboscope.core import Estimate, Finding, Severity

from .collapse_cause import Cause, cause_of, treatment
from .decision import exceeds, needs
from .evidence import Evidence
from .unit_table import ACTIVE_VARIANCE, NO_EFFECT, unit_table, units_by_state

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
    missing = needs(CHECK, evidence, "active_units")
    if missing is not None:
        return missing
    variances = evidence.active_units
    assert variances is not None
    units = _count(variances, len(evidence.x))
    information = None if evidence.surgery is None else evidence.surgery.mutual_information
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
    if evidence.unit_kl is not None:
        numbers["kl_total"] = evidence.unit_kl.total
    states = units_by_state(unit_table(evidence))
    cause = cause_of(
        evidence, states, starved=_starved(units, severity), ignored=ignored >= IGNORED_SHARE
    )
    numbers |= {"cause": cause.kind, "units_by_state": states}
    if evidence.implied_kl_weight is not None:
        weight = evidence.implied_kl_weight
        numbers |= {"implied_kl_weight": weight.mean, "implied_kl_weight_stderr": weight.stderr}
    summary = _summary(units, information, evidence.unit_kl, ignored) + _told(cause)
    action = "" if severity in ("ok", "undecided") else treatment(cause)
    return Finding(CHECK, severity, summary, numbers, action)


def _starved(units: Units, severity: Severity) -> bool | None:
    """Whether too little is left; a share of next to no KL is ignored by chance: this is first."""
    if units.most < units.few or severity == "problem":
        return True
    return None if severity == "undecided" else False


def _told(cause: Cause) -> str:
    if cause.kind == "pruned":
        return " Some of the others are pruned, which is no fault."
    return "" if cause.kind in ("none", "undecided") else f" Cause: {_named(cause)}."


def _named(cause: Cause) -> str:
    return f"{cause.kind} ({cause.because})" if cause.because else cause.kind


def _count(variances: Estimate, n: int) -> Units:
    v = variances.values.double()
    sampling = v * math.sqrt(2 / max(n - 1, 1))  # of a Gaussian's variance, from n datapoints
    error = 2 * torch.maximum(sampling, variances.mc_stderr.double().nan_to_num(0.0))
    least, count, most = (int((s > ACTIVE_VARIANCE).sum()) for s in (v - error, v, v + error))
    return Units(least, count, most, len(v))


def _ignored_share(evidence: Evidence) -> float:
    """The share of the KL that lies in units without effect on the reconstruction."""
    kl, effect = evidence.unit_kl, evidence.zeroing
    if kl is None or effect is None or kl.total < NO_INFORMATION:
        return 0.0
    reach = effect.values.double() + 2 * effect.mc_stderr.double().nan_to_num(0.0)
    return kl.values.double()[reach < NO_EFFECT].sum().item() / kl.total


def _severity(units: Units, information: Estimate | None, ignored: float) -> Severity:
    informed = None if information is None else _informed(information.mean, information.stderr)
    if units.most == 0 or informed is False:
        return "problem"
    if units.most < units.few or ignored >= IGNORED_SHARE:
        return "warning"
    if units.least < units.few or (information is not None and informed is None):
        return "undecided"
    return "ok"


def _informed(mean: float, stderr: float) -> bool | None:
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
