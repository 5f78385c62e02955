"""The quantities of a diagnosis, in one list for each question, and what is derived from them.

A new quantity is an object in one of these files and a name in the ``QUANTITIES`` at its end. It
then has a row on the page and an entry in ``findings.json``, the data frame and the data tree.
"""

from __future__ import annotations

__all__ = ["NUMBERS", "QUANTITIES", "estimates_of", "number_rows", "reasons_of", "title_of"]

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from elboscope.core import Estimate

from ..evidence import Evidence
from ..quantity import Number, Quantity
from . import inference, latents, likelihood, prior, samples

# In the order in which the numbers are listed; what a quantity needs is computed before it.
QUANTITIES: tuple[Quantity[Any], ...] = (
    *likelihood.QUANTITIES,
    *inference.QUANTITIES,
    *latents.QUANTITIES,
    *prior.QUANTITIES,
    *samples.QUANTITIES,
)
NUMBERS: dict[str, Number[Any]] = {n.name: n for q in QUANTITIES for n in q.numbers}


def estimates_of(
    evidence: Evidence, quantities: Sequence[Quantity[Any]] = QUANTITIES
) -> dict[str, Estimate]:
    """Returns every estimate that can be read off the evidence, by the name of the number.

    Args:
        evidence: What was computed.
        quantities: The quantities that are read.

    Example:
        >>> from dataclasses import replace
        >>> import elboscope as es
        >>> model = es.models.LinearGaussian.instance_1()
        >>> x, _ = model.sample(40, seed=0)
        >>> budget = replace(es.diagnostics.QUICK, num_temperatures=0, num_optimised=0)
        >>> evidence = es.diagnostics.gather_evidence(model, x, budget=budget)
        >>> list(estimates_of(evidence))[:3]
        ['log_px', 'log_px_half', 'log_px_psis']
    """
    known = [(q, evidence.get(q)) for q in quantities]
    found = {n.name: n.read(value) for q, value in known if value is not None for n in q.numbers}
    return {name: estimate for name, estimate in found.items() if estimate is not None}


def number_rows(evidence: Evidence) -> dict[str, Tensor]:
    """Returns the rows of x behind the numbers that are of some datapoints only, by name.

    Args:
        evidence: What was computed.
    """
    some = [q for q in QUANTITIES if q in evidence and q.name in evidence.rows]
    return {
        n.name: n.rows(evidence[q], evidence.rows[q.name])
        for q in some
        for n in q.numbers
        if n.rows is not None
    }


def reasons_of(evidence: Evidence) -> dict[str, str]:
    """Returns why a number is missing, by its name; of what is only drawn, by the quantity's.

    A reason that two quantities share and one of them reports is there once.

    Args:
        evidence: What was computed.
    """
    reasons: dict[str, str] = {}
    for quantity in QUANTITIES:
        value, reason = evidence.get(quantity), evidence.skipped.get(quantity.name)
        if value is not None and quantity.unavailable is not None:
            reasons |= {k: why for k, why in quantity.unavailable(value).items() if k in NUMBERS}
        elif value is None and reason is not None and not _said(quantity, evidence):
            always = [n.name for n in quantity.numbers if not n.optional]
            reasons |= dict.fromkeys(always or [quantity.name], reason)
    others = {name: why for name, why in evidence.skipped.items() if name not in _NAMES}
    return reasons | others


_NAMES = frozenset(q.name for q in QUANTITIES)


def _said(quantity: Quantity[Any], evidence: Evidence) -> bool:
    """Whether a quantity that it needs has the same reason under a name of its own."""
    reason = evidence.skipped[quantity.name]
    needed = [need for need in quantity.needs if isinstance(need, Quantity)]
    return any(
        need.failure not in ("", quantity.name) and evidence.skipped.get(need.failure) == reason
        for need in needed
    )


def title_of(name: str) -> str:
    """Returns what a number or a quantity is called.

    Example:
        >>> title_of("log_px"), title_of("total_correlation"), title_of("my_own")
        ('log p(x)', 'total correlation', 'my own')
    """
    if name in NUMBERS:
        return NUMBERS[name].title
    titles = {q.name: q.title for q in QUANTITIES}
    return titles.get(name, name.replace("_", " "))
