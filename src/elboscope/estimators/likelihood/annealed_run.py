r"""The loops of annealed importance sampling: one block of datapoints, and all blocks in turn.

The order is that of the theory. Forward: increment at z_{t−1}, then a transition at β_t; none is
needed at β_0, where the draws are exact, nor after the last increment. In reverse the mirror image:
increment at z_t, then a transition at β_{t−1}, none at β_0.
"""

from __future__ import annotations

__all__ = [
    "Annealing",
    "Run",
    "Transition",
    "anneal",
    "describe",
    "fixed_steps",
    "forward_run",
    "hmc_transition",
    "plan_annealing",
    "require_latents",
    "reverse_run",
    "summarise",
]

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float64
from torch import Tensor

from elboscope.core import (
    Estimate,
    GenerativeModel,
    InputError,
    Side,
    effective_sample_size,
    given,
    half_means,
    log_mean_exp,
    log_mean_exp_stderr,
    next_stream,
    rows_in_memory,
    seeded,
)

from ..inputs import Inputs, blocks, likelihood_of, require_positive
from ..streaming import Progress
from .annealing import Path, PathName, Schedule, StepSizes, annealing_path, betas_of, pilot
from .hmc import Info, InPieces, NoiseOfGroups, State, evaluate, hmc_step

# The size of one block: chains × datapoints, which are rows of the decoder's products, and elements
# of the decoded data, unless one datapoint's chains have more. A few thousand rows keep a layer in
# a CPU's cache; a GPU wants more. Every layer's output is kept for the gradient, within the budget
# of memory.
BLOCK_ON_CPU = (2**12, 2**21)
BLOCK_ELSEWHERE = (20_000, 2**24)
PILOT_CHAINS, PILOT_DATA = 16, 16
PILOT_STREAM = 0x5EED
# Datapoints whose chains draw their noise together.
GROUP = 16
METHOD = {"lower": "annealed importance sampling", "upper": "reverse annealed importance sampling"}

Transition = Callable[[State, int], tuple[State, Info]]
"""From a state and t to a draw that leaves f at β_t invariant."""


class Run(NamedTuple):
    """The chains of one block of datapoints.

    Attributes:
        log_w: Log-weights, of p(x) forward and of 1/p(x) in reverse.
        acceptance: Mean over chains and transitions; NaN without any.
        divergent: Transitions with an energy that is no finite number, which were rejected.
    """

    log_w: Float64[Tensor, "C B"]
    acceptance: Float64[Tensor, " B"]
    divergent: Float64[Tensor, " B"]


@dataclass(frozen=True)
class Annealing:
    """What a run needs to know: everything but the model, the data and the noise."""

    betas: Tensor
    num_chains: int
    num_leapfrog: int
    path: PathName
    batch_size: int | None
    schedule: Schedule

    def record(self, steps: Tensor) -> Mapping[str, object]:
        """Returns what is printed and stored beside a number."""
        return {
            "num_leapfrog": self.num_leapfrog,
            "schedule": self.schedule if isinstance(self.schedule, str) else "given",
            "path": self.path,
            "smallest_step": steps.min().item() if len(steps) else math.nan,
            "largest_step": steps.max().item() if len(steps) else math.nan,
        }


def plan_annealing(
    num_temperatures: int,
    num_chains: int,
    num_leapfrog: int,
    schedule: Schedule,
    path: PathName,
    batch_size: int | None,
) -> Annealing:
    """Checks the counts and the schedule."""
    require_positive("num_temperatures", num_temperatures)
    require_positive("num_chains", num_chains)
    require_positive("num_leapfrog", num_leapfrog)
    require_positive("batch_size", batch_size)
    betas = betas_of(schedule, num_temperatures)
    return Annealing(betas, num_chains, num_leapfrog, path, batch_size, schedule)


