r"""What the codes of a model look like: how many are used, how certain, how far from the prior.

Of the N posteriors q(z|x_n) = N(μ_n, diag σ_n²), in float64:

.. math:: \overline{\mu^2}_n = \frac1d \sum_j \mu_{nj}^2, \quad
          \overline{\sigma}_n = \frac1d \sum_j \sigma_{nj}, \quad
          \mathrm{kl}_n = \mathrm{KL}(q(z|x_n) \| p), \quad
          i_n = \log q(z_n|x_n) - \log q_N(z_n) \le \log N

*Sparse* codes leave most dimensions at the prior, where μ_j = 0 and σ_j = 1 and nothing is added
to kl or i; *dense* ones use all of them. log q_N(z) sums d terms: with d = 10⁴ its expanded square
loses 27 nats in float32 and so is taken in float64, term by term where even that would not do.

A file of its own because codes are measured alike for every model.
"""

from __future__ import annotations

__all__ = [
    "CPU",
    "PAPER",
    "SMOKE",
    "Codes",
    "Pictures",
    "ScalingPlan",
    "Subject",
    "codes_of",
    "effective_number",
    "from_bytes",
    "load_images",
    "to_bytes",
]

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import NamedTuple

import safetensors.torch
import torch
from jaxtyping import Float, Float64, UInt8
from safetensors import safe_open
from torch import Tensor

from elboscope.core import InputError, LatentVariableModel, evaluating, seeded
from elboscope.data import celeba
from elboscope.data.images import content_checksum
from elboscope.estimators.inputs import blocks, prepared
from elboscope.estimators.latents.aggregate import AggregateDraws, diagonal_kl, draw_aggregate
from elboscope.estimators.latents.units import ACTIVE
from elboscope.estimators.posteriors import DiagonalPosteriors

from ..frame.sitting import Options
from .hybrid_runs import BATCH_SIZE, BETAS, LEVELS, Kind
from .low_posterior_values import load_pictures

DECODED_AT_ONCE = 64
NUM_SHOWN = 8
BINS, WIDEST = 121, 6.05
# Parts of the images of the jackknife by which the error of a count is found.
PARTS = 16


class Codes(NamedTuple):
    """What is measured on one model; densities in nats.

    Attributes:
        spread: Mean over dimensions of μ², a value an image.
        std: Mean over dimensions of σ, a value an image.
        unit_std: Mean over images of σ_j, a value a dimension.
        unit_variance: Var_x(μ_j), a value a dimension.
        unit_kl: Average KL(q(z_j|x)‖p(z_j)), a value a dimension.
        histogram: How many of the N·d means are in each of the bins from −6.05 to 6.05.
        kl: KL(q(z|x)‖p), a value an image.
        information: i, a value an image, of one draw.
        reconstruction: log p(x|z) of one draw of z for each image.
        active_error: Standard error of the number of active units, by a jackknife over images.
        effective_error: That of the effective number.
        reconstructed: Means of the first images' reconstructions.
        samples: Means of as many draws of the prior.
    """

    spread: Float64[Tensor, " N"]
    std: Float64[Tensor, " N"]
    unit_std: Float64[Tensor, " d"]
    unit_variance: Float64[Tensor, " d"]
    unit_kl: Float64[Tensor, " d"]
    histogram: Float64[Tensor, " bins"]
    kl: Float64[Tensor, " N"]
    information: Float64[Tensor, " N"]
    reconstruction: Float64[Tensor, " N"]
    active_error: Float64[Tensor, ""]
    effective_error: Float64[Tensor, ""]
    reconstructed: Float[Tensor, "m 3 H W"]
    samples: Float[Tensor, "m 3 H W"]

    @property
    def log_n(self) -> float:
        """The ceiling of the information."""
        return math.log(len(self.kl))

    @property
    def active(self) -> int:
        """Dimensions whose mean moves with x: Var_x(μ_j) > 0.01."""
        return int((self.unit_variance > ACTIVE).sum())

    @property
    def effective(self) -> float:
        """Over how many dimensions the average KL is spread."""
        return effective_number(self.unit_kl).item()

    @property
    def marginal(self) -> Float64[Tensor, " N"]:
        """kl − i of every image, whose mean is KL(q_N‖p)."""
        return self.kl - self.information


