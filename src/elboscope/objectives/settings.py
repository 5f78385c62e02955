r"""Objectives as settings: a function of the model and a minibatch, with its keywords bound.

A bound of :mod:`elboscope.objectives` is a function ``(model, x, …) -> Bound``. What a user
chooses about it is its further parameters. :func:`objective` makes of the function a class whose
fields are these parameters, so that ``IWAE(num_samples=8)`` compares, prints and is recorded by
its settings, and is called by the training loop as ``objective(model, x, epoch)``. There is no
second list of the settings anywhere: the signature has their names, types, defaults and ranges.

**This is where an objective becomes an option of the command line**: :func:`known_objectives`
looks through the modules of this package, and ``elboscope train`` accepts every name it finds.
"""

from __future__ import annotations

__all__ = [
    "Count",
    "Nonnegative",
    "Objective",
    "Range",
    "Share",
    "Weight",
    "at_least",
    "cyclical",
    "entropy_annealing",
    "known_objectives",
    "linear_warm_up",
    "objective",
]

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import MISSING, field, fields, make_dataclass
from functools import cached_property, partial
from importlib import import_module
from pkgutil import iter_modules
from typing import Annotated, Any, Concatenate, NamedTuple, ParamSpec, cast, get_type_hints

from jaxtyping import Float
from torch import Tensor

from elboscope.core import Bound, InputError, LatentVariableModel

P = ParamSpec("P")

# Arguments that the training loop passes, and that are therefore no settings.
PASSED = ("model", "x", "epoch", "condition")


class Objective(ABC):
    """What training maximises, at a time in epochs."""

    @abstractmethod
    def __call__(self, model: LatentVariableModel, x: Float[Tensor, "B *X"], epoch: float) -> Bound:
        """Returns the bound per datapoint and the loss to follow."""

    def weight(self, epoch: float) -> float:
        """Returns the weight in force (β, λ, the KL's weight): 1 for a plain bound."""
        return 1.0

    def settled(self, epoch: float) -> bool:
        """Whether warm-up is over, so that weights may be selected by their held-out bound."""
        return True

    @property
    def settings(self) -> Mapping[str, Any]:
        """The settings by name; empty for an objective that no function was bound to."""
        return {}

    def binds(self, function: Callable[..., Bound]) -> bool:
        """Whether this is that function with its settings."""
        return False


class Weight(NamedTuple):
    """The weight in force, and the one at which warm-up is over (a plateau, with cycles)."""

    now: float
    final: float


class _Bound(Objective):
    """A function with its settings; the subclasses that :func:`objective` makes have the fields."""

    function: Callable[..., Bound]
    schedule: Callable[..., Weight] | None

    def __post_init__(self) -> None:
        hints = get_type_hints(self.function, include_extras=True)
        for name, value in self.settings.items():
            for allowed in getattr(hints[name], "__metadata__", ()):
                allowed.require(name, value)
        self._weight(0.0)  # a schedule refuses settings that exclude each other

    @property
    def settings(self) -> Mapping[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(cast(Any, self))}

    @cached_property
    def bound(self) -> Callable[..., Bound]:
        """The function with its settings."""
        return partial(self.function, **self.settings)

    @cached_property
    def in_time(self) -> bool:
        """Whether the function asks for the epoch."""
        return "epoch" in inspect.signature(self.function).parameters

    def __call__(self, model: LatentVariableModel, x: Float[Tensor, "B *X"], epoch: float) -> Bound:
        return self.bound(model, x, epoch=epoch) if self.in_time else self.bound(model, x)

    def _weight(self, epoch: float) -> Weight:
        if self.schedule is None:
            return Weight(1.0, 1.0)
        asked = list(inspect.signature(self.schedule).parameters)[1:]
        return self.schedule(epoch, **{name: self.settings[name] for name in asked})

    def weight(self, epoch: float) -> float:
        return self._weight(epoch).now

    def settled(self, epoch: float) -> bool:
        weight = self._weight(epoch)
        return weight.now >= weight.final

    def binds(self, function: Callable[..., Bound]) -> bool:
        return self.function is function

    def __getstate__(self) -> dict[str, Any]:
        return dict(self.settings)


def objective(
    name: str,
    function: Callable[Concatenate[LatentVariableModel, Tensor, P], Bound],
    *,
    schedule: Callable[..., Weight] | None = None,
    omit: tuple[str, ...] = (),
) -> Callable[P, Objective]:
    """Returns the class of an objective, whose fields are the parameters of its function.

    Assign it beside the function, in a module of :mod:`elboscope.objectives`, under the same
    name: ``elboscope train --objective NAME`` then knows it. Ranges are annotations of the
    parameters (:data:`Count`, :data:`Share`, :data:`Nonnegative`) and are checked when the
    objective is made.

    Args:
        name: What users and configurations write, and what is recorded.
        function: ``(model, x, …) -> Bound``; one with a parameter ``epoch`` is passed the time
            in epochs. ``condition`` is the training loop's.
        schedule: ``(epoch, …) -> Weight`` of some of the same settings; ``None`` is a weight of 1.
        omit: Parameters that stay at their defaults and are no settings.

    Returns:
        A frozen dataclass; its instances are :class:`Objective`.

    Raises:
        InputError: When an objective is made with a setting outside its range.

    Example:
        >>> from elboscope.objectives import iwae
        >>> IWAE = objective("IWAE", iwae)
        >>> IWAE(num_samples=8), IWAE(8) == IWAE(num_samples=8)
        (IWAE(num_samples=8), True)
        >>> IWAE(0)
        Traceback (most recent call last):
        elboscope.core.errors.InputError: num_samples: expected a whole number ≥ 1; got 0.
    """
    hints = get_type_hints(function)
    settings = [
        (p.name, hints[p.name], field(default=MISSING if p.default is p.empty else p.default))
        for p in inspect.signature(function).parameters.values()
        if p.name not in (*PASSED, *omit)
    ]
    namespace = {
        "__doc__": inspect.getdoc(function),
        "__module__": function.__module__,
        "function": staticmethod(function),
        "schedule": None if schedule is None else staticmethod(schedule),
    }
    made = make_dataclass(name, settings, bases=(_Bound,), namespace=namespace, frozen=True)
    made.__module__ = function.__module__
    return cast("Callable[P, Objective]", made)


