r"""Hamiltonian Monte Carlo on a geometric path, as pure steps: (state, noise, …) to (state, info).

The density to leave invariant is :math:`\log f_\beta(z) = \log b(z) + \beta \log r(z)` up to a
constant, a base b and a ratio r. With momentum :math:`p \sim N(0, I)` and energy
:math:`H = -\log f_\beta(z) + \tfrac12 \|p\|^2`, L leapfrog steps of size ε follow the dynamics to
an error O(ε²) in H, and the end is accepted with probability
:math:`\min(1, e^{H_0 - H_L})`. Leapfrog is reversible and preserves volume, hence the step leaves
:math:`f_\beta` invariant for every ε; a poor ε only makes it slow.

A state keeps both log-densities and both gradients at its place apart from each other. A change of
β therefore costs nothing, and a transition of L steps evaluates the model exactly L times.

Each chain shrinks ε by a factor that it draws anew, log-uniform in [0.1, 1], whatever its state: a
trajectory that closes upon itself (a Gaussian's may) is not repeated, and a chain in a narrow place
is not stuck there with a step that suits the others.

Where a density is not a finite number it is taken to be zero, and its gradient too: a deterministic
function of z, so that leapfrog stays reversible. Such an end is never accepted; it is counted as
divergent.
"""

from __future__ import annotations

__all__ = [
    "InPieces",
    "Info",
    "LogDensities",
    "Noise",
    "NoiseOfGroups",
    "State",
    "draw_noise",
    "evaluate",
    "hmc_step",
    "leapfrog",
]

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from elboscope.core.errors import refuses_values

# The smallest factor of ε, see :class:`Noise`.
SHRINKAGE = 0.1


class Noise(NamedTuple):
    """All the randomness of one transition.

    Attributes:
        momentum: Standard normal.
        shrinkage: Factor of ε, log-uniform in [0.1, 1].
        log_uniform: Logarithm of a uniform number, compared with H_0 − H_L.
    """

    momentum: Float[Tensor, "C B *Z"]
    shrinkage: Float[Tensor, "C B"]
    log_uniform: Float[Tensor, "C B"]


class Info(NamedTuple):
    """What became of one transition.

    Attributes:
        acceptance: min(1, exp(H_0 − H_L)), zero where it diverged.
        accepted: Whether the chain moved.
        divergent: Whether the energy at the end was not a finite number.
    """

    acceptance: Float64[Tensor, "C B"]
    accepted: Bool[Tensor, "C B"]
    divergent: Bool[Tensor, "C B"]


def draw_noise(z: Float[Tensor, "C B *Z"], generator: torch.Generator | None = None) -> Noise:
    """Draws what a transition from z needs."""
    u, v = torch.rand((2, *z.shape[:2]), generator=generator, dtype=z.dtype, device=z.device)
    momentum = torch.randn(z.shape, generator=generator, dtype=z.dtype, device=z.device)
    return Noise(momentum, (u * math.log(SHRINKAGE)).exp(), v.log())


class NoiseOfGroups:
    """The noise of datapoints that are annealed together, drawn a group of datapoints at a time.

    Each group has a generator of its own and is drawn whole, so that a chain's noise does not
    depend on which datapoints are annealed with it.

    Args:
        groups: The datapoints of each group that has some of ``rows``.
        seeds: Where the stream of each group begins.
        rows: The datapoints annealed together.
    """

    def __init__(self, groups: Sequence[slice], seeds: Sequence[int], rows: slice) -> None:
        self._sizes, self._seeds = [g.stop - g.start for g in groups], seeds
        self._rows = slice(rows.start - groups[0].start, rows.stop - groups[0].start)
        self._generators: list[torch.Generator] = []

    def __call__(self, z: Float[Tensor, "C B *Z"]) -> Noise:
        """Draws the noise of the next transition."""
        if not self._generators:
            self._generators = [torch.Generator(z.device).manual_seed(s) for s in self._seeds]
        parts = [
            draw_noise(z.new_empty(1).expand(len(z), size, *z.shape[2:]), generator)
            for size, generator in zip(self._sizes, self._generators, strict=True)
        ]
        whole = (torch.cat(same, 1)[:, self._rows] for same in zip(*parts, strict=True))
        return Noise(*whole)


