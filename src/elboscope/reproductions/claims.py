r"""A published claim is a sign; a verdict says whether our difference has it.

.. math:: \text{reproduced} \iff s\,\hat\Delta > 2\,\mathrm{se}(\hat\Delta), \qquad
          \text{contradicted} \iff s\,\hat\Delta < -2\,\mathrm{se}(\hat\Delta)

and undecided otherwise. The error has two parts, which add in quadrature: of the test images,
on which two models are compared in pairs, and of the runs, each with its own seed. With one
seed the second is unknown, and the verdict is about these two trained models alone.
"""

from __future__ import annotations

__all__ = [
    "Claim",
    "Difference",
    "Verdict",
    "agreement",
    "difference",
    "judged",
    "verdict",
    "without_verdict",
]

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from jaxtyping import Float
from torch import Tensor

from elboscope.core import InputError

from .published import Published

Verdict = Literal["reproduced", "contradicted", "undecided"]
ERRORS = 2.0
# Spread of implementations of one recipe on MNIST, in nats: no absolute number is held to less.
TOLERANCE = 0.5


def verdict(difference: float, error: float, sign: Literal[1, -1] = 1) -> Verdict:
    """Returns whether a difference has the published sign, beyond two standard errors.

    Args:
        difference: Ours.
        error: Its standard error, in the same unit.
        sign: The published one.

    Example:
        >>> verdict(1.0, 0.4), verdict(1.0, 0.6), verdict(1.0, 0.4, sign=-1)
        ('reproduced', 'undecided', 'contradicted')
    """
    if not (math.isfinite(difference) and math.isfinite(error)):
        return "undecided"
    if abs(difference) <= ERRORS * error:
        return "undecided"
    return "reproduced" if sign * difference > 0 else "contradicted"


class Difference(NamedTuple):
    """A mean difference, its standard error, and how many seeds and test images are behind it."""

    value: float
    error: float
    num_seeds: int
    num_data: int
    unit: str = "nats"

    def __str__(self) -> str:
        seeds = f"{self.num_seeds} seed{'s' if self.num_seeds > 1 else ''}"
        data = f", {self.num_data} test images" if self.num_data else ""
        return f"{self.value:+.3f} ± {self.error:.3f} {self.unit} ({seeds}{data})"


def difference(
    a: Float[Tensor, "S n"], b: Float[Tensor, "S_b n_b"], unit: str = "nats"
) -> Difference:
    r"""Returns the mean of a − b over seeds and test images, compared in pairs.

    .. math:: \mathrm{se}^2 = \frac{\mathrm{sd}_n^2(\bar\Delta_n)}{n}
              + \frac{\mathrm{sd}_s^2(\bar\Delta_s)}{S}

    Args:
        a: One value per seed and test image; n = 1 where there is one value a run.
        b: The same, of the same images.
        unit: Of the values.

    Raises:
        InputError: The two are of different shapes.

    Example:
        >>> import torch
        >>> a = torch.tensor([[1.0, 3.0], [2.0, 4.0]])
        >>> print(difference(a, torch.zeros_like(a)))
        +2.500 ± 1.118 nats (2 seeds, 2 test images)
    """
    if a.shape != b.shape:
        raise InputError(
            "a difference",
            expected="values of the same seeds and test images",
            got=f"{tuple(a.shape)} and {tuple(b.shape)}",
        )
    delta = a.double() - b.double()
    S, n = delta.shape
    square = sum(
        part.var().item() / len(part) for part in (delta.mean(0), delta.mean(1)) if len(part) > 1
    )
    error = math.sqrt(square) if S * n > 1 else math.nan
    return Difference(delta.mean().item(), error, S, n if n > 1 else 0, unit)


@dataclass(frozen=True)
class Claim:
    """What a paper says, and what we found.

    Attributes:
        text: The claim, in a sentence.
        source: Where the paper says so.
        verdict: "reproduced", "contradicted" or "undecided" at this scale.
        evidence: The difference with its error, in nats where it has that unit.
        value: The difference; ``None`` where the evidence is not one number.
        error: Its standard error.
    """

    text: str
    source: str
    verdict: Verdict
    evidence: str
    value: float | None = None
    error: float | None = None


def judged(text: str, source: str, found: Difference, sign: Literal[1, -1] = 1) -> Claim:
    """Returns the claim with its verdict.

    Args:
        text: The claim.
        source: Where the paper says so.
        found: Our difference.
        sign: The published sign of it.

    Example:
        >>> judged("A is better than B", "a paper", Difference(0.5, 0.1, 2, 100)).verdict
        'reproduced'
    """
    outcome = verdict(found.value, found.error, sign)
    return Claim(text, source, outcome, str(found), found.value, found.error)


def agreement(text: str, value: float, error: float, published: Published) -> Claim:
    """Returns whether our number is the published one, after the full schedule only.

    Reproduced if the two differ by at most 0.5 nat, contradicted if by more than that and two
    standard errors of ours, undecided between.

    Example:
        >>> agreement("NLL", 85.0, 0.1, Published(84.78, "a paper")).verdict
        'reproduced'
    """
    distance = abs(value - published.value)
    outcome: Verdict = (
        "reproduced"
        if distance <= TOLERANCE
        else "contradicted"
        if distance > TOLERANCE + ERRORS * error
        else "undecided"
    )
    evidence = f"{value:.2f} ± {error:.2f} against {published} (within {TOLERANCE:g} nat?)"
    return Claim(text, published.source, outcome, evidence, value - published.value, error)


def without_verdict(claims: Iterable[Claim]) -> tuple[Claim, ...]:
    """Returns claims as undecided: other data and a few steps of training decide nothing.

    The evidence stays, so that a smoke run shows all that a longer one would.

    Example:
        >>> claim = judged("A is better", "a paper", Difference(0.5, 0.1, 2, 100))
        >>> without_verdict([claim])[0].verdict
        'undecided'
    """
    reason = "; the smoke scale decides nothing"
    return tuple(
        replace(claim, verdict="undecided", evidence=claim.evidence + reason) for claim in claims
    )