def known_objectives() -> dict[str, type[Objective]]:
    """Returns every objective that a configuration may name, by its name.

    They are the classes that :func:`objective` made in the modules of :mod:`elboscope.objectives`.

    Example:
        >>> list(known_objectives())[:3]
        ['ELBO', 'BetaELBO', 'AnnealedEntropy']
    """
    package = import_module(__package__)
    modules = [import_module(f"{__package__}.{m.name}") for m in iter_modules(package.__path__)]
    return {
        name: found
        for module in modules
        for name, found in vars(module).items()
        if inspect.isclass(found) and issubclass(found, _Bound) and found is not _Bound
    }


# The ranges of settings, as annotations: ``num_samples: Count``.


class Range(NamedTuple):
    """What a setting may be: in words, and as a condition."""

    expected: str
    holds: Callable[[Any], bool]

    def require(self, name: str, value: object) -> None:
        """Raises an InputError unless the value is in the range."""
        if not self.holds(value):
            raise InputError(name, expected=self.expected, got=repr(value))


def at_least(least: int) -> Range:
    """Returns the range of whole numbers from ``least`` on.

    Example:
        >>> at_least(2).holds(2), at_least(2).holds(2.5), at_least(1).holds(True)
        (True, False, False)
    """
    return Range(
        f"a whole number ≥ {least}",
        lambda v: isinstance(v, int) and not isinstance(v, bool) and v >= least,
    )


Count = Annotated[int, at_least(1)]
Share = Annotated[float, Range("a number in [0, 1]", lambda v: 0 <= v <= 1)]
Nonnegative = Annotated[float, Range("a finite number ≥ 0", lambda v: v >= 0 and math.isfinite(v))]


# Weights of an objective as pure functions of training time.
#
# Time is counted in epochs, as a real number: after step t of an epoch of T steps it has grown by
# t/T. A schedule has no state, so a resumed run needs to remember nothing but where it was, and a
# test can ask for any moment. Which weight multiplies what (the KL, the entropy) is the
# objective's business.


def linear_warm_up(epoch: float, length: float, start: float = 0.0, end: float = 1.0) -> float:
    r"""Returns :math:`\mathrm{start} + (\mathrm{end} - \mathrm{start}) \min(1, t / \mathrm{length})`.

    Args:
        epoch: t, in epochs.
        length: Epochs after which the end is reached; 0 is no warm-up.
        start: The value at t = 0.
        end: The value from ``length`` on.

    References:
        | Generating Sentences from a Continuous Space (Bowman et al., 2016), arXiv 1511.06349
        | Ladder Variational Autoencoders (Sønderby et al., 2016), arXiv 1602.02282

    Example:
        >>> linear_warm_up(5.0, 10.0), linear_warm_up(50.0, 10.0)
        (0.5, 1.0)
    """  # noqa: E501
    if epoch >= length:
        return end
    return start + (end - start) * epoch / length


def cyclical(epoch: float, period: float, rising: float = 0.5, end: float = 1.0) -> float:
    r"""Returns a weight that climbs from 0 to ``end`` anew in each period.

    Within a period it rises linearly for the fraction ``rising`` and then stays at ``end``.

    Args:
        epoch: t, in epochs.
        period: Length of one cycle in epochs.
        rising: Fraction of the period spent rising, in (0, 1].
        end: The value of the plateau.

    References:
        | Cyclical Annealing Schedule (Fu et al., 2019), arXiv 1903.10145

    Example:
        >>> [cyclical(t, 10.0) for t in (0.0, 2.5, 5.0, 9.9, 12.5)]
        [0.0, 0.5, 1.0, 1.0, 0.5]
    """
    return end * min(1.0, math.fmod(epoch, period) / (rising * period))


def entropy_annealing(epoch: float, length: float) -> float:
    r"""Returns :math:`\lambda = \min(1, \lceil t \rceil / \mathrm{length})`, a staircase.

    The first epoch has λ = 1/length and never 0, where the optimal posterior is a point.

    References:
        | Inference Suboptimality in Variational Autoencoders (Cremer et al., 2018),
          arXiv 1801.03558

    Example:
        >>> [entropy_annealing(t, 4.0) for t in (0.01, 1.0, 1.01, 3.5, 9.0)]
        [0.25, 0.25, 0.5, 1.0, 1.0]
    """
    return 1.0 if length <= 0 else min(1.0, max(1, math.ceil(epoch)) / length)
