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

__all__ = [
    "Path",
    "PathName",
    "Schedule",
    "StepSizes",
    "annealing_path",
    "betas_of",
    "double_schedule",
    "pilot",
    "resample",
]

import math
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

from ..inputs import bounded_support, within
from .hmc import LogDensities, State, draw_noise, evaluate, hmc_step

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
        return _check(schedule.detach().double().cpu())
    word = schedule if isinstance(schedule, str) else type(schedule).__name__
    if word == "linear":
        return t
    if word == "sigmoid":
        raw = (DELTA * (2 * t - 1)).sigmoid()
        return (raw - raw[0]) / (raw[-1] - raw[0])
    raise InputError(
        "schedule", expected="'sigmoid', 'linear' or a tensor of β from 0 to 1", got=repr(word)
    )


def _check(betas: Tensor) -> Tensor:
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


def resample(betas: Float64[Tensor, " S"], num_temperatures: int) -> Float64[Tensor, " R"]:
    """Returns the same schedule with another number of increments, interpolated.

    Example:
        >>> resample(torch.tensor([0.0, 0.5, 1.0]).double(), 4).tolist()
        [0.0, 0.25, 0.5, 0.75, 1.0]
    """
    T = len(betas) - 1
    place = torch.arange(num_temperatures + 1, dtype=torch.float64) * (T / num_temperatures)
    low = place.floor().long().clamp(max=T - 1)
    return betas[low].lerp(betas[low + 1], place - low)


def double_schedule(schedule: Schedule, num_temperatures: int) -> Float64[Tensor, " R"]:
    """Returns the schedule with 2T increments; a tensor's increments are halved."""
    if isinstance(schedule, Tensor):
        betas = betas_of(schedule, num_temperatures)
        return resample(betas, 2 * (len(betas) - 1))
    return betas_of(schedule, 2 * num_temperatures)


# Step sizes of HMC along a path: tuned in a pilot run, then frozen.
#
# Were they adapted inside the reported run, the kernel at each temperature would depend on where
# the chains have been: :math:`\mathbb{E}[w] = p(x)` would no longer hold, and "bounds" could
# cross. The pilot has its own noise, and a few of the datapoints and chains. It anneals over at
# most 100 increments of the same schedule and moves log ε at each temperature towards a mean
# acceptance of 0.65 (Robbins–Monro); log ε is then smoothed over the temperatures and
# interpolated in β, so that one pilot serves T, 2T and both directions.

TARGET = 0.65
FIRST = 0.1
SMALLEST, LARGEST = 1e-5, 1.5
WARM_UP = 20
GAINS = (1.0, 0.5)  # of the sweeps; d acceptance / d log ε is about −½
INCREMENTS = 100
WINDOW = 9


class StepSizes(NamedTuple):
    """ε as a function of β.

    Attributes:
        betas: Where it was tuned, 0 < β < 1, increasing.
        log_steps: log ε there.
    """

    betas: Float64[Tensor, " P"]
    log_steps: Float64[Tensor, " P"]

    def at(self, betas: Float64[Tensor, " S"]) -> Float64[Tensor, "S-2"]:
        """Returns ε at the inner temperatures of a schedule, log ε being linear in β."""
        inner = betas[1:-1].contiguous()
        if len(self.betas) == 1:
            return self.log_steps.exp().expand(len(inner))
        right = torch.searchsorted(self.betas, inner).clamp(1, len(self.betas) - 1)
        left = right - 1
        share = (inner - self.betas[left]) / (self.betas[right] - self.betas[left])
        return self.log_steps[left].lerp(self.log_steps[right], share.clamp(0, 1)).exp()


def pilot(
    path: Path, betas: Float64[Tensor, " S"], num_chains: int, num_leapfrog: int
) -> StepSizes:
    """Tunes ε at the temperatures between 0 and 1.

    Args:
        path: The path, for a few datapoints.
        betas: The schedule of the run to come.
        num_chains: C.
        num_leapfrog: L.

    Returns:
        ε(β), to be frozen.

    References:
        | A stochastic approximation method (Robbins and Monro, 1951)
    """
    T = max(4, min(INCREMENTS, len(betas) - 1))
    grid = resample(betas, T)
    log_steps = torch.full((T - 1,), math.log(FIRST), dtype=torch.float64)
    for number, gain in enumerate(GAINS):
        state = evaluate(path.log_densities, path.sample(num_chains))
        log_steps = _sweep(path, state, grid, log_steps, gain, num_leapfrog, first=number == 0)
        log_steps = _smooth(log_steps)
    return StepSizes(grid[1:-1].contiguous(), log_steps)


def _sweep(
    path: Path,
    state: State,
    grid: Tensor,
    log_steps: Tensor,
    gain: float,
    L: int,
    *,
    first: bool,
) -> Tensor:
    """One anneal; what is learnt at a temperature is carried on to the next ones."""
    tuned, carried = log_steps.clone(), 0.0
    for t in range(len(tuned)):
        for _ in range(WARM_UP if first and t == 0 else 1):
            log_step = _clip(log_steps[t].item() + carried)
            noise, beta = draw_noise(state.z), grid[t + 1].item()
            state, info = hmc_step(state, noise, path.log_densities, beta, math.exp(log_step), L)
            log_step = _clip(log_step + gain * (info.acceptance.mean().item() - TARGET))
            carried = log_step - log_steps[t].item()
        tuned[t] = log_step
    return tuned


def _clip(log_step: float) -> float:
    return min(max(log_step, math.log(SMALLEST)), math.log(LARGEST))


def _smooth(values: Tensor) -> Tensor:
    """Moving average over the temperatures, the ends repeated."""
    half = WINDOW // 2
    padded = torch.cat([values[:1].expand(half), values, values[-1:].expand(half)])
    return padded.unfold(0, WINDOW, 1).mean(-1)
