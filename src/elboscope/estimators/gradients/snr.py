r"""How much of a gradient is signal: SNR of an objective's gradient, encoder and decoder apart.

.. math:: \mathrm{SNR}_i = \frac{|E\,\Delta_i|}{\sigma(\Delta_i)}, \qquad
          \mathrm{SNR}_\theta = \Theta(\sqrt{MK}), \quad
          \mathrm{SNR}_\phi = \Theta(\sqrt{M/K})

for the average of M draws of the K-sample bound (Rainforth et al., 2018): a tighter bound takes
the encoder's signal away. Parameters and data are frozen; only the samples z vary between draws.
SNR compares estimators of *one* gradient; that of a bound worth more can be worth following at a
lower one, and a biased estimator can have a large one. Compare at a fixed budget T = MK, which
costs the same: :func:`at_budget`.

What is estimated, and the floor below which an SNR is noise: :mod:`.gradient_moments`.
"""

from __future__ import annotations

__all__ = ["BudgetedObjective", "Objective", "at_budget", "gradient_snr", "snr_over_checkpoints"]

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from elboscope.core import Bound, InputError, LatentVariableModel, evaluating, given, seeded
from elboscope.objectives import miwae

from ..inputs import likelihood_of, prepared, require_positive
from ..streaming import Progress, reporting
from .draws import (
    Draws,
    Part,
    blocks_of,
    gradient_draws,
    kept_coordinates,
    named_parts,
    projections,
)
from .moments import Direction, Moments, SnrSummary, bootstrap, merge
from .result import BlockSNR, GradientSNR

Objective = Callable[[LatentVariableModel, Tensor, int], Bound]
BudgetedObjective = Callable[[LatentVariableModel, Tensor, int, int], Bound]


