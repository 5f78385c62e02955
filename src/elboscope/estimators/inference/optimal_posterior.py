r"""The best posterior of a family for every single datapoint, and how sure it is the best.

.. math:: q^*_n = \arg\max_{q \in \mathcal Q} L_n[q], \qquad
          L_n[q] = \mathbb{E}_q[\log p(x_n, z) - \log q(z)] \le \log p(x_n)

It splits the gap of an encoder in two: :math:`\log p(x) - L[q^*]`, the approximation gap, is the
family's; :math:`L[q^*] - L[q]`, the amortisation gap, is the encoder's, and cannot be negative.
Three sets of samples are kept apart: those that move the parameters, those that select among
starts (see :mod:`.gaussian_search`), and the fresh ones that report; a value selected and reported
on the same noise is too large.
"""

from __future__ import annotations

__all__ = ["OptimalPosterior", "optimal_posterior"]

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float64, Int64
from torch import Tensor
from torch.distributions import Distribution

from elboscope.core import Estimate, GenerativeModel, InputError, data_id, evaluating, given, seeded

from ..inputs import Inputs, prepared, require_positive
from ..likelihood.annealed_run import describe
from ..likelihood.importance import as_estimate, averages
from ..streaming import Progress, reporting
from .convergence import Convergence, Trial, joined, judge
from .flow_search import flow_search
from .gaussian_families import DiagonalGaussian, Family, FullGaussian, Parameters
from .gaussian_search import SELECT, WINDOW, Optimised, Search, gaussian_search, search_starts
from .target import Target, own_gaussian, require_real_latents, score, starting_points

FamilyName = Literal["diagonal", "full", "flow"]

# Numbers of all covariance factors together: half a gigabyte in float32, and some copies of it.
LARGEST_FULL = 2**27
REPORT = 0x4EB047  # the stream of the fresh samples
# Samples on which the encoder's own q is set against what the search found.
FALLBACK = 256


@dataclass(frozen=True, eq=False, repr=False)
class OptimalPosterior:
    """What :func:`optimal_posterior` found.

    Attributes:
        elbo: L[q*] per datapoint, a lower bound on log p(x), from fresh samples; of the datapoints
            in ``index``, if any had to be left out.
        log_px: log p(x) by importance sampling from q*, with the same fresh samples: never below
            ``elbo``, and with k̂ and ESS in ``diagnostics``.
        posterior: q*, batch ``(n,)``, event ``(*Z)``; the prior's moments where it diverged.
        certificate: How close the mean of ``elbo`` is to the maximum over the family.
        index: The datapoints that have a value, ``(m,)``.
        family: ``"diagonal"``, ``"full"`` or ``"flow"``.
    """

    elbo: Estimate
    log_px: Estimate
    posterior: Distribution
    certificate: Convergence
    index: Int64[Tensor, " m"]
    family: str

    def __repr__(self) -> str:
        return f"<OptimalPosterior: {self.elbo}>"

    def __str__(self) -> str:
        return f"{self.elbo}; {self.certificate}"