def leapfrog(
    state: State,
    momentum: Float[Tensor, "C B *Z"],
    log_densities: LogDensities,
    beta: float,
    step_size: Float[Tensor, "C B"],
    num_leapfrog: int,
) -> tuple[State, Float[Tensor, "C B *Z"]]:
    r"""Follows the dynamics for L steps: half a kick, drifts with kicks between, half a kick.

    .. math:: p \leftarrow p + \tfrac{\varepsilon}{2} \nabla \log f_\beta(z), \quad
              z \leftarrow z + \varepsilon p, \quad
              p \leftarrow p + \tfrac{\varepsilon}{2} \nabla \log f_\beta(z)

    Args:
        state: Where it starts.
        momentum: p there.
        log_densities: The densities of the path.
        beta: β.
        step_size: ε of each chain.
        num_leapfrog: L, the number of evaluations.

    Returns:
        State and momentum at the end.
    """
    drift = _per_chain(step_size, momentum)
    momentum = torch.addcmul(momentum, state.gradient(beta), drift / 2)
    for left in reversed(range(num_leapfrog)):
        z = torch.addcmul(state.z, momentum, drift).nan_to_num_()
        state = evaluate(log_densities, z)
        momentum = torch.addcmul(momentum, state.gradient(beta), drift if left else drift / 2)
    return state, momentum


def hmc_step(
    state: State,
    noise: Noise,
    log_densities: LogDensities,
    beta: float,
    step_size: float,
    num_leapfrog: int,
) -> tuple[State, Info]:
    r"""Makes one transition that leaves :math:`f_\beta` invariant.

    It is exact for every ε; it mixes only where the acceptance is neither 0 nor, with tiny steps,
    1.

    Args:
        state: Where the chains are.
        noise: Noise of this transition, from :func:`draw_noise`.
        log_densities: The densities of the path.
        beta: β > 0.
        step_size: ε, the largest step; each chain takes ``noise.shrinkage`` times it.
        num_leapfrog: L.

    Returns:
        The next state, and what became of the proposal.

    References:
        | MCMC using Hamiltonian dynamics (Neal, 2011), https://arxiv.org/abs/1206.1901

    Example:
        >>> from elboscope.core import seeded
        >>> def densities(z):  # f_1 = N(0, 1/2), a half of its precision in the ratio
        ...     return -0.5 * z.square().sum(-1), -0.5 * z.square().sum(-1)
        >>> with seeded(0):
        ...     state = evaluate(densities, torch.randn(5000, 1, 1))
        ...     for _ in range(5):
        ...         state, info = hmc_step(state, draw_noise(state.z), densities, 1.0, 0.3, 4)
        >>> round(state.z.var().item(), 1)
        0.5
    """
    before = _energy(state, noise.momentum, beta)
    steps = step_size * noise.shrinkage
    proposal, momentum = leapfrog(state, noise.momentum, log_densities, beta, steps, num_leapfrog)
    after = _energy(proposal, momentum, beta)
    divergent = ~after.isfinite()
    log_acceptance = torch.where(divergent, -torch.inf, (before - after).clamp(max=0))
    accepted = (noise.log_uniform < log_acceptance) & ~divergent
    chosen = State(*(_where(accepted, new, old) for new, old in zip(proposal, state, strict=True)))
    return chosen, Info(log_acceptance.exp(), accepted, divergent)


def _energy(state: State, momentum: Tensor, beta: float) -> Tensor:
    return 0.5 * momentum.square().flatten(2).sum(-1).double() - state.log_density(beta)


def _where(accepted: Tensor, new: Tensor, old: Tensor) -> Tensor:
    return torch.where(_per_chain(accepted, new), new, old)


def _per_chain(values: Tensor, like: Tensor) -> Tensor:
    """Appends axes of length 1 to ``(C, B)``, as many as there are latent axes."""
    return values.reshape(*values.shape, *(1,) * (like.ndim - 2))


# The state of annealed chains: where they are, and both log-densities with both gradients there.
#
# Where a density is not a finite number it is taken to be zero, and its gradient too: a
# deterministic function of z. That is so too where a distribution of the model validates its
# arguments and raises.

LogDensities = Callable[[Tensor], tuple[Tensor, Tensor]]
"""From z ``(C, B, *Z)`` to log base and log ratio, ``(C, B)`` each, in nats."""


