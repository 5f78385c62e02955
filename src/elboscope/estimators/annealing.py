r"""Paths and schedules of annealing: how a sampler goes from a density it knows to p(x, z).

A geometric path is :math:`f_\beta(z) = b(z)\, r(z)^\beta`, from a normalised base at β = 0 to the
joint density :math:`p(x, z)` at β = 1, whose integral is p(x):

- from the prior, :math:`b = p(z)`, :math:`r = p(x \mid z)`;
- from the posterior, :math:`b = q(z \mid x)`, :math:`r = p(x, z)/q(z \mid x)`, so that
  :math:`f_\beta = q^{1-\beta} p(x, z)^\beta`. It is much shorter where q is good.

A schedule :math:`0 = \beta_0 < \dots < \beta_T = 1` has T increments. The loss of annealing with
perfect transitions is :math:`\sum_t \mathrm{KL}(f_{\beta_{t-1}} \| f_{\beta_t})`, about a constant
over T; a sigmoid schedule puts more increments where the ends need them.
"""

from __future__ import annotations

__all__ = ["Path", "PathName", "Schedule", "annealing_path", "betas_of", "doubled", "resampled"]

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.distributions import Distribution

from elboscope.core import (
    ContractError,
    GenerativeModel,
    InputError,
    LatentVariableModel,
    family,
    seeded,
)

from .chain_state import LogDensities
from .supports import bounded_support, within

PathName = Literal["prior", "posterior"]
Schedule = Literal["sigmoid", "linear"] | Tensor
# How far into its tails the sigmoid schedule reaches: β̃ from σ(−δ) to σ(δ).
DELTA = 4.0


class Path(NamedTuple):
    """A geometric path for one batch of datapoints.

    Attributes:
        sample: From a number of chains C to independent draws of the base, ``(C, B, *Z)``.
        log_densities: From z to log b and log r.
    """

    sample: Callable[[int], Tensor]
    log_densities: LogDensities


def annealing_path(model: GenerativeModel, x: Float[Tensor, "B *X"], name: str) -> Path:
    """Returns the path from the prior or from the posterior.

    Args:
        model: The model, given its conditions.
        x: Data.
        name: ``"prior"`` or ``"posterior"``.

    Raises:
        InputError: Another name.
        ContractError: Latents are discrete; q(z|x) is missing or has no density.
    """
    _require_continuous(model.prior())
    if name == "prior":
        return _from_prior(model, x)
    if name == "posterior":
        return _from_posterior(model, x)
    raise InputError("path", expected="'prior' or 'posterior'", got=repr(name))


def _from_prior(model: GenerativeModel, x: Tensor) -> Path:
    prior = model.prior()

    def log_densities(z: Tensor) -> tuple[Tensor, Tensor]:
        return prior.log_prob(z), model.decode(z).log_prob(x)

    with seeded(0):
        somewhere = prior.sample(torch.Size((len(x),)))
    return Path(
        lambda C: prior.sample(torch.Size((C, len(x)))),
        within(log_densities, [prior], somewhere),
    )


def _from_posterior(model: GenerativeModel, x: Tensor) -> Path:
    prior, q = model.prior(), _posterior_with_density(model, x)

    def log_densities(z: Tensor) -> tuple[Tensor, Tensor]:
        log_q = q.log_prob(z)
        return log_q, prior.log_prob(z) + model.decode(z).log_prob(x) - log_q

    with seeded(0):
        elsewhere = prior.sample(torch.Size((len(x),)))
        somewhere = q.sample() if bounded_support(q) else elsewhere
    return Path(lambda C: q.sample(torch.Size((C,))), within(log_densities, [q, prior], somewhere))


def _posterior_with_density(model: GenerativeModel, x: Tensor) -> Distribution:
    """Returns q(z|x), or says that its density cannot be evaluated at a z that it did not draw."""
    remedy = "Use path='prior', which needs none."
    if not isinstance(model, LatentVariableModel):
        raise ContractError(
            "path='posterior'",
            expected="a model with encode(x)",
            got=f"{type(model).__name__} without one",
            do=remedy,
        )
    q = model.encode(x)
    try:
        with seeded(0):
            q.log_prob(q.sample(torch.Size((1,))))
    except NotImplementedError as error:
        raise ContractError(
            "encode(x).log_prob",
            expected="a density, from which path='posterior' starts",
            got=f"{family(q)}, which can only be sampled",
            do=remedy,
        ) from error
    return q