def effective_number(kl: Float64[Tensor, "*b d"]) -> Float64[Tensor, "*b"]:
    r"""Returns :math:`(\sum_j \mathrm{kl}_j)^2 / \sum_j \mathrm{kl}_j^2`: d if all are equal.

    Unlike a count it has no threshold, above which each of many hardly used dimensions may be.

    Example:
        >>> effective_number(torch.tensor([[1.0, 1.0, 1.0], [5.0, 0.0, 0.0]]).double()).tolist()
        [3.0, 1.0]
    """
    return kl.sum(-1).square() / kl.square().sum(-1).clamp(min=1e-300)


def codes_of(model: LatentVariableModel, x: Float[Tensor, "N 3 H W"], seed: int) -> Codes:
    """Returns the values of a model with a diagonal Gaussian posterior.

    Args:
        model: The model, on the device of x.
        x: Images of the mixture.
        seed: Random seed of all draws: the same for all models that are to be compared.
    """
    with evaluating(model), seeded(seed) as used:
        draws = draw_aggregate(model, prepared(model, x, None), len(x), used)
        order = draws.index.argsort()
        z = draws.z[order].to(x.dtype)
        parts = [model.decode(z[r]).log_prob(x[r]) for r in blocks(len(x), DECODED_AT_ONCE)]
        prior = model.prior().sample(torch.Size((NUM_SHOWN,)))
        shown = model.decode(torch.cat([z[:NUM_SHOWN], prior])).mean
    return _codes(draws, torch.cat(parts).double(), shown)


def _codes(draws: AggregateDraws, reconstruction: Tensor, shown: Tensor) -> Codes:
    q, order, kl = draws.posteriors, draws.index.argsort(), draws.kl
    assert isinstance(q, DiagonalPosteriors)
    assert kl is not None  # both are Gaussians
    assert isinstance(draws.prior, DiagonalPosteriors)
    each = diagonal_kl(q, draws.prior)
    found = Codes(
        q.mu.square().mean(1),
        q.sigma.mean(1),
        q.sigma.mean(0),
        q.mu.var(0),
        each.mean(0),
        torch.histc(q.mu.clamp(-WIDEST, WIDEST), BINS, -WIDEST, WIDEST),
        kl,
        (draws.log_own - draws.log_mixture)[order],
        reconstruction,
        _jackknifed(q.mu, lambda mu: (mu.var(0) > ACTIVE).sum()),
        _jackknifed(each, lambda kl: effective_number(kl.mean(0))),
        shown[:NUM_SHOWN],
        shown[NUM_SHOWN:],
    )
    return Codes(*(value.cpu() for value in found))


def _jackknifed(
    values: Float64[Tensor, "N d"], statistic: Callable[[Tensor], Tensor]
) -> Float64[Tensor, ""]:
    """The error of a statistic of images, each sixteenth of them left out in turn."""
    N = len(values)
    if N < 2 * PARTS:
        return values.new_zeros(())
    part = torch.arange(N, device=values.device) * PARTS // N
    found = torch.stack([statistic(values[part != k]) for k in range(PARTS)]).double()
    return (found.var() * (PARTS - 1) ** 2 / PARTS).sqrt()


def to_bytes(codes: Codes) -> bytes:
    """Returns the values as a file's content."""
    named = {name: value.contiguous() for name, value in codes._asdict().items()}
    return safetensors.torch.save(named)


def from_bytes(path: Path) -> Codes:
    """Returns what a sitting kept."""
    with safe_open(path, framework="pt") as kept:
        return Codes(**{name: kept.get_tensor(name) for name in kept.keys()})  # noqa: SIM118


# The models of ``latent-scaling``: which data, how many latents, and how long they are trained.
#
# The networks are those of Rosca et al.; between two models of a data set only the width of the
# latent space changes: the encoder's last layer, the decoder's first, and the first of the code
# discriminator. At the paper's scale an AAE with a wider code discriminator stands beside.

CODE_HIDDEN, WIDE_HIDDEN = (1000, 1000, 1000), (5000, 5000, 5000)
COLOUR, FACES = "ColorMNIST", "CelebA"


