"""What will be asked of which datapoints: the contract, the clock, the draw of datapoints."""

from __future__ import annotations

__all__ = [
    "Paces",
    "Plan",
    "batches",
    "capabilities_of",
    "duration",
    "paces_of",
    "plan_for",
    "rows_of",
    "seconds_per_sample",
    "stratified",
]

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from elboscope.core import (
    Capabilities,
    ContractError,
    GenerativeModel,
    LatentVariableModel,
    check_model,
    given,
    modules_of,
    seeded,
)
from elboscope.estimators.likelihood.log_likelihood import FEWEST_PAIRS

from .budget import MIN_ANNEALED, MIN_DATA, MIN_OPTIMISED, MIN_SIMULATED, SEARCHES, Budget

BATCH = 256


@dataclass(frozen=True)
class Plan:
    """The data drawn for each purpose, and the expected seconds.

    Attributes:
        budget: What was allowed.
        seed: Seed of the draws.
        x: Evaluation data.
        x_train: Training data to compare with.
        x_mixture: The aggregate posterior's data.
        condition: Conditions of x; ``condition_train`` and ``condition_mixture`` likewise.
        seconds: Expected time of the sampling that follows.
        full_seconds: What the budget's own number of datapoints would have taken.
        total: Datapoints given.
        total_train: Training datapoints given.
        annealed: Rows of x for AIS.
        num_simulated: Simulated datapoints to anneal for its certificate.
        num_pairs: Simulated pairs that q scores for it.
        annealing_seconds: Expected time of both.
        optimised: Rows of x whose best posteriors are searched; ``optimised_train`` likewise.
        optimising_seconds: Expected time of the search.
    """

    budget: Budget
    seed: int
    x: Tensor
    x_train: Tensor | None
    x_mixture: Tensor
    condition: Tensor | None
    condition_train: Tensor | None
    condition_mixture: Tensor | None
    seconds: float
    full_seconds: float
    total: int
    total_train: int
    annealed: Tensor
    num_simulated: int
    num_pairs: int
    annealing_seconds: float
    optimised: Tensor
    optimised_train: Tensor
    optimising_seconds: float

    @property
    def too_slow(self) -> str:
        """Why importance sampling is left out, or nothing."""
        if self.seconds <= 2 * self.budget.max_seconds:
            return ""
        return (
            f"would take about {duration(self.seconds)} for {len(self.x)} datapoints at "
            f"K={self.budget.num_samples}; budget {self.budget.name!r} allows "
            f"{duration(self.budget.max_seconds)}"
        )

    @property
    def too_slow_to_anneal(self) -> str:
        """Why AIS is left out, or nothing."""
        budget = self.budget
        if not budget.num_temperatures:
            return f"budget {budget.name!r} has no temperatures for annealing"
        allowed = _left(budget, self.seconds)
        if self.annealing_seconds <= 2 * allowed:
            return ""
        return (
            f"AIS would take about {duration(self.annealing_seconds)} for {len(self.annealed)} "
            f"datapoints and {self.num_simulated} simulated ones with {budget.num_temperatures} "
            f"temperatures; budget {budget.name!r} leaves {duration(allowed)}"
        )

    @property
    def too_slow_to_optimise(self) -> str:
        """Why no best posterior is searched, or nothing."""
        budget = self.budget
        if not budget.num_optimised:
            return f"budget {budget.name!r} searches no best posteriors"
        allowed = _left(budget, self.seconds + self.annealing_seconds)
        if self.optimising_seconds <= 2 * allowed:
            return ""
        return (
            f"searching the best posteriors of {len(self.optimised)} datapoints would take about "
            f"{duration(self.optimising_seconds)}; budget {budget.name!r} leaves "
            f"{duration(allowed)}"
        )

    @property
    def expected_seconds(self) -> float:
        """Seconds expected of all that is not left out, to a tenth."""
        seconds = round(self.seconds, 1)
        if not self.too_slow_to_anneal:
            seconds = round(self.seconds + self.annealing_seconds, 1)
        if not self.too_slow_to_optimise:
            seconds = round(seconds + self.optimising_seconds, 1)
        return seconds

    def record(self) -> dict[str, object]:
        """Returns what is printed beside the numbers."""
        done: dict[str, object] = {
            "budget": self.budget.name,
            "seed": self.seed,
            "num_samples": self.budget.num_samples,
            "n": len(self.x),
            "n_given": self.total,
            "n_mixture": len(self.x_mixture),
            "expected_seconds": self.expected_seconds,
        }
        if not self.too_slow_to_anneal:
            done |= {
                "num_temperatures": self.budget.num_temperatures,
                "num_chains": self.budget.num_chains,
                "n_annealed": len(self.annealed),
                "n_simulated": self.num_simulated,
                "n_pairs": self.num_pairs,
            }
        if not self.too_slow_to_optimise:
            done |= {
                "n_optimised": len(self.optimised),
                "n_optimised_train": len(self.optimised_train),
                "richer": self.budget.richer or "none",
            }
        if self.x_train is not None:
            done |= {"n_train": len(self.x_train), "n_train_given": self.total_train}
        if len(self.x) < self.total:
            clock = len(self.x) < min(self.total, self.budget.num_data)
            why = f"to stay within {duration(self.budget.max_seconds)}" if clock else "its size"
            done["subsampled"] = (
                f"{len(self.x)} of {self.total} datapoints, one from each of as many equal "
                f"stretches, seed {self.seed}; budget {self.budget.name!r}: {why}"
            )
        return done