def at_budget(total: int, objective: BudgetedObjective = miwae) -> Objective:
    """Returns the objective that spends T samples as M = T/K averages of K.

    Args:
        total: T.
        objective: ``(model, x, M, K) -> Bound``.

    Raises:
        InputError: The objective takes other arguments; on use, if K does not divide T.

    Example:
        >>> import elboscope as es
        >>> model = es.models.LinearGaussian.instance_1()
        >>> x, _ = model.sample(4, seed=0)
        >>> snr = gradient_snr(model, x, {"T = 64": at_budget(64)}, (1, 8), 50, seed=0)
        >>> [row["num_samples"] for row in snr.to_rows() if row["block"] == "all"]
        [1, 1, 8, 8]
    """
    require_positive("total", total)
    _require_counts("at_budget", objective, ("M", "K"))

    def budgeted(model: LatentVariableModel, x: Tensor, num_samples: int) -> Bound:
        if total % num_samples:
            expected = f"a divisor of the budget {total}"
            raise InputError("num_samples", expected=expected, got=str(num_samples))
        return objective(model, x, total // num_samples, num_samples)

    return budgeted


def gradient_snr(
    model: LatentVariableModel,
    x: object,
    objectives: Mapping[str, Objective],
    num_samples: int | Sequence[int] = (1, 8, 64),
    num_draws: int = 1000,
    *,
    seed: int | None = None,
    condition: Tensor | None = None,
    progress: Progress | bool | None = None,
) -> GradientSNR:
    r"""Measures the signal-to-noise ratio of objectives' gradients at one model and minibatch.

    Every draw is the gradient of the whole minibatch's mean, so that B datapoints average their
    noise: an SNR belongs to its B. Where an objective has an ``encoder_loss`` the encoder's
    gradient is that one's. Objectives at the same K see the same random numbers. The model is
    evaluated in evaluation mode; its parameters, gradients and flags are left as they were.

    Args:
        model: The model; only parameters that require a gradient are looked at.
        x: One minibatch ``(B, *X)``, all of which enters every draw.
        objectives: ``(model, x, K) -> Bound``, by the name to print.
        num_samples: One or more K.
        num_draws: R. An SNR near 0.8/√R is noise: use 10⁴ for a K of 64 or more.
        seed: Random seed; None picks one and records it.
        condition: One row per datapoint.
        progress: Called with the draws done and their total; True shows a bar.

    Returns:
        One :class:`BlockSNR` for each objective, K, part, and each of its tensors.

    Raises:
        InputError: K < 1, fewer than 2 draws, no objective; one that takes an epoch or a weight
            where K stands (those of training do); x cannot be data.
        ContractError: Nothing is trainable; a pathwise objective with a posterior that is not
            reparameterised.

    References:
        | Tighter Variational Bounds are Not Necessarily Better (Rainforth et al., 2018),
          https://arxiv.org/abs/1802.04537

    Example:
        >>> import elboscope as es
        >>> model = es.models.LinearGaussian.conjugate(mean=0.3, variance=2 / 3)
        >>> x = torch.ones(1, 1, dtype=torch.float64)
        >>> snr = gradient_snr(model, x, {"IWAE": es.objectives.iwae}, 1, 5000, seed=0)
        >>> offset = snr.find("IWAE", 1, "encoder", "encoder.c")
        >>> offset.interval[0] < 0.24495 < offset.interval[1]
        True
    """
    counts = _check(objectives, num_samples, num_draws)
    inputs = prepared(model, x, condition)
    report, found = reporting(progress), list[BlockSNR]()
    methods: dict[str, str] = {}
    total = num_draws * len(counts) * len(objectives)
    with evaluating(model), seeded(seed) as used:
        settings = likelihood_of(model, inputs)
        local = given(model, inputs.condition)
        parts = named_parts(local, inputs.x)
        for name, objective in objectives.items():
            for K in counts:
                bound = partial(objective, local, inputs.x, K)
                at = (used + 7919 * K) % 2**63
                draws = gradient_draws(local, inputs.x, bound, parts, K, num_draws, at)
                found += _measure(name, K, draws, parts, num_draws, at)
                methods[f"{name}, K={K}"] = ": ".join(filter(None, (draws.method, draws.reason)))
                if report is not None:
                    report(num_draws * len(found) // _results(parts), total)
    record = {"num_draws": num_draws, "num_data": len(inputs.x), "seed": used, **settings}
    return GradientSNR(tuple(found), num_draws, {**record, "draws": methods}, inputs.data_id)


def snr_over_checkpoints(
    models: Mapping[str, LatentVariableModel],
    x: object,
    objectives: Mapping[str, Objective],
    num_samples: int | Sequence[int] = (1, 8, 64),
    num_draws: int = 1000,
    *,
    seed: int | None = None,
    condition: Tensor | None = None,
) -> Mapping[str, GradientSNR]:
    """Measures several models, the checkpoints of a run, on the same data with the same seed.

    Args:
        models: By their names, in order: ``{"epoch 1": …, "epoch 10": …}``.
        x: As for :func:`gradient_snr`, and so are the others.
        objectives: By their names.
        num_samples: One or more K.
        num_draws: R.
        seed: Random seed, the same for each model; None picks one.
        condition: One row per datapoint.

    Example:
        >>> import elboscope as es
        >>> wide, narrow = (es.models.LinearGaussian.conjugate(variance=v) for v in (0.7, 0.6))
        >>> x = torch.ones(1, 1, dtype=torch.float64)
        >>> iwae = {"IWAE": es.objectives.iwae}
        >>> found = snr_over_checkpoints({"1": wide, "2": narrow}, x, iwae, 2, 50, seed=0)
        >>> list(found)
        ['1', '2']
    """
    if not models:
        raise InputError("models", expected="at least one checkpoint", got="none")
    with seeded(seed) as used:
        return {
            label: gradient_snr(
                model, x, objectives, num_samples, num_draws, seed=used, condition=condition
            )
            for label, model in models.items()
        }


def _check(
    objectives: Mapping[str, Objective], num_samples: int | Sequence[int], num_draws: int
) -> tuple[int, ...]:
    counts = tuple(num_samples) if isinstance(num_samples, Sequence) else (num_samples,)
    for K in counts:
        require_positive("num_samples", K)
    require_positive("num_draws", num_draws, 2)
    if not objectives or not counts:
        what = "num_samples" if objectives else "objectives"
        raise InputError(what, expected="at least one", got="none")
    if not isinstance(objectives, Mapping) or not all(map(callable, objectives.values())):
        expected = 'functions (model, x, K) -> Bound by their names, such as {"IWAE": iwae}'
        raise InputError("objectives", expected=expected, got=type(objectives).__name__)
    for name, objective in objectives.items():
        _require_counts(name, objective, ("K",))
    return tuple(map(int, counts))


def _require_counts(name: str, objective: Callable[..., Bound], counts: tuple[str, ...]) -> None:
    """Refuses what would take the number of samples for an epoch or a weight, and print on."""
    try:
        asked = list(inspect.signature(objective).parameters.values())
    except ValueError:  # a builtin
        return
    places = [p for p in asked if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    given, rest = places[2 : 2 + len(counts)], places[2 + len(counts) :]
    several = any(p.kind is p.VAR_POSITIONAL for p in asked)
    short = len(given) < len(counts) and not several
    if (
        not short
        and not any(map(_is_no_count, given))
        and all(p.default is not p.empty for p in rest)
    ):
        return
    signature = ", ".join(("model", "x", *counts))
    raise InputError(
        f"objective {name!r}",
        expected=f"a function ({signature}) -> Bound of {' and '.join(counts)} samples",
        got=f"one of ({', '.join(p.name for p in places)})",
        do="Use elboscope.objectives.iwae and its like. For an objective of training write "
        "lambda model, x, K: IWAE(num_samples=K)(model, x, epoch).",
    )


def _is_no_count(parameter: inspect.Parameter) -> bool:
    """An epoch, or one that is annotated as a real number or as text: β, λ, free nats."""
    kind = str(parameter.annotation)
    return parameter.name == "epoch" or kind in ("float", "str", "Nonnegative", "Share")


def _results(parts: Mapping[Part, Mapping[str, nn.Parameter]]) -> int:
    return sum(1 + len(tensors) for tensors in parts.values())


def _measure(
    name: str,
    K: int,
    draws: Draws,
    parts: Mapping[Part, Mapping[str, nn.Parameter]],
    R: int,
    seed: int,
) -> Iterator[BlockSNR]:
    """All blocks' results of one objective at one K."""
    blocks = blocks_of(parts)
    generator = torch.Generator().manual_seed(seed)
    index, weights = kept_coordinates(blocks, R, generator)
    state: Moments | None = None
    columns = []
    for chunk in draws.chunks():
        state = merge(state, chunk)
        columns.append(chunk[:, index.to(chunk.device)].double())
    if state is None:
        raise AssertionError("no draws")
    kept = torch.cat(columns)
    again = iter([kept]) if len(index) == len(state.mean) else draws.chunks()
    dots, norms = projections(again, state.mean, blocks)
    for part in parts:
        mine = [i for i, block in enumerate(blocks) if block.part == part]
        groups = [("all", mine), *((blocks[i].name, [i]) for i in mine)]
        for block, members in groups:
            where = slice(blocks[members[0]].where.start, blocks[members[-1]].where.stop)
            moments = Moments(R, state.mean[where], state.squares[where], state.active[where])
            chosen = (index >= where.start) & (index < where.stop)
            summary = SnrSummary.of(moments)
            sampled = kept[:, chosen.to(kept.device)], weights[chosen].to(kept)
            intervals = bootstrap(*sampled, summary, generator)
            direction = Direction.of(
                dots[:, members].sum(1) / moments.mean.norm(), norms[:, members].sum(1)
            )
            yield BlockSNR(name, K, part, block, summary, *intervals, direction, moments)