def fixed_steps(
    model: GenerativeModel, inputs: Inputs, plan: Annealing, steps: Tensor | None, seed: int
) -> Float64[Tensor, " _"]:
    """Returns the step sizes that were given, or those of a pilot."""
    if steps is None:
        return tune(model, inputs, plan, seed).at(plan.betas)
    expected = f"{len(plan.betas) - 2} positive numbers, one for each transition (T − 1)"
    if not isinstance(steps, Tensor):
        got = type(steps).__name__
        raise InputError("step_sizes", expected=f"a tensor of {expected}", got=got)
    steps = steps.detach().double().cpu()
    wrong = steps[~(steps.isfinite() & (steps > 0))]
    if steps.shape != (len(plan.betas) - 2,) or len(wrong):
        got = f"{wrong[0].item():g}" if len(wrong) else f"shape {tuple(steps.shape)}"
        raise InputError("step_sizes", expected=expected, got=got)
    return steps


def tune(model: GenerativeModel, inputs: Inputs, plan: Annealing, seed: int) -> StepSizes:
    """Runs the pilot on a few datapoints, in a random stream of its own."""
    n = min(len(inputs.x), PILOT_DATA)
    x, condition = inputs.rows(torch.arange(n) * len(inputs.x) // n)
    fitting = rows_in_memory(model, x, condition)
    with seeded(seed ^ PILOT_STREAM):
        path = _within_memory(annealing_path(given(model, condition), x, plan.path), n, fitting)
        return pilot(path, plan.betas, min(plan.num_chains, PILOT_CHAINS), plan.num_leapfrog)


def _within_memory(path: Path, num_data: int, fitting: int) -> Path:
    """Returns the path, its gradients taken for a few chains at a time."""
    return path._replace(log_densities=InPieces(path.log_densities, max(1, fitting // num_data)))


def anneal(
    model: GenerativeModel,
    inputs: Inputs,
    z: Tensor | None,
    plan: Annealing,
    steps: Float64[Tensor, " S_minus_2"],
    progress: Progress | None,
) -> Run:
    """Anneals block after block: forward, or in reverse from z where that is given."""
    fitting, first = rows_in_memory(model, *inputs[:2]), next_stream()
    B = min(block_size(plan, inputs.x), max(1, fitting // plan.num_chains))
    parts, total = [], len(inputs.x) * plan.num_chains * len(steps)
    for rows in blocks(len(inputs.x), B):
        x, condition = inputs.rows(rows)
        path = annealing_path(given(model, condition), x, plan.path)
        path = _within_memory(path, len(x), fitting)
        groups = _groups(rows, len(inputs.x))
        noise = NoiseOfGroups(groups, [first + group.start for group in groups], rows)
        began, each = rows.start * plan.num_chains * len(steps), len(x) * plan.num_chains
        transition = hmc_transition(path, plan, steps, noise, progress, began, each, total)
        if z is None:
            start = evaluate(path.log_densities, _start(model, inputs, rows, plan, first))
            parts.append(forward_run(start, plan.betas, transition))
        else:
            chains = z[rows].expand(plan.num_chains, *z[rows].shape).contiguous()
            parts.append(reverse_run(evaluate(path.log_densities, chains), plan.betas, transition))
    return Run(*(torch.cat(tensors, -1) for tensors in zip(*parts, strict=True)))


def _groups(rows: slice, total: int) -> list[slice]:
    """The groups that have some of the rows."""
    starts = range(rows.start // GROUP * GROUP, rows.stop, GROUP)
    return [slice(start, min(start + GROUP, total)) for start in starts]


def _start(
    model: GenerativeModel, inputs: Inputs, rows: slice, plan: Annealing, first: int
) -> Tensor:
    """Draws the chains of some rows from the base: those of each group in a stream of its own."""
    groups, drawn = _groups(rows, len(inputs.x)), []
    for group in groups:
        x, condition = inputs.rows(group)
        with seeded(first + group.start + 1):  # that of the group's noise is the one before
            path = annealing_path(given(model, condition), x, plan.path)
            drawn.append(path.sample(plan.num_chains))
    begin = groups[0].start
    return torch.cat(drawn, 1)[:, rows.start - begin : rows.stop - begin].contiguous()


def block_size(plan: Annealing, x: Tensor) -> int:
    """Returns the number of datapoints annealed at once, at most: memory may allow fewer."""
    rows, elements = BLOCK_ON_CPU if x.device.type == "cpu" else BLOCK_ELSEWHERE
    fitting = min(rows, elements // x[0].numel()) // plan.num_chains
    return min(plan.batch_size or max(1, fitting), len(x))


def hmc_transition(
    path: Path,
    plan: Annealing,
    steps: Tensor,
    noise: NoiseOfGroups,
    progress: Progress | None,
    began: int,
    each: int,
    total: int,
) -> Transition:
    """Returns the kernel at β_t, for t = 1 … T − 1, that reports what it has done."""
    betas, epsilons, done = plan.betas.tolist(), steps.tolist(), began

    def transition(state: State, t: int) -> tuple[State, Info]:
        nonlocal done
        moved = hmc_step(
            state,
            noise(state.z),
            path.log_densities,
            betas[t],
            epsilons[t - 1],
            plan.num_leapfrog,
        )
        done += each
        if progress is not None:
            progress(done, total)
        return moved

    return transition


def forward_run(state: State, betas: Float64[Tensor, " S"], transition: Transition) -> Run:
    """Anneals from exact draws of the base to p(x, z); E[w] = p(x)."""
    T = len(betas) - 1
    return _run(state, betas.diff().tolist(), range(1, T), transition)


def reverse_run(state: State, betas: Float64[Tensor, " S"], transition: Transition) -> Run:
    """Anneals from exact draws of p(z|x) back to the base; E[u] = 1/p(x).

    Where the base is zero at the start (a q that cannot reach z*), u = 0 and the bound is +∞.
    """
    T = len(betas) - 1
    reached = state.log_ratio.isfinite()
    run = _run(state, (-betas.diff()).flip(0).tolist(), range(T - 1, 0, -1), transition)
    return run._replace(log_w=run.log_w.masked_fill(~reached, -torch.inf))


def _run(state: State, increments: list[float], order: range, transition: Transition) -> Run:
    """Increment, transition, increment, …, increment."""
    log_w = increments[0] * state.log_ratio.double()
    acceptance, divergent = torch.zeros_like(log_w), torch.zeros_like(log_w)
    for t, increment in zip(order, increments[1:], strict=True):
        state, info = transition(state, t)
        log_w += increment * state.log_ratio.double()
        acceptance += info.acceptance
        divergent += info.divergent
    mean = acceptance.mean(0) / (len(order) or math.nan)
    return Run(log_w, mean, divergent.sum(0))


def describe(model: GenerativeModel, inputs: Inputs) -> Mapping[str, object]:
    """Names p(x|z) and q(z|x), and refuses x outside the support, before any time is spent."""
    with seeded(0):  # the stream of the chains is left alone
        return likelihood_of(model, inputs)


def summarise(
    inputs: Inputs,
    plan: Annealing,
    run: Run,
    steps: Tensor,
    seed: int,
    side: Side,
    families: Mapping[str, object],
) -> Estimate:
    """Reduces the chains to one value per datapoint."""
    sign = 1 if side == "lower" else -1
    return Estimate.per_datapoint(
        "log p(x)",
        METHOD[side],
        sign * log_mean_exp(run.log_w),
        log_mean_exp_stderr(run.log_w),
        side,
        diagnostics={
            "ess": effective_sample_size(run.log_w),
            "acceptance": run.acceptance,
            "divergent": run.divergent,
            **(half_means(run.log_w) if side == "lower" else {}),
        },
        settings={
            **plan.record(steps),
            "seed": seed,
            **families,
            "batch_size": block_size(plan, inputs.x),
        },
        data_id=inputs.data_id,
        num_temperatures=len(plan.betas) - 1,
        num_chains=len(run.log_w),
        notes=inputs.notes,
    )


def require_latents(model: GenerativeModel, inputs: Inputs, z: Tensor) -> None:
    """Refuses a z that is not one latent for each datapoint."""
    shape = (len(inputs.x), *model.prior().event_shape)
    got = str(tuple(z.shape)) if isinstance(z, Tensor) else type(z).__name__
    if got == str(shape):
        if bool(z.isfinite().all()):
            return
        got = "NaN or infinite values, of which an upper bound would be made"
    raise InputError(
        "z",
        expected=f"one latent for each datapoint, a tensor of shape {shape}",
        got=got,
        do="Give the z from which x was simulated.",
    )
