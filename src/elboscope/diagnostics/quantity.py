"""A quantity of a diagnosis, said once: its name, how it is computed, and how it is shown.

Everything else is derived from these objects: the order of gathering, the reasons for what is
missing, the rows of the page, ``findings.json``, the data frame and the data tree. They stand in
lists by question in :mod:`.quantities`.

What a quantity needs is a list: another quantity, or a function that returns the reason why this
model or this budget does not allow it, and an empty string if it does. The first reason wins.
"""

from __future__ import annotations

__all__ = [
    "GENERATOR",
    "NO_CLOSED_FORM",
    "Need",
    "Number",
    "Quantity",
    "Show",
    "Subject",
    "gradient_needed_by",
    "no_closed_form",
    "no_density",
    "no_encoder",
    "no_latents",
    "no_likelihood",
    "no_training_data",
    "no_weights",
    "not_finite",
    "not_gaussian",
]

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar, cast

from torch import Tensor

from elboscope.core import Estimate, GenerativeModel, LatentVariableModel, Sampled
from elboscope.core.errors import first_line, lacks_gradient

from .evidence import Evidence, Key, is_generator
from .plan import Plan

T = TypeVar("T")
# How a row shows its values: the mean (of units the total), how many exceed 0.01, or their range.
Show = Literal["mean", "count", "range"]


@dataclass(frozen=True, eq=False)
class Subject:
    """What a quantity is computed from.

    Attributes:
        model: The model.
        plan: The data drawn for each purpose, the budget and the clock.
        evidence: What is known so far.
        sampled: The model as it was given, a GAN with its ``generate``.
        x: All evaluation data, of which ``plan.x`` is a part.
        images: What x shows, where x is a binary draw of it.
    """

    model: GenerativeModel
    plan: Plan
    evidence: Evidence
    sampled: Sampled
    x: Tensor
    images: Tensor | None = None

    @property
    def vae(self) -> LatentVariableModel:
        """The model with its encoder, for what needs one (:func:`no_encoder`)."""
        return cast(LatentVariableModel, self.model)


def _itself(value: object) -> Estimate:
    if isinstance(value, Estimate):
        return value
    raise TypeError(
        f"a {type(value).__name__} is not an Estimate: name the numbers that are read off the "
        "quantity in shown_as, or set shown_as=() if it is only drawn"
    )


@dataclass(frozen=True, eq=False)
class Number(Generic[T]):
    """An estimate that is read off a quantity: a row of the page and an entry of every file.

    Attributes:
        name: Its name in ``findings.json``, the data frame and the data tree.
        title: The name of its row.
        is_not: What the number does not say: "Not …".
        read: Returns the estimate, or ``None`` if this value of the quantity has none; by default
            the quantity itself.
        asked_in: The questions of the report in which it has a row.
        in_panel: A table or figure of its own shows it instead of a row.
        optional: It may be absent without a reason.
        rows: Its rows of x, from the quantity's value and the rows of the quantity.
        show: How its row shows the values.
        unit: Its unit in ``findings.json``; by default that of the estimate.
    """

    name: str
    title: str
    is_not: str
    read: Callable[[T], Estimate | None] = _itself
    asked_in: tuple[str, ...] = ()
    in_panel: bool = False
    optional: bool = False
    rows: Callable[[T, Tensor], Tensor] | None = None
    show: Show = "mean"
    unit: str = ""


@dataclass(frozen=True, eq=False)
class Quantity(Key[T]):
    """What a diagnosis computes once for all checks and for the report.

    Attributes:
        name: Its name in the evidence.
        title: What a reader calls it.
        is_not: What the number does not say: "Not …"; empty where ``shown_as`` says it.
        compute: Computes it from the model, the plan and the quantities that came before.
        needs: Other quantities, or functions that return why it is unavailable.
        asked_in: The questions of the report in which it has a row.
        shown_as: The numbers that are read off it; by default the quantity itself, which is then
            an :class:`.Estimate`. Empty for what is only drawn.
        failure: The name under which its failure is reported, if another quantity stands for it.
        rows: The rows of ``plan.x`` that it uses, if these are only some.
        settings: What it adds to the settings of the evidence.
        unavailable: Why some of its numbers are missing although it was computed, by their name.

    Example:
        >>> from elboscope.diagnostics.quantities.likelihood import ELBO
        >>> ELBO.title, [number.name for number in ELBO.numbers]
        ('ELBO', ['elbo'])
    """

    is_not: str
    compute: Callable[[Subject], T]
    needs: tuple[Need, ...] = ()
    asked_in: tuple[str, ...] = ()
    shown_as: tuple[Number[T], ...] | None = None
    failure: str = ""
    rows: Callable[[Plan], Tensor] | None = None
    settings: Callable[[T], Mapping[str, object]] | None = None
    unavailable: Callable[[T], Mapping[str, str]] | None = None

    @property
    def reported_as(self) -> str:
        """The name under which the reason stands where the quantity is missing."""
        return self.failure or self.name

    @property
    def numbers(self) -> tuple[Number[T], ...]:
        """The numbers that are read off it."""
        if self.shown_as is not None:
            return self.shown_as
        return (Number(self.name, self.title, self.is_not, asked_in=self.asked_in),)

    def missing(self, subject: Subject) -> str:
        """Returns why it cannot be computed, or an empty string."""
        reasons = (_reason(need, subject) for need in self.needs)
        return next((reason for reason in reasons if reason), "")


