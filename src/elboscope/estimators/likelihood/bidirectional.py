r"""Bidirectional Monte Carlo: log p(x) between two bounds, on data that the model simulates.

For :math:`z^* \sim p(z)`, :math:`x \sim p(x \mid z^*)`, z* is an exact draw of the posterior, so
that annealing forward bounds log p(x) from below and annealing back from z* bounds it from above,
both in expectation. The width of the sandwich is at least the error of either, *for these settings
on such data*: that real data are as easy is an assumption, not a result.

The width shrinks like 1/T once the chains mix. It is always measured at T and at 2T, which should
halve it; where it does not, the chains do not mix. From the two, log p(x) at T → ∞ is extrapolated.
"""

from __future__ import annotations

__all__ = [
    "Sandwich",
    "bidirectional_monte_carlo",
    "sandwich_pairs",
    "simulate",
]

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from elboscope.core import (
    ContractError,
    Estimate,
    GenerativeModel,
    InputError,
    Side,
    evaluating,
    family,
    given,
    paired_difference,
    seeded,
    standard_error,
)

from ..inputs import Inputs, prepared, require_positive
from ..streaming import Progress, reporting
from .annealed_run import Annealing, anneal, describe, fixed_steps, plan_annealing, summarise, tune
from .annealing import PathName, Schedule, StepSizes, double_schedule


@dataclass(frozen=True, eq=False)
class Sandwich:
    """Two bounds of log p(x) on simulated data, with T increments and with 2T.

    Attributes:
        x: The simulated data.
        z: The latents that made them.
        lower: AIS with T increments.
        upper: Reverse AIS from z with T increments.
        lower_doubled: AIS with 2T.
        upper_doubled: Reverse AIS with 2T.
        path: The density at β = 0.
        num_leapfrog: L of every transition.
    """

    x: Tensor
    z: Tensor
    lower: Estimate
    upper: Estimate
    lower_doubled: Estimate
    upper_doubled: Estimate
    path: PathName = "prior"
    num_leapfrog: int = 10

    @property
    def width(self) -> Estimate:
        """Upper − lower at 2T, per datapoint: its mean is at least the mean error of each."""
        return _width(self.upper_doubled, self.lower_doubled)

    @property
    def width_before(self) -> Estimate:
        """Upper − lower at T."""
        return _width(self.upper, self.lower)

    @property
    def extrapolated(self) -> Estimate:
        r"""log p(x) at T → ∞ if the gaps fall like 1/T: the mean of 2·(value at 2T) − value at T.

        An estimate, not a bound. Its error is that of the four runs.
        """
        doubled = 0.5 * (self.lower_doubled.values + self.upper_doubled.values)
        single = 0.5 * (self.lower.values + self.upper.values)
        parts = ((self.lower_doubled, 1.0), (self.upper_doubled, 1.0), (self.lower, 0.5),
                 (self.upper, 0.5))  # fmt: skip
        variance = torch.stack([(scale * e.mc_stderr).square() for e, scale in parts]).sum(0)
        values = 2 * doubled - single
        return replace(
            self.lower_doubled,
            method="bidirectional Monte Carlo, 1/T extrapolation",
            values=values,
            mc_stderr=variance.sqrt(),
            side="none",
            stderr=standard_error(values),
            diagnostics={},
        )

    def __str__(self) -> str:
        T, T2 = self.lower.num_temperatures, self.lower_doubled.num_temperatures
        return (
            f"simulated data (n={len(self.x)}): {_number(self.lower_doubled)} ≤ mean log p(x) ≤ "
            f"{_number(self.upper_doubled)} nats at {T2} temperatures; width "
            f"{_number(self.width)} (at {T}: {_number(self.width_before)})"
        )


def bidirectional_monte_carlo(
    model: GenerativeModel,
    num_data: int = 100,
    *,
    num_temperatures: int = 500,
    num_chains: int = 16,
    num_leapfrog: int = 10,
    schedule: Schedule = "sigmoid",
    path: PathName = "prior",
    step_sizes: Tensor | None = None,
    seed: int | None = None,
    condition: Tensor | None = None,
    batch_size: int | None = None,
    progress: Progress | bool | None = None,
) -> Sandwich:
    r"""Sandwiches log p(x) of simulated data between AIS and reverse AIS, with T and 2T.

    It says how far AIS with these settings is from log p(x) on data like the model's own. It says
    nothing about real data that the model does not resemble.

    Args:
        model: The model; needs no encoder unless ``path="posterior"``.
        num_data: How many x are simulated.
        num_temperatures: T; a second pair of runs has 2T.
        num_chains: C.
        num_leapfrog: L.
        schedule: As in :func:`annealed_importance_sampling`; a tensor's increments are halved.
        path: As there.
        step_sizes: Frozen ε at T, ``(T − 1,)``; ``None`` tunes them in one pilot, forward, which
            does not see z*. All four runs use them, log ε being interpolated in β for 2T.
        seed: Random seed; None picks one and records it.
        condition: One row per datapoint to simulate.
        batch_size: Datapoints annealed at once.
        progress: Called with the transitions done and their total, of all four runs; True
            shows a bar.

    Returns:
        The data and four estimates; ``.width``, ``.width_before`` and ``.extrapolated``.

    Raises:
        InputError: As :func:`annealed_importance_sampling`; conditions are not ``num_data`` rows.
        ContractError: p(x|z) cannot be sampled.

    References:
        | Sandwiching the marginal likelihood using bidirectional Monte Carlo (Grosse et al.,
          2015), https://arxiv.org/abs/1511.02543

    Example:
        >>> import elboscope as es
        >>> model = es.models.LinearGaussian.instance_1()
        >>> sandwich = bidirectional_monte_carlo(model, 5, num_temperatures=20, seed=0)
        >>> sandwich.width.name, sandwich.lower.side, sandwich.upper.side
        ('width of the sandwich', 'lower', 'upper')
    """
    require_positive("num_data", num_data)
    _require_one_each(condition, num_data)
    plan = plan_annealing(num_temperatures, num_chains, num_leapfrog, schedule, path, batch_size)
    with evaluating(model), seeded(seed) as used:
        x, z = simulate(model, num_data, condition)
        return sandwich_pairs(model, x, z, plan, step_sizes, used, condition, reporting(progress))


