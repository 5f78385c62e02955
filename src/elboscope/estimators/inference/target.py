r"""What a search for a posterior climbs, log p(x, z) of single datapoints, and where it starts.

Gradients are taken with respect to z alone. A density that is no finite number counts as zero, and
its gradient too, whether the model passes NaN on or a distribution of it raises; a datapoint for
which that is so at every z that was tried is called lost. All else goes on without it.
"""

from __future__ import annotations

__all__ = [
    "Start",
    "Target",
    "own_gaussian",
    "require_real_latents",
    "score",
    "starting_points",
    "take",
]

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal
from torch.distributions import constraints as c

from elboscope.core import (
    ContractError,
    GenerativeModel,
    LatentVariableModel,
    family,
    given,
    rows_in_memory,
    seeded,
)
from elboscope.core.errors import refuses_values

from ..inputs import Inputs, blocks
from ..likelihood.annealed_run import BLOCK_ELSEWHERE, BLOCK_ON_CPU
from ..likelihood.hmc import State, evaluate
from .gaussian_families import Family, Parameters

# Datapoints whose samples are drawn together where many of each are wanted, and both multiplied.
SCORED_AT_ONCE, DRAWN_AT_ONCE = 64, 2**12


@dataclass(frozen=True)
class Target:
    """The joint density of some datapoints, as a function of z."""

    model: GenerativeModel
    inputs: Inputs

    @cached_property
    def rows(self) -> int:
        """Samples × datapoints evaluated at once: what a cache and the memory hold."""
        x = self.inputs.x
        rows, elements = BLOCK_ON_CPU if x.device.type == "cpu" else BLOCK_ELSEWHERE
        fitting = rows_in_memory(self.model, *self.inputs[:2])
        return max(1, min(rows, elements // x[0].numel(), fitting))

    def _pieces(self, K: int, B: int) -> Iterator[tuple[slice, list[slice]]]:
        """Datapoints, and the samples of them, that are evaluated at once."""
        for rows in blocks(B, max(1, self.rows // K)):
            yield rows, list(blocks(K, max(1, self.rows // (rows.stop - rows.start))))

    def slope(
        self, z: Float[Tensor, "K B *Z"], index: Int64[Tensor, " B"], beta: float = 1.0
    ) -> tuple[Float[Tensor, "K B *Z"], Bool[Tensor, " B"]]:
        """Returns ∂ [log p(z) + β log p(x|z)]/∂z, and which datapoints have no finite density.

        The slope is zero where it is not finite.
        """
        parts = []
        for rows, chunks in self._pieces(*z.shape[:2]):
            states = [self._state(z[chunk][:, rows], index[rows]) for chunk in chunks]
            state = State(*map(torch.cat, zip(*states, strict=True)))
            lost = (state.log_base + state.log_ratio == -torch.inf).all(0)
            parts.append((state.gradient(beta), lost))
        slopes, lost_parts = zip(*parts, strict=True)
        return torch.cat(slopes, 1), torch.cat(lost_parts)

    def log_joint(
        self, z: Float[Tensor, "K B *Z"], index: Int64[Tensor, " B"]
    ) -> Float64[Tensor, "K B"]:
        """Returns log p(x, z) without gradients; −∞ where it is no number."""
        columns = [
            torch.cat([self._log_joint(z[chunk][:, rows], index[rows]) for chunk in chunks])
            for rows, chunks in self._pieces(*z.shape[:2])
        ]
        return torch.cat(columns, 1)

    def _log_joint(self, z: Tensor, index: Tensor) -> Float64[Tensor, "K B"]:
        try:
            with torch.no_grad():
                log_prior, log_px = self._log_densities(index)(z)
        except ValueError as error:
            if not refuses_values(error):
                raise
            state = self._state(z, index)
            log_prior, log_px = state.log_base, state.log_ratio
        log_p = log_prior.double() + log_px.double()
        return log_p.nan_to_num(-math.inf, -math.inf, -math.inf)

    def _state(self, z: Tensor, index: Tensor) -> State:
        """The densities with gradients; datapoints whose model is refused everywhere are lost."""
        try:
            return evaluate(self._log_densities(index), z)
        except ValueError as error:
            if not refuses_values(error):
                raise
        if len(index) == 1:
            none, still = z.new_full(z.shape[:2], -torch.inf), torch.zeros_like(z)
            return State(z, none, none, still, still)
        half = len(index) // 2
        parts = (self._state(z[:, :half], index[:half]), self._state(z[:, half:], index[half:]))
        return State(*(torch.cat(pair, 1) for pair in zip(*parts, strict=True)))

    def _log_densities(self, index: Tensor) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
        x, condition = self.inputs.rows(index)
        local = given(self.model, condition)
        return lambda z: (local.prior().log_prob(z), local.decode(z).log_prob(x))


def score(
    target: Target,
    family: Family,
    parameters: Parameters,
    index: Int64[Tensor, " B"],
    K: int,
    progress: Callable[[int], None] | None = None,
) -> Float64[Tensor, "K B"]:
    r"""Returns :math:`\log p(x, z_k) - \log q(z_k)` of fresh, independent draws, without gradients.

    Args:
        target: The densities.
        family: Family that the parameters belong to.
        parameters: One row for each of ``index``.
        index: The datapoints.
        K: Samples of each.
        progress: Called with the number of datapoints done.
    """
    like = parameters[0]
    log_w = torch.empty(K, len(index), dtype=torch.float64, device=like.device)
    B = min(len(index), SCORED_AT_ONCE)
    for rows in blocks(len(index), B):
        part = take(parameters, rows)
        for samples in blocks(K, DRAWN_AT_ONCE // B):
            shape = (samples.stop - samples.start, len(part[0]), family.noise_dim)
            noise = torch.randn(shape, dtype=like.dtype, device=like.device)
            z, log_q = family.draw(part, noise)
            log_w[samples, rows] = target.log_joint(z, index[rows]) - log_q.double()
        if progress is not None:
            progress(min(rows.stop, len(index)))
    return log_w


def take(parameters: Parameters, rows: slice | Tensor) -> Parameters:
    """Returns the parameters of some datapoints."""
    return tuple(p[rows] for p in parameters)


# Where the search for one datapoint's posterior begins: its encoder's answer, the prior, a mode.
#
# The encoder's answer is near and usually wins. The prior is what the published procedure starts
# from; it may end at a saddle between two modes, or leave latents at the prior that would carry
# something. A mode of p(z|x), found by ascent from the likeliest of a few draws of the prior,
# breaks symmetries: it begins narrow, a tenth of the prior's standard deviation about the mode.

ENCODE_BATCH = 1024
# Draws for means and standard deviations that a distribution does not tell.
MOMENT_SAMPLES = 500
# Draws of the prior of which the likeliest begins the ascent; its steps; the first of them, and the
# width about the mode, in the prior's standard deviations.
CANDIDATES, ASCENT_STEPS, FIRST_STEP, NARROW = 128, 60, 0.2, 0.1
TINY = 1e-4  # no start is narrower: an encoder with σ = 0 has log σ = −∞


class Start(NamedTuple):
    """A mean and a standard deviation of every latent of every datapoint."""

    mean: Float[Tensor, "B *Z"]
    std: Float[Tensor, "B *Z"]


Begin = Callable[[Int64[Tensor, " B"]], Start]


def starting_points(target: Target) -> Mapping[str, Begin]:
    """Returns the starts by name, each a function of which datapoints; the encoder's if any."""
    model = target.model
    starts: dict[str, Begin] = {
        "prior": lambda index: _prior(target, index),
        "mode": lambda index: _mode(target, index),
    }
    if isinstance(given(model, _some(target.inputs.condition)), LatentVariableModel):
        starts = {"encoder": lambda index: _encoder(target, index), **starts}
    return starts


def _some(condition: Tensor | None) -> Tensor | None:
    return None if condition is None else condition[:1]


def require_real_latents(model: GenerativeModel) -> None:
    """Refuses latents that a Gaussian does not fit: discrete ones, and those on part of the line.

    Raises:
        ContractError: The prior's support is not all real numbers.
    """
    prior = model.prior()
    with seeded(0):
        z = prior.sample()
    if z.is_floating_point() and _is_real(prior):
        return
    raise ContractError(
        "prior()",
        expected="latents on all real numbers, as a Gaussian q(z) is",
        got=f"{family(prior)}, draws in {z.dtype}",
        do="Transform the latents to the real line and put the transformation into decode(z).",
    )


def _is_real(prior: Distribution) -> bool:
    try:
        support = prior.support
    except NotImplementedError:  # a prior that does not tell its support
        return True
    while isinstance(support, type(c.independent(c.real, 1))):
        support = support.base_constraint
    return support is None or support in (c.real, c.real_vector)


def own_gaussian(target: Target, index: Int64[Tensor, " B"]) -> Start | None:
    """Returns the encoder's q(z|x) where it is a diagonal Gaussian, else None."""
    return _answers(target, index, _of_gaussian)


def _of_gaussian(q: Distribution) -> Start | None:
    while isinstance(q, Independent):
        q = q.base_dist
    if not isinstance(q, Normal) or type(q).log_prob is not Normal.log_prob:
        return None
    return Start(q.loc, q.scale)


def _answers(
    target: Target, index: Tensor, read: Callable[[Distribution], Start | None]
) -> Start | None:
    parts = []
    for rows in blocks(len(index), ENCODE_BATCH):
        part = _answer(target, index[rows], read)
        if part is None:
            return None
        parts.append(part)
    means, stds = zip(*parts, strict=True)
    return Start(torch.cat(means), torch.cat(stds))


def _answer(
    target: Target, index: Tensor, read: Callable[[Distribution], Start | None]
) -> Start | None:
    """What is read off the encoder's answer; NaN where its distribution refuses NaN by raising."""
    try:
        return read(_encode(target, index))
    except ValueError as error:
        if not refuses_values(error):
            raise
    if len(index) == 1:
        none = torch.full_like(_prior(target, index).mean, torch.nan)
        return Start(none, none)
    parts = [_answer(target, half, read) for half in index.tensor_split(2)]
    found = [part for part in parts if part is not None]
    if len(found) < len(parts):
        return None
    return Start(*(torch.cat(both) for both in zip(*found, strict=True)))


def _encoder(target: Target, index: Tensor) -> Start:
    """The encoder's moments; the prior's where those are no numbers."""
    start, prior = _answers(target, index, _moments), _prior(target, index)
    assert start is not None
    fine = (start.mean.isfinite() & start.std.isfinite()).flatten(1).all(1)
    fine = fine.reshape(-1, *(1,) * (start.mean.ndim - 1))
    mean, std = torch.where(fine, start.mean, prior.mean), torch.where(fine, start.std, prior.std)
    return Start(mean, std.clamp(min=TINY))


def _prior(target: Target, index: Tensor) -> Start:
    with seeded(0):
        mean, std = _moments(_one(target, index).prior())
    shape = (len(index), *mean.shape)
    return Start(mean.expand(shape).clone(), std.expand(shape).clone())


def _mode(target: Target, index: Tensor) -> Start:
    """Ascends log p(x, z) by Adam, in units of the prior's standard deviation."""
    std = _prior(target, index).std
    z = _likeliest(target, index)
    first, second = torch.zeros_like(z), torch.zeros_like(z)
    for t in range(1, ASCENT_STEPS + 1):
        slope, _ = target.slope(z[None], index)
        g = slope[0] * std
        first, second = first.lerp(g, 0.1), second.lerp(g * g, 0.05)
        unit = first / (1 - 0.9**t) / ((second / (1 - 0.95**t)).sqrt() + 1e-12)
        z = z + FIRST_STEP * (1 - t / (ASCENT_STEPS + 1)) * std * unit
    return Start(z, NARROW * std)


def _likeliest(target: Target, index: Tensor) -> Tensor:
    prior = _one(target, index).prior()
    drawn = prior.sample(torch.Size((CANDIDATES, len(index))))
    chosen = target.log_joint(drawn, index).argmax(0)
    return drawn[chosen, torch.arange(len(index), device=chosen.device)]


def _one(target: Target, index: Tensor) -> GenerativeModel:
    """The model given one datapoint's condition: its prior is that of all."""
    return given(target.model, target.inputs.rows(index[:1])[1])


def _encode(target: Target, index: Tensor) -> Distribution:
    x, condition = target.inputs.rows(index)
    local = given(target.model, condition)
    assert isinstance(local, LatentVariableModel)
    return local.encode(x)


def _moments(q: Distribution) -> Start:
    try:
        return Start(q.mean, q.stddev)
    except NotImplementedError:
        z = q.sample(torch.Size((MOMENT_SAMPLES,)))
        return Start(z.mean(0), z.std(0))
