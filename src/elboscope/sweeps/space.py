r"""The space of hyper-parameters: choices and ranges, their grid, and their draws.

A range is uniform in the value, or with ``log`` in its logarithm. A *choice* is drawn without
order: 16 and 32 are no nearer to each other than 16 and 1024, so numbers belong into ranges where
a sampler is to learn from neighbours.
"""

from __future__ import annotations

__all__ = ["Choices", "Parameters", "Range", "Value", "grid"]

import itertools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from elboscope.core import InputError

if TYPE_CHECKING:
    from optuna.trial import Trial as Draw

Value = object
"""What YAML can hold: a number, a text, a list, ..."""


@dataclass(frozen=True)
class Choices:
    """Some values, of any kind.

    Args:
        name: The dotted name of the hyper-parameter, for messages.
        values: At least one, each once.

    Raises:
        InputError: None, or one twice.

    Example:
        >>> Choices("model.hidden", ((16,), (32, 32))).values
        ((16,), (32, 32))
    """

    name: str
    values: tuple[Value, ...]

    def __post_init__(self) -> None:
        texts = [json.dumps(v) for v in self.values]
        if not texts:
            raise InputError(self.name, expected="at least one value", got="none")
        twice = next((t for t in texts if texts.count(t) > 1), None)
        if twice is not None:
            raise InputError(self.name, expected="each value once", got=f"{twice} twice")

    def points(self) -> tuple[Value, ...]:
        """Returns all values."""
        return self.values

    def ends(self) -> tuple[Value, ...]:
        """Returns the values that stand for all where a configuration is checked: each."""
        return self.values

    def key(self, value: Value) -> str:
        """Returns the text under which the journal knows a value."""
        return json.dumps(value)

    def draw(self, draw: Draw) -> Value:
        """Draws one; asked again of the same draw, the answer is the same."""
        text = draw.suggest_categorical(self.name, [json.dumps(v) for v in self.values])
        return self.values[[json.dumps(v) for v in self.values].index(str(text))]

    def __str__(self) -> str:
        return ", ".join(map(str, self.values))


@dataclass(frozen=True)
class Range:
    """All numbers from ``low`` to ``high``, whole ones if both are.

    Args:
        name: The dotted name of the hyper-parameter, for messages.
        low: The least.
        high: The largest.
        log: Uniform in the logarithm.
        num_points: Of a grid, ends included; without it the range has no grid.

    Raises:
        InputError: low ≥ high, a value that is not finite, a logarithm of what is not positive.

    Example:
        >>> Range("rate", 1e-4, 1e-2, log=True, num_points=3).points()
        (0.0001, 0.001, 0.01)
        >>> Range("units", 10, 20, num_points=3).points()
        (10, 15, 20)
    """

    name: str
    low: int | float
    high: int | float
    log: bool = False
    num_points: int | None = None

    def __post_init__(self) -> None:
        def require(holds: bool, expected: str, got: object) -> None:
            if not holds:
                raise InputError(self.name, expected=expected, got=str(got))

        ends = f"low {self.low}, high {self.high}"
        require(math.isfinite(self.low) and math.isfinite(self.high), "finite ends", ends)
        require(self.low < self.high, "low < high", ends)
        require(not self.log or self.low > 0, "low > 0, for a logarithm", ends)
        points = self.num_points
        require(points is None or points >= 2, "points: a whole number ≥ 2", points)

    @property
    def whole(self) -> bool:
        """Whether the values are whole numbers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def points(self) -> tuple[Value, ...]:
        """Returns equally spaced values, in the logarithm with ``log``.

        Raises:
            InputError: How many was not said.
        """
        if self.num_points is None:
            raise InputError(
                self.name, expected="points, how many a grid takes of a range", got="none",
                do="For example {low: 1.0e-4, high: 1.0e-2, log: true, points: 3}.",
            )  # fmt: skip
        steps = [i / (self.num_points - 1) for i in range(self.num_points)]
        inner = [self._between(t) for t in steps[1:-1]]
        return tuple(dict.fromkeys((self.low, *inner, self.high)))

    def _between(self, t: float) -> int | float:
        if self.log:
            value = math.exp((1 - t) * math.log(self.low) + t * math.log(self.high))
        else:
            value = (1 - t) * self.low + t * self.high
        return round(value) if self.whole else float(f"{value:.12g}")

    def ends(self) -> tuple[Value, ...]:
        """Returns the values that stand for all where a configuration is checked: both ends."""
        return (self.low, self.high)

    def key(self, value: Value) -> int | float:
        """Returns the number under which the journal knows a value: itself."""
        assert isinstance(value, int | float)
        return value

    def draw(self, draw: Draw) -> Value:
        """Draws one; asked again of the same draw, the answer is the same."""
        if self.whole:
            return draw.suggest_int(self.name, int(self.low), int(self.high), log=self.log)
        return draw.suggest_float(self.name, self.low, self.high, log=self.log)

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}{', logarithmic' if self.log else ''}"


Parameters = Mapping[str, Choices | Range]


def grid(parameters: Parameters) -> list[dict[str, Value]]:
    """Returns every combination; the last hyper-parameter changes fastest.

    Example:
        >>> grid({"a": Choices("a", (1, 2)), "b": Choices("b", ("x",))})
        [{'a': 1, 'b': 'x'}, {'a': 2, 'b': 'x'}]
    """
    values = [parameter.points() for parameter in parameters.values()]
    return [dict(zip(parameters, point, strict=True)) for point in itertools.product(*values)]
