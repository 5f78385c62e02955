r"""log p(x) from importance sampling and AIS together, with a certificate on simulated data.

The two fail differently: importance sampling where q has no samples, AIS where chains are too
short. Both averages of weights are unbiased for p(x), so every weighted mean of them is whose
weights do not look at what they weigh, and its logarithm is a lower bound in expectation
(:func:`combine`). The larger of the two would be no bound: it is chosen by the noise.

The importance weights that enter are those of the widened mixture (:mod:`.widened`), half of whose
samples come from q itself (the balance heuristic), and whose weights keep a variance where those of
q have none; the plain estimate from q stands beside it for its k̂ and is not used.

On data simulated by the model everything is done again with the same settings, and set against
the upper bound of reverse AIS (:mod:`.certificate`).

The file is long because the estimate, its combination and the simulated one are made alike.
"""

from __future__ import annotations

__all__ = ["LogLikelihood", "log_likelihood"]

import math
from dataclasses import dataclass, replace
from numbers import Real
from typing import NamedTuple

import torch
from jaxtyping import Float64
from torch import Tensor

from elboscope.core import (
    ContractError,
    Estimate,
    GenerativeModel,
    InputError,
    LatentVariableModel,
    evaluating,
    given,
    paired_difference,
    seeded,
)
from elboscope.data import as_tensor

from ..inputs import Inputs, likelihood_of, prepared, require_positive
from ..streaming import Progress, SharedProgress
from .annealed import annealed_importance_sampling
from .annealed_run import Annealing, plan_annealing
from .annealing import PathName
from .bidirectional import Sandwich, sandwich_pairs, simulate
from .certificate import Certificate, Strata, certify
from .importance import importance_sampling
from .simulated_pairs import NUM_PAIRS, ScoredPairs, pairs_at, simulated_pairs
from .widened import widened_importance_sampling

# Of the pairs that lie far beyond the others, so many are annealed.
NUM_FARTHEST = 20
# Of so many times as many pairs the annealed ones are chosen, at least.
FEWEST_PAIRS = 4


@dataclass(frozen=True, eq=False)
class LogLikelihood:
    """log p(x), what it was made of, and how far it can be off on data like the model's own.

    Attributes:
        log_px: The combined estimate; ``diagnostics`` hold both parts, k̂ and both ESS.
        importance: Importance sampling from q alone, beside it; ``None`` without a density of q.
        widened: Importance sampling from the widened mixture, which is combined; or ``None``.
        annealed: AIS, which is combined.
        pairs: Thousands of simulated pairs, scored by q; ``None`` where q cannot score any z.
        sandwich: The bounds on simulated data, some at random.
        simulated: The combined estimate on those simulated data.
        simulated_importance: The plain one, from q alone, on them; or ``None``.
        certificate: The verdict.
    """

    log_px: Estimate
    importance: Estimate | None
    widened: Estimate | None
    annealed: Estimate
    pairs: ScoredPairs | None
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
        pairs = "" if self.pairs is None else f"; {self.pairs}"
        return f"{self.log_px}; {self.certificate}{pairs}"


