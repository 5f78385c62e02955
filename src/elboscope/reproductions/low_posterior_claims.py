r"""The claims about low-posterior samples, and how each is decided.

Low samples, ordinary samples and data are different sets, so that differences of means are not
paired,

.. math:: \mathrm{se}^2 = \mathrm{se}_a^2 + \mathrm{se}_b^2

and a datapoint that is the neighbour of several samples counts once for the error. Whether the
likelihood separates low samples from data is decided by the bootstrap interval of the AUROC.
The paper orders by log q(z); the order by log q(z) − log p(z) is asked beside it.
"""

from __future__ import annotations

__all__ = ["SOURCE", "claims_of", "mean_difference", "of_separation", "of_uncovered"]

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Float64
from torch import Tensor

from .claims import Claim, Difference, Verdict, judged
from .low_posterior_plan import Experiment
from .low_posterior_values import ORDERS, WHITE, Order, Values, clustered_error

SOURCE = "Rosca et al. 2018, samples of low posterior probability, in words, arXiv 1802.06847"
CONTROL = "our control of the claim before: whatever is nearest to a smooth mean is smooth"
# The share of prior draws below all but one percent of q(z), if the prior is q(z).
COVERED = 0.01
Sign = Literal[1, -1]


def claims_of(experiment: Experiment, values: Values) -> Iterator[Claim]:
    """Yields the claims about one model, of both orders.

    Args:
        experiment: Which data set's claims are asked.
        values: Its record.
    """
    yield of_uncovered(experiment.name, values["uncovered"])
    of_data = _color_mnist if experiment.is_color_mnist else _cifar
    for order, words in ORDERS.items():
        low = f"{experiment.name}: samples lowest in {words}"
        yield from of_data(low, order, values)
        yield judged(
            f"{low} have nearest datapoints with a higher KL(q(z|x) ‖ p(z)) than data",
            SOURCE,
            mean_difference(values, f"{order}.kl.neighbours", f"{order}.kl.data"),
        )
        yield judged(
            f"{low} have nearest datapoints with a higher KL(q(z|x) ‖ p(z)) than the nearest "
            "datapoints of ordinary samples",
            CONTROL,
            mean_difference(values, f"{order}.kl.neighbours", "ordinary.kl.neighbours"),
        )


def _color_mnist(low: str, order: Order, values: Values) -> Iterator[Claim]:
    ink = mean_difference(values, f"{order}.intensity.low", "intensity.ordinary", "intensity")
    yield judged(f"{low} have thicker strokes (more ink) than ordinary samples", SOURCE, ink)
    yield of_separation(f"{low} get a lower likelihood than data", values[f"{order}.separation"], 1)
    bound = mean_difference(values, f"{order}.elbo.neighbours", f"{order}.elbo.data")
    text = f"{low} have nearest datapoints with a lower likelihood than data: ELBO"
    yield judged(text, SOURCE, bound, sign=-1)


def _cifar(low: str, order: Order, values: Values) -> Iterator[Claim]:
    share = f"share of values above {WHITE:g}"
    for quantity, words, unit in (
        ("intensity", "mean intensity", "intensity"),
        ("frame", "mean intensity of the frame", "intensity"),
        ("white", share, "of the values"),
    ):
        found = mean_difference(values, f"{order}.{quantity}.low", f"{quantity}.data", unit)
        yield judged(f"{low} have white backgrounds: {words} above that of data", SOURCE, found)
    text = f"{low} are scored higher than data"
    yield of_separation(text, values[f"{order}.separation"], -1)


def mean_difference(values: Values, a: str, b: str, unit: str = "nats") -> Difference:
    """Returns the mean of one entry minus that of another, of different images.

    Args:
        values: The record.
        a: Its entry; neighbours are clustered by datapoint.
        b: The other entry.
        unit: Of both.
    """
    error = math.hypot(_error(values, a), _error(values, b))
    mean = values[a].mean().item() - values[b].mean().item()
    return Difference(mean, error, 1, len(values[a]), unit, f"images against {len(values[b])}")


def _error(values: Values, name: str) -> float:
    if name.endswith(".neighbours"):
        return clustered_error(values[name], values[f"{name.partition('.')[0]}.index"])
    return clustered_error(values[name], torch.arange(len(values[name])))


def of_separation(text: str, separation: Float64[Tensor, "4"], sign: Sign) -> Claim:
    """Returns whether the whole interval of the AUROC lies on the published side of ½.

    Args:
        text: The claim.
        separation: AUROC, its error, and the ends of its interval.
        sign: 1 if data are said to score higher.

    Example:
        >>> import torch
        >>> of_separation("data score higher", torch.tensor([0.6, 0.05, 0.49, 0.7]).double(),
        ...               1).verdict
        'undecided'
    """
    auroc, error, low, high = separation.tolist()
    outcome: Verdict = "undecided"
    if low > 0.5 or high < 0.5:
        outcome = "reproduced" if (auroc > 0.5) == (sign > 0) else "contradicted"
    evidence = f"AUROC of the ELBO, data against low: {auroc:.3f} [{low:.3f}, {high:.3f}]"
    return Claim(text, SOURCE, outcome, evidence, auroc - 0.5, error)


def of_uncovered(name: str, share: Float64[Tensor, "2"]) -> Claim:
    """Returns whether more of the prior is uncovered than would be if it were q(z).

    The level is that of the rarest percent of draws of q(z). Where these are outliers of the data
    a pocket lies above it: a share above one percent shows pockets, none shows that there are none.

    Args:
        name: Of the experiment.
        share: The share and its error.

    Example:
        >>> import torch
        >>> of_uncovered("a model", torch.tensor([0.3, 0.02]).double()).verdict
        'reproduced'
    """
    value, error = share.tolist()
    more = Difference(value - COVERED, error, 1, 0, "of the prior draws")
    text = f"{name}: the prior has large pockets that q(z) does not cover: share above 1 %"
    claim = judged(text, SOURCE, more)
    if claim.verdict == "contradicted":
        reason = "; a small share rules out no pockets, since rare draws of q(z) set the level"
        return replace(claim, verdict="undecided", evidence=claim.evidence + reason)
    return claim
