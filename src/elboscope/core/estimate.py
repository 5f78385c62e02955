"""The third noun: a number that carries its doubt."""

from __future__ import annotations

__all__ = [
    "SEVERITIES",
    "VERSION",
    "Axis",
    "Estimate",
    "Finding",
    "Severity",
    "Side",
    "data_id",
    "paired_difference",
]

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Literal, get_args

from jaxtyping import Float
from torch import Tensor

from .errors import InputError

Side = Literal["lower", "upper", "unbiased", "none"]
Axis = Literal["datapoint", "draw", "unit", "split", "group", "pair", "seed"]
# The version that is stored beside every number.
try:
    VERSION = version("elboscope")
except PackageNotFoundError:  # a source tree on the path, which no one installed
    VERSION = "0+source"
_MARK: dict[Side, str] = {"lower": "≥", "upper": "≤", "unbiased": "=", "none": "≈"}


@dataclass(frozen=True, eq=False, repr=False)
class Estimate:
    r"""A quantity with its errors and the side of the truth on which its expectation lies.

    Attributes:
        name: The quantity, in the literature's words: ``"log p(x)"``.
        method: How it was estimated: ``"importance sampling"``.
        values: One value per datapoint, draw or latent unit, in nats.
        mc_stderr: The Monte Carlo standard error of each value: it shrinks with more samples.
        side: ``"lower"`` if the expectation lies below the quantity, ``"upper"`` if above.
        stderr: The standard error of the mean (of the total, for units): it shrinks with more
            data. Stored, since it is not always sd/√n: draws may share one mixture.
        axis: What the values run over.
        diagnostics: Per-value diagnostics (ESS, k̂), as long as ``values``.
        settings: What is printed and stored beside the number: seed, likelihood, binarisation, and
            the counts below. For display only: code reads the typed fields.
        data_id: Identifies the data; estimates are subtracted only on the same data.
        nonnegative: Whether the quantity cannot be below zero.
        measured_in: The unit in which it is printed; variances are not in nats.
        num_samples: K, as taken from the tensor of weights or draws; None where there is no K.
        num_temperatures: T, the increments of annealing, as taken from the tensor of β.
        num_chains: C, the chains of each datapoint, as taken from the tensor of weights.
        headline: What is printed instead of the name and the number, where another number says
            more than the mean or the total: ``"7 of 10 units active"``.
        notes: What was done to the data before, in words: ``"8-bit values scaled by 1/255"``.
        mixture_size: N, the posteriors of the mixture q_N; None where there is no mixture.
        held_out: Whether the values belong to data that nothing was fitted to.
        shared_stderr: The part of ``stderr`` that all values share, such as that of one set of
            prior draws; it does not shrink with more data.
        num_images: Images behind a score of samples; None where the values count them.
        expected: What perfect samples score on average; NaN where that is not known.
    """

    name: str
    method: str
    values: Float[Tensor, " n"]
    mc_stderr: Float[Tensor, " n"]
    side: Side
    stderr: float
    axis: Axis = "datapoint"
    diagnostics: Mapping[str, Tensor] = field(default_factory=dict)
    settings: Mapping[str, object] = field(default_factory=dict)
    data_id: str = ""
    nonnegative: bool = False
    measured_in: str = "nats"
    num_samples: int | None = None
    num_temperatures: int | None = None
    num_chains: int | None = None
    notes: tuple[str, ...] = ()
    headline: str = ""
    mixture_size: int | None = None
    held_out: bool = False
    shared_stderr: float = 0.0
    num_images: int | None = None
    expected: float = math.nan

    def __post_init__(self) -> None:
        object.__setattr__(self, "settings", self._shown())
        lengths = {"mc_stderr": self.mc_stderr, **self.diagnostics}
        for key, tensor in lengths.items():
            if tensor.shape != self.values.shape:
                raise ValueError(
                    f"{self.name}: {key} has shape {tuple(tensor.shape)}, "
                    f"values have {tuple(self.values.shape)}."
                )

    def _shown(self) -> Mapping[str, object]:
        """The settings with the counts: before them, or in place where they stand already."""
        counts = {
            "num_temperatures": self.num_temperatures,
            "num_chains": self.num_chains,
            "num_samples": self.num_samples,
        }
        known = {key: count for key, count in counts.items() if count is not None}
        missing = {key: count for key, count in known.items() if key not in self.settings}
        return {**missing, **self.settings, **known}

    @classmethod
    def per_datapoint(
        cls,
        name: str,
        method: str,
        values: Float[Tensor, " n"],
        mc_stderr: Float[Tensor, " n"],
        side: Side,
        **rest: object,
    ) -> Estimate:
        r"""Builds an estimate whose values are independent: stderr = sd/√n over datapoints.

        It contains both the spread of the data and the Monte Carlo error. With one datapoint
        there is no spread to measure, and the stderr is NaN.
        """
        stderr = standard_error(values)
        return cls(name, method, values, mc_stderr, side, stderr, **rest)  # type: ignore[arg-type]

    @property
    def mean(self) -> float:
        """The mean over the axis; for a KL per unit the total is what adds up, not this."""
        return self.values.double().mean().item()

    @property
    def total(self) -> float:
        """The sum over the axis: the KL of all units together."""
        return self.values.double().sum().item()

    @property
    def mc_error_of_mean(self) -> float:
        """The Monte Carlo part of the error of the mean, the data held fixed."""
        return self.mc_stderr.double().square().sum().sqrt().item() / len(self.values)

    def __repr__(self) -> str:
        return f"<Estimate: {self}>"

    def __str__(self) -> str:
        if self.headline:
            return f"{self.headline} ({self._how()})"
        value = self.total if self.axis == "unit" else self.mean
        what = f"total {self.name}" if self.axis == "unit" else self.name
        return f"{what} {_MARK[self.side]} {self._number(value)} ({self._how()})"

    def _number(self, value: float) -> str:
        if not math.isfinite(value):
            return f"{value} {self.measured_in}"
        digits = _digits(self.stderr)
        shown = f"{value:.{digits}f} ± {self.stderr:.{digits}f} {self.measured_in}"
        within = self.nonnegative and value < 0 and -value <= 2 * self.stderr
        return f"0 within the error [{shown}]" if within else shown

    def _how(self) -> str:
        count = "n" if self.axis == "datapoint" else f"{self.axis}s"
        parts = [f"{count}={len(self.values)}", self.method]
        parts += [f"K={self.settings['num_samples']}"] if "num_samples" in self.settings else []
        if "num_temperatures" in self.settings:
            parts.append(f"T={self.settings['num_temperatures']}")
            parts.append(f"{self.settings.get('num_chains', '?')} chains")
        parts += [str(self.settings[key]) for key in ("binarisation",) if key in self.settings]
        return ", ".join(parts)


