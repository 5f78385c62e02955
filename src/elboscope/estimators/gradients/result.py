r"""What :func:`~elboscope.estimators.gradients.snr` returns: ratios with their doubt, and slopes.

The slope of log SNR against log K is fitted to the corrected ratios, by least squares weighted
with the bootstrap's errors; its own error is widened by the misfit where the points do not lie on
a line. Theory has −½ for the encoder and +½ for the decoder, for large K.
"""

from __future__ import annotations

__all__ = ["BlockSNR", "GradientSNR", "Slope", "log_slope"]

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from jaxtyping import Float64
from torch import Tensor

from elboscope.core import InputError

from .draws import Part
from .moments import QUANTILE, Direction, Interval, Moments, SnrSummary, floor


class Slope(NamedTuple):
    """A fitted exponent and its standard error."""

    value: float
    stderr: float

    def __str__(self) -> str:
        return f"{self.value:+.3f} ± {self.stderr:.3f}"


@dataclass(frozen=True, eq=False)
class BlockSNR:
    """Signal and noise of one tensor of parameters, or of all of a part.

    Attributes:
        objective: Its name.
        num_samples: K.
        part: "encoder" or "decoder".
        block: The parameter's name, or "all".
        summary: The SNR over coordinates.
        interval: 95 % bootstrap interval of ``snr``.
        corrected_interval: The same of ``corrected``.
        direction: Along and across the mean gradient.
        moments: Mean and standard deviation of every coordinate.
    """

    objective: str
    num_samples: int
    part: Part
    block: str
    summary: SnrSummary
    interval: Interval
    corrected_interval: Interval
    direction: Direction
    moments: Moments

    @property
    def snr(self) -> float:
        """``|mean|/sd``, averaged over coordinates; it has a floor.

        A coordinate counts by the share of draws in which it has a gradient.
        """
        return self.summary.mean

    @property
    def corrected(self) -> float:
        """Root mean square over coordinates of the SNR, with the noise's part 1/R taken off."""
        return self.summary.corrected

    @property
    def dsnr(self) -> float:
        """E[‖Δ∥‖/‖Δ⊥‖]; NaN for a single coordinate."""
        return self.direction.mean

    @property
    def mean(self) -> Float64[Tensor, " P"]:
        """The mean gradient of what is minimised."""
        return self.moments.mean

    @property
    def std(self) -> Float64[Tensor, " P"]:
        """The standard deviation of one draw."""
        return self.moments.std

    @property
    def floor(self) -> float:
        """What a coordinate without signal reads with as many draws."""
        return floor(self.moments.num_draws)

    @property
    def is_noise(self) -> bool:
        """Whether the draws show no signal: neither of two things that noise does 1 time in 40.

        The corrected ratio's interval begins above 0; or the mean of SNR² exceeds the quantile
        of χ²/R with one degree of freedom, which no correlation of the coordinates can raise.
        """
        beyond = self.corrected**2 + 1 / self.moments.num_draws > QUANTILE / self.moments.num_draws
        return not (self.corrected_interval[0] > 0 or beyond)

    def to_row(self) -> dict[str, object]:
        """Returns the numbers without the tensors."""
        return {
            "objective": self.objective,
            "num_samples": self.num_samples,
            "part": self.part,
            "block": self.block,
            "parameters": len(self.mean),
            "without_gradient": self.summary.silent,
            "snr": self.snr,
            "snr_low": self.interval[0],
            "snr_high": self.interval[1],
            "snr_median": self.summary.median,
            "snr_corrected": self.corrected,
            "snr_corrected_low": self.corrected_interval[0],
            "snr_corrected_high": self.corrected_interval[1],
            "dsnr": self.dsnr,
            "dsnr_low": self.direction.interval[0],
            "dsnr_high": self.direction.interval[1],
            "floor": self.floor,
        }


