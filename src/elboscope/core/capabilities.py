"""What a model can be asked: the answer of :func:`~elboscope.core.check_model`.

Densities are evaluated once. One that is missing (an implicit posterior), not finite, or asked
outside its support is noted and never raised, so that *diverged* can be a finding.
"""

from __future__ import annotations

__all__ = [
    "Capabilities",
    "closed_form_kl",
    "draw_once",
    "draw_x",
    "family",
    "is_in_support",
    "mean_of",
    "measure",
]

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Categorical, Cauchy, Distribution, HalfCauchy, Independent
from torch.distributions.kl import kl_divergence

from .errors import first_line, refuses_nan
from .model import GenerativeModel, LatentVariableModel
from .weights import SamplesWithDensity


@dataclass(frozen=True)
class Capabilities:
    """What a model can be asked, and what is numerically wrong with it on this data.

    Attributes:
        latent_shape: ``(*Z)``.
        data_shape: ``(*X)``.
        posterior: The family of q(z|x), by its class; empty without an encoder.
        likelihood: The family of p(x|z), by its class.
        reparameterised: Whether q(z|x) offers ``rsample``.
        has_encoder: Whether there is a q(z|x) at all.
        has_posterior_density: Whether q(z|x) can be evaluated: not for implicit ones.
        has_likelihood: Whether p(x|z) can be evaluated at this x.
        analytic_kl: Whether KL(q(z|x) ‖ p(z)) is known in closed form.
        in_support: Whether every x lies in the support of p(x|z); a Bernoulli on grey values
            does not, and what it returns is a cross-entropy, not a likelihood.
        problems: What is NaN, infinite or out of support, one sentence each.
        scores_own_draws: Whether q(z|x) draws z with what importance weights divide by; a planar
            and an auxiliary-variable flow do, without a density of a given z.
        levels: L of a likelihood of pixels with L levels; 0 for others.
    """

    latent_shape: tuple[int, ...]
    data_shape: tuple[int, ...]
    posterior: str
    likelihood: str
    reparameterised: bool
    has_encoder: bool
    has_posterior_density: bool
    has_likelihood: bool
    analytic_kl: bool
    in_support: bool
    problems: tuple[str, ...]
    scores_own_draws: bool = False
    levels: int = 0

    @property
    def finite(self) -> bool:
        """Whether every density was a finite number."""
        return not any("NaN" in p or "infinite" in p for p in self.problems)


def measure(
    model: GenerativeModel,
    x: Tensor,
    z: Tensor,
    p: Distribution | None,
    q: Distribution | None,
    refused: list[str],
    all_x: Tensor | None = None,
) -> Capabilities:
    """Evaluates the densities once and notes what is missing and what is not finite.

    Args:
        model: The model, for its prior.
        x: Data.
        z: Draws from the prior.
        p: p(x|z), or None where NaN parameters were refused.
        q: q(z|x), or None without an encoder or where NaN parameters were refused.
        refused: The sentences that say so.
        all_x: More data, of which only the support is looked at: one grey image late in a file
            makes a cross-entropy of the mean.
    """
    everything = x if all_x is None else all_x
    in_support = p is None or (is_in_support(p, x) and is_in_support(p, everything))
    problems = list(refused)
    if p is not None and not in_support:
        problems.append(_out_of_support(p, everything))
    has_likelihood = p is not None and _score("log p(x|z)", lambda: p.log_prob(x), problems)
    _score("log p(z)", lambda: model.prior().log_prob(z), problems)
    has_density = q is not None and _score(
        "log q(z|x)", lambda: q.log_prob(draw_once(q, x)), problems
    )
    weighs = isinstance(q, SamplesWithDensity) and (has_density or _weighs(q, problems))
    return Capabilities(
        latent_shape=tuple(model.prior().event_shape),
        data_shape=tuple(x.shape[1:]),
        posterior="" if q is None else family(q),
        likelihood="" if p is None else family(p),
        reparameterised=q is not None and bool(q.has_rsample),
        has_encoder=isinstance(model, LatentVariableModel),
        has_posterior_density=has_density,
        has_likelihood=has_likelihood,
        analytic_kl=q is not None and closed_form_kl(q, model.prior()) is not None,
        in_support=in_support,
        problems=tuple(problems),
        scores_own_draws=weighs,
        levels=0 if p is None else _levels(p),
    )


