r"""Annealed importance sampling of log p(x), forward and in reverse.

Along a path :math:`f_\beta = b\, r^\beta` (see :mod:`.annealing`) with
:math:`0 = \beta_0 < \dots < \beta_T = 1`, chains start at :math:`z_0 \sim b` and

.. math:: \log w = \sum_{t=1}^T (\beta_t - \beta_{t-1}) \log r(z_{t-1}), \qquad
          z_t \sim \text{HMC leaving } f_{\beta_t} \text{ invariant}.

:math:`\mathbb{E}[w] = p(x)`, so that :math:`\mathbb{E} \log \bar w \le \log p(x)`. In reverse,
from a z* that is an *exact* draw of p(z|x), :math:`\mathbb{E}[u] = 1/p(x)` and
:math:`-\log \bar u` lies above in expectation, though all chains share z*. Both rest on transitions
that are fixed before the run: step sizes come from a pilot with its own noise.

Each increment is Δβ times a log-ratio, summed in float64: differences of log f at two temperatures
would lose their digits.
"""

from __future__ import annotations

__all__ = ["annealed_importance_sampling", "reverse_annealed_importance_sampling"]

from torch import Tensor

from elboscope.core import Estimate, GenerativeModel, evaluating, placed_like, seeded

from ..inputs import prepared
from ..streaming import Progress, reporting
from .annealed_run import anneal, describe, fixed_steps, plan_annealing, require_latents, summarise
from .annealing import PathName, Schedule

# Data simulated from the same seed begin with the same numbers: z* would be a chain's first place.
CHAIN_STREAM = 0xC4A1


def annealed_importance_sampling(
    model: GenerativeModel,
    x: object,
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
) -> Estimate:
    r"""Estimates :math:`\log p(x) \ge \mathbb{E} \log \frac1C \sum_c w_c` by annealing.

    Unlike importance sampling it does not need a good q: chains walk from the prior (or from q)
    to the posterior. It is a lower bound in expectation; how far below, its error does not say.
    :func:`bidirectional_monte_carlo` says it on simulated data, and a run with 2T halves the gap
    where the chains mix.

    Args:
        model: The model: a prior over continuous latents and a decoder.
        x: Data, ``(N, *X)``, in the support of the likelihood.
        num_temperatures: T, the number of increments of β.
        num_chains: C, the chains of each datapoint.
        num_leapfrog: L, leapfrog steps (gradients of the decoder) of each of the T − 1
            transitions.
        schedule: ``"sigmoid"``, ``"linear"`` or a tensor of β_0 = 0 … β_T = 1.
        path: ``"prior"`` or ``"posterior"``, the density at β = 0.
        step_sizes: Frozen ε, one a transition ``(T − 1,)``; ``None`` tunes them in a pilot.
        seed: Random seed; None picks one and records it. The pilot has a stream of its own.
        condition: One row per datapoint.
        batch_size: Datapoints annealed at once, at most; by default as many as fill a few thousand
            rows.
        progress: Called with the transitions done and their total; True shows a bar.

    Returns:
        log p(x) per datapoint in nats, a lower bound. ``diagnostics``: ``ess`` over the chains,
        mean ``acceptance`` and ``divergent``, the number of rejected transitions whose energy
        was not finite. ``settings`` record the range of the step sizes.

    Raises:
        InputError: x cannot be data; a count below 1; a schedule that does not rise from 0 to 1.
        ContractError: Discrete latents; ``path="posterior"`` without a density.

    References:
        | Annealed importance sampling (Neal, 2001), https://arxiv.org/abs/physics/9803008
        | On the quantitative analysis of decoder-based generative models (Wu et al., 2017),
          https://arxiv.org/abs/1611.04273

    Example:
        >>> import elboscope as es
        >>> model = es.models.LinearGaussian.instance_2()  # importance sampling fails here
        >>> x, _ = model.sample(3, seed=0)
        >>> log_px = annealed_importance_sampling(model, x, num_temperatures=40, seed=0)
        >>> abs(log_px.mean - model.log_likelihood(x).mean().item()) < 0.2
        True
    """
    inputs = prepared(model, x, condition)
    plan = plan_annealing(num_temperatures, num_chains, num_leapfrog, schedule, path, batch_size)
    with evaluating(model), seeded(seed) as used, seeded(used ^ CHAIN_STREAM):
        families = describe(model, inputs)
        steps = fixed_steps(model, inputs, plan, step_sizes, used)
        run = anneal(model, inputs, None, plan, steps, reporting(progress))
        return summarise(inputs, plan, run, steps, used, "lower", families)


def reverse_annealed_importance_sampling(
    model: GenerativeModel,
    x: object,
    z: Tensor,
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
) -> Estimate:
    r"""Estimates :math:`\log p(x) \le -\mathbb{E} \log \frac1C \sum_c u_c` from z* ~ p(z|x).

    It is an upper bound only if z is an exact draw of the posterior, which one has for data
    simulated with it: z* ~ p(z), x ~ p(x|z*). With another z, an encoder's for instance, the
    value bounds nothing. Its ``mc_stderr`` is that of the chains, given z*.

    Args:
        model: The model.
        x: Data simulated by the model, ``(N, *X)``.
        z: The latents that made them, ``(N, *Z)``.
        num_temperatures: T.
        num_chains: C, all starting at z.
        num_leapfrog: L.
        schedule: As in :func:`annealed_importance_sampling`.
        path: As there.
        step_sizes: As there; the pilot runs forward and does not see z.
        seed: Random seed; None picks one and records it.
        condition: One row per datapoint.
        batch_size: Datapoints annealed at once, at most.
        progress: Called with the transitions done and their total; True shows a bar.

    Returns:
        log p(x) per datapoint in nats, an upper bound; diagnostics and settings as forward.

    Raises:
        InputError: As forward; z is not one latent per datapoint.

    References:
        | Sandwiching the marginal likelihood using bidirectional Monte Carlo (Grosse et al.,
          2015), https://arxiv.org/abs/1511.02543

    Example:
        >>> import elboscope as es
        >>> model = es.models.LinearGaussian.instance_1()
        >>> x, z = model.sample(3, seed=0)
        >>> above = reverse_annealed_importance_sampling(model, x, z, num_temperatures=40, seed=0)
        >>> above.side
        'upper'
    """
    inputs = prepared(model, x, condition)
    plan = plan_annealing(num_temperatures, num_chains, num_leapfrog, schedule, path, batch_size)
    require_latents(model, inputs, z)
    with evaluating(model), seeded(seed) as used, seeded(used ^ CHAIN_STREAM):
        families = describe(model, inputs)
        steps = fixed_steps(model, inputs, plan, step_sizes, used)
        run = anneal(model, inputs, placed_like(z, model), plan, steps, reporting(progress))
        return summarise(inputs, plan, run, steps, used, "upper", families)
