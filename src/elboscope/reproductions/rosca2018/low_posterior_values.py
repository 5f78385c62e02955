r"""The models of ``low-posterior-samples``: plans, training, and all that is measured of one.

Training is that of Rosca et al.: Adam with β = (0.5, 0.9), a fixed rate, minibatches of 64,
100 000 steps on ColorMNIST and 200 000 on CIFAR-10. A Bernoulli likelihood is a distribution over
binary images: each minibatch is drawn afresh from the grey values, and every likelihood is of one
draw of them, fixed by seed 0. QuantizedNormal takes the 256 levels as they are.

The file is long because it holds the models and every value: the table is in another.
"""

from __future__ import annotations

__all__ = [
    "CPU",
    "ORDERS",
    "PANEL_ROWS",
    "PAPER",
    "SMOKE",
    "WHITE",
    "LowPlan",
    "Pictures",
    "Subject",
    "Values",
    "clustered_error",
    "figure_data",
    "load_pictures",
    "measure",
    "new_model",
    "train_model",
]

import math
from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass, replace
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Float64, Int64, UInt8
from safetensors import safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from elboscope.core import InputError, LatentVariableModel, evaluating, seeded
from elboscope.data import Binarisation, cifar10, color_digits, color_mnist
from elboscope.data.color_mnist import NUM_TRAIN
from elboscope.data.images import content_checksum
from elboscope.estimators import (
    LowSampleAnalysis,
    auroc,
    evidence_lower_bound,
    examine_low_samples,
    low_posterior_samples,
)
from elboscope.estimators.latents.low_posterior import REFERENCE_QUANTILE, LowPosteriorSamples
from elboscope.estimators.latents.low_posterior_analysis import NUM_BINS, nearest_in_pixels
from elboscope.models import VAE, start_at_mean
from elboscope.plots.low_posterior import NUM_SHOWN, LowPosteriorPlot
from elboscope.plots.samples import ImageRange, as_images
from elboscope.training import ELBO
from elboscope.training.slices import train_in_slices

from ..frame.sitting import Options, Sitting
from ..frame.training import derived_seed, file_name
from .networks import color_mnist_vae, dcgan_vae

Likelihood = Literal["bernoulli", "quantized_normal"]
SMOKE_SIDE = 32
BATCH_SIZE = 64
BETAS = (0.5, 0.9)
EPS = 1e-8
LEVELS = 255


class Subject(NamedTuple):
    """One data set with its likelihood.

    Attributes:
        name: The name in the tables.
        data: "ColorMNIST" or "CIFAR-10", or what stands for it at the smoke scale.
        likelihood: p(x|z).
        epochs: Passes over the images.
        maps: Channels of the convolutions; more for CIFAR-10.
    """

    name: str
    data: str
    likelihood: Likelihood
    epochs: int
    maps: tuple[int, ...]

    @property
    def is_color_mnist(self) -> bool:
        """Whether the paper's claims are those of ColorMNIST."""
        return self.name.startswith("ColorMNIST")

    @property
    def binarisation(self) -> Binarisation:
        """What makes images data of this likelihood."""
        return Binarisation("dynamic" if self.likelihood == "bernoulli" else "none", seed=0)


@dataclass(frozen=True, kw_only=True)
class LowPlan:
    """What a scale means.

    Attributes:
        subjects: Data sets.
        num_images: N, trained on and mixed into q_N; all if None.
        num_prior: S.
        num_low: n, samples of each kind.
        num_data: Datapoints of the histograms.
        num_samples: K of every ELBO.
        num_embedded: Prior and posterior draws on the map.
        latent_dim: d.
        rate: Adam's.
    """

    subjects: tuple[Subject, ...]
    num_images: int | None
    num_prior: int
    num_low: int = 100
    num_data: int = 500
    num_samples: int = 100
    num_embedded: int = 1000
    latent_dim: int = 50
    rate: float = 3e-4

    def record(self) -> dict[str, object]:
        """Returns what is saved beside a number."""
        own = ("num_images", "num_prior", "num_low", "num_data", "num_samples", "latent_dim")
        training = {"rate": self.rate, "batch_size": BATCH_SIZE, "betas": list(BETAS)}
        networks = {e.name: f"{e.epochs} epochs, maps {e.maps}" for e in self.subjects}
        return {name: getattr(self, name) for name in own} | training | networks


