r"""The marginal KL from a classifier's density ratio, and two lower bounds with the same critic.

With T(z) the logit of a classifier between q(z) and p(z), on draws it was not trained on:

.. math:: \widehat{\mathrm{KL}} = \mathbb{E}_{q}[T], \qquad
          \mathrm{KL} \ge \mathbb{E}_{q}[T] - \log \mathbb{E}_{p}[e^{T}]
          \ \text{(Donsker–Varadhan)}, \qquad
          \mathrm{KL} \ge \mathbb{E}_{q}[T] - \mathbb{E}_{p}[e^{T - 1}] \ \text{(NWJ)}

The first is *no bound*: an overconfident classifier says any number, and published ones do. The
other two hold for every T, but their E_p[e^T] rests on the few prior draws where T is large, and
a critic whose peaks no draw has met would be believed. So T is cut at a ceiling M, which the part
that chooses picks, and 3e^M/S, what S draws may miss with 95 % (the rule of three), is added to
the mean of e^T. Then

- Donsker–Varadhan: the added term exceeds the upward bias e^M/(2S·mean) of −log of a mean, so
  that the bound holds in expectation too;
- NWJ with T − c + 1 for T, c the logarithm of that sum on *other* draws: unbiased for its bound.

Neither exceeds log(S/3) + 1: no lower bound from S draws can be trusted beyond O(log S)
(McAllester and Stratos, 2018). For a larger KL only a density model gives one.
"""

from __future__ import annotations

__all__ = [
    "DensityRatioKL",
    "RatioBounds",
    "RatioClassifier",
    "Scores",
    "density_ratio_kl",
    "fit_classifier",
    "ratio_bounds",
    "ratio_kl_of",
]

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn
from torch.nn.functional import softplus

from elboscope.core import (
    Estimate,
    InputError,
    LatentVariableModel,
    Side,
    evaluating,
    seeded,
    standard_error,
)

from ..inputs import blocks
from .aggregate import averages
from .aggregate_parts import Parts, split_aggregate
from .density import Descent, descend

# Lower bounds on a KL divergence by any critic, from its values on draws of both sides.
#
# .. math:: \mathrm{KL}(q \| p) \ge \mathbb{E}_{q}[T] - \log \mathbb{E}_{p}[e^{T}]
#           \ \text{(Donsker–Varadhan)}, \qquad
#           \mathrm{KL} \ge \mathbb{E}_{q}[T] - \mathbb{E}_{p}[e^{T - 1}] \ \text{(NWJ)}
#
# hold for every T, but their E_p[e^T] rests on the few draws of p where T is large, and a critic
# whose peaks no draw has met would be believed. So T is cut at a ceiling M, which one set of
# draws picks, and 3e^M/S, what S draws may miss with 95 % (the rule of three), is added to the
# mean of e^T on the other. Neither bound then exceeds log(S/3) + 1.
#
# References:
#     | Estimating divergence functionals and the likelihood ratio by convex risk minimization
#       (Nguyen, Wainwright, Jordan, 2010), https://arxiv.org/abs/0809.0853
#     | Formal Limitations on the Measurement of Mutual Information (McAllester, Stratos, 2018),
#       https://arxiv.org/abs/1811.04251

RULE_OF_THREE = 3.0
CEILINGS = 33


class Scores(NamedTuple):
    """T on draws of q and of p, where KL(q‖p) is sought."""

    q: Float64[Tensor, " S"]
    p: Float64[Tensor, " P"]


class RatioBounds(NamedTuple):
    """Two lower bounds on KL(q‖p), in nats: each the mean of its values.

    Attributes:
        donsker_varadhan: A value for each held-out draw of q.
        nwj: The same by Nguyen, Wainwright and Jordan.
        donsker_varadhan_error: What the draws of p add to its error, shared by all values.
        nwj_error: The same for the other.
        ceiling: M.
    """

    donsker_varadhan: Float64[Tensor, " S"]
    nwj: Float64[Tensor, " S"]
    donsker_varadhan_error: float
    nwj_error: float
    ceiling: float


