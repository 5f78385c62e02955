r"""Scores from a classifier's log p(y|x) alone: the Inception Score, and the modes met.

.. math:: \mathrm{IS} = \exp \mathbb{E}_x \mathrm{KL}(p(y|x) \,\|\, p(y))
          = \exp\Bigl(H\bigl[\mathbb{E}_x p(y|x)\bigr] - \mathbb{E}_x H[p(y|x)]\Bigr)

in [1, C]: 1 where every image gets the same answer, C where each gets a sure one and all classes
are equally frequent. Since the entropy of a mean over n images lies below the population's, the
score is biased *downwards* for few images (n = 1 gives 1): compare scores of one count only. It
is blind to copies within a class and to memorised data.

*Modes* are the C classes: how many are the most probable one of some image, and how unevenly,
KL(p̂ ‖ uniform) = Σ p̂ log(C p̂). That KL is an upper bound in expectation: n perfect draws give
about (C − 1)/(2n) nats.

References:
    | Improved Techniques for Training GANs (Salimans et al., 2016),
      https://arxiv.org/abs/1606.03498
    | A Note on the Inception Score (Barratt and Sharma, 2018), https://arxiv.org/abs/1801.01973
    | VEEGAN (Srivastava et al., 2017), https://arxiv.org/abs/1705.07761
"""

from __future__ import annotations

__all__ = ["inception_score", "mode_kl", "modes_covered", "ms_ssim", "ms_ssim_diversity"]

import math

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d

from elboscope.core import Estimate, InputError, standard_error

from ..inputs import blocks

TOLERANCE = 1e-3


def inception_score(log_probs: Float[Tensor, "N y"], *, splits: int = 10) -> Estimate:
    r"""Returns :math:`\exp \mathbb{E}_x \mathrm{KL}(p(y|x) \| p(y))`, the mean over splits.

    Args:
        log_probs: log p(y|x) of a log-softmax, nats, in random order. −∞ is allowed.
        splits: Parts of equal size, each with its own p(y); 10 is the convention.

    Returns:
        One score a split, in classes; the stderr is sd/√splits, and ``settings["sd"]`` the sd
        over splits that publications print.

    Raises:
        InputError: Rows that are no log-probabilities; fewer images than splits.

    Example:
        >>> sure = torch.eye(4).repeat(5, 1).log()
        >>> inception_score(sure, splits=5).mean
        4.0
    """
    log_probs = _check(log_probs)
    size = len(log_probs) // splits if splits > 0 else 0
    if size < 1:
        got = f"splits={splits} of {len(log_probs)} images"
        raise InputError("splits", expected="at least one image in each", got=got)
    scores = torch.stack([_score(part) for part in log_probs[: size * splits].split(size)])
    return Estimate(
        "Inception Score",
        f"{size} images a split",
        scores,
        torch.zeros_like(scores),
        "none",
        standard_error(scores),
        axis="split",
        settings={"images": size * splits, "classes": log_probs.shape[1], "sd": _sd(scores)},
        measured_in=f"of {log_probs.shape[1]} classes",
        num_images=size * splits,
    )


def modes_covered(log_probs: Float[Tensor, "N y"]) -> Estimate:
    """Returns how many classes are the most probable one of some image.

    It is a count of these n images, not of what the sampler can reach: its error is that of a
    bootstrap of the counts, which cannot know of modes that were never met. A classifier that
    errs meets modes that are not there.

    Args:
        log_probs: log p(y|x), nats.

    Returns:
        1 or 0 per mode; the total is the number, ``diagnostics["count"]`` how often.

    Raises:
        InputError: Rows that are no log-probabilities.

    Example:
        >>> modes_covered(torch.eye(4)[[0, 0, 2]].log()).total
        2.0
    """
    counts = _counts(_check(log_probs))
    missed = torch.exp(-counts.double())
    variance = torch.where(counts > 0, missed * (1 - missed), 0.0)
    return Estimate(
        "modes covered",
        f"{len(log_probs)} images",
        (counts > 0).double(),
        variance.sqrt(),
        "none",
        variance.sum().sqrt().item(),
        axis="unit",
        diagnostics={"count": counts.double()},
        settings={"images": len(log_probs), "classes": len(counts)},
        measured_in=f"of {len(counts)} modes",
        num_images=len(log_probs),
    )


