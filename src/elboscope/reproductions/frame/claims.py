r"""A published claim is a sign; a verdict says whether our difference has it.

.. math:: \text{reproduced} \iff s\,\hat\Delta > 2\,\mathrm{se}(\hat\Delta), \qquad
          \text{contradicted} \iff s\,\hat\Delta < -2\,\mathrm{se}(\hat\Delta)

and undecided otherwise. The error has two parts, which add in quadrature: of the test images,
on which two models are compared in pairs, and of the runs, each with its own seed. Few runs tell
little of their spread: it is pooled over the entries of a table, and enlarged by Student's
quantile, so that two errors are always 95 %. With one seed the second part is unknown, and the
verdict is about these two trained models alone.
"""

from __future__ import annotations

__all__ = [
    "Claim",
    "Difference",
    "Published",
    "Verdict",
    "agreement",
    "difference",
    "judge",
    "references",
    "run_error",
    "student",
    "verdict",
    "without_verdict",
]

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

from jaxtyping import Float
from scipy.special import stdtrit
from torch import Tensor

from elboscope.core import InputError

from .. import listed

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
    """A mean difference, its standard error, and how many seeds and images are behind it."""

    value: float
    error: float
    num_seeds: int
    num_data: int
    unit: str = "nats"
    data: str = "test images"

    def __str__(self) -> str:
        seeds = f"{self.num_seeds} seed{'' if self.num_seeds == 1 else 's'}"
        data = f", {self.num_data} {self.data}" if self.num_data else ""
        return f"{self.value:+.3f} ± {self.error:.3f} {self.unit} ({seeds}{data})"