Need = Callable[[Subject], str] | Quantity[Any]


def _reason(need: Need, subject: Subject) -> str:
    if not isinstance(need, Quantity):
        return need(subject)
    return "" if need in subject.evidence else subject.evidence.reason(need)


# Why a quantity cannot be asked of this model: each returns the reason, or nothing if it can.

GENERATOR = "a GAN has no encoder q(z|x), and its p(x|z) has no density"
NO_CLOSED_FORM = "KL(q(z|x) ‖ p(z)) has no closed form for these distributions"


def no_latents(subject: Subject) -> str:
    """What needs draws of the prior that the decoder takes."""
    c = subject.evidence.capabilities
    return "" if c.latent_shape else "; ".join(c.problems)


def not_finite(subject: Subject) -> str:
    """What needs densities that are finite."""
    c = subject.evidence.capabilities
    return "" if c.finite else "; ".join(c.problems)


def no_encoder(subject: Subject) -> str:
    """What needs q(z|x)."""
    evidence = subject.evidence
    if evidence.capabilities.has_encoder:
        return ""
    return "; ".join(evidence.capabilities.problems) or (
        GENERATOR if is_generator(evidence) else "the model has no encoder"
    )


def no_density(subject: Subject) -> str:
    """What needs log q(z|x)."""
    c = subject.evidence.capabilities
    if no_encoder(subject) or c.has_posterior_density:
        return no_encoder(subject)
    refused = "; ".join(p for p in c.problems if "q(z|x)" in p)
    return refused or f"the posterior ({c.posterior}) can be sampled but has no density"


def no_likelihood(subject: Subject) -> str:
    """What needs log p(x|z) at this x."""
    evidence = subject.evidence
    c = evidence.capabilities
    if not c.in_support:
        outside = next((p for p in c.problems if "support" in p), "x lies outside the support")
        return f"{outside}; a value of log p(x|z) would be a cross-entropy, not a likelihood"
    if c.has_likelihood:
        return ""
    refused = "; ".join(c.problems) or (GENERATOR if is_generator(evidence) else "")
    return refused or f"the decoder ({c.likelihood or 'none'}) has no density"


def no_weights(subject: Subject) -> str:
    """What needs importance weights: of q's own draws, which some score without a density."""
    own = subject.evidence.capabilities.scores_own_draws
    return ("" if own else no_density(subject)) or no_likelihood(subject)


def no_closed_form(subject: Subject) -> str:
    """What needs KL(q(z|x) ‖ p(z)) in closed form."""
    c = subject.evidence.capabilities
    return no_density(subject) or ("" if c.analytic_kl else NO_CLOSED_FORM)


def not_gaussian(subject: Subject) -> str:
    """What needs a Gaussian decoder, or a Laplace one."""
    family = subject.evidence.capabilities.likelihood
    if family in ("Normal", "Laplace"):
        return ""
    return f"the likelihood is {family or 'unknown'}, not Gaussian"


def no_training_data(subject: Subject) -> str:
    """What needs training data."""
    return "" if subject.plan.x_train is not None else "no training data was given"


@contextmanager
def gradient_needed_by(what: str) -> Iterator[None]:
    """Turns torch's refusal to differentiate a decoder into a reason.

    Args:
        what: What needs the gradient.

    Raises:
        ValueError: The decoder has no gradient.

    Example:
        >>> import torch
        >>> with gradient_needed_by("AIS"):
        ...     torch.zeros(1).sum().backward()
        Traceback (most recent call last):
        ValueError: AIS needs the decoder's gradient: element 0 of tensors does not require grad ...
    """
    try:
        yield
    except RuntimeError as error:
        if not lacks_gradient(error):
            raise
        raise ValueError(f"{what} needs the decoder's gradient: {first_line(error)}") from error
