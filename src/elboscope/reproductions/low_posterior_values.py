r"""What is measured of the low-posterior samples of one model, as a flat record of tensors.

The five analyses are those of :func:`elboscope.examine_low_samples`. Two of them are of *grey*
images, also where the likelihood takes binary ones: pixel values, and the nearest neighbours,
since the distance to a binary draw is dominated by its noise and prefers images without any. The
KL and the ELBO of a neighbour are of its binary draw.

A record is kept as a file of the sitting, so that tables and figures are made of it alone.
"""

from __future__ import annotations

__all__ = ["ORDERS", "PANEL_ROWS", "WHITE", "Values", "clustered_error", "figure_data", "measured"]

import math
from collections.abc import Iterator, Mapping
from typing import Literal

import torch
from jaxtyping import Float, Float64, Int64
from safetensors import safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from elboscope.core import LatentVariableModel, evaluating, seeded
from elboscope.estimators import (
    LowSampleAnalysis,
    auroc,
    evidence_lower_bound,
    examine_low_samples,
    low_posterior_samples,
)
from elboscope.estimators.low_posterior import REFERENCE_QUANTILE, LowPosteriorSamples
from elboscope.estimators.low_posterior_analysis import NUM_BINS, nearest_in_pixels
from elboscope.plots.images import ImageRange, as_images
from elboscope.plots.low_posterior import NUM_SHOWN, LowPosteriorPlot

from .low_posterior_plan import Experiment, LowPlan, Pictures, trained, untrained
from .sitting import Sitting
from .training import derived_seed, file_name

Order = Literal["density", "ratio"]
ORDERS: Mapping[Order, str] = {"density": "log q(z)", "ratio": "log q(z) − log p(z)"}
PANEL_ROWS = ("low q(z)", "nearest data", "ordinary")
# Values above it are white.
WHITE = 0.9
BOOTSTRAP = 1000
NONE_SEEN = 1.5
UNIT = ImageRange(0.0, 1.0)

Values = Mapping[str, Tensor]
"""By dotted names: ``density.elbo.low`` holds the ELBO of the samples lowest in log q(z)."""


def measured(
    experiment: Experiment,
    images: Pictures,
    plan: LowPlan,
    seed: int,
    now: Sitting,
    device: torch.device,
) -> Values:
    """Returns the record of a model after its training; that of a sitting before is only read.

    Raises:
        Unfinished: The slice of time ended before it.
    """
    name = file_name(experiment.name)
    path = now.folder / f"{name}-values.safetensors"
    if not path.is_file():
        with seeded(derived_seed(experiment.name, seed)):
            model = untrained(experiment, plan, images).to(device)
        trained(experiment, model, images, plan, seed, now, device)
        now.pause_before(f"the low-posterior samples of {experiment.name}", f"{name}-trained")
        now.say(f"{experiment.name}: prior draws against all posteriors", 0, 1)
        used = derived_seed(f"evaluation of {experiment.name}", seed)
        values = dict(_values(experiment, model, images, plan, used, device))
        now.keep(path.name, to_bytes({k: v.cpu().contiguous() for k, v in values.items()}))
    with safe_open(path, framework="pt") as kept:
        return {name: kept.get_tensor(name) for name in kept.keys()}  # noqa: SIM118


def _values(
    experiment: Experiment,
    model: LatentVariableModel,
    images: Pictures,
    plan: LowPlan,
    seed: int,
    device: torch.device,
) -> Iterator[tuple[str, Tensor]]:
    grey = images.grey
    x = experiment.binarisation.fixed_draw(grey).to(device)
    samples = low_posterior_samples(model, x, plan.num_low, num_prior=plan.num_prior, seed=seed)
    yield "log_ratio", samples.log_q - samples.log_p
    yield "uncovered", uncovered(samples.reference, samples.prior_reference, seed=seed)
    yield from _of_pixels("data", grey)
    yield from _of_pixels("ordinary", samples.ordinary.mean)
    for name, value in _neighbours(model, x, grey, samples.ordinary.mean, plan, seed):
        yield f"ordinary.{name}", value
    for order in ORDERS:
        for name, value in _of_order(order, model, x, grey, samples, plan, seed):
            yield f"{order}.{name}", value


def _of_order(
    order: Order,
    model: LatentVariableModel,
    x: Tensor,
    grey: Tensor,
    samples: LowPosteriorSamples,
    plan: LowPlan,
    seed: int,
) -> Iterator[tuple[str, Tensor]]:
    found = examine_low_samples(
        model, x, samples, by=order, num_data=plan.num_data, num_samples=plan.num_samples,
        num_embedded=plan.num_embedded if order == "density" else 0, seed=seed,
    )  # fmt: skip
    near = dict(_neighbours(model, x, grey, found.low.mean, plan, seed))
    index, scores = near["index"], near["elbo.neighbours"]
    yield "log_q", found.low.log_q
    yield "log_p", found.low.log_p
    for quantity, entries in (("kl", found.kl), ("elbo", found.elbo)):
        for name, value in entries.items():
            yield f"{quantity}.{name}", value
    yield from near.items()  # those of grey images replace those of binary ones
    yield "separation", torch.tensor(found.separation).double()
    others = {"neighbours": scores, "ordinary": found.elbo["ordinary"]}
    for name, value in others.items():
        apart = auroc(found.elbo["data"].cpu(), value.cpu(), seed=seed)
        yield f"separation_of_{name}", torch.tensor(apart).double()
    yield from _of_pixels("low", found.low.mean)
    yield from _of_pixels("neighbours", grey[index])
    yield from _of_pictures(found, grey[index])


