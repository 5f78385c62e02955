r"""Sparse or dense: what Rosca et al. say of VAEs and AAEs with many latents, judged.

Two models of the same images and the same number of latents are compared in pairs, image by
image. Words that are no difference of two models have a threshold of ours, printed with the claim:
"collapsed" is a mean σ below 0.1, "dense" is nine tenths of the units active, and latents are
"ignored" where of ten further ones less than one becomes active.
"""

from __future__ import annotations

__all__ = ["claims_of"]

import math
from collections.abc import Iterator, Mapping
from itertools import pairwise

import torch
from torch import Tensor

from .claims import Claim, Difference, difference, judged
from .latent_scaling_plan import Subject
from .latent_scaling_values import Codes

WORDS = "Rosca et al. 2018, §4.2 and app. B, in words, arXiv 1802.06847"
COLLAPSED, DENSE, IGNORED = 0.1, 0.9, 0.1
IMAGES = "training images"
Found = Mapping[Subject, Codes]


def claims_of(found: Found) -> Iterator[Claim]:
    """Yields the claims about the models of one data set."""
    sizes = sorted({subject.latents for subject in found})
    data = next(iter(found)).data
    vae = {d: found[Subject(data, "VAE", d)] for d in sizes}
    aae = {d: found[Subject(data, "AAE", d)] for d in sizes}
    for d in sizes[1:]:
        yield from _pairs(f"{data}, {d} latents", vae[d], aae[d], d)
    for a, b in pairwise(sizes):
        text = (
            f"{data}: a VAE ignores latents beyond {a}: of those up to {b}, fewer than "
            f"{IGNORED:g} of each become active"
        )
        more = Difference(vae[b].active - vae[a].active, _both(vae[a], vae[b]), 1, _images(vae[a]))
        left = IGNORED * (b - a) - more.value
        yield judged(text, WORDS, more._replace(value=left, unit="units to spare", data=IMAGES))
    few, many = sizes[0], sizes[-1]
    yield judged(
        f"{data}: a VAE scales: its ELBO with {many} latents is not below that with {few}",
        WORDS,
        _paired(_elbo(vae[many]), _elbo(vae[few])),
    )
    for subject, codes in found.items():
        if subject.kind == "AAE" and subject.latents == many:
            base = found[subject._replace(latents=few)]
            wider = "even with a wider discriminator, " if subject.wide else ""
            yield judged(
                f"{data}: {wider}an AAE struggles: KL(q_N‖p) is larger with {many} latents than "
                f"with {few}",
                WORDS,
                _paired(codes.marginal, base.marginal),
            )


def _pairs(place: str, vae: Codes, aae: Codes, d: int) -> Iterator[Claim]:
    yield judged(
        f"{place}: an AAE's posterior means spread wider than a VAE's, which are concentrated "
        "at 0 (mean square)",
        WORDS,
        _paired(aae.spread, vae.spread)._replace(unit="z²"),
    )
    yield judged(
        f"{place}: an AAE's posteriors are narrower than a VAE's (mean std)",
        WORDS,
        _paired(vae.std, aae.std)._replace(unit="z"),
    )
    yield judged(
        f"{place}: an AAE's posterior std collapses to 0 (its mean is below {COLLAPSED:g})",
        WORDS,
        _paired(torch.full_like(aae.std, COLLAPSED), aae.std)._replace(unit="z below that"),
    )
    share = Difference(
        (aae.active - vae.active) / d, _both(aae, vae) / d, 1, _images(vae), "of d", IMAGES
    )
    yield judged(f"{place}: an AAE uses more of them than a VAE (active units)", WORDS, share)
    number = Difference(
        (aae.effective - vae.effective) / d,
        math.hypot(aae.effective_error.item(), vae.effective_error.item()) / d,
        1,
        _images(vae),
        "of d",
        IMAGES,
    )
    text = f"{place}: an AAE spreads its KL over more of them than a VAE (effective number)"
    yield judged(text, WORDS, number)
    dense = share._replace(value=aae.active / d - DENSE, error=aae.active_error.item() / d)
    text = f"{place}: an AAE's codes are dense (more than {DENSE:.0%} of the units active)"
    yield judged(text, WORDS, dense._replace(unit="of d above that"))
    yield judged(
        f"{place}: an AAE's codes match the prior less than a VAE's (KL(q_N‖p))",
        WORDS,
        _paired(aae.marginal, vae.marginal),
    )


def _paired(a: Tensor, b: Tensor) -> Difference:
    return difference(a[None], b[None], data=IMAGES)


def _elbo(codes: Codes) -> Tensor:
    return codes.reconstruction - codes.kl


def _both(a: Codes, b: Codes) -> float:
    return math.hypot(a.active_error.item(), b.active_error.item())


def _images(codes: Codes) -> int:
    return len(codes.kl)
