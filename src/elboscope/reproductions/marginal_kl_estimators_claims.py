"""What Rosca et al. say of the estimators, judged on the estimates of one VAE."""

from __future__ import annotations

__all__ = ["Found", "best_mixture", "claims_of"]

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch

from .claims import Claim, Difference, difference, judged
from .marginal_kl_parts import Estimated

PAPER = "Rosca et al. 2018, arXiv 1802.06847"
HELD_OUT = "held-out images"
NOISE = "activation noise"
Found = Mapping[str, Estimated]


def best_mixture(found: Found) -> str:
    """Returns the name of the mixture of Gaussians that the choosing part likes best.

    Example:
        >>> found = {f"gmm {K}": Estimated(0.0, 0.0, "lower", (), float(K)) for K in (10, 100)}
        >>> best_mixture(found)
        'gmm 100'
    """
    return max((n for n in found if n.startswith("gmm")), key=lambda n: found[n].score)


def claims_of(found: Found) -> Iterator[Claim]:
    """Yields the verdicts.

    Args:
        found: Estimates by name.
    """
    plain = [n for n in found if n.startswith("ratio") and NOISE not in n]
    largest = max(plain, key=lambda n: found[n].mean)
    gaussians = best_mixture(found)
    densities = {gaussians: "mixture of Gaussians", "maf": "flow", "lstm": "LSTM"}
    best = max(densities, key=lambda n: found[n].mean)
    yield judged(
        "classifiers without noise underestimate the marginal KL: the largest of theirs is below "
        "the mixture of all posteriors",
        f"{PAPER}, Fig. 4",
        _unpaired(found["mixture"], found[largest]),
    )
    yield judged(
        "the same against the best lower bound, which no finite mixture inflates: "
        f"{densities[best]} − classifier",
        f"{PAPER}, Fig. 4",
        _paired(found[best], found[largest]),
    )
    yield from _explosions(found)
    yield judged(
        "every density model stays short of the mixture of all posteriors; the best of them: "
        f"{densities[best]}",
        f"{PAPER}, Fig. 21",
        _unpaired(found["mixture"], found[best]),
    )
    for name in ("maf", "lstm"):
        text = f"the {densities[name]} comes nearer than the best mixture of Gaussians"
        claim = judged(text, f"{PAPER}, Fig. 21", _paired(found[name], found[gaussians]))
        yield claim if found[name].settled else _not_refuted(claim, "it was still improving")


def _explosions(found: Found) -> Iterator[Claim]:
    """Beyond the average KL, which no KL(q_N‖p) exceeds, an estimate is absurd."""
    for name, estimate in found.items():
        if name.startswith("ratio") and NOISE in name:
            label = name.removeprefix("ratio, ")
            text = f"{label}: the estimate explodes, beyond the average KL, which no KL(q_N‖p) can"
            claim = judged(text, PAPER, _unpaired(estimate, found["average KL"]))
            yield _not_refuted(claim, "the published noise and steps are not at hand")


def _not_refuted(claim: Claim, reason: str) -> Claim:
    """What was not done as published, or not to its end, can confirm a claim and not refute it."""
    if claim.verdict != "contradicted":
        return claim
    return replace(claim, verdict="undecided", evidence=f"{claim.evidence}; {reason}")


def _paired(a: Estimated, b: Estimated) -> Difference:
    """Of the same held-out datapoints."""
    one, other = (torch.tensor([e.values], dtype=torch.float64) for e in (a, b))
    return difference(one, other, data=HELD_OUT)


def _unpaired(a: Estimated, b: Estimated) -> Difference:
    """Of all datapoints against those held out: their errors add, as if independent."""
    return Difference(a.mean - b.mean, math.hypot(a.error, b.error), 1, 0)