def _neighbours(
    model: LatentVariableModel, x: Tensor, grey: Tensor, some: Tensor, plan: LowPlan, seed: int
) -> Iterator[tuple[str, Tensor]]:
    """The datapoints whose grey images are nearest to some, and their KL and ELBO."""
    index = nearest_in_pixels(some.cpu(), grey)[0]
    neighbours = x[index.to(x.device)]
    bound = evidence_lower_bound(model, neighbours, plan.num_samples, seed=seed)
    with evaluating(model):
        kl = torch.distributions.kl_divergence(model.encode(neighbours), model.prior())
    yield "index", index
    yield "kl.neighbours", kl.double()
    yield "elbo.neighbours", bound.values.double()


def _of_pixels(name: str, some: Float[Tensor, "n 3 H W"]) -> Iterator[tuple[str, Tensor]]:
    """Per image its mean and its share of white values, of the whole and of the frame; counts."""
    some = some.cpu()
    frame = torch.ones(some.shape[2:], dtype=torch.bool)
    edge = max(1, some.shape[-1] // 8)
    frame[edge:-edge, edge:-edge] = False
    yield f"intensity.{name}", some.flatten(1).mean(1).double()
    yield f"frame.{name}", some[..., frame].flatten(1).mean(1).double()
    yield f"white.{name}", (some > WHITE).flatten(1).double().mean(1)
    yield f"pixels.{name}", torch.histc(some, NUM_BINS, 0.0, 1.0).double()


def _of_pictures(
    found: LowSampleAnalysis, neighbours: Float[Tensor, "n 3 H W"]
) -> Iterator[tuple[str, Tensor]]:
    rows = (found.low.mean, neighbours, found.samples.ordinary.mean)
    for name, some in zip(PANEL_ROWS, rows, strict=True):
        pictures = as_images(some[:NUM_SHOWN], UNIT)
        if pictures is not None:
            yield f"gallery.{name}", torch.from_numpy(pictures)
    for name, points in found.embedding.items():
        yield f"embedding.{name}", points


def uncovered(
    reference: Float64[Tensor, " R"], prior: Float64[Tensor, " P"], *, seed: int
) -> Float64[Tensor, "2"]:
    """Returns the share of prior draws below 99 % of the draws of q(z), and its bootstrap error.

    Both sets are drawn again, so that the error of the quantile is in it. A share of 0 or 1 looks
    exact to a bootstrap: the error is at least 1.5 draws, half of the 95 % limit of none among n.

    Example:
        >>> share, error = uncovered(torch.linspace(0, 1, 200).double(),
        ...                          torch.linspace(-1, 1, 200).double(), seed=0)
        >>> share.item(), 0.02 < error.item() < 0.05
        (0.505, True)
    """

    def share(one: Tensor, other: Tensor) -> Tensor:
        return (other < one.quantile(REFERENCE_QUANTILE)).double().mean()

    one, other = reference.cpu(), prior.cpu()
    with seeded(seed):
        again = [share(_resampled(one), _resampled(other)) for _ in range(BOOTSTRAP)]
    error = torch.stack(again).std().clamp(min=NONE_SEEN / len(other))
    return torch.stack([share(one, other), error])


def _resampled(values: Tensor) -> Tensor:
    return values[torch.randint(len(values), (len(values),))]


def clustered_error(values: Float64[Tensor, " n"], index: Int64[Tensor, " n"]) -> float:
    r"""Returns the standard error of a mean in which one datapoint can occur several times.

    .. math:: \frac1n \sqrt{\textstyle\sum_c \bigl(\sum_{i \in c} (v_i - \bar v)\bigr)^2
              \cdot \frac{C}{C - 1}}

    Args:
        values: Of each neighbour.
        index: Which datapoint it is; C of them are different.

    Example:
        >>> v = torch.tensor([1.0, 1.0, 3.0, 3.0]).double()
        >>> round(clustered_error(v, torch.arange(4)), 3)
        0.577
        >>> clustered_error(v, torch.tensor([0, 0, 1, 1]))
        1.0
    """
    _, cluster = index.unique(return_inverse=True)
    count = int(cluster.max()) + 1
    if count < 2:
        return math.nan
    sums = torch.zeros(count, dtype=torch.float64)
    sums.index_add_(0, cluster, values - values.mean())
    return math.sqrt(sums.square().sum().item() * count / (count - 1)) / len(values)


def figure_data(values: Values, order: Order = "density") -> LowPosteriorPlot:
    """Returns what :func:`~elboscope.plots.low_posterior.plot_low_posterior` draws of a record."""
    mine = {**_named(values, "pixels."), **_named(values, f"{order}.pixels.")}
    low, high = values[f"{order}.separation"][2:].tolist()
    return LowPosteriorPlot(
        {name: v.numpy() for name, v in _named(values, f"{order}.gallery.").items()} or None,
        {name: (counts / counts.sum()).numpy() for name, counts in mine.items()},
        torch.linspace(0, 1, NUM_BINS + 1, dtype=torch.float64).numpy(),
        {name: v.numpy() for name, v in _named(values, f"{order}.kl.").items()},
        {name: v.numpy() for name, v in _named(values, f"{order}.elbo.").items()},
        f"AUROC {values[f'{order}.separation'][0]:.3f} [{low:.3f}, {high:.3f}]",
        {name: v.numpy() for name, v in _named(values, f"{order}.embedding.").items()},
        "t-SNE",
    )


def _named(values: Values, prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in values.items() if k.startswith(prefix)}