def optimal_posterior(
    model: GenerativeModel,
    x: object,
    family: FamilyName = "diagonal",
    *,
    num_samples: int = 5000,
    step_samples: int = 32,
    max_steps: int = 400,
    tolerance: float = 0.02,
    seed: int | None = None,
    condition: Tensor | None = None,
    progress: Progress | bool | None = None,
) -> OptimalPosterior:
    r"""Finds :math:`q^* = \arg\max_{q \in \mathcal Q} L[q]` for each datapoint by itself.

    The model's parameters stay where they are, without gradients, and it is evaluated in evaluation
    mode. L[q*] is the best that this *family* can do, not log p(x); and the best that the starts
    found, which the certificate judges but no finite search proves.

    Args:
        model: The model: a prior over real latents and a decoder; an encoder is one of the starts.
        x: Data, ``(N, *X)``, in the support of the likelihood.
        family: ``"diagonal"`` or ``"full"``: Gaussians with a diagonal or a full covariance.
            ``"flow"``: Real NVP on (z, v) with auxiliary v, for each datapoint its own weights,
            begun at the best Gaussian (of full covariance where n·d² allows it) and never below
            it; much dearer, and seldom certified as closely.
        num_samples: K, the fresh samples with which each datapoint's value is reported.
        step_samples: Samples of a step near the optimum, at least; 8 are used on the way there.
            With d latents, a full covariance takes 2d if that is more, and a diagonal one d + 2
            up to 256: fewer do not cancel the noise of correlated latents.
        max_steps: Steps of each datapoint, at most.
        tolerance: Certify the mean to within so many nats.
        seed: Random seed; None picks one and records it.
        condition: One row per datapoint.
        progress: Called with datapoints done and 2N: optimised, then reported; True shows a bar.

    Returns:
        The values with their Monte Carlo errors, q* as a distribution over the datapoints, and the
        certificate, which names the datapoints that diverged (they have no value and are not in the
        mean), those that did not converge (they are), and those where the encoder's own q was kept.

    Raises:
        InputError: x cannot be data; a count below 1; an unknown family, or one too large for so
            many latents.
        ContractError: The latents are discrete or do not lie on all real numbers.

    References:
        | Inference Suboptimality in Variational Autoencoders (Cremer, Li, Duvenaud, 2018),
          https://arxiv.org/abs/1801.03558
        | Sticking the Landing (Roeder, Wu, Duvenaud, 2017), https://arxiv.org/abs/1703.09194

    Example:
        >>> import elboscope as es
        >>> model = es.models.LinearGaussian.instance_1()
        >>> x, _ = model.sample(4, seed=0)
        >>> best = optimal_posterior(model, x, num_samples=500, seed=0)
        >>> truth = model.elbo(x)  # this model's encoder is the best diagonal Gaussian
        >>> abs(best.elbo.mean - truth.mean().item()) < 4 * best.elbo.mc_error_of_mean
        True
        >>> torch.allclose(best.posterior.mean, model.encode(x).mean, atol=0.05)
        True
    """
    require_positive("num_samples", num_samples)
    require_positive("step_samples", step_samples, least=2)
    require_positive("max_steps", max_steps, least=2 * WINDOW)
    if not isinstance(tolerance, Real) or not tolerance > 0:
        raise InputError("tolerance", expected="a positive number of nats", got=repr(tolerance))
    inputs = prepared(model, x, condition)
    local = given(model, None if condition is None else inputs.rows(slice(0, 1))[1])
    require_real_latents(local)
    report = reporting(progress)
    chosen = _family(family, tuple(local.prior().event_shape), len(inputs.x))
    with evaluating(model), seeded(seed) as used:
        settings = {"seed": used, "family": family, "step_samples": step_samples,
                    "max_steps": max_steps, **describe(model, inputs)}  # fmt: skip
        wanted = _Wanted(family, chosen, step_samples, max_steps, tolerance, used)
        found = _seek(wanted, Target(model, inputs), len(inputs.x), _first_half(report, inputs))
        return _report(found, wanted, inputs, num_samples, settings, _second_half(report, inputs))


class _Wanted(NamedTuple):
    """What is sought, and how much may be spent on it."""

    name: FamilyName
    gaussian: DiagonalGaussian | FullGaussian
    step_samples: int
    max_steps: int
    tolerance: float
    seed: int


class _Sought(NamedTuple):
    """What was found: where the search ended, and for which datapoints the encoder's q is kept."""

    target: Target
    family: Family
    parameters: Parameters
    state: Optimised
    trial: Trial
    kept: Tensor


def _seek(
    wanted: _Wanted, target: Target, n: int, progress: Callable[[int], None] | None
) -> _Sought:
    """Searches among the Gaussians, and from the best of them among the flows."""
    K, steps, tolerance, seed = wanted[2:]
    is_flow = wanted.name == "flow"
    starts = starting_points(target)
    search = gaussian_search(target, wanted.gaussian, starts, K, steps, seed)
    state, trial = search_starts(search, n, tolerance, None if is_flow else progress)
    parameters, kept = no_worse_than_encoder(search, state.parameters, n)
    found = _Sought(target, wanted.gaussian, parameters, state, trial, kept)
    if not is_flow:
        return found
    best = _repair(found, parameters[0].isfinite().all(1))
    search = flow_search(target, wanted.gaussian, best, K, steps, seed)
    state, more = search_starts(search, n, tolerance, progress)
    none = torch.zeros_like(kept)
    return _Sought(target, search.family, state.parameters, state, joined(trial, more), none)


def _family(name: str, latent_shape: tuple[int, ...], n: int) -> DiagonalGaussian | FullGaussian:
    """The family, or of a flow the Gaussian that it begins at."""
    d = math.prod(latent_shape)
    match name:
        case "diagonal":
            return DiagonalGaussian(latent_shape)
        case "full" | "flow" if n * d * d <= LARGEST_FULL:
            return FullGaussian(latent_shape)
        case "flow":
            return DiagonalGaussian(latent_shape)
        case "full":
            raise InputError(
                "family",
                expected=f"n·d² of at most {LARGEST_FULL} for full covariances",
                got=f"n={n}, d={d}",
                do="Use family='diagonal', or fewer datapoints at a time.",
            )
    raise InputError("family", expected="'diagonal', 'full' or 'flow'", got=repr(name))


