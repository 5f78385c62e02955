r"""Diversity as 1 − MS-SSIM of random pairs: images that all look alike have none.

.. math:: \text{MS-SSIM} = l_M^{w_M} \prod_{j=1}^M cs_j^{w_j}

over M = 5 scales, each half as wide as the one before; luminance l and contrast-structure cs are
means over a Gaussian window of 11 pixels, σ = 1.5, which shrinks to min(11, h, w) with σ in
proportion where a scale is smaller; no padding. At the last scale the mean of the product l·cs is
taken, as everywhere. Negative cs (opposite contrast) count as 10⁻⁶. Images too small for five
scales use as many as they have, with the weights made to sum to one: the number is recorded.

The value alone says little: noise is more diverse than any data. It belongs beside that of the
data, and within one class.

References:
    | Multi-Scale Structural Similarity (Wang, Simoncelli and Bovik, 2003),
      https://doi.org/10.1109/ACSSC.2003.1292216
    | Conditional Image Synthesis with Auxiliary Classifier GANs (Odena et al., 2017),
      https://arxiv.org/abs/1610.09585
"""

from __future__ import annotations

__all__ = ["ms_ssim", "ms_ssim_diversity"]

import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d

from elboscope.core import Estimate, InputError, standard_error

from .evaluation import blocks

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
        num_pairs: At most; no image is used twice, so that pairs are independent.

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
    filtered = _blurred(torch.cat([a, b, a * a, b * b, a * b]))
    mu_a, mu_b, aa, bb, ab = filtered.chunk(5)
    var_a, var_b = (aa - mu_a**2).clamp(min=0), (bb - mu_b**2).clamp(min=0)
    contrast = (2 * (ab - mu_a * mu_b) + c2) / (var_a + var_b + c2)
    luminance = (2 * mu_a * mu_b + c1) / (mu_a**2 + mu_b**2 + c1)
    return contrast.flatten(1).mean(1), (luminance * contrast).flatten(1).mean(1)


def _blurred(x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N C h w"]:
    n, channels, height, width = x.shape
    size = min(WINDOW, height, width)
    at = torch.arange(size, dtype=x.dtype, device=x.device) - (size - 1) / 2
    g = torch.softmax(-(at**2) / (2 * (SIGMA * size / WINDOW) ** 2), 0)
    flat = x.reshape(n * channels, 1, height, width)
    out = conv2d(conv2d(flat, g.view(1, 1, -1, 1)), g.view(1, 1, 1, -1))
    return out.view(n, channels, *out.shape[2:])
