r"""Importance sampling of log p(x), from the posterior or (to show how badly it does) the prior.

.. math:: \log \hat p(x) = \log \frac1K \sum_k w_k, \qquad w_k = \frac{p(x, z_k)}{q(z_k \mid x)}

The average of the weights is unbiased for p(x), so the logarithm of it lies below log p(x) in
expectation, by about Var(w)/(2K p(x)²) where the weights have a variance. Where they have none
the bias shrinks more slowly than 1/K and the printed error says nothing: that is what the Pareto
index k̂ of each datapoint is for. The weights are streamed over samples and datapoints; they are
kept as log-weights and reduced in float64. What each sample of each datapoint draws does not
depend on how much is decoded at once.
"""

from __future__ import annotations

__all__ = ["importance_sampling", "prior_sampling"]

from collections.abc import Callable, Iterator, Mapping

import torch
from jaxtyping import Float64
from torch import Tensor

from elboscope.core import (
    Estimate,
    GenerativeModel,
    Grid,
    LatentVariableModel,
    Pieces,
    Streams,
    decode_in_pieces,
    effective_sample_size,
    evaluating,
    given,
    half_means,
    log_joint,
    log_mean_exp,
    log_mean_exp_stderr,
    pareto_smoothed,
    sample_posterior,
    seeded,
)

from ..inputs import Inputs, likelihood_of, prepared
from ..streaming import Progress, Samples, Streaming, reporting

# (x, condition, which samples of the K) -> log-weights of these samples, ``(S, B)``. Called once
# for every cell that is drawn together, in a random stream of its own.
Weigh = Callable[[Tensor, Tensor | None, Samples], Tensor]
Reduce = Callable[[Tensor], Mapping[str, Tensor]]


def importance_sampling(
    model: LatentVariableModel,
    x: object,
    num_samples: int = 5000,
    *,
    seed: int | None = None,
    condition: Tensor | None = None,
    sample_chunk: int | None = None,
    batch_size: int | None = None,
    progress: Progress | bool | None = None,
) -> Estimate:
    r"""Estimates :math:`\log p(x) \ge \mathbb{E}\,\log \frac1K \sum_k w_k`, with its trust.

    It is a lower bound in expectation, not for every draw. Its error is that of the delta method,
    which is worth nothing where k̂ ≥ 0.5 (the weights have no variance). K = 1 is one sample of
    the ELBO.

    Args:
        model: The model, with an encoder.
        x: Data: a tensor ``(N, *X)``, an array, a data set or a loader.
        num_samples: K, the samples of each datapoint.
        seed: Random seed; None picks one and records it.
        condition: One row per datapoint.
        sample_chunk: Samples decoded at once; by default a few thousand rows.
        batch_size: Datapoints decoded at once; by default all that are drawn together.
        progress: Called with the weights done and their total; True shows a bar.

    Returns:
        log p(x) per datapoint in nats, a lower bound. ``diagnostics``: ``ess`` (Kish's, of K),
        ``khat`` (NaN for K < 30), ``psis`` (the Pareto-smoothed value: less variance, no bound)
        and ``half`` (the value of the first K/2 samples, which shows whether K is enough).

    Raises:
        InputError: x cannot be data; K < 1.
        ContractError: The posterior has no density.

    References:
        | Importance Weighted Autoencoders (Burda et al., 2016), https://arxiv.org/abs/1509.00519
        | Pareto Smoothed Importance Sampling (Vehtari et al.), https://arxiv.org/abs/1507.02646

    Example:
        >>> import elboscope as es
        >>> model = es.models.LinearGaussian.instance_1()
        >>> x, _ = model.sample(50, seed=0)
        >>> log_px = importance_sampling(model, x, 500, seed=0)
        >>> abs(log_px.mean - model.log_likelihood(x).mean().item()) < 4 * log_px.mc_error_of_mean
        True
    """
    inputs = prepared(model, x, condition)
    streaming = Streaming(num_samples, seed, sample_chunk, batch_size, reporting(progress))
    return weight_average(model, inputs, from_posterior(model), "importance sampling", streaming)


def prior_sampling(
    model: GenerativeModel,
    x: object,
    num_samples: int = 5000,
    *,
    seed: int | None = None,
    condition: Tensor | None = None,
    sample_chunk: int | None = None,
    batch_size: int | None = None,
    progress: Progress | bool | None = None,
) -> Estimate:
    r"""Estimates :math:`\log p(x) \ge \mathbb{E}\,\log \frac1K \sum_k p(x \mid z_k)`, z from p(z).

    The textbook definition taken literally. Almost no draw of the prior explains a given x, so
    the value lies far below log p(x) and its error is a fiction, as its k̂ says; it is here to be
    shown beside :func:`importance_sampling`. Each datapoint has its own draws, so that the errors
    of datapoints are independent. Needs no encoder.

    Args:
        model: The model.
        x: Data, ``(N, *X)``.
        num_samples: K, the samples of each datapoint.
        seed: Random seed; None picks one and records it.
        condition: One row per datapoint.
        sample_chunk: Samples decoded at once.
        batch_size: Datapoints decoded at once; by default all that are drawn together.
        progress: Called with the weights done and their total; True shows a bar.

    Returns:
        As :func:`importance_sampling`.

    Raises:
        InputError: x cannot be data; K < 1.

    Example:
        >>> import elboscope as es
        >>> model = es.models.LinearGaussian.instance_1()
        >>> x, _ = model.sample(5, seed=0)
        >>> prior_sampling(model, x, 100, seed=0).method
        'prior sampling'
    """

    def weigh(x: Tensor, condition: Tensor | None, samples: Samples) -> Tensor:
        shape = torch.Size((samples.stop - samples.start, len(x)))
        z = given(model, condition).prior().sample(shape)
        return decode_in_pieces(log_likelihood, model, x, z, samples.pieces, condition)

    inputs = prepared(model, x, condition)
    streaming = Streaming(num_samples, seed, sample_chunk, batch_size, reporting(progress))
    return weight_average(model, inputs, weigh, "prior sampling", streaming)


