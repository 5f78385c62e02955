r"""Lower bounds on the marginal KL by a density model of q(z): mixture, flow or LSTM.

.. math:: \mathbb{E}_{q(z)}[\log r(z) - \log p(z)]
          = \mathrm{KL}(q(z) \| p(z)) - \mathrm{KL}(q(z) \| r(z)) \le \mathrm{KL}(q(z) \| p(z))

r is fitted to draws from the posteriors of some datapoints, chosen by others, and evaluated on a
third part, so that the value is unbiased for this r's bound on the *population's* KL. How far two
families disagree is how much the worse one misses of q(z); how far the better one misses is not
known from them.
"""

from __future__ import annotations

__all__ = [
    "DENSITIES",
    "AutoregressiveLSTM",
    "DensityFamily",
    "Descent",
    "FittedDensity",
    "FlowDensity",
    "density_kl_of",
    "descend",
    "fit_density",
    "fit_network",
]

import copy
import math
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from elboscope.core import Estimate, InputError
from elboscope.distributions import masked_autoregressive_flow

from ..inputs import blocks
from .aggregate_parts import Part, Parts, require_volume
from .held_out import ESTIMAND, LogDensity, fitted_mixture, lower_bound, one_thread

DensityFamily = Literal["gmm", "maf", "lstm"]
DENSITIES: tuple[DensityFamily, ...] = ("gmm", "maf", "lstm")
# Components of the diagonal mixtures that are tried, where the datapoints suffice.
COMPONENTS = (1, 3, 10, 30, 100)
MAX_STEPS = 2000


def density_kl_of(
    parts: Parts, family: DensityFamily, seed: int, *, max_steps: int = MAX_STEPS
) -> Estimate:
    """From draws in three parts to the bound of one family; inside ``core.seeded``.

    Args:
        parts: Draws that fit, that choose and that evaluate.
        family: ``"gmm"``, mixtures of up to 100 diagonal Gaussians; ``"maf"``, a masked
            autoregressive flow; ``"lstm"``, an autoregressive LSTM with Gaussian conditionals.
        seed: The seed in force, for the record.
        max_steps: Gradient steps of the networks at most.

    References:
        | Masked Autoregressive Flow for Density Estimation (Papamakarios et al., 2017),
          https://arxiv.org/abs/1705.07057
    """
    return fit_density(parts, family, max_steps=max_steps).bound(parts, seed)


class FittedDensity(NamedTuple):
    """A density of q(z), fitted to one part of the draws and chosen by another.

    Attributes:
        name: What it is called.
        log_r: Its logarithm.
        record: How it was fitted, for the record.
        settled: Whether its fit had stopped improving; else the steps were used up.
    """

    name: str
    log_r: LogDensity
    record: Mapping[str, object]
    settled: bool

    def bound(self, parts: Parts, seed: int) -> Estimate:
        """Returns its lower bound on the population's marginal KL, by the part that evaluates."""
        with one_thread():
            log_r = self.log_r(parts.evaluate.z)
        return lower_bound(parts, self.name, log_r, seed, {**self.record, "estimand": ESTIMAND})


def fit_density(
    parts: Parts, family: DensityFamily, *, max_steps: int = MAX_STEPS
) -> FittedDensity:
    """Fits one family; arguments as of :func:`density_kl_of`."""
    require_volume(parts.prior)
    if family == "gmm":
        with one_thread():
            return _best_mixture(parts)
    name, network = _network(family, parts.fit.z.shape[1])
    log_r, ended = fit_network(network, parts.fit, parts.choose, max_steps=max_steps)
    return FittedDensity(name, log_r, ended._asdict(), ended.stopped)


def _network(family: DensityFamily, d: int) -> tuple[str, FlowDensity | AutoregressiveLSTM]:
    match family:
        case "maf":
            return "masked autoregressive flow", FlowDensity(d)
        case "lstm":
            return "autoregressive LSTM", AutoregressiveLSTM(d)
    raise InputError("family", expected="'gmm', 'maf' or 'lstm'", got=repr(family))


