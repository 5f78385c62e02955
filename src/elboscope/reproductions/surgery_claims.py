r"""What is said of the parts of the ELBO, and how it is decided.

Parts of one model share their draws, and the larger error of the two is the smaller part of what
other data would change; differences of parts, and of two models on the same images, are judged as
if their errors were independent, which is on the safe side where these are alike. The papers say
it in words: "close to log N" is taken as within half a nat of it, where q_N says nothing about the
population any more; "a large part" as more than a tenth.
"""

from __future__ import annotations

__all__ = ["NEAR", "PART", "claims_of", "claims_of_many", "claims_of_priors"]

import math
from collections.abc import Iterator, Mapping

from torch import Tensor

from elboscope.estimators.fitted_prior import PriorDensity

from .claims import Claim, Difference, difference, judged
from .surgery_values import FAMILIES, Parts

SURGERY = "Hoffman and Johnson 2016, ELBO surgery, in words"
TWO_STAGE = "Ghosh et al. 2020, ex-post density estimation, in words, arXiv 1903.12436"
VAMP = "Tomczak and Welling 2018, VampPrior, in words, arXiv 1705.07120"
NEAR = 0.5
PART = 0.1


def claims_of_many(name: str, parts: Parts, log_n: float) -> Iterator[Claim]:
    """Yields the claims about the model with the most latents, as far as q_N goes.

    Args:
        name: Of the model.
        parts: At the end of its training.
        log_n: The ceiling of the information.
    """
    information, marginal, kl = (parts[k] for k in ("information", "marginal_kl", "kl"))
    near = Difference(information[0].item() - log_n + NEAR, information[1].item(), 1, 0)
    yield judged(
        f"{name}: the information I(n; z) is close to log N = {log_n:.2f} (within {NEAR:g} nats)",
        SURGERY,
        near,
    )
    yield judged(
        f"{name}: the marginal KL is a large part of the average KL (above {PART:.0%})",
        SURGERY,
        _minus(marginal, kl, PART),
    )


def claims_of(name: str, parts: Parts) -> Iterator[Claim]:
    """Yields the claims about any model with a standard normal prior.

    Args:
        name: Of the model.
        parts: At the end of its training.
    """
    if "held_out" in parts:
        yield judged(
            f"{name}: q(z) is not the prior, for the population either: held-out bound above 0",
            SURGERY,
            _minus(parts["held_out"], parts["held_out"], 0.0),
        )
    for family, words in FAMILIES.items():
        yield from _fitted(name, words, family, parts)


def _fitted(name: str, words: str, family: PriorDensity, parts: Parts) -> Iterator[Claim]:
    if f"gain.{family}" not in parts:
        return
    gain = parts[f"gain.{family}"]
    yield judged(
        f"{name}: a {words} fitted to q(z) in the place of the prior improves the held-out bound",
        TWO_STAGE,
        _minus(gain, gain, 0.0),
    )
    yield judged(
        f"{name}: what the {words} gains is less than the marginal KL",
        SURGERY,
        _minus(parts["marginal_kl"], gain, 1.0),
    )


def claims_of_priors(found: Mapping[str, Parts], plain: str) -> Iterator[Claim]:
    """Yields the claims about models trained with another prior.

    Args:
        found: Parts of each model, with the same latents.
        plain: The one with the standard normal.
    """
    for name, parts in found.items():
        if name == plain:
            continue
        yield judged(
            f"{name}: a smaller marginal KL than with the standard normal",
            SURGERY,
            _minus(found[plain]["marginal_kl"], parts["marginal_kl"], 1.0),
        )
        better = difference(parts["test"][None], found[plain]["test"][None])
        yield judged(f"{name}: a higher test bound than with the standard normal", VAMP, better)


def _minus(a: Tensor, b: Tensor, weight: float) -> Difference:
    """a − weight · b, with independent errors."""
    error = math.hypot(a[1].item(), weight * b[1].item())
    return Difference(a[0].item() - weight * b[0].item(), error, 1, 0)