_COLOUR = Subject(
    name="ColorMNIST", data="ColorMNIST", likelihood="bernoulli", epochs=128, maps=(32, 64)
)
_CIFAR = Subject(
    name="CIFAR-10", data="CIFAR-10", likelihood="bernoulli", epochs=256, maps=(64, 128, 256)
)
_LEVELS = _CIFAR._replace(name="CIFAR-10, QuantizedNormal", likelihood="quantized_normal")
# All images, the published networks.
PAPER = LowPlan(
    subjects=(_COLOUR, _CIFAR, _LEVELS),
    num_images=None,
    num_prior=100_000,
    num_data=2000,
    num_embedded=2000,
)
# Narrower networks, a few epochs.
CPU = replace(
    PAPER,
    subjects=(
        _COLOUR._replace(epochs=12, maps=(16, 32)),
        _CIFAR._replace(epochs=15, maps=(16, 32, 64)),
        _LEVELS._replace(epochs=15, maps=(16, 32, 64)),
    ),
    num_images=8192,
    num_samples=20,
    num_data=400,
    num_embedded=300,
    rate=1e-3,
)
# Three digits as colours, enlarged digits for CIFAR-10.
SMOKE = replace(
    CPU,
    subjects=(
        _COLOUR._replace(data="color digits", epochs=3, maps=(4, 8)),
        _LEVELS._replace(data="large digits", epochs=1, maps=(4, 4, 4)),
    ),
    num_images=200,
    num_prior=400,
    num_low=20,
    num_data=50,
    num_samples=5,
    num_embedded=30,
    latent_dim=4,
)


