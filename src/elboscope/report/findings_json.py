"""``findings.json``: verdicts and numbers for machines, in a versioned schema.

JSON knows no NaN and no infinity, and a null would not tell them apart: they are written as the
strings ``"NaN"``, ``"Infinity"`` and ``"-Infinity"``. The schema is in ``docs/findings_schema.md``;
a field may be added under the same version, none changes its meaning or disappears.
"""

from __future__ import annotations

__all__ = ["SCHEMA", "findings_json", "plain"]

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from elboscope.core import Estimate, Finding
from elboscope.diagnostics import NUMBERS, Evidence, reasons_of
from elboscope.diagnostics.quantities.inference import INFERENCE_GAP, searched_rows
from elboscope.diagnostics.quantities.likelihood import LOG_LIKELIHOOD, SCALE
from elboscope.diagnostics.quantities.prior import (
    FITTED_PRIOR,
    LOW_POSTERIOR,
    MARGINAL_KL_COMPARISON,
    SURGERY,
)

SCHEMA = "elboscope.findings/1"


def findings_json(
    findings: Sequence[Finding], estimates: Mapping[str, Estimate], evidence: Evidence
) -> str:
    """Returns a diagnosis as JSON text.

    Args:
        findings: The verdicts.
        estimates: The numbers, by name.
        evidence: Everything that was computed.
    """
    document = {
        "schema": SCHEMA,
        "findings": [_finding(finding) for finding in findings],
        "estimates": {key: _estimate(key, e) for key, e in estimates.items()},
        "certificate": _certificate(evidence),
        "inference": _inference(evidence),
        "scale": plain(evidence.get(SCALE)),
        "elbo_surgery": _surgery(evidence),
        "latent_space": _latent_space(evidence),
        "model": plain(evidence.capabilities),
        "settings": plain(evidence.settings),
        "skipped": reasons_of(evidence),
        "nonfinite": plain(evidence.nonfinite),
    }
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "check": finding.check,
        "severity": finding.severity,
        "summary": finding.summary,
        "action": finding.action,
        "evidence": plain(finding.evidence),
    }


def _estimate(key: str, estimate: Estimate) -> dict[str, Any]:
    number = NUMBERS.get(key)
    fields: dict[str, Any] = {
        "name": estimate.name,
        "method": estimate.method,
        "side": estimate.side,
        "axis": estimate.axis,
        "unit": (number.unit if number else "") or estimate.measured_in,
        "n": len(estimate.values),
        "mean": plain(estimate.mean),
        "total": plain(estimate.total) if estimate.axis == "unit" else None,
        "stderr": plain(estimate.stderr),
        "mc_error_of_mean": plain(estimate.mc_error_of_mean),
        "nonnegative": estimate.nonnegative,
        "is_not": number.is_not if number else "",
        "data_id": estimate.data_id,
        "settings": plain(estimate.settings),
        "diagnostics": {name: _summary(v) for name, v in estimate.diagnostics.items()},
    }
    if estimate.axis == "unit":
        fields["values"] = plain(estimate.values)
    return fields


def _summary(values: Tensor) -> dict[str, Any]:
    """The whole vector is in the data tree; here is what a threshold is compared with."""
    known = values.detach().double().cpu()
    known = known[~known.isnan()]
    if not len(known):
        return {"known": 0, "min": None, "median": None, "mean": None, "max": None}
    return {
        "known": len(known),
        "min": plain(known.min().item()),
        "median": plain(torch.quantile(known, 0.5).item() if len(known) < 10**6 else math.nan),
        "mean": plain(known.mean().item()),
        "max": plain(known.max().item()),
    }


def _surgery(evidence: Evidence) -> dict[str, Any] | None:
    found = evidence.get(SURGERY)
    if found is None:
        return None
    return {"log_n": plain(found.log_n), "marginal_kl_interval": plain(found.interval)}


def _latent_space(evidence: Evidence) -> dict[str, Any]:
    """What is more than an estimate of q(z) against the prior; null where it is missing."""
    found, fitted = evidence.get(MARGINAL_KL_COMPARISON), evidence.get(FITTED_PRIOR)
    low = evidence.get(LOW_POSTERIOR)
    return {
        "disagreements": None if found is None else [plain(one) for one in found.disagreements],
        "fitted_prior": None if fitted is None else str(fitted.gain.settings["density"]),
        "low_posterior": None
        if low is None
        else {
            "uncovered": plain(low.samples.uncovered),
            **plain(low.separation),
            "settings": plain(low.settings),
        },
    }


def _certificate(evidence: Evidence) -> dict[str, Any] | None:
    if LOG_LIKELIHOOD not in evidence:
        return None
    certificate = evidence[LOG_LIKELIHOOD].certificate
    return {
        "certified": certificate.certified,
        "within": plain(certificate.within),
        "tolerance": plain(certificate.tolerance),
        "n_simulated": len(certificate.others.values),
        "n_pairs": certificate.num_pairs,
        "reasons": list(certificate.reasons),
        "more": certificate.more,
    }


def _inference(evidence: Evidence) -> dict[str, Any] | None:
    """How the gap was split and how sure each q* is; the nats are among the estimates."""
    gap = evidence.get(INFERENCE_GAP)
    if gap is None:
        return None
    generalisation = gap.generalisation
    return {
        "family": gap.family,
        "certified": gap.certified,
        "optimal_posterior_certified": gap.optimal_posterior_certified,
        "log_px_certified": gap.log_px_certified,
        "within": {name: plain(q.certificate.within) for name, q in gap.optimal.items()},
        "reasons": list(gap.reasons),
        "n": len(gap.index),
        "diverged": list(searched_rows(evidence, gap.diverged)),
        "log_px_by": plain(gap.settings.get("chosen", "")),
        "test_minus_train": None if generalisation is None else plain(generalisation),
    }


def plain(value: object) -> Any:
    """Returns a value as something JSON can hold; what is not a number or a container, as text.

    Example:
        >>> plain({"a": (1, float("nan")), "b": torch.zeros(2)})
        {'a': [1, 'NaN'], 'b': [0.0, 0.0]}
    """
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return _real(value)
        case Tensor():
            return plain(value.detach().cpu().tolist())
        case Mapping():
            return {str(key): plain(entry) for key, entry in value.items()}
        case list() | tuple() | set() | frozenset():
            return [plain(entry) for entry in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if hasattr(value, "tolist"):  # numpy's scalars and arrays
        return plain(value.tolist())
    return str(value)


def _real(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
