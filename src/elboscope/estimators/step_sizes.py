r"""Step sizes of HMC along a path: tuned in a pilot run, then frozen.

Were they adapted inside the reported run, the kernel at each temperature would depend on where
the chains have been: :math:`\mathbb{E}[w] = p(x)` would no longer hold, and "bounds" could cross.
The pilot has its own noise, and a few of the datapoints and chains. It anneals over at most 100
increments of the same schedule and moves log ε at each temperature towards a mean acceptance of
0.65 (Robbins–Monro); log ε is then smoothed over the temperatures and interpolated in β, so that
one pilot serves T, 2T and both directions.
"""

from __future__ import annotations

__all__ = ["StepSizes", "pilot"]

import math
from typing import NamedTuple

import torch
from jaxtyping import Float64
from torch import Tensor

from .annealing import Path, resampled
from .chain_state import State, evaluated
from .hmc import draw_noise, hmc_step

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
    grid = resampled(betas, T)
    log_steps = torch.full((T - 1,), math.log(FIRST), dtype=torch.float64)
    for number, gain in enumerate(GAINS):
        state = evaluated(path.log_densities, path.sample(num_chains))
        log_steps = _sweep(path, state, grid, log_steps, gain, num_leapfrog, first=number == 0)
        log_steps = _smoothed(log_steps)
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
            log_step = _clipped(log_steps[t].item() + carried)
            noise, beta = draw_noise(state.z), grid[t + 1].item()
            state, info = hmc_step(state, noise, path.log_densities, beta, math.exp(log_step), L)
            log_step = _clipped(log_step + gain * (info.acceptance.mean().item() - TARGET))
            carried = log_step - log_steps[t].item()
        tuned[t] = log_step
    return tuned


def _clipped(log_step: float) -> float:
    return min(max(log_step, math.log(SMALLEST)), math.log(LARGEST))


def _smoothed(values: Tensor) -> Tensor:
    """Moving average over the temperatures, the ends repeated."""
    half = WINDOW // 2
    padded = torch.cat([values[:1].expand(half), values, values[-1:].expand(half)])
    return padded.unfold(0, WINDOW, 1).mean(-1)
