r"""Rosca et al. (2018): prior draws to which q(z) gives the lowest density, and what they become.

.. math:: z_s \sim p(z), \qquad \log q_N(z_s) = \log \frac1N \sum_n q(z_s | x_n)

Of S draws the n lowest are decoded (algorithm 1), and set beside ordinary samples, data, and
their nearest datapoints: pixels, KL, ELBO, a map of the latents. A decoder has seen draws of
q(z) alone; where q(z) hardly goes it answers something, and the likelihood may take that for
data. The order by log q(z) is the paper's; it prefers far-out draws, which are rare under the
prior too, so the order by log q(z) − log p(z) stands beside it.
"""

from __future__ import annotations

__all__ = [
    "EXPERIMENT",
    "SOURCE",
    "claims_of",
    "mean_difference",
    "of_separation",
    "of_uncovered",
]

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Float64
from matplotlib.figure import Figure
from torch import Tensor

from elboscope.plots.low_posterior import plot_low_posterior

from ..frame.claims import Claim, Difference, Verdict, judge
from ..frame.experiment import Experiment, Request, Run, Sets
from ..frame.result import Row, Scale
from ..frame.training import file_name
from .low_posterior_values import (
    CPU,
    ORDERS,
    PAPER,
    SMOKE,
    WHITE,
    LowPlan,
    Order,
    Pictures,
    Subject,
    Values,
    clustered_error,
    figure_data,
    load_pictures,
    measure,
)

NAME = "low-posterior-samples"
Found = Mapping[Subject, Values]
BOOTSTRAPPED = "bootstrap"
OF_IMAGES = "se over images; neighbours clustered by datapoint"


ThisRun = Run[LowPlan, Sets[Pictures]]


def _load(request: Request[LowPlan]) -> Sets[Pictures]:
    plan, options = request.plan, request.options
    names = dict.fromkeys(subject.data for subject in plan.subjects)
    return Sets({name: load_pictures(name, plan.num_images, options) for name in names})


def _run(run: ThisRun) -> Found:
    return {
        subject: measure(subject, run.data[subject.data], run.plan, run.seed, run.now, run.device)
        for subject in run.plan.subjects
    }


def _provenance(run: ThisRun, found: Found) -> Mapping[str, object]:
    data = {n: {"num_images": len(p.bytes), "sha256": p.checksum} for n, p in run.data.items()}
    return run.provenance(epochs=None, data=data, settings=run.plan.record())


def _rows(run: ThisRun, found: Found) -> Iterator[Row]:
    for subject, values in found.items():
        yield from _rows_of(subject, values, run.plan)


def _rows_of(subject: Subject, values: Values, plan: LowPlan) -> Iterator[Row]:
    name, epochs = subject.name, subject.epochs
    share, error = values["uncovered"].tolist()
    yield Row(name, "uncovered share of the prior", share, error, BOOTSTRAPPED, epochs,
              num_data=plan.num_images, unit="1 %: q(z) = p(z)")  # fmt: skip
    for which in ("data", "ordinary"):
        yield from _pixel_rows(f"{name}, {which}", values, "", which, epochs)
        for quantity, words in (("kl", "KL(q(z|x) ‖ p(z))"), ("elbo", "ELBO")):
            yield _mean(f"{name}, {which}", words, values, f"density.{quantity}.{which}", epochs,
                        num_samples=plan.num_samples if quantity == "elbo" else None)  # fmt: skip
    for quantity, words in (
        ("kl", "KL(q(z|x) ‖ p(z)) of their neighbours"),
        ("elbo", "ELBO of their neighbours"),
    ):
        yield _mean(f"{name}, ordinary", words, values, f"ordinary.{quantity}.neighbours", epochs,
                    num_samples=plan.num_samples if quantity == "elbo" else None)  # fmt: skip
    for order in ORDERS:
        yield from _rows_of_order(subject, order, values, plan)