def sandwich_pairs(
    model: GenerativeModel,
    x: Tensor,
    z: Tensor,
    plan: Annealing,
    step_sizes: Tensor | None,
    seed: int,
    condition: Tensor | None = None,
    progress: Progress | None = None,
) -> Sandwich:
    """Sandwiches log p(x) of data whose latents are known, with T and 2T."""
    T = len(plan.betas) - 1
    longer = replace(plan, betas=double_schedule(plan.schedule, T))
    inputs = prepared(model, x, condition)
    curve = _step_sizes(model, inputs, plan, step_sizes, seed)
    runs = _runs(model, inputs, z, (plan, longer), curve, seed, progress)
    return Sandwich(x, z, *runs, path=plan.path, num_leapfrog=plan.num_leapfrog)


def simulate(
    model: GenerativeModel, num_data: int, condition: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Draws z* ~ p(z) and x ~ p(x|z*): drawn, not the mean, so that z* is a posterior sample."""
    local = given(model, condition)
    z = local.prior().sample(torch.Size((1, num_data)))
    p = local.decode(z)
    try:
        return p.sample()[0], z[0]
    except NotImplementedError as error:
        raise ContractError(
            "decode(z).sample",
            expected="a likelihood that can be sampled, since the data are simulated",
            got=f"{family(p)}, which cannot",
            do="Use annealed_importance_sampling, which gives the lower bound alone.",
        ) from error


def _require_one_each(condition: Tensor | None, num_data: int) -> None:
    if condition is not None and len(condition) != num_data:
        raise InputError(
            "condition",
            expected=f"one row for each of the {num_data} datapoints to simulate",
            got=f"{len(condition)} rows",
        )


def _step_sizes(
    model: GenerativeModel, inputs: Inputs, plan: Annealing, steps: Tensor | None, seed: int
) -> StepSizes:
    """Returns ε(β), from a pilot or through what was given."""
    if steps is None:
        return tune(model, inputs, plan, seed)
    given_steps = fixed_steps(model, inputs, plan, steps, seed)
    if not len(given_steps):
        raise InputError(
            "step_sizes",
            expected="None for T = 1, which has no transition while 2T has one",
            got="an empty tensor",
        )
    return StepSizes(plan.betas[1:-1].contiguous(), given_steps.log())


def _runs(
    model: GenerativeModel,
    inputs: Inputs,
    z: Tensor,
    plans: tuple[Annealing, Annealing],
    curve: StepSizes,
    seed: int,
    progress: Progress | None,
) -> tuple[Estimate, Estimate, Estimate, Estimate]:
    """Lower and upper at T, then at 2T."""
    per_run = [len(inputs.x) * plan.num_chains * (len(plan.betas) - 2) for plan in plans]
    families = describe(model, inputs)
    total, done = 2 * sum(per_run), 0

    def bound(which: int, side: Side) -> Estimate:
        nonlocal done
        plan, start = plans[which], z if side == "upper" else None
        steps = curve.at(plan.betas)
        run = anneal(model, inputs, start, plan, steps, _shift(progress, done, total))
        done += per_run[which]
        return summarise(inputs, plan, run, steps, seed, side, families)

    return bound(0, "lower"), bound(0, "upper"), bound(1, "lower"), bound(1, "upper")


def _shift(progress: Progress | None, before: int, total: int) -> Progress | None:
    """Counts the transitions of all runs together."""
    if progress is None:
        return None
    return lambda done, _: progress(before + done, total)


def _width(upper: Estimate, lower: Estimate) -> Estimate:
    return paired_difference(upper, lower, "width of the sandwich")


def _number(estimate: Estimate) -> str:
    return f"{estimate.mean:.3f} ± {estimate.stderr:.3f}"