def _require_continuous(prior: Distribution) -> None:
    with seeded(0):  # the caller's stream is left for the chains
        z = prior.sample()
    if z.is_floating_point() and not _is_discrete(prior):
        return
    raise ContractError(
        "prior()",
        expected="continuous latents, along which log p(x, z) has a gradient",
        got=f"{family(prior)}, draws in {z.dtype}",
        do="Use importance sampling, or sum over the latents.",
    )


def _is_discrete(prior: Distribution) -> bool:
    try:
        return bool(getattr(prior.support, "is_discrete", False))
    except NotImplementedError:  # a prior that does not tell its support
        return False


def betas_of(schedule: str | Tensor, num_temperatures: int) -> Float64[Tensor, " S"]:
    r"""Returns :math:`\beta_0 = 0, \dots, \beta_T = 1`.

    .. math:: \text{linear: } \beta_t = t/T; \quad
              \text{sigmoid: } \beta_t = \frac{\tilde\beta_t - \tilde\beta_0}
              {\tilde\beta_T - \tilde\beta_0},\;
              \tilde\beta_t = \sigma\bigl(4 (2t/T - 1)\bigr)

    Args:
        schedule: ``"sigmoid"``, ``"linear"``, or all β as a tensor.
        num_temperatures: T, the number of increments; a tensor has its own.

    Raises:
        InputError: An unknown word, or a tensor that does not rise from 0 to 1.

    Example:
        >>> betas_of("linear", 4).tolist()
        [0.0, 0.25, 0.5, 0.75, 1.0]
    """
    t = torch.arange(num_temperatures + 1, dtype=torch.float64) / num_temperatures
    if isinstance(schedule, Tensor):
        return _checked(schedule.detach().double().cpu())
    word = schedule if isinstance(schedule, str) else type(schedule).__name__
    if word == "linear":
        return t
    if word == "sigmoid":
        raw = (DELTA * (2 * t - 1)).sigmoid()
        return (raw - raw[0]) / (raw[-1] - raw[0])
    raise InputError(
        "schedule", expected="'sigmoid', 'linear' or a tensor of β from 0 to 1", got=repr(word)
    )


def _checked(betas: Tensor) -> Tensor:
    def refuse(expected: str, got: str) -> InputError:
        return InputError("schedule", expected=expected, got=got, do="T increments need T + 1 β.")

    if betas.ndim != 1 or len(betas) < 2:
        raise refuse("a vector of two or more β", f"shape {tuple(betas.shape)}")
    if betas[0] != 0:
        raise refuse("β_0 = 0, the base density", f"β_0 = {betas[0].item():g}")
    if betas[-1] != 1:
        raise refuse("β_T = 1, the joint density", f"β_T = {betas[-1].item():g}")
    falls = ~(betas.diff() > 0)
    if bool(falls.any()):
        t = int(falls.nonzero()[0])
        got = f"β_{t} = {betas[t].item():g}, β_{t + 1} = {betas[t + 1].item():g}"
        raise refuse("β that increase with every step", got)
    return betas


def resampled(betas: Float64[Tensor, " S"], num_temperatures: int) -> Float64[Tensor, " R"]:
    """Returns the same schedule with another number of increments, interpolated.

    Example:
        >>> resampled(torch.tensor([0.0, 0.5, 1.0]).double(), 4).tolist()
        [0.0, 0.25, 0.5, 0.75, 1.0]
    """
    T = len(betas) - 1
    place = torch.arange(num_temperatures + 1, dtype=torch.float64) * (T / num_temperatures)
    low = place.floor().long().clamp(max=T - 1)
    return betas[low].lerp(betas[low + 1], place - low)


def doubled(schedule: Schedule, num_temperatures: int) -> Float64[Tensor, " R"]:
    """Returns the schedule with 2T increments; a tensor's increments are halved."""
    if isinstance(schedule, Tensor):
        betas = betas_of(schedule, num_temperatures)
        return resampled(betas, 2 * (len(betas) - 1))
    return betas_of(schedule, 2 * num_temperatures)
