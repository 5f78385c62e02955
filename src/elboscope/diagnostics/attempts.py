"""One quantity at a time: it is computed, or the reason why not is kept under its name."""

from __future__ import annotations

__all__ = ["Attempts", "Progress"]

from collections.abc import Callable
from typing import Protocol, TypeVar, runtime_checkable

from torch import Tensor

from elboscope.core import Estimate
from elboscope.core.torch_errors import first_line, met_nan
from elboscope.estimators import DiscriminatorKL, ElboSurgery, LogLikelihood

T = TypeVar("T")


@runtime_checkable
class Progress(Protocol):
    """What is told before each quantity."""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Receives the quantity about to be computed, and how many of all are done."""
        ...


class Attempts:
    """The memory of what was tried: reasons for what is missing, counts of what was not finite.

    Args:
        progress: Told before each attempt.
        total: How many attempts there will be.
        suspect: The model is known not to be finite, so that any failure of torch is its doing.
    """

    def __init__(self, progress: Progress | None, total: int, *, suspect: bool = False) -> None:
        self.suspect = suspect
        self._progress, self._done, self._total = progress, 0, total
        self.skipped: dict[str, str] = {}
        self.nonfinite: dict[str, int] = {}

    def __call__(self, name: str, reason: str, make: Callable[[], T]) -> T | None:
        """Returns ``make()``, or ``None`` after noting why not.

        Args:
            name: The quantity.
            reason: Why it cannot be had; empty if nothing speaks against it.
            make: Computes it. What torch refuses about values (a NaN parameter), what a
                distribution does not implement, and singular matrices are reasons too; a defect
                of another kind is not caught.
        """
        if self._progress is not None:
            self._progress(name, self._done, self._total)
        self._done += 1
        if reason:
            self.skipped[name] = reason
            return None
        try:
            return self._finite(name, make())
        except NotImplementedError as error:
            self.skipped[name] = (
                f"a distribution of the model does not offer it ({first_line(error)})"
            )
        except ValueError as error:
            self.skipped[name] = first_line(error)
        except RuntimeError as error:
            if not (self.suspect or met_nan(error)):
                raise
            self.skipped[name] = f"the model's numbers are not usable: {first_line(error)}"
        return None

    def _finite(self, name: str, quantity: T) -> T | None:
        bad = sum(int((~v.isfinite()).sum()) for v in _values(quantity))
        if not bad:
            return quantity
        count = sum(v.numel() for v in _values(quantity))
        self.nonfinite[name] = bad
        self.skipped[name] = f"{bad} of its {count} values are NaN or infinite"
        return None


def _values(quantity: object) -> list[Tensor]:
    """The numbers of an estimate, of a tuple of them, or of a tensor."""
    if isinstance(quantity, Estimate):
        return [quantity.values]
    if isinstance(quantity, Tensor):
        return [quantity]
    if isinstance(quantity, DiscriminatorKL | ElboSurgery | LogLikelihood):
        quantity = quantity.parts()
    if isinstance(quantity, tuple):
        return [v for part in quantity for v in _values(part)]
    return []
