r"""What is called a bound, and what is one, at one moment of a training.

With a code ẑ ~ q(z|x), C the logit of the code discriminator (label 1 for the prior) and T that
of the joint one (label 1 for what is generated):

======= =========================================================================================
VAE     E log p(x|z) − KL(q(z|x)‖p): a lower bound on log p(x)
AAE     log p(x|ẑ) + C(ẑ), since −C is to be log q(z)/p(z). With the exact ratio it is, on the
        mean, the ELBO *plus* I(x; z), no lower bound; with a learned one nothing is known of it
VEEGAN  −(E T(G(z), z) + E‖z − F(G(z))‖² + (d/2) ln 2πe), the negative of what the paper bounds
        −∫ p(z) log p_θ(z) by; with a learned T nothing is known of it either
======= =========================================================================================

The AAE has an explicit q(z|x) and p(x|z), so that its ELBO stands beside. The mixture tells what
its code discriminator's KL, −E C(ẑ), and that of a classifier trained for nothing else should be:
KL(q_N‖p) = E[kl_n − i_n], on the same images and the same draws.

A file of its own because what a value is comes apart from who is trained.
"""

from __future__ import annotations

__all__ = [
    "CPU",
    "PAPER",
    "SMOKE",
    "BoundsPlan",
    "Data",
    "Values",
    "aae_value",
    "fitted_ratio",
    "load_data",
    "values_of",
    "veegan_value",
]

import math
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64, UInt8
from torch import Tensor

from elboscope.core import evaluating, generated, seeded
from elboscope.data import color_digits, color_mnist
from elboscope.data.images import content_checksum
from elboscope.estimators import RatioClassifier
from elboscope.estimators.inputs import blocks, prepared
from elboscope.estimators.latents.aggregate import draw_aggregate
from elboscope.estimators.latents.ratio import density_ratio_kl
from elboscope.models import Hybrid

from ..frame.sitting import Options
from .hybrid_runs import BATCH_SIZE, BETAS, LEVELS, Kind

DECODED_AT_ONCE = 64
DRAWS = 4
Values = dict[str, Tensor]
"""Float64, by name: "value" of each test image (of each z for VEEGAN), what is said to be a bound;
for VAE and AAE of each image of the mixture "kl" and "information"; for the AAE also "elbo" of each
test image, and "ratio" of each of the mixture, its discriminator's log q(z)/p(z)."""