def log_likelihood(
    model: GenerativeModel,
    x: object,
    num_samples: int = 5000,
    *,
    num_temperatures: int = 200,
    num_chains: int = 16,
    num_leapfrog: int = 10,
    num_simulated: int = 50,
    num_pairs: int = NUM_PAIRS,
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
        num_simulated: Simulated datapoints that are annealed for the certificate; the farthest
            of ``num_pairs``, at most 20, are annealed besides.
        num_pairs: Simulated pairs that q scores, to find where it does not go.
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
    _require_settings(num_samples, num_simulated, num_pairs, tolerance)
    data, treatment = as_tensor(x)  # once: a loader may shuffle
    inputs = prepared(model, data, condition)
    c, work = inputs.condition, SharedProgress(progress)
    with evaluating(model), seeded(seed) as used:
        likelihood_of(model, inputs)  # refuses x outside the support before anything is spent
        scores = _scores_anything(model, inputs)
        start: PathName = path or ("posterior" if scores else "prior")
        plan = plan_annealing(num_temperatures, num_chains, num_leapfrog, "sigmoid", start, None)
        effort = _Effort(model, plan, num_samples, used)
        pairs = None
        if isinstance(model, LatentVariableModel) and scores:
            pairs = simulated_pairs(
                model, num_pairs, seed=used + 4, condition=c, progress=work.part(0.1)
            )
        near = effort.on(_random_pairs(model, pairs, num_simulated, used + 1, c), work, 0.4)
        far = None
        if pairs is not None and isinstance(model, LatentVariableModel):
            rows = pairs.farthest(min(NUM_FARTHEST, num_simulated))
            far = effort.on(pairs_at(model, pairs, rows, c), work, 0.3) if len(rows) else None
        annealed = annealed_importance_sampling(
            model,
            data,
            num_temperatures=num_temperatures,
            num_chains=num_chains,
            num_leapfrog=num_leapfrog,
            path=start,
            seed=used,
            condition=c,
            progress=work.part(0.15),
        )
        real = _weigh(model, data, c, num_samples, used + 2, work.part(0.05))
    annealed = _add_treatment(annealed, treatment)
    real = _Weighed(*(e and _add_treatment(e, treatment) for e in real))
    log_px = combine(real.proposals, annealed)
    strata = Strata(near.gap, far and far.gap, pairs, near.apart)
    verdict = certify(log_px, real.proposals, annealed, strata, near.sandwich, tolerance)
    return LogLikelihood(
        log_px, real.plain, real.widened, annealed, pairs, near.sandwich, near.combined,
        near.weighed.plain, verdict,
    )  # fmt: skip


class _Simulated(NamedTuple):
    """Simulated data with their bounds, and the estimate made there with the same settings."""

    sandwich: Sandwich
    combined: Estimate
    weighed: _Weighed

    @property
    def apart(self) -> Estimate | None:
        """What AIS finds beyond importance sampling."""
        proposals = self.weighed.proposals
        if proposals is None:
            return None
        return paired_difference(self.sandwich.lower, proposals, "AIS − importance sampling")

    @property
    def gap(self) -> Estimate:
        """The distance from the estimate up to the upper bound."""
        upper = self.sandwich.upper_doubled
        return paired_difference(upper, self.combined, "upper bound − estimate")


class _Effort(NamedTuple):
    """The settings with which everything is done again on simulated data."""

    model: GenerativeModel
    plan: Annealing
    num_samples: int
    seed: int

    def on(
        self, data: tuple[Tensor, Tensor, Tensor | None], work: SharedProgress, share: float
    ) -> _Simulated:
        """Sandwiches these x, whose z are known, and estimates their log p(x)."""
        x, z, c = data
        seed = self.seed + 1
        sandwich = sandwich_pairs(
            self.model, x, z, self.plan, None, seed, c, work.part(0.9 * share)
        )
        K = self.num_samples
        weighed = _weigh(self.model, x, c, K, self.seed + 3, work.part(0.1 * share))
        return _Simulated(sandwich, combine(weighed.proposals, sandwich.lower), weighed)


def _random_pairs(
    model: GenerativeModel, pairs: ScoredPairs | None, n: int, seed: int, condition: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Some simulated x and their z, at random from those that do not lie far beyond the others."""
    if pairs is not None and isinstance(model, LatentVariableModel):
        return pairs_at(model, pairs, pairs.random_others(n), condition)
    rows = torch.arange(n)
    c = None if condition is None else condition[(rows % len(condition)).to(condition.device)]
    with seeded(seed):
        return *simulate(model, n, c), c


# Both averages are unbiased for p(x), and so is every mixture of them whose weight does not look at
# what it mixes. Each half of the samples and chains is weighted by what the other half says: of two
# samplers of which one fails, the better one is taken nearly alone, and of two that agree both.
UNKNOWN = 1.0  # the error, in nats, of a lone chain
ERRORS = 2.0
SHARES = torch.linspace(0.005, 0.995, 199, dtype=torch.float64)[:, None]


def combine(proposals: Estimate | None, annealed: Estimate) -> Estimate:
    r"""Returns log of a weighted mean of both averages per datapoint; AIS alone without proposals.

    .. math:: \log \tfrac12 \sum_{h=1,2} \bigl(a_{\bar h}\, \hat p_{\mathrm{IS}}^{(h)}
              + (1 - a_{\bar h})\, \hat p_{\mathrm{AIS}}^{(h)}\bigr)

    where the weight of one half, a, is chosen by the other: a lower bound in expectation.

    Example:
        >>> v, e = torch.zeros(2), torch.ones(2) * 0.1
        >>> halves = {"half": v, "other_half": v, "half_stderr": e, "other_half_stderr": e}
        >>> kept = {"ess": e, **halves}
        >>> part = Estimate.per_datapoint("log p(x)", "a", v, e, "lower", diagnostics=kept)
        >>> low = {**kept, "half": v - 100, "other_half": v - 100}
        >>> round(combine(part, replace(part, values=v - 100, diagnostics=low)).mean, 3)
        -0.005
    """
    if proposals is None:
        alone = {**annealed.settings, "combined": "AIS alone: no density of q(z|x) to sample from"}
        return replace(annealed, settings=alone)
    values, errors, share = _cross_weighted(_halves(proposals), _halves(annealed))
    kept = {key: v for key, v in proposals.diagnostics.items() if key in ("khat", "ess")}
    return Estimate.per_datapoint(
        "log p(x)",
        "importance sampling and AIS",
        values,
        errors,
        "lower",
        diagnostics={
            **kept,
            "importance": proposals.values,
            "annealed": annealed.values,
            "share_of_importance": share,
            "chains_ess": annealed.diagnostics["ess"],
        },
        settings={
            **annealed.settings,
            **proposals.settings,
            "combined": "each half weighted by what the other half says",
        },
        data_id=proposals.data_id,
        num_samples=proposals.num_samples,
        num_temperatures=annealed.num_temperatures,
        num_chains=annealed.num_chains,
        notes=proposals.notes,
    )


class _Halves(NamedTuple):
    """Two independent estimates, each with its error; a lone sample has no other half."""

    values: Float64[Tensor, "2 B"]
    errors: Float64[Tensor, "2 B"]
    lone: bool


def _halves(part: Estimate) -> _Halves:
    d = part.diagnostics
    values = torch.stack([d["half"], d["other_half"]]).double()
    errors = torch.stack([d["half_stderr"], d["other_half_stderr"]]).double()
    return _Halves(values, errors, 1 in (part.num_samples, part.num_chains))


def _cross_weighted(a: _Halves, b: _Halves) -> tuple[Tensor, Tensor, Tensor]:
    """Values, their errors, and the mean weight of the first of both."""
    if a.lone or b.lone:
        weights = torch.full_like(a.values, 0.5)
    else:
        weights = torch.stack([_weight(a, b, pilot) for pilot in (1, 0)])
    terms = torch.stack([a.values + weights.log(), b.values + (-weights).log1p()]) - math.log(2)
    shares = terms.flatten(0, 1).softmax(0).unflatten(0, (2, 2))
    spread = torch.stack([a.errors, b.errors])
    contributions = shares * spread.nan_to_num(UNKNOWN, UNKNOWN)
    values = terms.flatten(0, 1).logsumexp(0)
    return values, contributions.square().sum((0, 1)).sqrt(), weights.mean(0)


def _weight(a: _Halves, b: _Halves, pilot: int) -> Float64[Tensor, " B"]:
    r"""The weight of a that maximises the expected logarithm of the mixture, by the pilot's halves.

    Second order: :math:`\log(a\, p_1 + (1-a)\, p_2) - \tfrac12 \sum_i s_i^2 \sigma_i^2`, s being
    the shares of both in the mixture and σ their errors.
    """
    errors = [half.errors[pilot].nan_to_num(UNKNOWN, UNKNOWN).clamp(min=1e-6) for half in (a, b)]
    apart = (a.values[pilot] - b.values[pilot]).nan_to_num(0.0).clamp(-1e3, 1e3)
    apart = _decided(apart, errors[0].square() + errors[1].square())
    weights = SHARES.to(apart.device)
    share = (weights.logit() + apart).sigmoid()
    level = torch.logaddexp(weights.log() + apart, (-weights).log1p())
    noise = (share * errors[0]).square() + ((1 - share) * errors[1]).square()
    return weights[(level - 0.5 * noise).argmax(0), 0]


def _decided(d: Float64[Tensor, " B"], variance: Float64[Tensor, " B"]) -> Float64[Tensor, " B"]:
    """How far apart both are beyond two errors: what noise explains decides nothing.

    Empirical Bayes: each difference is shrunk to the weighted mean of all, as far as its noise
    says, so that a small difference of all datapoints counts where that of each is lost in noise.
    """
    between, precision = torch.zeros(()), 1 / variance
    if len(d) > 1:
        between = (d.var() - variance.mean()).clamp(min=0.0)
    mean = (precision * d).sum() / precision.sum()
    kept = between / (between + variance)
    error = (kept * variance + 1 / precision.sum()).sqrt()
    shrunk = mean + kept * (d - mean)
    return shrunk.sign() * (shrunk.abs() - ERRORS * error).clamp(min=0.0)


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


def _require_settings(
    num_samples: int, num_simulated: int, num_pairs: int, tolerance: float
) -> None:
    require_positive("num_samples", num_samples)
    require_positive("num_simulated", num_simulated)
    if num_pairs < FEWEST_PAIRS * num_simulated:
        expected = f"at least {FEWEST_PAIRS * num_simulated}, four times num_simulated"
        raise InputError("num_pairs", expected=expected, got=repr(num_pairs))
    if not isinstance(tolerance, Real) or not tolerance > 0:
        raise InputError("tolerance", expected="a positive number of nats", got=repr(tolerance))