def ratio_bounds(choosing: Scores, held_out: Scores) -> RatioBounds:
    """Returns both bounds, from draws of which the critic has seen none.

    Args:
        choosing: Values on draws that pick the ceiling and the offset of NWJ.
        held_out: Values on other draws, which make the bounds.

    Example:
        >>> x = torch.linspace(-3, 3, 3000).double()
        >>> blind = Scores(0 * x, 0 * x)
        >>> abs(ratio_bounds(blind, blind).donsker_varadhan.mean().item()) < 2e-3
        True
    """
    M = _ceiling(choosing)
    c = _log_normaliser(choosing.p, M).item()
    log_mean = _log_normaliser(held_out.p, M).item()
    T, e = held_out.q.clamp(max=M), held_out.p.clamp(max=M)
    nwj = T - c + 1 - (e - c).exp().mean()
    return RatioBounds(T - log_mean, nwj, _error(e - log_mean), _error(e - c), M)


def _log_normaliser(T: Float64[Tensor, " P"], M: float) -> Float64[Tensor, ""]:
    """log of the mean of e^min(T, M) plus what the draws may have missed."""
    missed = M + math.log(RULE_OF_THREE)
    return torch.cat([T.clamp(max=M), T.new_tensor([missed])]).logsumexp(0) - math.log(len(T))


def _ceiling(scores: Scores) -> float:
    """The M at which the Donsker–Varadhan bound of these draws is largest."""
    ladder = torch.linspace(0.0, math.log(len(scores.p) / 20), CEILINGS).tolist()
    bounds = [scores.q.clamp(max=M).mean() - _log_normaliser(scores.p, M) for M in ladder]
    return float(ladder[int(torch.stack(bounds).argmax())])


def _error(log_terms: Float64[Tensor, " P"]) -> float:
    """The standard error of the mean of their exponentials."""
    return standard_error(log_terms.exp())


# A classifier between draws of q(z) and of p(z), whose logit estimates their log-ratio.
#
# .. math:: C^* = \arg\min_C -\mathbb{E}_{q(z)} \log C(z) - \mathbb{E}_{p(z)} \log(1 - C(z))
#           \quad\Rightarrow\quad \operatorname{logit} C^*(z) = \log \frac{q(z)}{p(z)}
#
# An MLP with leaky rectifiers (slope 0.2), trained by Adam (β = 0.5, 0.9) on fresh draws of both:
# z ~ q(z|x_n) of the part that fits, as many z ~ p(z). It begins at C = ½ everywhere, *no
# difference*, and its cross-entropy on other datapoints decides which weights are kept. Published
# estimates depend on these choices by orders of magnitude, so each is a field of
# :class:`RatioClassifier` and printed with the number.

BATCH, SCORED_AT_ONCE, CHOOSING_DRAWS = 512, 4096, 10_000

Critic = Callable[[Tensor], Tensor]
"""From z, float64 of shape (S, d), to the estimated log q(z)/p(z)."""


@dataclass(frozen=True)
class RatioClassifier:
    """What the classifier is and how it is trained.

    Args:
        hidden: Widths of the hidden layers.
        learning_rate: Adam's.
        max_steps: Gradient steps of 512 draws of each side at most.
        gradient_penalty: Weight of (‖∇ logit‖ − 1)² between draws of both sides; 0: none.
        activation_noise: Standard deviation of Gaussian noise on hidden activations in training.
        dropout: Probability of dropping a hidden activation in training.
        early_stopping: Keep the weights with the best cross-entropy on other datapoints; else
            the last ones.

    Example:
        >>> RatioClassifier(dropout=0.5).hidden
        (256, 256)
    """

    hidden: tuple[int, ...] = (256, 256)
    learning_rate: float = 1e-3
    max_steps: int = 2000
    gradient_penalty: float = 0.0
    activation_noise: float = 0.0
    dropout: float = 0.0
    early_stopping: bool = True

    def __post_init__(self) -> None:
        if self.max_steps < 1:
            raise InputError("max_steps", expected="at least 1", got=str(self.max_steps))
        if any(width < 1 for width in self.hidden):
            raise InputError("hidden", expected="widths of at least 1", got=str(self.hidden))
        if not 0 <= self.dropout < 1:
            raise InputError("dropout", expected="a number in [0, 1)", got=str(self.dropout))
        for name in ("learning_rate", "gradient_penalty", "activation_noise"):
            value = getattr(self, name)
            if not (value >= 0 and math.isfinite(value)):
                raise InputError(name, expected="a finite number ≥ 0", got=str(value))

    def network(self, latent_dim: int) -> nn.Sequential:
        """Returns the network of d latents; its last layer is zero: C = ½."""
        widths = (latent_dim, *self.hidden)
        layers: list[nn.Module] = []
        for a, b in pairwise(widths):
            layers += [nn.Linear(a, b), nn.LeakyReLU(0.2)]
            layers += [_Noise(self.activation_noise)] if self.activation_noise else []
            layers += [nn.Dropout(self.dropout)] if self.dropout else []
        last = nn.Linear(widths[-1], 1)
        for p in last.parameters():
            nn.init.zeros_(p)
        return nn.Sequential(*layers, last, nn.Flatten(0))