def draw_once(p: Distribution, like: Tensor) -> Tensor:
    """Returns one draw; NaN where torch refuses to draw from NaN parameters."""
    try:
        z: Tensor = p.rsample() if p.has_rsample else p.sample()
    except RuntimeError:
        shape = p.batch_shape + p.event_shape
        z = torch.full(shape, torch.nan, dtype=like.dtype, device=like.device)
    return z


def family(p: Distribution) -> str:
    """Returns the name of a distribution's class, looking through ``Independent``."""
    return family(p.base_dist) if isinstance(p, Independent) else type(p).__name__


def _levels(p: Distribution) -> int:
    """What p says of its levels, or the likelihood of each of its values."""
    base: object = p
    while isinstance(base, Independent):
        base = base.base_dist
    told = getattr(base, "levels", getattr(getattr(base, "likelihood", None), "levels", 0))
    return told if isinstance(told, int) else 0


def is_in_support(p: Distribution, x: Tensor) -> bool:
    """Whether all x lie where p has a density.

    True where that is not known: p does not tell its support, or has another one for each of its
    datapoints (a uniform), which x are not.
    """
    try:
        constraint = p.support
        return constraint is None or bool(constraint.check(x).all())
    except (NotImplementedError, RuntimeError):
        return True


def _out_of_support(p: Distribution, x: Tensor) -> str:
    return (
        f"x lies outside the support of {family(p)}: "
        f"its values run from {x.min().item():.4g} to {x.max().item():.4g}"
    )


def _score(name: str, density: Callable[[], Tensor], problems: list[str]) -> bool:
    """Whether a density can be evaluated; appends what is wrong with its values."""
    try:
        log_p = density()
    except NotImplementedError:
        return False
    except (ValueError, RuntimeError, IndexError, TypeError) as error:
        # torch's own validation (out of support, NaN parameters), or a density without one
        if not problems or refuses_nan(error):
            why = "NaN parameters" if refuses_nan(error) else first_line(error)
            problems.append(f"{name} is refused by its distribution: {why}")
        return False
    for word, bad in (("NaN", log_p.isnan()), ("infinite", log_p.isinf())):
        if bool(bad.any()):
            problems.append(f"{name} is {word} for {int(bad.sum())} of {bad.numel()} values")
    return True


def _weighs(q: SamplesWithDensity, problems: list[str]) -> bool:
    own = lambda: q.rsample_and_log_prob(torch.Size())[1]  # noqa: E731
    return _score("log q(z|x) of its own draws", own, problems)


# What torch.distributions does not do alike for all of its families.


def closed_form_kl(q: Distribution, p: Distribution) -> Tensor | None:
    """Returns KL(q ‖ p) in nats where torch knows it in closed form, and None where it does not.

    Args:
        q: Batch shape ``(B,)``.
        p: Batch shape ``()`` or ``(B,)``. Some pairs of torch (Bernoullis) do not broadcast.

    Example:
        >>> from torch.distributions import Bernoulli
        >>> q, p = Bernoulli(torch.tensor([0.0, 0.5, 1.0])), Bernoulli(torch.tensor(0.5))
        >>> [round(kl, 4) for kl in closed_form_kl(q, p).tolist()]  # log 2 = 0.6931
        [0.6931, 0.0, 0.6931]
    """
    try:
        if p.batch_shape != q.batch_shape:
            p = p.expand(q.batch_shape)
    except NotImplementedError:
        pass  # a family without expand must broadcast by itself
    try:
        kl: Tensor = kl_divergence(q, p)
    except NotImplementedError:
        return None
    return kl


def mean_of(p: Distribution) -> Tensor:
    """Returns E[x] of p.

    Raises:
        NotImplementedError: The family has none (torch says NaN, as if the model had diverged).

    Example:
        >>> mean_of(Categorical(torch.ones(3)))
        Traceback (most recent call last):
        NotImplementedError: a Categorical has no mean
    """
    base = p
    while isinstance(base, Independent):
        base = base.base_dist
    if isinstance(base, Categorical | Cauchy | HalfCauchy):
        raise NotImplementedError(f"a {type(base).__name__} has no mean")
    mean: Tensor = p.mean
    return mean


def draw_x(p: Distribution, like: Tensor) -> Tensor:
    """Draws x from p(x|z) as a network takes it: in the dtype of ``like``.

    A categorical draws whole numbers, which no linear layer accepts.

    Example:
        >>> draw_x(Categorical(torch.ones(3)), torch.zeros(1)).dtype
        torch.float32
    """
    return p.sample().to(like.dtype)