class Subject(NamedTuple):
    """One model.

    Attributes:
        data: "ColorMNIST" or "CelebA".
        kind: "VAE" or "AAE".
        latents: d.
        wide: Whether its code discriminator is the wider one.
    """

    data: str
    kind: Kind
    latents: int
    wide: bool = False

    @property
    def label(self) -> str:
        """In the tables."""
        more = ", wider discriminator" if self.wide else ""
        return f"{self.data}, {self.kind}{more}, {self.latents} latents"


@dataclass(frozen=True, kw_only=True)
class ScalingPlan:
    """What a scale means.

    Attributes:
        latents: Sizes of the latent space.
        data: Data sets.
        num_train: Images trained on.
        num_images: N of the mixture, the first of them.
        steps: Training steps, by data set.
        maps: Channels of the convolutions, by data set.
        code_hidden: Widths of the code discriminator.
        rate: Adam's.
        wide: Whether to train AAEs with a wider code discriminator too.
        stand_in: The data set used instead of ColorMNIST, if any.
    """

    latents: tuple[int, ...]
    data: tuple[str, ...]
    num_train: int
    num_images: int
    steps: Mapping[str, int]
    maps: Mapping[str, tuple[int, ...]]
    code_hidden: tuple[int, ...] = CODE_HIDDEN
    rate: float = 3e-4
    wide: bool = False
    stand_in: str = ""

    @property
    def subjects(self) -> tuple[Subject, ...]:
        """The models, both kinds of a size side by side."""
        kinds: tuple[Kind, ...] = ("VAE", "AAE")
        plain = [Subject(a, k, d) for a, d, k in product(self.data, self.latents, kinds)]
        wide = [Subject(a, "AAE", d, wide=True) for a, d in product(self.data, self.latents)]
        return (*plain, *(wide if self.wide else ()))

    def record(self) -> dict[str, object]:
        """Returns what is saved beside a number."""
        own = ("num_train", "num_images", "rate")
        training = {"batch_size": BATCH_SIZE, "betas": list(BETAS), "steps": dict(self.steps)}
        lists = {"latents": list(self.latents), "code_hidden": list(self.code_hidden)}
        maps = {name: list(maps) for name, maps in self.maps.items()}
        return {name: getattr(self, name) for name in own} | training | lists | {"maps": maps}


PAPER = ScalingPlan(
    latents=(10, 100, 1000, 10_000),
    data=(COLOUR, FACES),
    num_train=50_000,
    num_images=5000,
    steps={COLOUR: 100_000, FACES: 200_000},
    maps={COLOUR: (32, 64), FACES: (64, 128, 256, 512)},
    wide=True,
)
CPU = replace(
    PAPER,
    latents=(10, 100, 1000),
    data=(COLOUR,),
    num_train=8192,
    num_images=1024,
    steps={COLOUR: 2000},
    maps={COLOUR: (8, 16)},
    code_hidden=(256, 256, 256),
    rate=1e-3,
    wide=False,
)
SMOKE = replace(
    CPU,
    latents=(3, 12),
    num_train=128,
    num_images=64,
    steps={COLOUR: 5},
    maps={COLOUR: (2, 4)},
    code_hidden=(8,),
    stand_in="color digits",
)


class Pictures(NamedTuple):
    """The images of a data set.

    Attributes:
        x: Grey values, 0 to 255.
        checksum: Checksum of these values.
    """

    x: UInt8[Tensor, "N 3 H W"]
    checksum: str


def load_images(data: str, plan: ScalingPlan, options: Options) -> Pictures:
    """Returns the images that are trained on.

    Raises:
        InputError: The data are unavailable, or too few.

    Example:
        >>> load_images("ColorMNIST", SMOKE, Options()).x.shape
        torch.Size([128, 3, 8, 8])
    """
    if data == FACES:
        found = celeba(
            data_dir=options.data_dir, num_train=plan.num_train, num_test=1, num_validation=0
        )
        x = (found.train * LEVELS).round().to(torch.uint8)
    else:
        x = load_pictures(plan.stand_in or data, plan.num_train, options).bytes
    if len(x) < plan.num_images:
        expected = f"at least {plan.num_images} images"
        raise InputError(data, expected=expected, got=str(len(x)))
    return Pictures(x, content_checksum(x))
