r"""log p(x) from importance sampling and AIS together, with a certificate on simulated data.

The two fail differently: importance sampling where q has no samples, AIS where chains are too
short. Both averages of weights are unbiased for p(x), so their mean is, and

.. math:: \log \hat p(x) = \log \tfrac12 \bigl(\hat p_{\mathrm{IS}}(x) + \hat p_{\mathrm{AIS}}(x)
          \bigr)

is a lower bound in expectation that loses at most ln 2 where one of them fails altogether. The
larger of the two would be no bound: it is chosen by the noise. The importance weights that enter
are those of the widened mixture (:mod:`.widened`), half of whose samples come from q itself (the
balance heuristic), and whose weights keep a variance where those of q have none; the plain
estimate from q stands beside it for its k̂ and is not used.

On data simulated by the model everything is done again with the same settings, and set against
the upper bound of reverse AIS (:mod:`.certificate`).
"""

from __future__ import annotations

__all__ = ["LogLikelihood", "log_likelihood"]

import math
from dataclasses import dataclass, replace
from numbers import Real
from typing import NamedTuple

import torch
from torch import Tensor

from elboscope.core import (
    ContractError,
    Estimate,
    GenerativeModel,
    InputError,
    LatentVariableModel,
    evaluating,
    given,
    seeded,
)
from elboscope.data import as_tensor

from ..inputs import Inputs, likelihood_of, prepared, require_positive
from ..streaming import Progress, SharedProgress
from .annealed import annealed_importance_sampling
from .annealing import PathName
from .bidirectional import Sandwich, bidirectional_monte_carlo
from .certificate import Certificate, certify
from .importance import importance_sampling
from .widened import widened_importance_sampling


@dataclass(frozen=True, eq=False)
class LogLikelihood:
    """log p(x), what it was made of, and how far it can be off on data like the model's own.

    Attributes:
        log_px: The combined estimate; ``diagnostics`` hold both parts, k̂ and both ESS.
        importance: Importance sampling from q alone, beside it; ``None`` without a density of q.
        widened: Importance sampling from the widened mixture, which is combined; or ``None``.
        annealed: AIS, which is combined.
        sandwich: The bounds on simulated data.
        simulated: The combined estimate on those simulated data.
        simulated_importance: The plain one, from q alone, on them; or ``None``.
        certificate: The verdict.
    """

    log_px: Estimate
    importance: Estimate | None
    widened: Estimate | None
    annealed: Estimate
    sandwich: Sandwich
    simulated: Estimate
    simulated_importance: Estimate | None
    certificate: Certificate

    def parts(self) -> tuple[Estimate | None, ...]:
        """Returns all estimates: a number that is not finite in one spoils the certificate."""
        s = self.sandwich
        return (
            self.log_px, self.importance, self.widened, self.annealed, s.lower, s.upper,
            s.lower_doubled, s.upper_doubled, self.simulated, self.simulated_importance,
        )  # fmt: skip

    def __str__(self) -> str:
        return f"{self.log_px}; {self.certificate}"


def log_likelihood(
    model: GenerativeModel,
    x: object,
    num_samples: int = 5000,
    *,
    num_temperatures: int = 200,
    num_chains: int = 16,
    num_leapfrog: int = 10,
    num_simulated: int = 50,
    tolerance: float = 0.1,
    path: PathName | None = None,
    seed: int | None = None,
    condition: Tensor | None = None,
    progress: Progress | bool | None = None,
) -> LogLikelihood:
    r"""Estimates log p(x) by importance sampling and AIS, and certifies it on simulated data.

    The certificate is about the *mean* of the estimate over data simulated by the model, with
    these settings; that the real data are as easy is an assumption. Without an encoder, or with
    one whose posterior has no density, AIS stands alone, and ``settings["combined"]`` says so.

    Args:
        model: The model; continuous latents, a likelihood that can be sampled.
        x: Data, ``(N, *X)``.
        num_samples: K of importance sampling, per datapoint.
        num_temperatures: T of AIS; the sandwich has T and 2T.
        num_chains: C, chains of each datapoint.
        num_leapfrog: L, gradients of each transition.
        num_simulated: Datapoints that are simulated for the certificate.
        tolerance: Nats within which the estimate shall be certified.
        path: Where AIS starts: ``"posterior"``, by default where q has a density (shorter, hence
            tighter), or ``"prior"``, which is independent of q.
        seed: Random seed; None picks one and records it.
        condition: One row per datapoint; simulated data take theirs from these in turn.
        progress: Called with the work done and its total; True shows a bar.

    Returns:
        The estimate per datapoint in nats, its parts, the sandwich and the certificate.

    Raises:
        InputError: x cannot be data or lies outside the likelihood's support (grey values under
            a Bernoulli); a count below 1; a tolerance that is not positive.
        ContractError: Discrete latents; a likelihood that cannot be sampled.

    References:
        | On the quantitative analysis of decoder-based generative models (Wu et al., 2017),
          https://arxiv.org/abs/1611.04273
        | Sandwiching the marginal likelihood using bidirectional Monte Carlo (Grosse et al.,
          2015), https://arxiv.org/abs/1511.02543

    Example:
        >>> import elboscope as es
        >>> model = es.models.LinearGaussian.instance_2()
        >>> x, _ = model.sample(5, seed=0)
        >>> found = log_likelihood(
        ...     model, x, 1000, num_temperatures=20, num_leapfrog=5, num_simulated=20, seed=0
        ... )
        >>> found.certificate.certified, found.log_px.side
        (True, 'lower')
    """
    _require_settings(num_samples, num_simulated, tolerance)
    data, treatment = as_tensor(x)  # once: a loader may shuffle
    inputs = prepared(model, data, condition)
    c = inputs.condition
    c_simulated = None if c is None else c[torch.arange(num_simulated, device=c.device) % len(c)]
    with evaluating(model), seeded(seed) as used:
        likelihood_of(model, inputs)  # refuses x outside the support before anything is spent
        start: PathName = path or ("posterior" if _scores_anything(model, inputs) else "prior")
        work = SharedProgress(progress)
        sandwich = bidirectional_monte_carlo(
            model,
            num_simulated,
            num_temperatures=num_temperatures,
            num_chains=num_chains,
            num_leapfrog=num_leapfrog,
            path=start,
            seed=used + 1,
            condition=c_simulated,
            progress=work.part(0.7),
        )
        annealed = annealed_importance_sampling(
            model,
            data,
            num_temperatures=num_temperatures,
            num_chains=num_chains,
            num_leapfrog=num_leapfrog,
            path=start,
            seed=used,
            condition=c,
            progress=work.part(0.2),
        )
        real = _weigh(model, data, c, num_samples, used + 2, work.part(0.05))
        like = _weigh(model, sandwich.x, c_simulated, num_samples, used + 3, work.part(0.05))
    annealed = _add_treatment(annealed, treatment)
    real = _Weighed(*(e and _add_treatment(e, treatment) for e in real))
    log_px = combine(real.proposals, annealed)
    simulated = combine(like.proposals, sandwich.lower)
    verdict = certify(log_px, real.proposals, annealed, simulated, sandwich, tolerance)
    return LogLikelihood(
        log_px, real.plain, real.widened, annealed, sandwich, simulated, like.plain, verdict
    )