def no_worse_than_encoder(
    search: Search, parameters: Parameters, n: int
) -> tuple[Parameters, Tensor]:
    """Takes the encoder's own q where the search ended clearly below it, and says where."""
    index = search.all_of(n)
    kept = torch.zeros_like(index, dtype=torch.bool)
    own = own_gaussian(search.target, index) if "encoder" in search.runs else None
    if own is None:
        return parameters, kept
    encoder = search.family.start(*own)
    values = []
    for candidate in (encoder, parameters):
        with seeded(search.seed ^ SELECT):
            values.append(score(search.target, search.family, candidate, index, FALLBACK))
    gain = values[0] - values[1]
    better = gain.mean(0) > 3 * gain.std(0) / math.sqrt(FALLBACK)
    kept = values[0].isfinite().all(0) & (better | ~values[1].isfinite().all(0))
    rows = kept.nonzero()[:, 0]
    mixed = tuple(p.index_copy(0, rows, e[rows]) for p, e in zip(parameters, encoder, strict=True))
    return mixed, kept


def _report(
    found: _Sought,
    wanted: _Wanted,
    inputs: Inputs,
    K: int,
    settings: Mapping[str, object],
    progress: Callable[[int], None] | None,
) -> OptimalPosterior:
    """Scores what was found with fresh samples, and certifies it."""
    everything = torch.arange(len(inputs.x), device=inputs.x.device)
    with seeded(wanted.seed ^ REPORT):
        log_w = score(found.target, found.family, found.parameters, everything, K, progress)
    fine, state = log_w.mean(0).isfinite(), found.state
    index = fine.nonzero()[:, 0]
    elbo, log_px = _estimates(log_w[:, index], index, inputs, found.trial, settings)
    waiting = (fine & (state.lost | (~state.arrived & ~found.kept))).nonzero()[:, 0]
    # where a search broke off, and the encoder's q stands in, no one knows what it would have found
    promise = state.promise.double().masked_fill(state.lost, math.inf)
    promise = promise.nan_to_num(math.inf, math.inf)[index]
    certificate = judge(
        elbo, found.trial, promise, waiting, (~fine).nonzero()[:, 0],
        found.kept.nonzero()[:, 0], wanted.tolerance,
    )  # fmt: skip
    q = found.family.distribution(_repair(found, fine))
    return OptimalPosterior(elbo, log_px, q, certificate, index, wanted.name)


def _repair(found: _Sought, fine: Tensor) -> Parameters:
    """The prior's moments for datapoints that diverged."""
    rows = (~fine).nonzero()[:, 0]
    if not len(rows):
        return found.parameters
    prior = found.family.start(*starting_points(found.target)["prior"](rows))
    return tuple(p.index_copy(0, rows, q) for p, q in zip(found.parameters, prior, strict=True))


def _estimates(
    log_w: Float64[Tensor, "K m"],
    index: Tensor,
    inputs: Inputs,
    trial: Trial,
    settings: Mapping[str, object],
) -> tuple[Estimate, Estimate]:
    """The mean of the log-weights, L[q*], and the log of the mean of the weights."""
    K, n = len(log_w), len(inputs.x)
    error = (
        log_w.std(0) / math.sqrt(K)
        if K > 1 and len(index)
        else torch.full_like(log_w[0], torch.nan)
    )
    left_out = {} if len(index) == n else {"left_out": n - len(index)}
    done = {**settings, "start": trial.chosen, **left_out}
    kept = inputs if len(index) == n else inputs._replace(data_id=data_id(inputs.x[index]))
    kind = "flow" if settings["family"] == "flow" else f"{settings['family']} Gaussian"
    method = f"{kind} optimised per datapoint"
    elbo = Estimate.per_datapoint(
        "L[q*]", method, log_w.mean(0), error, "lower", settings=done, data_id=kept.data_id,
        num_samples=K, notes=kept.notes,
    )  # fmt: skip
    method = f"importance sampling from q* ({settings['family']})"
    return elbo, as_estimate(method, averages(log_w), K, done, kept)


def _first_half(progress: Progress | None, inputs: Inputs) -> Callable[[int], None] | None:
    n = len(inputs.x)
    return None if progress is None else lambda done: progress(done, 2 * n)


def _second_half(progress: Progress | None, inputs: Inputs) -> Callable[[int], None] | None:
    n = len(inputs.x)
    return None if progress is None else lambda done: progress(n + done, 2 * n)