def _best_mixture(parts: Parts) -> FittedDensity:
    """The number of components that scores best on the second part."""
    scores: dict[int, float] = {}
    fits: dict[int, LogDensity] = {}
    for K in COMPONENTS:
        if K > 1 and parts.fit.size < 4 * K:
            continue
        fits[K] = fitted_mixture(parts.fit.z, K, "diag")
        scores[K] = fits[K](parts.choose.z).mean().item()
    K = max(scores, key=lambda k: scores[k])
    kind = "diagonal Gaussian" if K == 1 else f"mixture of {K} diagonal Gaussians"
    return FittedDensity(kind, fits[K], {"components": K}, settled=True)


# Densities of q(z) that are networks: a masked autoregressive flow and an LSTM.
#
# .. math:: \log r_{\mathrm{MAF}}(z) = \log \mathcal N(u; 0, I)
#           + \log\left|\det \frac{\partial u}{\partial z}\right|, \qquad
#           r_{\mathrm{LSTM}}(z) = \prod_j \mathcal N\bigl(z_j; \mu(z_{<j}), \sigma^2(z_{<j})\bigr)
#
# Both see standardised latents and begin as the standard normal of these: as the factorised
# Gaussian of q(z). They are trained by maximum likelihood on fresh draws z ~ q(z|x_n), n uniform
# over the part that fits, and stopped by the part that chooses. Which density is fitted changes
# how tight the bound on KL(q(z) ‖ p(z)) is, never that it is a bound.

LOG_2PI = math.log(2 * math.pi)
BATCH, SCORED_AT_ONCE = 512, 4096


class FlowDensity(nn.Module):
    """log r(z) of a standard normal pushed through a masked autoregressive flow.

    Args:
        latent_dim: d ≥ 2.
        num_steps: Transformations, in alternating order of the coordinates.
        hidden: Width of the hidden layer of each.

    Example:
        >>> r = FlowDensity(3)
        >>> bool((r(torch.zeros(1, 3)) + 1.5 * LOG_2PI).abs() < 1e-6)
        True
    """

    def __init__(self, latent_dim: int, num_steps: int = 4, hidden: int = 128) -> None:
        super().__init__()
        self.flow = masked_autoregressive_flow(latent_dim, 0, num_steps, hidden)

    def forward(self, z: Float[Tensor, "S d"]) -> Float[Tensor, " S"]:
        """Returns log r(z)."""
        u, log_det = self.flow.inverse(z, None)
        log_r: Tensor = log_det - 0.5 * (u.square() + LOG_2PI).sum(1)
        return log_r


class AutoregressiveLSTM(nn.Module):
    """log r(z) with a Gaussian of each latent given those before it.

    Args:
        latent_dim: d.
        hidden: Units of the LSTM.

    Example:
        >>> r = AutoregressiveLSTM(3)
        >>> bool((r(torch.zeros(1, 3)) + 1.5 * LOG_2PI).abs() < 1e-6)
        True
    """

    def __init__(self, latent_dim: int, hidden: int = 64) -> None:
        super().__init__()
        self.lstm = nn.LSTM(1, hidden, batch_first=True)
        self.head = nn.Linear(hidden, 2)
        self.offset = nn.Parameter(torch.zeros(latent_dim, 2))
        for p in self.head.parameters():
            nn.init.zeros_(p)

    def forward(self, z: Float[Tensor, "S d"]) -> Float[Tensor, " S"]:
        """Returns log r(z)."""
        before = torch.cat([torch.zeros_like(z[:, :1]), z[:, :-1]], 1)
        mu, log_sigma = (self.head(self.lstm(before[..., None])[0]) + self.offset).unbind(-1)
        u = (z - mu) * (-log_sigma).exp()
        log_r: Tensor = -(0.5 * u.square() + log_sigma + 0.5 * LOG_2PI).sum(1)
        return log_r