@dataclass(frozen=True, eq=False)
class GradientSNR:
    """Ratios of several objectives and K at one model and minibatch.

    Attributes:
        blocks: One entry for each objective, K, part, and tensor of it ("all" first).
        num_draws: R.
        settings: The seed, the number of datapoints, how draws were made, the likelihood.
        data_id: Checksum of the minibatch.
    """

    blocks: tuple[BlockSNR, ...]
    num_draws: int
    settings: Mapping[str, object]
    data_id: str

    @property
    def floor(self) -> float:
        """What a coordinate without signal reads, √(2/(πR)) ≈ 0.8/√R."""
        return floor(self.num_draws)

    def find(self, objective: str, num_samples: int, part: Part, block: str = "all") -> BlockSNR:
        """Returns one entry.

        Raises:
            InputError: It was not measured.
        """
        wanted = (objective, num_samples, part, block)
        for entry in self.blocks:
            if (entry.objective, entry.num_samples, entry.part, entry.block) == wanted:
                return entry
        names = sorted({str((e.objective, e.num_samples, e.part)) for e in self.blocks})
        raise InputError("find", expected=f"one of {', '.join(names)}", got=str(wanted))

    def slope(self, objective: str, part: Part, *, least: int = 1) -> Slope:
        """Returns the slope of log SNR (corrected, all of a part) against log K.

        Args:
            objective: Its name.
            part: "encoder" or "decoder".
            least: The smallest K of the fit: the law is one of large K.

        Raises:
            InputError: Fewer than two K, or one without any signal above the noise, or one whose
                ratio is not a finite number with an interval (NaN gradients; no noise at all).
        """
        entries = [
            e
            for e in self.blocks
            if (e.objective, e.part, e.block) == (objective, part, "all") and e.num_samples >= least
        ]
        for e in entries:
            if e.is_noise:
                raise InputError(
                    f"slope of {objective}, {part}",
                    expected="a signal at every K",
                    got=f"none above the noise at K = {e.num_samples} with {self.num_draws} draws",
                    do="Use more draws, or smaller K.",
                )
            if not all(map(math.isfinite, (e.corrected, *e.corrected_interval))):
                low, high = e.corrected_interval
                raise InputError(
                    f"slope of {objective}, {part}",
                    expected="a finite ratio with an interval at every K",
                    got=f"{e.corrected:.3g} [{low:.3g}, {high:.3g}] at K = {e.num_samples}",
                    do="NaN: the model has diverged. Infinite: gradients that no draw changes.",
                )
        errors = [(e.corrected_interval[1] - e.corrected_interval[0]) / 3.92 for e in entries]
        return log_slope(
            [e.num_samples for e in entries],
            [e.corrected for e in entries],
            errors,
        )

    def to_rows(self) -> list[dict[str, object]]:
        """Returns one dictionary an entry, for a table or a data frame."""
        return [entry.to_row() for entry in self.blocks]

    def __str__(self) -> str:
        lines = [
            f"SNR of gradients, {self.num_draws} draws of a minibatch of "
            f"{self.settings.get('num_data', '?')}; no signal reads {self.floor:.2g}"
        ]
        lines += [_line(e) for e in self.blocks if e.block == "all"]
        return "\n".join(lines)


def _line(e: BlockSNR) -> str:
    low, high = e.interval
    noise = "  noise only" if e.is_noise else ""
    return (
        f"{e.objective}, K={e.num_samples}, {e.part}: {e.snr:.3g} [{low:.3g}, {high:.3g}], "
        f"DSNR {e.dsnr:.3g}{noise}"
    )


def log_slope(x: Sequence[int | float], y: Sequence[float], stderr: Sequence[float]) -> Slope:
    """Fits log y = a + b log x and returns b.

    Args:
        x: Two or more positive numbers.
        y: The same number of positive values.
        stderr: Their errors.

    Raises:
        InputError: Fewer than two different x; a number that is not positive and finite.

    Example:
        >>> str(log_slope([1, 4, 16], [8.0, 4.0, 2.0], [0.8, 0.4, 0.2]))
        '-0.500 ± 0.051'
    """
    if len(set(x)) < 2:
        raise InputError("log_slope", expected="two or more different x", got=str(list(x)))
    for name, numbers in (("x", x), ("y", y), ("stderr", stderr)):
        if not all(math.isfinite(v) and v > 0 for v in numbers):
            expected = f"positive, finite {name}"
            raise InputError("log_slope", expected=expected, got=str(list(numbers)))
    weight = [(v / s) ** 2 for v, s in zip(y, stderr, strict=True)]
    u, v = [math.log(a) for a in x], [math.log(b) for b in y]
    total = sum(weight)
    u0 = sum(w * a for w, a in zip(weight, u, strict=True)) / total
    v0 = sum(w * b for w, b in zip(weight, v, strict=True)) / total
    spread = sum(w * (a - u0) ** 2 for w, a in zip(weight, u, strict=True))
    b = sum(w * (a - u0) * (c - v0) for w, a, c in zip(weight, u, v, strict=True)) / spread
    misfit = sum(w * (c - v0 - b * (a - u0)) ** 2 for w, a, c in zip(weight, u, v, strict=True))
    widened = max(1.0, misfit / max(1, len(x) - 2))
    return Slope(b, math.sqrt(widened / spread))
