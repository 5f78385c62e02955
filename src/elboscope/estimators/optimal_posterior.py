r"""The best posterior of a family for every single datapoint, and how sure it is the best.

.. math:: q^*_n = \arg\max_{q \in \mathcal Q} L_n[q], \qquad
          L_n[q] = \mathbb{E}_q[\log p(x_n, z) - \log q(z)] \le \log p(x_n)

It splits the gap of an encoder in two: :math:`\log p(x) - L[q^*]`, the approximation gap, is the
family's; :math:`L[q^*] - L[q]`, the amortisation gap, is the encoder's, and cannot be negative.
Three sets of samples are kept apart: those that move the parameters, those that select among
starts (see :mod:`.local_search`), and the fresh ones that report; a value selected and reported on
the same noise is too large.
"""

from __future__ import annotations

__all__ = ["OptimalPosterior", "optimal_posterior"]

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float64, Int64
from torch import Tensor
from torch.distributions import Distribution

from elboscope.core import (
    Estimate,
    GenerativeModel,
    InputError,
    data_id,
    evaluating,
    given,
    seeded,
)

from .annealed_run import described
from .convergence import Convergence, Trial, judged
from .evaluation import Inputs, Progress, prepared, require_positive
from .gaussian_families import DiagonalGaussian, Family, FullGaussian, Parameters
from .importance import as_estimate, averages
from .local_optimisation import WINDOW
from .local_search import Search, no_worse_than_encoder, rungs, searched
from .local_target import Target, scored
from .starting_points import require_real_latents, starting_points

FamilyName = Literal["diagonal", "full"]

# Numbers of all covariance factors together: half a gigabyte in float32, and some copies of it.
LARGEST_FULL = 2**27
REPORT = 0x4EB047  # the stream of the fresh samples


@dataclass(frozen=True, eq=False)
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
        family: ``"diagonal"`` or ``"full"``.
    """

    elbo: Estimate
    log_px: Estimate
    posterior: Distribution
    certificate: Convergence
    index: Int64[Tensor, " m"]
    family: str

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
    progress: Progress | None = None,
) -> OptimalPosterior:
    r"""Finds :math:`q^* = \arg\max_{q \in \mathcal Q} L[q]` for each datapoint by itself.

    The model's parameters stay where they are, without gradients, and it is evaluated in evaluation
    mode. L[q*] is the best that this *family* can do, not log p(x); and the best that the starts
    found, which the certificate judges but no finite search proves.

    Args:
        model: The model: a prior over real latents and a decoder; an encoder is one of the starts.
        x: Data, ``(N, *X)``, in the support of the likelihood.
        family: ``"diagonal"`` or ``"full"``: Gaussians with a diagonal or a full covariance.
        num_samples: K, the fresh samples with which each datapoint's value is reported.
        step_samples: Samples of a step near the optimum; 8 are used on the way there. A full
            covariance takes twice as many as there are latents, if that is more.
        max_steps: Steps of each datapoint, at most.
        tolerance: To how many nats the mean is to be certified.
        seed: Of all draws.
        condition: One row per datapoint.
        progress: Called with datapoints done and 2N: optimised, then reported.

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
    inputs = prepared(model, x, condition)
    local = given(model, None if condition is None else inputs.rows(slice(0, 1))[1])
    require_real_latents(local)
    chosen = _family(family, tuple(local.prior().event_shape), len(inputs.x))
    with evaluating(model), seeded(seed) as used:
        settings = {"num_samples": num_samples, "seed": used, "family": family,
                    "step_samples": step_samples, "max_steps": max_steps,
                    **described(model, inputs)}  # fmt: skip
        target = Target(model, inputs)
        search = Search(
            target, rungs(chosen, step_samples), starting_points(target), max_steps, used
        )
        return _found(search, inputs, num_samples, tolerance, settings, progress)


def _family(name: str, latent_shape: tuple[int, ...], n: int) -> Family:
    d = math.prod(latent_shape)
    match name:
        case "diagonal":
            return DiagonalGaussian(latent_shape)
        case "full" if n * d * d <= LARGEST_FULL:
            return FullGaussian(latent_shape)
        case "full":
            raise InputError(
                "family",
                expected=f"n·d² of at most {LARGEST_FULL} for full covariances",
                got=f"n={n}, d={d}",
                do="Use family='diagonal', or fewer datapoints at a time.",
            )
    raise InputError("family", expected="'diagonal' or 'full'", got=repr(name))


def _found(
    search: Search,
    inputs: Inputs,
    K: int,
    tolerance: float,
    settings: Mapping[str, object],
    progress: Progress | None,
) -> OptimalPosterior:
    n = len(inputs.x)
    state, trial = searched(search, n, tolerance, _first_half(progress, n))
    parameters, kept = no_worse_than_encoder(search, state.parameters, n)
    everything = search.all_of(n)
    with seeded(search.seed ^ REPORT):
        log_w = scored(search.target, search.family, parameters, everything, K,
                       _second_half(progress, n))  # fmt: skip
    fine = log_w.mean(0).isfinite()
    index = fine.nonzero()[:, 0]
    elbo, log_px = _estimates(log_w[:, index], index, inputs, trial, settings)
    waiting = (~state.arrived & fine & ~kept).nonzero()[:, 0]
    certificate = judged(
        elbo, trial, state.promise[index].double().nan_to_num(posinf=math.inf), waiting,
        (~fine).nonzero()[:, 0], kept.nonzero()[:, 0], tolerance,
    )  # fmt: skip
    q = search.family.distribution(_mended(search, parameters, fine))
    return OptimalPosterior(elbo, log_px, q, certificate, index, str(settings["family"]))


def _mended(search: Search, parameters: Parameters, fine: Tensor) -> Parameters:
    """The prior's moments for datapoints that diverged."""
    rows = (~fine).nonzero()[:, 0]
    if not len(rows):
        return parameters
    prior = search.family.start(*search.starts["prior"](rows))
    return tuple(p.index_copy(0, rows, q) for p, q in zip(parameters, prior, strict=True))


def _estimates(
    log_w: Float64[Tensor, "K m"],
    index: Tensor,
    inputs: Inputs,
    trial: Trial,
    settings: Mapping[str, object],
) -> tuple[Estimate, Estimate]:
    """The mean of the log-weights, L[q*], and the log of the mean of the weights."""
    K, n = len(log_w), len(inputs.x)
    error = log_w.std(0) / math.sqrt(K) if K > 1 else torch.full_like(log_w[0], torch.nan)
    left_out = {} if len(index) == n else {"left_out": n - len(index)}
    done = {**settings, "start": trial.chosen, **left_out}
    of = inputs.data_id if len(index) == n else data_id(inputs.x[index])
    method = f"{settings['family']} Gaussian optimised per datapoint"
    elbo = Estimate.per_datapoint(
        "L[q*]", method, log_w.mean(0), error, "lower", settings=done, data_id=of
    )
    method = f"importance sampling from q* ({settings['family']})"
    return elbo, as_estimate(method, averages(log_w), done, of)


def _first_half(progress: Progress | None, n: int) -> Callable[[int], None] | None:
    return None if progress is None else lambda done: progress(done, 2 * n)


def _second_half(progress: Progress | None, n: int) -> Callable[[int], None] | None:
    return None if progress is None else lambda done: progress(n + done, 2 * n)