def capabilities_of(
    model: GenerativeModel, x: Tensor, condition: Tensor | None
) -> tuple[Capabilities, int]:
    """Returns what the model can do, and how many of its parameters are not finite.

    A distribution that validates its arguments refuses NaN parameters, which looks like a breach
    of the contract; where the model's own parameters are not finite it is divergence instead.
    """
    broken = sum(
        int((~p.isfinite()).sum())
        for root in modules_of(model)
        for p in root.parameters()
        if p.is_floating_point()
    )
    try:
        return check_model(model, x, condition=condition), broken
    except (ContractError, RuntimeError) as error:
        if not broken:
            raise
        what = error.what if isinstance(error, ContractError) else "the model"
        problem = f"{what} cannot be evaluated: parameters of the model are NaN or infinite"
        return _nothing(x, problem), broken


def _nothing(x: Tensor, problem: str) -> Capabilities:
    return Capabilities(
        latent_shape=(),
        data_shape=tuple(x.shape[1:]),
        posterior="",
        likelihood="",
        reparameterised=False,
        has_encoder=False,
        has_posterior_density=False,
        has_likelihood=False,
        analytic_kl=False,
        in_support=True,
        problems=(problem,),
    )


class Paces(NamedTuple):
    """Seconds per decoded z on this machine: in large batches, and in batches of the chains' size.

    What the clock allows follows from them, so that a diagnosis that goes on later keeps them.
    """

    decoding: float
    annealing: float


def paces_of(
    model: GenerativeModel,
    capabilities: Capabilities,
    x: Tensor,
    budget: Budget,
    condition: Tensor | None = None,
) -> Paces:
    """Times the decoder; 0 where it is not needed."""
    if not capabilities.has_likelihood:
        return Paces(0.0, 0.0)
    decoding = seconds_per_sample(model, x, condition)
    chains = budget.num_chains if budget.num_temperatures else 0
    slow = seconds_per_sample(model, x, condition, chains) if decoding and chains else 0.0
    return Paces(decoding, slow)


def plan_for(
    model: GenerativeModel,
    capabilities: Capabilities,
    x: Tensor,
    x_train: Tensor | None,
    budget: Budget,
    seed: int,
    condition: Tensor | None = None,
    condition_train: Tensor | None = None,
    paces: Paces | None = None,
) -> Plan:
    """Draws the datapoints that the budget and the clock allow, by ``paces`` or timed here."""
    total_train = 0 if x_train is None else len(x_train)
    pace, slow_pace = paces or paces_of(model, capabilities, x, budget, condition)
    full = budget.expected_seconds(pace, len(x), total_train)
    share = budget.affordable(pace, len(x), total_train)
    rows = stratified(len(x), _cut(budget.num_data, len(x), share), seed)
    rows_train = stratified(total_train, _cut(budget.num_train, total_train, share), seed + 1)
    source, source_condition = (x, condition) if x_train is None else (x_train, condition_train)
    rows_mixture = stratified(len(source), budget.num_mixture, seed + 2)
    seconds = budget.expected_seconds(pace, len(rows), len(rows_train))
    annealed, simulated, pairs = _annealed(budget, slow_pace, len(rows), _left(budget, seconds))
    annealing = budget.annealing_seconds(slow_pace, annealed, simulated, pairs)
    budget = budget.for_latents(math.prod(capabilities.latent_shape))
    own = {"Normal": None, "MultivariateNormal": "full"}.get(capabilities.posterior, "flow")
    families = 1 + SEARCHES[own]  # the diagonal one comes first
    optimised, optimised_train = _optimised(
        budget, pace, families, len(rows), len(rows_train), _left(budget, seconds + annealing)
    )
    return Plan(
        budget=budget,
        seed=seed,
        x=x[rows],
        x_train=None if x_train is None else x_train[rows_train],
        x_mixture=source[rows_mixture],
        condition=rows_of(condition, rows),
        condition_train=rows_of(condition_train, rows_train),
        condition_mixture=rows_of(source_condition, rows_mixture),
        seconds=seconds,
        full_seconds=full,
        total=len(x),
        total_train=total_train,
        annealed=stratified(len(rows), annealed, seed + 3),
        num_simulated=simulated,
        num_pairs=pairs,
        annealing_seconds=annealing,
        optimised=stratified(len(rows), optimised, seed + 4),
        optimised_train=stratified(len(rows_train), optimised_train, seed + 5),
        optimising_seconds=budget.optimising_seconds(pace, optimised + optimised_train, families),
    )