def aae_value(log_px: Float[Tensor, " n"], logits: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Returns log p(x|ẑ) + C(ẑ): what the paper calls a bound, and is none.

    Args:
        log_px: log p(x|ẑ), in nats.
        logits: C(ẑ), label 1 for the prior.

    Example:
        >>> aae_value(torch.tensor([-3.0]), torch.tensor([-1.0]))
        tensor([-4.])
    """
    return log_px + logits


def veegan_value(
    logits: Float[Tensor, " n"], z: Float[Tensor, "n d"], found: Float[Tensor, "n d"]
) -> Float[Tensor, " n"]:
    r"""Returns :math:`-(T + \|z - F\|^2 + \tfrac d2 \ln 2\pi e)`, what the paper calls a bound.

    Args:
        logits: T(G(z), z), label 1 for what is generated.
        z: Draws of the prior.
        found: F(G(z)), a draw each.

    Example:
        >>> z = torch.zeros(1, 2)
        >>> round(veegan_value(torch.ones(1), z, z + 1).item() + math.log(2 * math.pi), 4)
        -4.0
    """
    entropy = 0.5 * z.shape[1] * (math.log(2 * math.pi) + 1)
    return -(logits + (z - found).square().sum(1) + entropy)


def values_of(
    kind: Kind,
    model: Hybrid,
    x_test: Float[Tensor, "n 3 H W"],
    x: Float[Tensor, "N 3 H W"],
    seed: int,
) -> Values:
    """Returns the values of a model as it is.

    Args:
        kind: What it was trained by.
        model: The model, on the device of both.
        x_test: Images not trained on, binary.
        x: Images of the mixture, binary.
        seed: Random seed of all draws: the same at every look, so that looks are compared in pairs.
    """
    with evaluating(model), seeded(seed) as used:
        if kind == "VEEGAN":
            found = {"value": _veegan(model, len(x_test))}
        else:
            found = _explicit(kind, model, x_test)
            draws = draw_aggregate(model, prepared(model, x, None), len(x), used)
            assert draws.kl is not None  # of two Gaussians
            order = draws.index.argsort()
            found |= {"kl": draws.kl, "information": (draws.log_own - draws.log_mixture)[order]}
            if kind == "AAE":
                found["ratio"] = -model.adversaries["code"](draws.z[order].to(x.dtype))
    return {name: value.double().cpu().contiguous() for name, value in found.items()}


def _veegan(model: Hybrid, n: int) -> Tensor:
    z = model.prior().sample(torch.Size((n,)))
    parts = []
    for rows in blocks(n, DECODED_AT_ONCE):
        made = generated(model, z[rows])
        found = model.encode(made).sample()
        parts.append(veegan_value(model.adversaries["joint"](made, z[rows]), z[rows], found))
    return torch.cat(parts)


def _explicit(kind: Kind, model: Hybrid, x: Tensor) -> Values:
    """The ELBO of every image with its KL in closed form, and what is called a bound."""
    elbos, values = [], []
    for rows in blocks(len(x), DECODED_AT_ONCE):
        q = model.encode(x[rows])
        z = q.sample(torch.Size((DRAWS,)))
        log_px = model.decode(z).log_prob(x[rows]).double()
        kl = torch.distributions.kl_divergence(q, model.prior())
        elbos.append(log_px.mean(0) - kl)
        if kind == "AAE":
            logits = torch.stack([model.adversaries["code"](one) for one in z])
            values.append(aae_value(log_px.flatten(), logits.flatten()).reshape(DRAWS, -1).mean(0))
    elbo = torch.cat(elbos)
    return {"elbo": elbo, "value": torch.cat(values)} if kind == "AAE" else {"value": elbo}


def fitted_ratio(
    model: Hybrid, x: Float[Tensor, "N 3 H W"], classifier: RatioClassifier, seed: int
) -> Float64[Tensor, "three two"]:
    """Returns KL(q‖p) by a classifier trained for it, two lower bounds, and their errors.

    Args:
        model: The model, on the device of x.
        x: Half of it trains the classifier, a quarter stops it, a quarter evaluates.
        classifier: Its layers and steps.
        seed: Random seed of the split, the draws and the training.
    """
    found = density_ratio_kl(model, x, classifier, seed=seed)
    return torch.tensor([[e.mean, e.stderr] for e in found], dtype=torch.float64)


# What a scale of ``bounds-over-training`` means: networks, steps, looks, seeds.


@dataclass(frozen=True, kw_only=True)
class BoundsPlan:
    """What a scale means.

    Attributes:
        num_train: Images trained on.
        num_images: N of the mixture, the first of them.
        num_test: Test images on which values are taken; as many draws for VEEGAN.
        steps: Training steps.
        every: Steps between two looks.
        seeds: Runs of each model.
        latents: d.
        maps: Channels of encoder and decoder.
        code_hidden: Widths of the AAE's discriminator.
        joint_maps: Channels of VEEGAN's discriminator.
        classifier: The one trained beside, at the end.
        rate: Adam's.
        stand_in: Whether small digits stand for MNIST's.
    """

    num_train: int
    num_images: int
    num_test: int
    steps: int
    every: int
    seeds: int
    latents: int
    maps: tuple[int, int]
    code_hidden: tuple[int, ...] = (1000, 1000, 1000)
    joint_maps: tuple[int, int] = (64, 128)
    classifier: RatioClassifier = field(default_factory=RatioClassifier)
    rate: float = 3e-4
    stand_in: bool = False

    @property
    def looks(self) -> range:
        """Steps after which values are taken."""
        return range(self.every, self.steps + 1, self.every)

    def record(self) -> dict[str, object]:
        """Returns what is saved beside a number."""
        own = ("num_images", "num_test", "steps", "every", "seeds", "latents", "rate")
        lists = {name: list(getattr(self, name)) for name in ("maps", "code_hidden", "joint_maps")}
        training = {"batch_size": BATCH_SIZE, "betas": list(BETAS)}
        return {name: getattr(self, name) for name in own} | training | lists


PAPER = BoundsPlan(
    num_train=50_000,
    num_images=20_000,
    num_test=2000,
    steps=100_000,
    every=5000,
    seeds=3,
    latents=50,
    maps=(32, 64),
)
# Narrow networks.
CPU = replace(
    PAPER,
    num_train=8192,
    num_images=512,
    num_test=256,
    steps=320,
    every=40,
    latents=10,
    maps=(4, 8),
    code_hidden=(128, 128, 128),
    joint_maps=(8, 16),
    classifier=RatioClassifier((128, 128), max_steps=400),
    rate=1e-3,
)
SMOKE = replace(
    CPU,
    num_train=128,
    num_images=64,
    num_test=48,
    steps=6,
    every=2,
    seeds=2,
    latents=3,
    maps=(2, 4),
    code_hidden=(8,),
    joint_maps=(2, 4),
    classifier=RatioClassifier((8,), max_steps=5),
    stand_in=True,
)


class Data(NamedTuple):
    """Images of both parts.

    Attributes:
        train: Grey values, 0 to 255.
        test: Grey values of images made of other digits.
        checksum: Checksum of both.
    """

    train: UInt8[Tensor, "N 3 H W"]
    test: UInt8[Tensor, "n 3 H W"]
    checksum: str


def load_data(plan: BoundsPlan, options: Options) -> Data:
    """Returns triples of digits.

    Raises:
        InputError: MNIST is unavailable.

    Example:
        >>> data = load_data(SMOKE, Options())
        >>> len(data.train), len(data.test)
        (128, 48)
    """
    if plan.stand_in:
        found = color_digits(plan.num_train, plan.num_test)
    else:
        found = color_mnist(options.data_dir, num_train=plan.num_train, num_test=plan.num_test)
    train, test = ((LEVELS * x).round().to(torch.uint8) for x in (found.train, found.test))
    return Data(train, test, content_checksum(train, test))