def from_posterior(model: LatentVariableModel) -> Weigh:
    """Returns the weights of draws from q(z|x)."""

    def weigh(x: Tensor, condition: Tensor | None, samples: Samples) -> Tensor:
        z, log_q = sample_posterior(given(model, condition), x, samples.stop - samples.start)
        return decode_in_pieces(log_joint, model, x, z, samples.pieces, condition) - log_q

    return weigh


def log_likelihood(model: GenerativeModel, x: Tensor, z: Tensor) -> Tensor:
    """Returns log p(x|z)."""
    log_px: Tensor = model.decode(z).log_prob(x)
    return log_px


def weight_average(
    model: GenerativeModel,
    inputs: Inputs,
    weigh: Weigh,
    method: str,
    streaming: Streaming,
    settings: Mapping[str, object] | None = None,
) -> Estimate:
    """Returns log of the mean of K weights per datapoint, with what tells whether to trust it."""
    found, used = reduce_weights(model, inputs, weigh, averages, streaming)
    settings = {**used, **(settings or {})}
    return as_estimate(method, found, streaming.num_samples, settings, inputs)


def as_estimate(
    method: str,
    reduced: Mapping[str, Tensor],
    K: int,
    settings: Mapping[str, object],
    inputs: Inputs,
) -> Estimate:
    """Returns what :func:`averages` made of the weights as an estimate of log p(x)."""
    diagnostics = {k: v for k, v in reduced.items() if k not in ("value", "mc_stderr")}
    value, error = reduced["value"], reduced["mc_stderr"]
    return Estimate.per_datapoint(
        "log p(x)",
        method,
        value,
        error,
        "lower",
        diagnostics=diagnostics,
        settings=settings,
        data_id=inputs.data_id,
        num_samples=K,
        notes=inputs.notes,
    )


def reduce_weights(
    model: GenerativeModel,
    inputs: Inputs,
    weigh: Weigh,
    reduce: Reduce,
    streaming: Streaming,
) -> tuple[dict[str, Tensor], dict[str, object]]:
    """Streams the weights of a few datapoints at a time through a reduction over samples.

    The draws of a cell, a few samples of a few datapoints, have a random stream of their own: they
    do not depend on ``batch_size`` and ``sample_chunk``, which say how much is decoded at once.

    Returns:
        What the reduction found, per datapoint, and the settings that were in force.
    """
    K = streaming.num_samples
    with evaluating(model), seeded(streaming.seed) as used:
        families = likelihood_of(model, inputs)
        grid = Grid.of(model, *inputs[:2], K)
        sizes = streaming.batch_size, streaming.sample_chunk
        pieces = Pieces.of(model, *inputs[:2], grid, *sizes)
        parts = [reduce(w) for w in _columns(inputs, weigh, grid, pieces, streaming)]
    reduced = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
    taken = {"sample_chunk": pieces.samples, "batch_size": pieces.rows}
    return reduced, {"seed": used, **families, **taken}


def _columns(
    inputs: Inputs, weigh: Weigh, grid: Grid, pieces: Pieces, streaming: Streaming
) -> Iterator[Float64[Tensor, "K B *_"]]:
    """The weights of all samples, for the datapoints that are drawn together."""
    K, progress = streaming.num_samples, streaming.progress
    cells, parts = grid.cells(len(inputs.x), K), list[Tensor]()
    streams = Streams()
    for number, (rows, samples) in enumerate(cells):
        x, condition = inputs.rows(rows)
        with streams(number):
            parts.append(weigh(x, condition, Samples(samples.start, samples.stop, pieces)).double())
        if progress is not None:
            progress(rows.start * K + samples.stop * len(x), len(inputs.x) * K)
        if samples.stop == K:
            yield torch.cat(parts)
            parts.clear()


def error_of_average(log_w: Float64[Tensor, "K B"]) -> Float64[Tensor, " B"]:
    """Returns the delta method's error, in nats, and never less than 1/K.

    Equal weights have no spread, but K draws say nothing of what q visits less often than once in
    K: they may all sit in one of two modes.
    """
    return log_mean_exp_stderr(log_w).clamp(min=1 / len(log_w))


def averages(log_w: Float64[Tensor, "K B"]) -> Mapping[str, Tensor]:
    """From weights to what is reported of them; k̂ is that of all K."""
    smoothed = pareto_smoothed(log_w)
    return {
        "value": log_mean_exp(log_w),
        "mc_stderr": error_of_average(log_w),
        "ess": effective_sample_size(log_w),
        "khat": smoothed.khat,
        "psis": smoothed.log_mean,
        **_halves(log_w),
    }


def _halves(log_w: Tensor) -> Mapping[str, Tensor]:
    """Returns both halves' values and errors, the errors no smaller than one over their length."""
    least = 2 / len(log_w)
    found = half_means(log_w)
    return {k: v.clamp(min=least) if k.endswith("stderr") else v for k, v in found.items()}