class State(NamedTuple):
    """Where the chains are, C for each of B datapoints, and what was evaluated there.

    Attributes:
        z: Places.
        log_base: log b(z), in nats; −∞ where it is not finite.
        log_ratio: log r(z), in nats; −∞ where it is not finite.
        grad_base: ∂ log b/∂z; zero where it is not finite.
        grad_ratio: ∂ log r/∂z; zero where it is not finite.
    """

    z: Float[Tensor, "C B *Z"]
    log_base: Float[Tensor, "C B"]
    log_ratio: Float[Tensor, "C B"]
    grad_base: Float[Tensor, "C B *Z"]
    grad_ratio: Float[Tensor, "C B *Z"]

    def gradient(self, beta: float) -> Float[Tensor, "C B *Z"]:
        """Returns ∂ log f_β/∂z."""
        return torch.add(self.grad_base, self.grad_ratio, alpha=beta)

    def log_density(self, beta: float) -> Float64[Tensor, "C B"]:
        """Returns log f_β(z), in nats, for β > 0."""
        return self.log_base.double() + beta * self.log_ratio.double()


def evaluate(log_densities: LogDensities, z: Float[Tensor, "C B *Z"]) -> State:
    """Returns the state at z: one forward pass, and one backward pass of each density.

    Gradients are taken with respect to z alone: those of the parameters are never computed. Where
    a distribution of the model refuses NaN by raising, those places are found and left out.
    """
    try:
        return _evaluate(log_densities, z)
    except ValueError as error:
        if not refuses_values(error):
            raise
    refused = _find_refused(log_densities, z)
    state = _evaluate(log_densities, _zero(z, refused))
    return State(
        z,
        state.log_base.masked_fill(refused, -torch.inf),
        state.log_ratio.masked_fill(refused, -torch.inf),
        _zero(state.grad_base, refused),
        _zero(state.grad_ratio, refused),
    )


def _find_refused(log_densities: LogDensities, z: Tensor) -> Tensor:
    """Finds where torch's validation raises, by halving, with zeros in all other places.

    Raises:
        ValueError: The model is refused at zero too: it has diverged altogether.
    """
    _evaluate(log_densities, torch.zeros_like(z))
    everywhere = torch.ones(z.shape[:2], dtype=torch.bool, device=z.device)
    suspects, refused = [everywhere], torch.zeros_like(everywhere)
    while suspects:
        mask = suspects.pop()
        if _is_fine(log_densities, _zero(z, ~mask)):
            continue
        places = mask.nonzero()
        if len(places) == 1:
            refused |= mask
            continue
        for half in places.chunk(2):
            part = torch.zeros_like(mask)
            part[half[:, 0], half[:, 1]] = True
            suspects.append(part)
    return refused


def _is_fine(log_densities: LogDensities, z: Tensor) -> bool:
    try:
        log_densities(z)
    except ValueError as error:
        if not refuses_values(error):
            raise
        return False
    return True


def _zero(values: Tensor, places: Tensor) -> Tensor:
    return values.masked_fill(places.reshape(*places.shape, *(1,) * (values.ndim - 2)), 0.0)


class InPieces:
    """Log-densities of which few chains are followed at once: a gradient keeps every layer."""

    def __init__(self, log_densities: LogDensities, chains: int) -> None:
        self.log_densities, self.chains = log_densities, chains

    def __call__(self, z: Float[Tensor, "C B *Z"]) -> tuple[Tensor, Tensor]:
        """Returns both log-densities."""
        bases, ratios = zip(*map(self.log_densities, z.split(self.chains)), strict=True)
        return torch.cat(bases), torch.cat(ratios)


def _evaluate(log_densities: LogDensities, z: Tensor) -> State:
    if isinstance(log_densities, InPieces):
        parts = [_evaluate(log_densities.log_densities, z) for z in z.split(log_densities.chains)]
        return parts[0] if len(parts) == 1 else State(*map(torch.cat, zip(*parts, strict=True)))
    with torch.enable_grad():
        place = z.detach().requires_grad_()
        log_base, log_ratio = log_densities(place)
        grad_base = _gradient(log_base, place)
        grad_ratio = _gradient(log_ratio, place)
    return State(z, _finite(log_base), _finite(log_ratio), grad_base, grad_ratio)


def _gradient(log_p: Tensor, z: Tensor) -> Tensor:
    if not log_p.requires_grad:  # z is not used at all: a collapsed decoder
        return torch.zeros_like(z)
    (grad,) = torch.autograd.grad(
        log_p, z, torch.ones_like(log_p), retain_graph=True, materialize_grads=True
    )
    return grad.nan_to_num_(0.0, 0.0, 0.0)


def _finite(log_p: Tensor) -> Tensor:
    return log_p.detach().nan_to_num(-torch.inf, -torch.inf, -torch.inf)