class _Noise(nn.Module):
    """Adds Gaussian noise in training."""

    def __init__(self, sigma: float) -> None:
        super().__init__()
        self.sigma = sigma

    def forward(self, h: Float[Tensor, "S h"]) -> Float[Tensor, "S h"]:
        """Returns h, with noise in training mode."""
        return h + self.sigma * torch.randn_like(h) if self.training else h


def fit_classifier(parts: Parts, classifier: RatioClassifier) -> tuple[Critic, Descent]:
    """Trains a classifier and returns its logit with how the training ended.

    Args:
        parts: Draws of q(z) to fit and to choose, and the prior.
        classifier: What is trained and how.
    """
    fit, choose = parts.fit, parts.choose
    centre, scale = _pool(fit.z, parts.prior_draws(len(fit.z)))
    network = classifier.network(fit.z.shape[1]).to(fit.z.device)

    def placed(z: Float64[Tensor, "S d"]) -> Float[Tensor, "S d"]:
        return ((z - centre) / scale).float()

    def critic(z: Float64[Tensor, "S d"]) -> Float64[Tensor, " S"]:
        with torch.no_grad():
            u = [network(placed(z[rows])) for rows in blocks(len(z), SCORED_AT_ONCE)]
        return torch.cat(u).double()

    def loss() -> Tensor:
        q, p = placed(fit.fresh(BATCH)), placed(parts.prior_draws(BATCH))
        entropy = _cross_entropy(network(q), network(p))
        if not classifier.gradient_penalty:
            return entropy
        return entropy + classifier.gradient_penalty * _penalty(network, q, p)

    prior_draws = parts.prior_draws(CHOOSING_DRAWS)
    ended = descend(
        network,
        loss,
        lambda: -_cross_entropy(critic(choose.z), critic(prior_draws)).item(),
        max_steps=classifier.max_steps,
        learning_rate=classifier.learning_rate,
        betas=(0.5, 0.9),
        keep_best=classifier.early_stopping,
    )
    return critic, ended


def _cross_entropy(logit_q: Float[Tensor, " S"], logit_p: Float[Tensor, " T"]) -> Tensor:
    return 0.5 * (softplus(-logit_q).mean() + softplus(logit_p).mean())


def _penalty(network: nn.Module, q: Float[Tensor, "S d"], p: Float[Tensor, "S d"]) -> Tensor:
    """(‖∇ logit‖ − 1)² on random points between the two sides."""
    u = torch.rand_like(q[:, :1])
    between = (u * q + (1 - u) * p).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(network(between).sum(), between, create_graph=True)
    penalty: Tensor = (gradient.norm(dim=1) - 1).square().mean()
    return penalty


def _pool(q: Float64[Tensor, "S d"], p: Float64[Tensor, "S d"]) -> tuple[Tensor, Tensor]:
    """Centre and scale of both sides together, so that neither lies far outside the units."""
    both = torch.cat([q, p])
    return both.mean(0), both.std(0).clamp(min=torch.finfo(both.dtype).tiny)


STANDARD = RatioClassifier()
PRIOR_DRAWS, DRAWN_AT_ONCE = 100_000, 10_000