def difference(
    a: Float[Tensor, "S n"],
    b: Float[Tensor, "S_b n_b"],
    *,
    runs: float | None = None,
    unit: str = "nats",
    data: str = "test images",
) -> Difference:
    r"""Returns the mean of a − b over seeds and test images, compared in pairs.

    .. math:: \mathrm{se}^2 = \frac{\mathrm{sd}_n^2(\bar\Delta_n)}{n} + \mathrm{se}_\mathrm{runs}^2

    Args:
        a: One value per seed and test image; n = 1 where there is one value a run.
        b: The same, of the same images.
        runs: The error that stems from the runs, see :func:`run_error`; by default that of these
            S differences alone.
        unit: The unit of the values.
        data: What the n are.

    Raises:
        InputError: The two are of different shapes.

    Example:
        >>> import torch
        >>> a = torch.tensor([[1.0, 3.0], [2.0, 4.0]])
        >>> print(difference(a, torch.zeros_like(a), runs=0.5))
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
    images = delta.mean(0).var().item() / n if n > 1 else 0.0
    if runs is None:
        runs = math.sqrt(delta.mean(1).var().item() / S) * student(S - 1) if S > 1 else 0.0
    error = math.sqrt(images + runs**2) if S * n > 1 else math.nan
    return Difference(delta.mean().item(), error, S, n if n > 1 else 0, unit, data)


def run_error(entries: Iterable[Float[Tensor, "S n"]]) -> float:
    r"""Returns the error of a difference of two entries that stems from their runs.

    .. math:: \sqrt{\tfrac2S\, \overline{\mathrm{sd}_s^2}}\;\cdot t_{E(S-1)} / 2

    The spread over seeds is pooled over all E entries, as if it were the same for each.

    Args:
        entries: Values of each entry; none of them may be of other seeds.

    Returns:
        In the unit of the values; 0 for one seed, which shows no spread.

    Example:
        >>> import torch
        >>> one = torch.tensor([[1.0], [3.0]])
        >>> round(run_error([one] * 1000), 3)  # √(2/2 · 2)
        1.414
    """
    means = [values.double().mean(1) for values in entries]
    S = len(means[0])
    if S == 1:
        return 0.0
    variance = sum(mean.var().item() for mean in means) / len(means)
    return math.sqrt(2 * variance / S) * student(len(means) * (S - 1))


def student(degrees: int) -> float:
    """Returns by how much an error grows because its size is itself an estimate.

    Example:
        >>> [round(student(n), 2) for n in (1, 3, 10, 1000)]
        [6.35, 1.59, 1.11, 1.0]
    """
    return max(1.0, float(stdtrit(degrees, 0.975)) / ERRORS)


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


def judge(text: str, source: str, found: Difference, sign: Literal[1, -1] = 1) -> Claim:
    """Returns the claim with its verdict.

    Args:
        text: The claim.
        source: Where the paper says so.
        found: Our difference.
        sign: The published sign of it.

    Example:
        >>> judge("A is better than B", "a paper", Difference(0.5, 0.1, 2, 100)).verdict
        'reproduced'
    """
    outcome = verdict(found.value, found.error, sign)
    return Claim(text, source, outcome, str(found), found.value, found.error)


def agreement(
    text: str, value: float, error: float, published: Published, *, tolerance: float = TOLERANCE
) -> Claim:
    """Returns whether our number is the published one, after the full schedule only.

    Reproduced if the two differ by at most the tolerance (0.5 nat), contradicted if by more than
    that and two standard errors of ours, undecided between.

    Example:
        >>> agreement("NLL", 85.0, 0.1, Published(84.78, "a paper")).verdict
        'reproduced'
    """
    distance = abs(value - published.value)
    outcome: Verdict = (
        "reproduced"
        if distance <= tolerance
        else "contradicted"
        if distance > tolerance + ERRORS * error
        else "undecided"
    )
    evidence = f"{value:.2f} ± {error:.2f} against {published} (within {tolerance:g} nat?)"
    return Claim(text, published.source, outcome, evidence, value - published.value, error)


def without_verdict(claims: Iterable[Claim]) -> tuple[Claim, ...]:
    """Returns claims as undecided: other data and a few steps of training decide nothing.

    The evidence stays, so that a smoke run shows all that a longer one would.

    Example:
        >>> claim = judge("A is better", "a paper", Difference(0.5, 0.1, 2, 100))
        >>> without_verdict([claim])[0].verdict
        'undecided'
    """
    reason = "; the smoke scale decides nothing"
    return tuple(
        replace(claim, verdict="undecided", evidence=claim.evidence + reason) for claim in claims
    )


# Published numbers: data with a source, read from JSON files, never written in code.
#
# The file ``NAME.json`` beside an experiment's module holds the paper, what its numbers were
# computed with, and one entry a number. A number is compared with ours and is no truth: for one
# recipe, implementations and runs spread by 0.2 to 1 nat.


@dataclass(frozen=True)
class Published:
    """A number as its paper printed it.

    Attributes:
        value: In the unit of the table.
        source: Paper, table, arXiv id.
        error: What stands behind its ±; ``None`` where nothing does.
        error_kind: What the ± is, such as "sd over 4 runs"; empty without one.
        epochs: Epochs of its training; ``None`` where the paper trained nothing.
        num_samples: K of its estimate.
    """

    value: float
    source: str
    error: float | None = None
    error_kind: str = ""
    epochs: int | None = None
    num_samples: int | None = None

    def __str__(self) -> str:
        return f"{self.value:g}" if self.error is None else f"{self.value:g} ± {self.error:g}"


def references(name: str) -> Mapping[str, Published]:
    """Returns the published numbers of an experiment, by key.

    Args:
        name: Name of the experiment.

    Example:
        >>> number = references("iwae-table1")["mnist, 1 layer, IWAE k=50, NLL"]
        >>> number.value, number.source, number.epochs
        (84.78, 'Burda et al. 2016, Table 1, arXiv 1509.00519', 3280)
    """
    path = Path(__file__).parent.parent / listed(name).paper / f"{name}.json"
    entries = json.loads(path.read_text(encoding="utf-8"))["numbers"]
    return {entry.pop("key"): Published(**entry) for entry in entries}