def combine(proposals: Estimate | None, annealed: Estimate) -> Estimate:
    """Returns log of the mean of both averages, per datapoint; AIS alone without proposals.

    Example:
        >>> v, e = torch.zeros(2), torch.ones(2) * 0.1
        >>> part = Estimate.per_datapoint("log p(x)", "a", v, e, "lower", diagnostics={"ess": e})
        >>> round(combine(part, replace(part, values=v - 100)).mean, 6)
        -0.693147
    """
    if proposals is None:
        alone = {**annealed.settings, "combined": "AIS alone: no density of q(z|x) to sample from"}
        return replace(annealed, settings=alone)
    parts = torch.stack([proposals.values.double(), annealed.values.double()])
    errors = torch.stack([proposals.mc_stderr.double(), annealed.mc_stderr.double()])
    kept = {key: v for key, v in proposals.diagnostics.items() if key in ("khat", "ess")}
    return Estimate.per_datapoint(
        "log p(x)",
        "importance sampling and AIS",
        parts.logsumexp(0) - math.log(2),
        (parts.softmax(0) * errors).square().sum(0).sqrt(),
        "lower",
        diagnostics={
            **kept,
            "importance": proposals.values,
            "annealed": annealed.values,
            "chains_ess": annealed.diagnostics["ess"],
        },
        settings={**annealed.settings, **proposals.settings, "combined": "logaddexp − log 2"},
        data_id=proposals.data_id,
        num_samples=proposals.num_samples,
        num_temperatures=annealed.num_temperatures,
        num_chains=annealed.num_chains,
        notes=proposals.notes,
    )


def _add_treatment(estimate: Estimate, treatment: str) -> Estimate:
    settings = {**estimate.settings, "data": treatment}
    return replace(estimate, settings=settings, notes=(treatment,))


class _Weighed(NamedTuple):
    """Both estimates by importance sampling, where q has a density."""

    plain: Estimate | None
    widened: Estimate | None

    @property
    def proposals(self) -> Estimate | None:
        """The one that is combined: a q that scores only its own draws cannot be widened."""
        return self.plain if self.widened is None else self.widened


def _weigh(
    model: GenerativeModel,
    x: object,
    condition: Tensor | None,
    K: int,
    seed: int,
    progress: Progress | None,
) -> _Weighed:
    """Importance sampling from q and from the mixture; ``None`` where q has no density for it."""
    if not isinstance(model, LatentVariableModel):
        return _Weighed(None, None)
    estimates: list[Estimate | None] = []
    for sampler in (importance_sampling, widened_importance_sampling):
        try:
            estimates.append(
                sampler(model, x, K, seed=seed, condition=condition, progress=progress)
            )
        except ContractError:
            estimates.append(None)
    return _Weighed(*estimates)


def _scores_anything(model: GenerativeModel, inputs: Inputs) -> bool:
    """Whether q(z|x) has a density at a z that it did not draw itself, from which AIS can start."""
    if not isinstance(model, LatentVariableModel):
        return False
    x, condition = inputs.rows(slice(0, 1))
    q = given(model, condition).encode(x)
    try:
        q.log_prob(q.sample(torch.Size((1,))))
    except NotImplementedError:
        return False
    return True


def _require_settings(num_samples: int, num_simulated: int, tolerance: float) -> None:
    require_positive("num_samples", num_samples)
    require_positive("num_simulated", num_simulated)
    if not isinstance(tolerance, Real) or not tolerance > 0:
        raise InputError("tolerance", expected="a positive number of nats", got=repr(tolerance))
