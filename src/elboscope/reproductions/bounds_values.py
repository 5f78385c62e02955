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

The AAE has an explicit q(z|x) and p(x|z), so that its ELBO stands beside. Of its code
discriminator's KL, −E C(ẑ), and of that of a classifier trained for nothing else, the mixture
tells what they should be: KL(q_N‖p) = E[kl_n − i_n], on the same images and the same draws.
"""

from __future__ import annotations

__all__ = ["Values", "aae_value", "fitted_ratio", "values_of", "veegan_value"]

import math

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from elboscope.core import evaluating, generated, seeded
from elboscope.estimators import DensityRatioKL, RatioClassifier, marginal_kl_by_ratio
from elboscope.estimators.aggregate_draws import draw_aggregate
from elboscope.estimators.evaluation import blocks, prepared
from elboscope.models import Hybrid

from .hybrid_course import Kind

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
        model: On the device of both.
        x_test: Images not trained on, binary.
        x: Images of the mixture, binary.
        seed: Of all draws: the same at every look, so that looks are compared in pairs.
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
        model: On the device of x.
        x: Half of it trains the classifier, a quarter stops it, a quarter evaluates.
        classifier: Its layers and steps.
        seed: Of the split, the draws and the training.
    """
    found: DensityRatioKL = marginal_kl_by_ratio(model, x, classifier, seed=seed)
    return torch.tensor([[e.mean, e.stderr] for e in found], dtype=torch.float64)