class DensityRatioKL(NamedTuple):
    """KL(q(z) ‖ p(z)) by one classifier, in nats.

    Attributes:
        ratio: Mean logit on held-out draws of q(z): no bound.
        donsker_varadhan: A lower bound with the same critic, cut at a ceiling.
        nwj: The bound of Nguyen, Wainwright and Jordan with the same critic.
    """

    ratio: Estimate
    donsker_varadhan: Estimate
    nwj: Estimate


def density_ratio_kl(
    model: LatentVariableModel,
    x: object,
    classifier: RatioClassifier = STANDARD,
    *,
    x_train: object = None,
    seed: int | None = None,
    condition: Tensor | None = None,
    condition_train: Tensor | None = None,
) -> DensityRatioKL:
    """Returns all three estimates of one classifier; arguments as of :func:`marginal_kl`.

    Example:
        >>> import elboscope as es
        >>> model = es.models.LinearGaussian.instance_1()
        >>> x, _ = model.sample(400, seed=0)
        >>> found = density_ratio_kl(model, x, RatioClassifier((8,)), seed=0)
        >>> [estimate.side for estimate in found]
        ['none', 'lower', 'lower']
    """
    with evaluating(model), seeded(seed) as used:
        parts = split_aggregate(model, x, x_train, condition, condition_train)
        return ratio_kl_of(parts, used, classifier)


def ratio_kl_of(parts: Parts, seed: int, classifier: RatioClassifier = STANDARD) -> DensityRatioKL:
    """From draws in three parts to the three estimates; inside ``core.seeded``."""
    critic, ended = fit_classifier(parts, classifier)
    settings = {"seed": seed, **parts.settings, **asdict(classifier), **ended._asdict()}
    widths = "-".join(map(str, classifier.hidden)) or "linear"
    return with_critic(parts, critic, f"classifier {widths}", settings)


def with_critic(
    parts: Parts, critic: Critic, name: str, settings: Mapping[str, object]
) -> DensityRatioKL:
    """From any T(z) to its ratio estimate and bounds; inside ``core.seeded``."""
    choosing = Scores(critic(parts.choose.z), _on_prior(parts, critic))
    held_out = Scores(critic(parts.evaluate.z), _on_prior(parts, critic))
    bounds = ratio_bounds(choosing, held_out)
    record = {**settings, "prior_draws": PRIOR_DRAWS, "ceiling": bounds.ceiling}

    def estimate(method: str, values: Tensor, side: Side, prior_error: float) -> Estimate:
        return _estimate(parts, f"{method}, {name}", values, side, prior_error, record)

    return DensityRatioKL(
        estimate("density ratio (no bound)", held_out.q, "none", 0.0),
        estimate(
            "Donsker–Varadhan", bounds.donsker_varadhan, "lower", bounds.donsker_varadhan_error
        ),
        estimate("NWJ", bounds.nwj, "lower", bounds.nwj_error),
    )


def _on_prior(parts: Parts, critic: Critic) -> Float64[Tensor, " P"]:
    chunks = blocks(PRIOR_DRAWS, DRAWN_AT_ONCE)
    return torch.cat([critic(parts.prior_draws(r.stop - r.start)) for r in chunks])


def _estimate(
    parts: Parts,
    method: str,
    values: Float64[Tensor, " S"],
    side: Side,
    prior_error: float,
    settings: Mapping[str, object],
) -> Estimate:
    """Values per held-out datapoint; the error of the prior draws is shared by all of them."""
    a = averages(values, parts.evaluate.which, parts.evaluate.size)
    shared = len(a.values) * prior_error**2
    estimand = "the population's KL(q‖p)" + (", bounded from below" if side == "lower" else "")
    return Estimate(
        "KL(q(z) ‖ p(z))",
        method,
        a.values,
        (a.mc_stderr.square() + shared).sqrt(),
        side,
        math.hypot(standard_error(a.values), prior_error),
        settings={**settings, "prior_error": prior_error, "estimand": estimand},
        data_id=parts.data_id,
        notes=parts.notes,
        nonnegative=True,
        held_out=True,
        shared_stderr=prior_error,
    )
