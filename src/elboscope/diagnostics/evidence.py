"""What a diagnosis knows: every number computed once, shared by all checks and by the report.

Checks are pure functions of this record. They never see the model, so that a check can be tested
on numbers written by hand, and a diagnosis can be read again from them.
"""

from __future__ import annotations

__all__ = ["Evidence", "ImpliedScale", "Key", "Missing", "is_generator"]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from typing import Any, Generic, TypeVar, overload

from jaxtyping import Float
from torch import Tensor

from elboscope.core import Capabilities

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, eq=False)
class Key(Generic[T_co]):
    """The name of a quantity, and the type of what is stored under it.

    Attributes:
        name: Its name in the evidence.
        title: What a reader calls it.
    """

    name: str
    title: str

    @property
    def reported_as(self) -> str:
        """The name under which the reason stands where the quantity is missing."""
        return self.name


class Missing(LookupError):  # noqa: N818 (read as a sentence: except Missing)
    """A quantity that was not computed.

    Attributes:
        name: Its name in the evidence.
        title: What a reader calls it.
        reason: Why it was not computed.
    """

    def __init__(self, name: str, title: str, reason: str) -> None:
        super().__init__(f"{title} is missing: {reason.rstrip('.')}.")
        self.name, self.title, self.reason = name, title, reason


@dataclass(frozen=True)
class ImpliedScale:
    r"""The variance a Gaussian decoder declares, beside the one its errors imply.

    At the optimum of the ELBO over a shared σ², :math:`\sigma^2 = \mathbb{E}_q (x - \mu(z))^2`
    per value. Where σ varies over pixels or with z, compare ``ratio`` with 1 instead. For
    a Laplace decoder it is b beside the mean of :math:`|x - \mu|`.

    Attributes:
        implied: Mean squared (Laplace: absolute) error per value, under z ~ q(z|x).
        implied_stderr: Its standard error over datapoints.
        declared: Mean of the decoder's σ² (b).
        ratio: Mean of :math:`(x - \mu)^2 / \sigma^2` (:math:`|x - \mu|/b`); 1 where it is right.
        ratio_stderr: Its standard error over datapoints.
        dimensions: D, the values of one datapoint.
        constant: Whether σ is one number.
        family: "Normal" or "Laplace".
    """

    implied: float
    implied_stderr: float
    declared: float
    ratio: float
    ratio_stderr: float
    dimensions: int
    constant: bool = True
    family: str = "Normal"


@dataclass(frozen=True, eq=False)
class Evidence:
    """The facts of a diagnosis and its quantities; see :func:`.gather_evidence`.

    A quantity is read by its object, which gives its type, or by its name. One that was not
    computed raises :class:`Missing` with the reason; :meth:`get` returns ``None`` instead.

    Attributes:
        capabilities: What the model can be asked.
        settings: What was done, printed with every number: likelihood, posterior, binarisation,
            budget, seed, num_samples, n, what was subsampled.
        x: Evaluation data, on the model's device and in its dtype.
        x_train: Training data used, or ``None``.
        history: Rows of the training's metrics.
        values: The quantities that were computed, by name.
        rows: The rows of x behind a quantity that used only some of them, by its name.
        skipped: Why a quantity is missing, by its name.
        nonfinite: How many values of a quantity were NaN or infinite; it is then missing.
        num_given: How many datapoints were given, of which x are all or some.

    Example:
        >>> from dataclasses import replace
        >>> import elboscope as es
        >>> model = es.models.LinearGaussian.instance_1()
        >>> x, _ = model.sample(40, seed=0)
        >>> budget = replace(es.diagnostics.QUICK, num_temperatures=0, num_optimised=0)
        >>> evidence = es.diagnostics.gather_evidence(model, x, budget=budget)
        >>> evidence["elbo"].side, "scale" in evidence, evidence.get("train_elbo")
        ('lower', True, None)
        >>> evidence["train_elbo"]
        Traceback (most recent call last):
        elboscope.diagnostics.evidence.Missing: train elbo is missing: no training data was given.
    """

    capabilities: Capabilities
    settings: Mapping[str, object]
    x: Float[Tensor, "n *X"]
    x_train: Float[Tensor, "m *X"] | None = None
    history: Sequence[Mapping[str, float]] = ()
    values: Mapping[str, object] = field(default_factory=dict)
    rows: Mapping[str, Tensor] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
    nonfinite: Mapping[str, int] = field(default_factory=dict)
    num_given: int | None = None

    @overload
    def __getitem__(self, key: Key[T]) -> T: ...
    @overload
    def __getitem__(self, key: str) -> Any: ...
    def __getitem__(self, key: Key[T] | str) -> T | Any:
        """Returns a quantity.

        Raises:
            Missing: It was not computed.
        """
        value = self.get(key)
        if value is not None:
            return value
        name, title = (
            (key, key.replace("_", " ")) if isinstance(key, str) else (key.name, key.title)
        )
        raise Missing(name, title, self.reason(key))

    def __contains__(self, key: Key[Any] | str) -> bool:
        return self.get(key) is not None

    @overload
    def get(self, key: Key[T]) -> T | None: ...
    @overload
    def get(self, key: str) -> Any: ...
    def get(self, key: Key[T] | str) -> T | Any:
        """Returns a quantity, or ``None`` if it was not computed."""
        return self.values.get(key if isinstance(key, str) else key.name)

    def reason(self, *keys: Key[Any] | str) -> str:
        """Returns why the first of these quantities that has a reason is missing."""
        names = [key if isinstance(key, str) else key.reported_as for key in keys]
        found = (self.skipped[name] for name in names if name in self.skipped)
        return next(found, f"it was not computed{self._meant(keys)}")

    def _meant(self, keys: Sequence[Key[Any] | str]) -> str:
        """A word that is nearly the name of a quantity is a slip of the pen."""
        known, words = [*self.values, *self.skipped], [k for k in keys if isinstance(k, str)]
        near = [match for word in words for match in get_close_matches(word, known, 1, 0.82)]
        return f"; did you mean {near[0]!r}?" if near else ""

    def replace(self, **changes: Any) -> Evidence:
        """Returns a copy with other facts or quantities; a quantity set to ``None`` is removed.

        Args:
            changes: Attributes of the evidence, or quantities by name.
        """
        facts = {f.name: changes.pop(f.name) for f in fields(self) if f.name in changes}
        values = {**facts.get("values", self.values), **changes}
        facts["values"] = {name: value for name, value in values.items() if value is not None}
        return replace(self, **facts)


def is_generator(evidence: Evidence) -> bool:
    """Whether it maps noise to data and nothing else: its p(x|z) is all on one x."""
    c = evidence.capabilities
    return c.likelihood == "PointMass" and not c.has_encoder
