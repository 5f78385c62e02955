r"""Unit by unit: what it costs, whether it moves, what it tells, whether the decoder listens.

======================== ======= ======== =========== =======================================
state                    KL      mean     decoder     what it means
======================== ======= ======== =========== =======================================
used                     > 0     moves    loses nats  as it should be
pruned                   ≈ 0     still    indifferent switched off: harmless by itself
ignored                  > 0     moves    indifferent encoded for nothing: the decoder ignores it
constant                 > 0     still    indifferent a toll that says nothing about x
unread                   ≈ 0     still    loses nats  the decoder uses z, the encoder ignores x
======================== ======= ======== =========== =======================================

The information of a unit is I(n; z_j) of the mixture, KL_j less the KL of its marginal. Units
that repeat each other look dispensable one by one, since each effect is of one unit alone.
"""

from __future__ import annotations

__all__ = ["ACTIVE_VARIANCE", "NO_EFFECT", "UnitRow", "unit_table", "units_by_state"]

import math
from collections import Counter
from collections.abc import Mapping
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from elboscope.core import Estimate

from .decision import ERRORS
from .evidence import Evidence

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
        >>> import elboscope as es
        >>> model = es.models.LinearGaussian.perfect(2, 8, sigma2=0.1)
        >>> x, _ = model.sample(50, seed=0)
        >>> evidence = es.diagnostics.gather_evidence(model, x, budget="quick")
        >>> [row.state for row in unit_table(evidence)]
        ['used', 'used']
    """
    if evidence.active_units is None:
        return ()
    variance = evidence.active_units.values.double().cpu()
    kl, effect = _values(evidence.unit_kl, variance), _values(evidence.zeroing, variance)
    error = ERRORS * _errors(evidence.zeroing, variance)
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
    marginal = None if evidence.surgery is None else evidence.surgery.dimensionwise_kl
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