class Pictures(NamedTuple):
    """The images of a data set.

    Attributes:
        name: Name of the data set.
        bytes: The grey values, 0 to 255, ``(N, 3, H, W)``.
        checksum: Checksum of these bytes.
    """

    name: str
    bytes: UInt8[Tensor, "N 3 H W"]
    checksum: str

    @property
    def grey(self) -> Float[Tensor, "N 3 H W"]:
        """The values in [0, 1]."""
        return self.bytes.float() / LEVELS

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of an image."""
        colours, height, width = self.bytes.shape[1:]
        return colours, height, width


def load_pictures(name: str, num_images: int | None, options: Options) -> Pictures:
    """Returns the first training images of a data set, as bytes.

    Args:
        name: "ColorMNIST", "CIFAR-10"; "color digits" and "large digits" need no files.
        num_images: N; all if None.
        options: Where the data are.

    Raises:
        InputError: Another name; the data are unavailable.

    Example:
        >>> images = load_pictures("large digits", 20, Options())
        >>> images.shape, images.grey.mean().item() > 0.5
        ((3, 32, 32), True)
    """
    some = (_train(name, num_images, options)[:num_images] * LEVELS).round().to(torch.uint8)
    return Pictures(name, some, content_checksum(some))


def _train(name: str, num_images: int | None, options: Options) -> Tensor:
    match name:
        case "ColorMNIST":
            return color_mnist(
                options.data_dir, num_train=num_images or NUM_TRAIN, num_test=1
            ).train
        case "CIFAR-10":
            return cifar10(options.data_dir).train
        case "color digits":
            return color_digits(num_images or 200, 1).train
        case "large digits":
            digits = color_digits(num_images or 200, 1).train
            return 1 - torch.nn.functional.interpolate(digits, SMOKE_SIDE)
    expected = "'ColorMNIST', 'CIFAR-10', 'color digits' or 'large digits'"
    raise InputError("data", expected=expected, got=repr(name))


def new_model(subject: Subject, plan: LowPlan, images: Pictures) -> VAE:
    """Returns the model of a subject, drawn from the ambient random state.

    The bias of its last layer begins at the mean colour of the images.
    """
    scale: Literal["learned"] | None = "learned"
    scale = scale if subject.likelihood == "quantized_normal" else None
    settings = (images.shape, plan.latent_dim)
    match subject.maps:
        case (few, many):
            model = color_mnist_vae(*settings, (few, many), likelihood=subject.likelihood,
                                    scale=scale)  # fmt: skip
        case (first, second, third):
            maps = (first, second, third)
            model = dcgan_vae(*settings, maps, likelihood=subject.likelihood, scale=scale)
        case _:
            raise InputError("maps", expected="two or three numbers", got=str(subject.maps))
    return start_at_mean(model, images.grey)


def train_model(
    subject: Subject,
    model: VAE,
    images: Pictures,
    plan: LowPlan,
    seed: int,
    now: Sitting,
    device: torch.device,
) -> VAE:
    """Returns the model after its training; what a sitting before did is only read.

    Raises:
        Unfinished: The slice of time ended; the state is saved.
        InputError: The training diverged.
    """
    name, epochs = subject.name, subject.epochs

    def tell(done: int, bounds: list[float]) -> None:
        now.say(f"{name}: training, bound {bounds[0]:.1f}", done, epochs)

    run = train_in_slices(
        model,
        ELBO(),
        images.bytes.to(device),
        now.folder / file_name(name),
        epochs=epochs,
        batch_size=BATCH_SIZE,
        seed=seed,
        learning_rate=plan.rate,
        schedule=constant_rate,
        betas=BETAS,
        eps=EPS,
        binarisation=subject.binarisation,
        slice_seconds=max(now.left, 0.0),
        progress=tell,
    )
    if run.diverged:
        do = "Another --seed, and a report of this one, would help."
        raise InputError(name, expected="a training that stays finite", got=run.status, do=do)
    if not run.finished:
        raise now.unfinished(f"{name}, epoch {run.epoch:.2f} of {epochs}")
    return model


def constant_rate(epoch: float) -> float:
    """Returns 1: the rate stays as it is."""
    return 1.0


# What is measured of the low-posterior samples of one model, as a flat record of tensors.
#
# The five analyses are those of :func:`elboscope.estimators.examine_low_samples`. Two of them are
# of *grey* images, also where the likelihood takes binary ones: pixel values, and the nearest
# neighbours, since the distance to a binary draw is dominated by its noise and prefers images
# without any.
# The KL and the ELBO of a neighbour are of its binary draw.
#
# A record is kept as a file of the sitting, so that tables and figures are made of it alone.

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


def measure(
    subject: Subject,
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
    name = file_name(subject.name)
    path = now.folder / f"{name}-values.safetensors"
    if not path.is_file():
        with seeded(derived_seed(subject.name, seed)):
            model = new_model(subject, plan, images).to(device)
        train_model(subject, model, images, plan, seed, now, device)
        now.pause_before(f"the low-posterior samples of {subject.name}", f"{name}-trained")
        now.say(f"{subject.name}: prior draws against all posteriors", 0, 1)
        used = derived_seed(f"evaluation of {subject.name}", seed)
        values = dict(_values(subject, model, images, plan, used, device))
        now.keep(path.name, to_bytes({k: v.cpu().contiguous() for k, v in values.items()}))
    with safe_open(path, framework="pt") as kept:
        return {name: kept.get_tensor(name) for name in kept.keys()}  # noqa: SIM118


def _values(
    subject: Subject,
    model: LatentVariableModel,
    images: Pictures,
    plan: LowPlan,
    seed: int,
    device: torch.device,
) -> Iterator[tuple[str, Tensor]]:
    grey = images.grey
    x = subject.binarisation.fixed_draw(grey).to(device)
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
    yield "separation", torch.tensor(astuple(found.separation)).double()
    others = {"neighbours": scores, "ordinary": found.elbo["ordinary"]}
    for name, value in others.items():
        apart = auroc(found.elbo["data"].cpu(), value.cpu(), seed=seed)
        yield f"separation_of_{name}", torch.tensor(astuple(apart)).double()
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
        values: The value of each neighbour.
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