def mode_kl(log_probs: Float[Tensor, "N y"]) -> Estimate:
    r"""Returns :math:`\mathrm{KL}(\hat p \| \text{uniform})` of the classes met, in nats.

    p̂ counts the most probable class of each image. The value for perfect images is not 0 but
    about (C − 1)/(2n), which is its ``expected``.

    Args:
        log_probs: log p(y|x), nats.

    Returns:
        log(C p̂) per image, an upper bound in expectation, ≤ log C.

    Raises:
        InputError: Rows that are no log-probabilities.

    Example:
        >>> collapsed = mode_kl(torch.eye(4)[[1, 1, 1]].log())
        >>> round(collapsed.mean, 4), round(math.log(4), 4)
        (1.3863, 1.3863)
    """
    log_probs = _check(log_probs)
    counts = _counts(log_probs)
    n, classes = len(log_probs), len(counts)
    values = (counts[log_probs.argmax(1)].double() * classes / n).log()
    first_order = values.var().item() / n if n > 1 else math.nan
    # Where p̂ is uniform the first order vanishes, and 2n KL is χ² with C − 1 degrees of freedom.
    met = int((counts > 0).sum())
    perfect = (classes - 1) / (2 * n)
    return Estimate(
        "KL(modes ‖ uniform)",
        f"{n} images",
        values,
        torch.zeros_like(values),
        "upper",
        math.sqrt(first_order + (met - 1) / (2 * n**2)),
        axis="draw",
        settings={"images": n, "classes": classes, "expected of perfect samples": perfect},
        nonnegative=True,
        num_images=n,
        expected=perfect,
    )


def _score(log_probs: Float[Tensor, "n y"]) -> Float64[Tensor, ""]:
    """Entropies of probabilities, not of their logarithms: 0 log 0 is 0."""
    p = log_probs.double().exp()
    of_each = torch.special.entr(p).sum(1).mean()
    score: Tensor = (torch.special.entr(p.mean(0)).sum() - of_each).exp()
    return score


def _counts(log_probs: Float[Tensor, "N y"]) -> Int64[Tensor, " y"]:
    return torch.bincount(log_probs.argmax(1), minlength=log_probs.shape[1])


def _check(log_probs: Float[Tensor, "N y"]) -> Float[Tensor, "N y"]:
    """Each row's probabilities sum to one, so that no one passes logits."""
    log_probs = log_probs.detach()
    total = torch.logsumexp(log_probs, 1)
    if len(log_probs) == 0 or not bool((total.abs() < TOLERANCE).all()):
        worst = (
            f"a row that sums to {total.exp()[total.abs().argmax()]:.4g}" if len(total) else "none"
        )
        raise InputError(
            "log_probs",
            expected="rows of log-probabilities, whose exponentials sum to 1",
            got=worst,
            do="Apply log_softmax to the logits.",
        )
    return log_probs


def _sd(values: Float64[Tensor, " s"]) -> float:
    return values.std().item() if len(values) > 1 else math.nan


# Diversity as 1 − MS-SSIM of random pairs: images that all look alike have none.
#
# .. math:: \text{MS-SSIM} = l_M^{w_M} \prod_{j=1}^M cs_j^{w_j}
#
# over M = 5 scales, each half as wide as the one before; luminance l and contrast-structure cs
# are means over a Gaussian window of 11 pixels, σ = 1.5, which shrinks to min(11, h, w) with σ in
# proportion where a scale is smaller; no padding. At the last scale the mean of the product l·cs
# is taken, as everywhere. Negative cs (opposite contrast) count as 10⁻⁶. Images too small for
# five scales use as many as they have, with the weights made to sum to one: the number is
# recorded.
#
# The value alone says little: noise is more diverse than any data. It belongs beside that of the
# data, and within one class.
#
# References:
#     | Multi-Scale Structural Similarity (Wang, Simoncelli and Bovik, 2003),
#       https://doi.org/10.1109/ACSSC.2003.1292216
#     | Conditional Image Synthesis with Auxiliary Classifier GANs (Odena et al., 2017),
#       https://arxiv.org/abs/1610.09585

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
WINDOW, SIGMA = 11, 1.5
K1, K2 = 0.01, 0.03
FLOOR = 1e-6
PAIRS_AT_ONCE = 250