def _rows_of_order(subject: Subject, order: Order, values: Values, plan: LowPlan) -> Iterator[Row]:
    epochs, K = subject.epochs, plan.num_samples
    place = f"{subject.name}, lowest in {ORDERS[order]}"
    for name in ("log_q", "log_p"):
        yield _mean(place, f"{name.replace('_', ' ')}(z)", values, f"{order}.{name}", epochs)
    yield from _pixel_rows(place, values, f"{order}.", "low", epochs)
    for which, words in (("low", "of the samples"), ("neighbours", "of their neighbours")):
        kl, bound = (f"{order}.{quantity}.{which}" for quantity in ("kl", "elbo"))
        yield _mean(place, f"KL(q(z|x) ‖ p(z)) {words}", values, kl, epochs)
        yield _mean(place, f"ELBO {words}", values, bound, epochs, num_samples=K)
    for key, words in (
        ("separation", "AUROC of the ELBO, data against the samples"),
        ("separation_of_neighbours", "AUROC of the ELBO, data against their neighbours"),
        ("separation_of_ordinary", "AUROC of the ELBO, data against ordinary samples"),
    ):
        auroc, error, *_ = values[f"{order}.{key}"].tolist()
        n = len(values[f"{order}.elbo.low"])
        yield Row(place, words, auroc, error, BOOTSTRAPPED, epochs, K, n, unit="½: blind")


def _pixel_rows(place: str, values: Values, prefix: str, which: str, epochs: int) -> Iterator[Row]:
    for quantity, words in (
        ("intensity", "mean intensity"),
        ("frame", "mean intensity of the frame"),
        ("white", f"share of values above {WHITE:g}"),
    ):
        yield _mean(place, words, values, f"{prefix}{quantity}.{which}", epochs, "units")


def _mean(
    place: str,
    quantity: str,
    values: Values,
    name: str,
    epochs: int,
    unit: str = "nats",
    num_samples: int | None = None,
) -> Row:
    v = values[name]
    clustered = name.endswith(".neighbours")
    index = values[f"{name.partition('.')[0]}.index"] if clustered else torch.arange(len(v))
    return Row(place, quantity, v.mean().item(), clustered_error(v, index), OF_IMAGES, epochs,
               num_samples, len(v), unit=unit)  # fmt: skip


def _notes(plan: LowPlan, scale: Scale) -> tuple[str, ...]:
    fewer = (
        ()
        if scale == "paper"
        else ("Narrower networks, fewer images and fewer steps than the paper's: compare signs.",)
    )
    return (
        f"S = {plan.num_prior} prior draws against all N posteriors, in float64; the "
        f"{plan.num_low} lowest of each order are kept. S, n and the latent size of the paper are "
        "unavailable.",
        "Bernoulli: binary images, drawn afresh in each minibatch; every KL, ELBO and q(z) uses "
        "one draw, seed 0. QuantizedNormal: the 256 levels as they are.",
        "Samples are draws of p(x|z) where they are scored, and means of p(x|z) where pixels are "
        "measured. A mean is smooth: it has fewer values near 1 than data, which works against "
        "the claim about white.",
        "Neighbours are nearest to the mean, in grey pixels. Those of ordinary samples stand "
        "beside them, since what is nearest to a smooth image is smooth. The frame is an eighth of "
        "the side.",
        "The likelihood of the paper's figures on CIFAR-10 is unknown: both are shown.",
        "The lowest samples are compared with data that the model was trained on. What the ELBO "
        "says of ordinary samples stands beside it: so much is due to being a sample at all.",
        "The uncovered share is that of prior draws with a lower log q(z) − log p(z) than 99 % of "
        "draws of q(z), both under the posteriors of the other half of the data.",
        "Figures: samples lowest in log q(z).",
        "One seed: errors hold for these models and say nothing of another run.",
        *fewer,
    )


# The claims about low-posterior samples, and how each is decided.
#
# Low samples, ordinary samples and data are different sets, so that differences of means are not
# paired,
#
# .. math:: \mathrm{se}^2 = \mathrm{se}_a^2 + \mathrm{se}_b^2
#
# and a datapoint that is the neighbour of several samples counts once for the error. Whether the
# likelihood separates low samples from data is decided by the bootstrap interval of the AUROC.
# The paper orders by log q(z); the order by log q(z) − log p(z) is asked beside it.

