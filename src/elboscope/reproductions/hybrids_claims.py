r"""The ordering of Rosca et al., claim by claim, on the independent critic and one other score.

Differences are taken in pairs, seed by seed; a run that failed leaves its pairs out. That the
hybrids are more sensitive is judged by the logarithm of a ratio of two standard deviations over
settings, each known to about :math:`1/\sqrt{2(n - 1)}` for n of them. What the paper calls good
and poor is here: nearer to the data, by the critic, than the worse of the two GANs, or farther
away.
"""

from __future__ import annotations

__all__ = ["hybrid_claims"]

import math
from collections.abc import Iterator
from itertools import product
from statistics import fmean

from jaxtyping import Float64
from torch import Tensor

from .claims import Claim, Difference, difference, judged, student
from .hybrids_plan import AUTOENCODERS, GANS, HYBRIDS, WEIGHTED, HybridsPlan, Model
from .hybrids_table import LABELS, Found, over_settings, own_runs, paired, primary

PAPER = "Rosca et al. 2018, Figs. 8–9, arXiv 1802.06847"
UNIT, CRITIC = "units of x", "samples: critic_test"


def hybrid_claims(found: Found, plan: HybridsPlan) -> Iterator[Claim]:
    """Yields every claim with its verdict.

    Args:
        found: Scores of all runs.
        plan: Their settings.
    """
    yield from _plus_plus(found, plan)
    yield from _beyond_autoencoders(found, plan)
    yield from _behind_gans(found, plan)
    yield _autoencoder(found, plan)
    yield from _sensitivity(found, plan)


def _farther(found: Found, plan: HybridsPlan, a: Model, b: Model) -> Difference:
    """Ŵ of a less that of b: positive where b is nearer to the data."""
    one, other = paired(found, plan.own(a), plan.own(b), CRITIC)
    return difference(one, other, unit=UNIT)


def _plus_plus(found: Found, plan: HybridsPlan) -> Iterator[Claim]:
    text = f"{plan.data}: VGH++ is nearer to the data than VGH (Ŵ of VGH − that of VGH++)"
    yield judged(text, PAPER, _farther(found, plan, "VGH", "VGH++"))
    score = primary(plan.data)
    if score is None:
        return
    a, b = paired(found, plan.own("VGH++"), plan.own("VGH"), f"samples: {score}")
    quantity, unit = LABELS[score]
    text = f"{plan.data}: VGH++ is better than VGH in {quantity} (VGH++ − VGH)"
    yield judged(text, PAPER, difference(a, b, unit=unit))


def _beyond_autoencoders(found: Found, plan: HybridsPlan) -> Iterator[Claim]:
    for hybrid, other in product(HYBRIDS, AUTOENCODERS):
        text = (
            f"{plan.data}: {hybrid} is nearer to the data than {other} "
            f"(Ŵ of {other} − that of {hybrid})"
        )
        yield judged(text, PAPER, _farther(found, plan, other, hybrid))


def _behind_gans(found: Found, plan: HybridsPlan) -> Iterator[Claim]:
    gan = _extreme(found, plan, GANS, worst=False)
    for hybrid in HYBRIDS:
        text = (
            f"{plan.data}: {hybrid} is not nearer to the data than the better GAN, here {gan} "
            f"(Ŵ of {hybrid} − that of {gan})"
        )
        yield judged(text, PAPER, _farther(found, plan, hybrid, gan))


def _autoencoder(found: Found, plan: HybridsPlan) -> Claim:
    gan = _extreme(found, plan, GANS, worst=True)
    poor = plan.data == "CIFAR-10"
    word, place = ("poor", "farther from") if poor else ("good", "nearer to")
    text = (
        f"{plan.data}: the VAE's samples are {word}, here: {place} the data than those of the "
        f"worse GAN, {gan} (Ŵ of {gan} − that of the VAE)"
    )
    return judged(text, PAPER, _farther(found, plan, gan, "VAE"), -1 if poor else 1)


def _extreme(found: Found, plan: HybridsPlan, models: tuple[Model, ...], *, worst: bool) -> Model:
    ranked = sorted(models, key=lambda model: _mean(found, plan, model))
    return ranked[-1 if worst else 0]


def _mean(found: Found, plan: HybridsPlan, model: Model) -> float:
    return fmean(scores[CRITIC].value for scores in own_runs(found, plan, model))


def _sensitivity(found: Found, plan: HybridsPlan) -> Iterator[Claim]:
    for hybrid, gan in product(WEIGHTED, GANS):
        if hybrid in plan.swept and gan in plan.swept:
            a, b = (over_settings(found, plan, model, "critic_test") for model in (hybrid, gan))
            text = (
                f"{plan.data}: {hybrid} is more sensitive to its settings than {gan} "
                "(log of the ratio of the sd of Ŵ over them)"
            )
            yield judged(text, PAPER, _log_ratio(a, b))


def _log_ratio(a: Float64[Tensor, " n"], b: Float64[Tensor, " m"]) -> Difference:
    """log(sd a / sd b); each variance is a scaled χ², with n − 1 degrees of freedom."""
    n, m = len(a), len(b)
    text = f"{n} and {m} settings"
    if min(n, m) < 2:
        return Difference(math.nan, math.nan, 1, 0, text)
    error = math.sqrt(0.5 / (n - 1) + 0.5 / (m - 1)) * student(min(n, m) - 1)
    value = (a.std() / b.std()).log().item()
    return Difference(value, error, 1, 0, f"in the logarithm of the ratio, {text}")