def ms_ssim(
    a: Float[Tensor, "N C H W"], b: Float[Tensor, "M D I J"], *, data_range: float = 1.0
) -> Float64[Tensor, " N"]:
    """Returns the similarity of each pair of images; 1 for equal ones, symmetric.

    Args:
        a: Images.
        b: As many of the same shape.
        data_range: Largest minus smallest possible value: 1 for images in [0, 1].

    Returns:
        In (0, 1], a number a pair, averaged over channels.

    Raises:
        InputError: Different shapes.

    Example:
        >>> x = torch.rand(2, 1, 28, 28)
        >>> ms_ssim(x, x)
        tensor([1., 1.], dtype=torch.float64)
    """
    if a.shape != b.shape:
        raise InputError("b", expected=f"shape {tuple(a.shape)}", got=f"{tuple(b.shape)}")
    a, b = a.double(), b.double()
    scales = _num_scales(a.shape)
    weights = torch.tensor(WEIGHTS[:scales], dtype=a.dtype, device=a.device)
    weights = weights / weights.sum() if scales < len(WEIGHTS) else weights
    similarity = torch.ones(a.shape[0], dtype=a.dtype, device=a.device)
    for scale, weight in enumerate(weights):
        last = scale == scales - 1
        contrast, product = _contrast_and_product(a, b, data_range)
        term = (product if last else contrast).clamp(min=FLOOR)
        similarity = similarity * term**weight
        if not last:
            a, b = avg_pool2d(a, 2), avg_pool2d(b, 2)
    return similarity


def ms_ssim_diversity(images: Float[Tensor, "N C H W"], *, num_pairs: int = 1000) -> Estimate:
    """Returns 1 − the mean MS-SSIM of disjoint pairs of images in [0, 1].

    Args:
        images: In random order; the first is compared with the second, and so on.
        num_pairs: At most so many pairs; no image is used twice, so that pairs are independent.

    Returns:
        1 − MS-SSIM per pair, in [0, 1].

    Raises:
        InputError: Fewer than two images.

    Example:
        >>> ms_ssim_diversity(torch.rand(1, 1, 8, 8).expand(10, 1, 8, 8)).mean
        0.0
    """
    pairs = min(num_pairs, len(images) // 2)
    if pairs < 1:
        got = f"{len(images)} images, num_pairs={num_pairs}"
        raise InputError("images", expected="at least one pair", got=got)
    a, b = images[: 2 * pairs : 2], images[1 : 2 * pairs : 2]
    parts = [ms_ssim(a[rows], b[rows]) for rows in blocks(pairs, PAIRS_AT_ONCE)]
    values = 1 - torch.cat(parts)
    scales = _num_scales(images.shape)
    return Estimate(
        "MS-SSIM diversity",
        f"{scales} scales",
        values,
        torch.zeros_like(values),
        "unbiased",
        standard_error(values),
        axis="pair",
        settings={"pairs": pairs, "scales": scales, "window": f"min({WINDOW}, side)"},
        measured_in="(1 − MS-SSIM)",
    )


def _num_scales(shape: torch.Size) -> int:
    """As many scales as leave one pixel."""
    return min(len(WEIGHTS), min(shape[-2:]).bit_length())


def _contrast_and_product(a: Tensor, b: Tensor, data_range: float) -> tuple[Tensor, Tensor]:
    """Means over the image of cs, and of l·cs."""
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    filtered = _blur(torch.cat([a, b, a * a, b * b, a * b]))
    mu_a, mu_b, aa, bb, ab = filtered.chunk(5)
    var_a, var_b = (aa - mu_a**2).clamp(min=0), (bb - mu_b**2).clamp(min=0)
    contrast = (2 * (ab - mu_a * mu_b) + c2) / (var_a + var_b + c2)
    luminance = (2 * mu_a * mu_b + c1) / (mu_a**2 + mu_b**2 + c1)
    return contrast.flatten(1).mean(1), (luminance * contrast).flatten(1).mean(1)


def _blur(x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N C h w"]:
    n, channels, height, width = x.shape
    size = min(WINDOW, height, width)
    at = torch.arange(size, dtype=x.dtype, device=x.device) - (size - 1) / 2
    g = torch.softmax(-(at**2) / (2 * (SIGMA * size / WINDOW) ** 2), 0)
    flat = x.reshape(n * channels, 1, height, width)
    out = conv2d(conv2d(flat, g.view(1, 1, -1, 1)), g.view(1, 1, 1, -1))
    return out.view(n, channels, *out.shape[2:])