SOURCE = "Rosca et al. 2018, samples of low posterior probability, in words, arXiv 1802.06847"
CONTROL = "our control of the claim before: whatever is nearest to a smooth mean is smooth"
# The share of prior draws below all but one percent of q(z), if the prior is q(z).
COVERED = 0.01
Sign = Literal[1, -1]


def claims_of(subject: Subject, values: Values) -> Iterator[Claim]:
    """Yields the claims about one model, of both orders.

    Args:
        experiment: Which data set's claims are asked.
        values: Its record.
    """
    yield of_uncovered(subject.name, values["uncovered"])
    of_data = _color_mnist if subject.is_color_mnist else _cifar
    for order, words in ORDERS.items():
        low = f"{subject.name}: samples lowest in {words}"
        yield from of_data(low, order, values)
        yield judge(
            f"{low} have nearest datapoints with a higher KL(q(z|x) ‖ p(z)) than data",
            SOURCE,
            mean_difference(values, f"{order}.kl.neighbours", f"{order}.kl.data"),
        )
        yield judge(
            f"{low} have nearest datapoints with a higher KL(q(z|x) ‖ p(z)) than the nearest "
            "datapoints of ordinary samples",
            CONTROL,
            mean_difference(values, f"{order}.kl.neighbours", "ordinary.kl.neighbours"),
        )


def _color_mnist(low: str, order: Order, values: Values) -> Iterator[Claim]:
    ink = mean_difference(values, f"{order}.intensity.low", "intensity.ordinary", "intensity")
    yield judge(f"{low} have thicker strokes (more ink) than ordinary samples", SOURCE, ink)
    yield of_separation(f"{low} get a lower likelihood than data", values[f"{order}.separation"], 1)
    bound = mean_difference(values, f"{order}.elbo.neighbours", f"{order}.elbo.data")
    text = f"{low} have nearest datapoints with a lower likelihood than data: ELBO"
    yield judge(text, SOURCE, bound, sign=-1)


def _cifar(low: str, order: Order, values: Values) -> Iterator[Claim]:
    share = f"share of values above {WHITE:g}"
    for quantity, words, unit in (
        ("intensity", "mean intensity", "intensity"),
        ("frame", "mean intensity of the frame", "intensity"),
        ("white", share, "of the values"),
    ):
        found = mean_difference(values, f"{order}.{quantity}.low", f"{quantity}.data", unit)
        yield judge(f"{low} have white backgrounds: {words} above that of data", SOURCE, found)
    text = f"{low} are scored higher than data"
    yield of_separation(text, values[f"{order}.separation"], -1)


def mean_difference(values: Values, a: str, b: str, unit: str = "nats") -> Difference:
    """Returns the mean of one entry minus that of another, of different images.

    Args:
        values: The record.
        a: Its entry; neighbours are clustered by datapoint.
        b: The other entry.
        unit: The unit of both values.
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
        name: Name of the subject.
        share: The share and its error.

    Example:
        >>> import torch
        >>> of_uncovered("a model", torch.tensor([0.3, 0.02]).double()).verdict
        'reproduced'
    """
    value, error = share.tolist()
    more = Difference(value - COVERED, error, 1, 0, "of the prior draws")
    text = f"{name}: the prior has large pockets that q(z) does not cover: share above 1 %"
    claim = judge(text, SOURCE, more)
    if claim.verdict == "contradicted":
        reason = "; a small share rules out no pockets, since rare draws of q(z) set the level"
        return replace(claim, verdict="undecided", evidence=claim.evidence + reason)
    return claim


def _claims(run: ThisRun, found: Found) -> Iterator[Claim]:
    for subject, values in found.items():
        yield from claims_of(subject, values)


def _figures(run: ThisRun, found: Found) -> Mapping[str, Figure]:
    return {
        file_name(subject.name).lower(): plot_low_posterior(figure_data(values))
        for subject, values in found.items()
    }


EXPERIMENT = Experiment(
    name=NAME,
    title="Distribution Matching in Variational Inference: samples of low posterior probability",
    plans={"smoke": SMOKE, "cpu": CPU, "paper": PAPER},
    load=_load,
    run=_run,
    provenance=_provenance,
    rows=_rows,
    claims=_claims,
    notes=lambda run, found: _notes(run.plan, run.scale),
    figures=_figures,
)