def _left(budget: Budget, seconds: float) -> float:
    """What the next may take: what those before leave, and never less than a quarter."""
    return max(budget.max_seconds - seconds, budget.max_seconds / 4)


def _annealed(budget: Budget, pace: float, n: int, allowed: float) -> tuple[int, int, int]:
    """How many datapoints to anneal, and how many of how many simulated ones, by the clock."""
    n, simulated, pairs = min(n, budget.num_annealed), budget.num_simulated, budget.num_pairs
    expected = budget.annealing_seconds(pace, n, simulated, pairs)
    share = min(1.0, allowed / expected) if expected > 0 else 1.0
    return (
        max(min(n, MIN_ANNEALED), int(n * share)),
        (simulated := max(min(simulated, MIN_SIMULATED), int(simulated * share))),
        max(min(pairs, FEWEST_PAIRS * simulated), int(pairs * share)),
    )


def _optimised(
    budget: Budget, pace: float, families: int, n: int, n_train: int, allowed: float
) -> tuple[int, int]:
    """How many datapoints get a search for their best posterior, cut as the clock demands."""
    n, n_train = min(n, budget.num_optimised), min(n_train, budget.num_optimised_train)
    expected = budget.optimising_seconds(pace, n + n_train, families)
    share = min(1.0, allowed / expected) if expected > 0 else 1.0
    return (
        max(min(n, MIN_OPTIMISED), int(n * share)),
        max(min(n_train, MIN_OPTIMISED), int(n_train * share)),
    )


def rows_of(condition: Tensor | None, rows: Tensor) -> Tensor | None:
    """Returns the conditions of these rows, if there are any."""
    return None if condition is None else condition[rows.to(condition.device)]


def batches(
    model: LatentVariableModel, x: Float[Tensor, "n *X"], condition: Tensor | None
) -> Iterator[tuple[LatentVariableModel, Tensor]]:
    """Yields the model given the conditions of 256 datapoints, and these datapoints."""
    for start in range(0, len(x), BATCH):
        part = slice(start, start + BATCH)
        yield given(model, None if condition is None else condition[part]), x[part]


def _cut(allowed: int, given_: int, share: float) -> int:
    return max(min(MIN_DATA, allowed, given_), int(min(allowed, given_) * share))


def stratified(n: int, size: int, seed: int) -> Int64[Tensor, " m"]:
    """Returns min(n, size) row numbers, in order, one from each of as many equal stretches.

    Data sorted by class keep their classes; every row has nearly the same chance.

    Example:
        >>> stratified(10, 5, seed=0) // 2
        tensor([0, 1, 2, 3, 4])
    """
    if size >= n or not size:
        return torch.arange(min(n, size))
    with seeded(seed):
        offset = torch.rand(size, dtype=torch.float64)
    return ((torch.arange(size) + offset) * (n / size)).long().clamp(max=n - 1)


# How long a decoder pass takes on this machine.

TIMED_DATA, TIMED_ELEMENTS = 32, 2**20


def seconds_per_sample(
    model: GenerativeModel,
    x: Float[Tensor, "n *X"],
    condition: Tensor | None = None,
    num_samples: int | None = None,
) -> float:
    """Times two decoder passes (the first warms up) and returns seconds per decoded z.

    Args:
        model: The model.
        x: Data.
        condition: Their conditions.
        num_samples: Samples of each of the 32 first x; by default as many as fill a batch.
    """
    x, condition = x[:TIMED_DATA], None if condition is None else condition[:TIMED_DATA]
    K = num_samples or max(1, min(256, TIMED_ELEMENTS // max(1, x.numel())))
    local = given(model, condition)
    with seeded(0):
        z = model.prior().sample(torch.Size((K, len(x))))
    for _ in range(2):
        start = time.perf_counter()
        local.decode(z).log_prob(x).sum().item()
        elapsed = time.perf_counter() - start
    return elapsed / (K * len(x))


def duration(seconds: float) -> str:
    """Returns a time in words.

    Example:
        >>> duration(90.0), duration(600.0)
        ('90 s', '10 min')
    """
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