def _digits(stderr: float) -> int:
    """Two decimals, and more where the error is smaller: its first two digits are shown."""
    if not math.isfinite(stderr) or stderr <= 0:
        return 4
    return min(8, max(2, 1 - math.floor(math.log10(stderr))))


def standard_error(values: Float[Tensor, " n"]) -> float:
    """Returns sd/√n; NaN for fewer than two values."""
    n = len(values)
    return values.double().std().item() / math.sqrt(n) if n > 1 else math.nan


def paired_difference(a: Estimate, b: Estimate, name: str, *, method: str = "") -> Estimate:
    """Returns a − b per datapoint, with the error of the paired difference.

    The two share the data, so most of its spread cancels. The difference of two bounds is not
    a bound: its side is ``"none"`` unless both are unbiased. The Monte Carlo errors are added
    as if independent, which overstates them where the two share their noise.

    Raises:
        InputError: The two are of different data, or do not run over the same axis.

    Example:
        >>> import torch
        >>> values, error = torch.tensor([1.0, 2.0]), torch.zeros(2)
        >>> a = Estimate.per_datapoint("log p(x)", "a", values, error, "lower", data_id="1f")
        >>> str(paired_difference(a, a, "gap"))
        'gap ≈ 0.0000 ± 0.0000 nats (n=2, a − a)'
    """
    if a.data_id != b.data_id or a.axis != b.axis or len(a.values) != len(b.values):
        raise InputError(
            f"{a.name} − {b.name}",
            expected="two estimates of the same data",
            got=f"data {a.data_id or '?'} ({len(a.values)} by {a.axis}) and "
            f"{b.data_id or '?'} ({len(b.values)} by {b.axis})",
            do="Evaluate both on one x: the error of the difference is that of the pairs.",
        )
    values = a.values.double() - b.values.double()
    mc_stderr = (a.mc_stderr.double().square() + b.mc_stderr.double().square()).sqrt()
    side: Side = "unbiased" if a.side == b.side == "unbiased" else "none"
    shared = {key: v for key, v in a.settings.items() if b.settings.get(key) == v}
    return Estimate.per_datapoint(
        name,
        method or f"{a.method} − {b.method}",
        values,
        mc_stderr,
        side,
        axis=a.axis,
        settings=shared,
        data_id=a.data_id,
        num_samples=a.num_samples if a.num_samples == b.num_samples else None,
        num_temperatures=a.num_temperatures if a.num_temperatures == b.num_temperatures else None,
        num_chains=a.num_chains if a.num_chains == b.num_chains else None,
        notes=tuple(note for note in a.notes if note in b.notes),
        mixture_size=a.mixture_size if a.mixture_size == b.mixture_size else None,
        held_out=a.held_out and b.held_out,
    )


def data_id(x: Tensor) -> str:
    """Returns twelve hexadecimal digits that identify a tensor's shape, dtype and content.

    Example:
        >>> import torch
        >>> data_id(torch.zeros(2)) == data_id(torch.zeros(2))
        True
        >>> data_id(torch.zeros(2)) == data_id(torch.zeros(2, 1))
        False
    """
    array = x.detach().cpu().contiguous().numpy()
    digest = hashlib.sha256(f"{array.shape} {array.dtype}".encode())
    digest.update(array.tobytes())
    return digest.hexdigest()[:12]


# What a check concludes from estimates.

Severity = Literal["ok", "warning", "problem", "undecided", "unavailable"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)


@dataclass(frozen=True)
class Finding:
    """A verdict: what is wrong, how sure, and what to do next.

    Attributes:
        check: The check's name, such as ``"prior hole"``.
        severity: *Undecided* when the threshold lies within the error; *unavailable* when the
            model cannot be asked, or the budget did not reach.
        summary: One sentence with the numbers, their errors and units.
        evidence: The numbers behind it, by name.
        action: What to do next, as a command or code that runs today. Every warning and every
            problem has one.

    Raises:
        ValueError: A warning or a problem without an action; an unknown severity.
    """

    check: str
    severity: Severity
    summary: str
    evidence: Mapping[str, object] = field(default_factory=dict)
    action: str = ""

    def __post_init__(self) -> None:
        if self.severity not in SEVERITIES:
            raise ValueError(f"severity: expected one of {SEVERITIES}; got {self.severity!r}.")
        if self.severity in ("warning", "problem") and not self.action:
            raise ValueError(f"{self.check}: a {self.severity} says what to do next (action).")

    def __str__(self) -> str:
        return f"[{self.severity}] {self.check}: {self.summary}"