def fit_network(
    network: FlowDensity | AutoregressiveLSTM,
    fit: Part,
    choose: Part,
    *,
    max_steps: int,
    learning_rate: float = 1e-3,
) -> tuple[LogDensity, Descent]:
    """Trains a density on fresh draws and returns its logarithm with how the training ended.

    Args:
        network: The density of standardised latents, in float32.
        fit: The part whose posteriors are drawn from.
        choose: The part that stops.
        max_steps: Gradient steps of 512 draws at most.
        learning_rate: Adam's.
    """
    centre, scale = fit.z.mean(0), fit.z.std(0).clamp(min=torch.finfo(fit.z.dtype).tiny)
    network.to(fit.z.device)

    def standardised(z: Float64[Tensor, "S d"]) -> Float[Tensor, "S d"]:
        return ((z - centre) / scale).float()

    def log_r(z: Float64[Tensor, "S d"]) -> Float64[Tensor, " S"]:
        u = standardised(z)
        with torch.no_grad():
            parts = [network(u[rows]).double() for rows in blocks(len(u), SCORED_AT_ONCE)]
        return torch.cat(parts) - scale.log().sum()

    ended = descend(
        network,
        lambda: -network(standardised(fit.fresh(BATCH))).mean(),
        lambda: log_r(choose.z).mean().item(),
        max_steps=max_steps,
        learning_rate=learning_rate,
    )
    return log_r, ended


# Stochastic gradient descent that keeps the weights which scored best on other datapoints.
#
# The weights at the start are a candidate too: a network that begins as a simple model (a density
# as a Gaussian, a classifier as *no difference*) never ends worse than it on the part that
# chooses. Where the score has stopped improving, the best weights come back and the rate is
# halved; after a few such steps without gain the descent ends. Nothing is adapted on the part
# that is reported.


class Descent(NamedTuple):
    """How a descent ended.

    Attributes:
        score: Score of the weights that were kept; the higher the better.
        steps: Gradient steps taken.
        best_step: After how many of them the kept weights were met.
        stopped: Whether the score had stopped improving; else the steps were used up.
    """

    score: float
    steps: int
    best_step: int
    stopped: bool


def descend(
    network: nn.Module,
    loss: Callable[[], Tensor],
    score: Callable[[], float],
    *,
    max_steps: int,
    learning_rate: float,
    betas: tuple[float, float] = (0.9, 0.999),
    check_every: int = 50,
    patience: int = 4,
    keep_best: bool = True,
) -> Descent:
    """Trains a network in place and leaves it in evaluation mode with the best weights.

    Args:
        network: What is trained.
        loss: Loss of a fresh minibatch; called in training mode with gradients.
        score: On the part that chooses; called in evaluation mode without.
        max_steps: Gradient steps at most.
        learning_rate: Adam's, halved at each check that brings no gain.
        betas: Adam's.
        check_every: Steps between two scores.
        patience: Checks in a row without gain that end the descent.
        keep_best: Keep the weights of the best score; else take all steps at one rate and keep
            the last weights.

    Returns:
        How it ended.
    """
    if not keep_best:
        check_every = max_steps
    adam = torch.optim.Adam(network.parameters(), lr=learning_rate, betas=betas)
    best, best_step, without_gain, step = _score(network, score), 0, 0, 0
    kept = copy.deepcopy(network.state_dict())
    while step < max_steps and without_gain < patience:
        many = min(check_every, max_steps - step)
        _steps(network, loss, adam, many)
        step += many
        value = _score(network, score)
        if value > best or not keep_best:
            best, best_step, without_gain = value, step, 0
            kept = copy.deepcopy(network.state_dict())
        else:
            without_gain += 1
            network.load_state_dict(kept)
            for group in adam.param_groups:
                group["lr"] /= 2
    network.load_state_dict(kept)
    return Descent(best, step, best_step, without_gain >= patience)


def _steps(
    network: nn.Module, loss: Callable[[], Tensor], adam: torch.optim.Adam, many: int
) -> None:
    network.train()
    with torch.enable_grad():
        for _ in range(many):
            adam.zero_grad(set_to_none=True)
            loss().backward()
            adam.step()


def _score(network: nn.Module, score: Callable[[], float]) -> float:
    network.eval()
    with torch.no_grad():
        return score()
