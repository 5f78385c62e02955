r"""Which units a linear VAE keeps at a given σ², and what they hold: the exact account of collapse.

With λ_1 ≥ λ_2 ≥ … the eigenvalues of the pixels' covariance, the best linear decoder of fixed
variance σ² keeps unit j if and only if λ_j > σ². Such a unit holds ½ ln(λ_j/σ²) nats, which is
its rate too, and its component is then wrong by σ² on average; a component that is not kept is
wrong by λ_j. The squared error of an image is therefore the reverse water-filling

.. math:: \sum_{j \le d} \min(\lambda_j, \sigma^2) + \sum_{j > d} \lambda_j .

It predicts, and does not bound, what a network does: a decoder with curves can keep a unit that
a straight one drops. What no decoder can do is gain more reconstruction than the collapsed one
leaves to be gained, :math:`\sum_j \lambda_j / (2\sigma^2)` nats; where that is far below a nat,
collapse is forced.

References:
    | Don't Blame the ELBO! (Lucas et al., 2019), https://arxiv.org/abs/1911.02469
"""

from __future__ import annotations

__all__ = ["LinearCollapse", "linear_collapse", "pixel_eigenvalues"]

from typing import NamedTuple

from jaxtyping import Float, Float64
from torch import Tensor

from elboscope.core import InputError
from elboscope.models.ppca import principal_components


class LinearCollapse(NamedTuple):
    """What the best linear VAE of a fixed σ² does.

    Attributes:
        kept: Units that do not collapse, of d.
        kept_of_all: The same with as many units as pixels.
        information: Mutual information with d units, in nats; equal to the rate.
        information_of_all: The same with as many units as pixels.
        error: Squared error of an image with d units, summed over pixels.
        most_gain: What reconstruction any decoder can gain over the collapsed one, in nats.
    """

    kept: int
    kept_of_all: int
    information: float
    information_of_all: float
    error: float
    most_gain: float


def pixel_eigenvalues(x: Float[Tensor, "N *X"]) -> Float64[Tensor, " D"]:
    """Returns the eigenvalues of the covariance of all pixels, the largest first.

    Example:
        >>> import torch
        >>> x = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 2.0], [0.0, -2.0]])
        >>> [round(v, 6) for v in pixel_eigenvalues(x).tolist()]
        [2.0, 0.5]
    """
    return principal_components(x.flatten(1)).eigenvalues


def linear_collapse(
    eigenvalues: Float64[Tensor, " D"], sigma2: float, latent_dim: int
) -> LinearCollapse:
    """Returns what a linear VAE with d units does at this σ².

    Args:
        eigenvalues: Of the pixels' covariance, the largest first.
        sigma2: The decoder's variance, declared or implied.
        latent_dim: d, at most D.

    Raises:
        InputError: σ² is not positive, or d is not in 1 … D.

    Example:
        >>> import torch
        >>> at = linear_collapse(torch.tensor([4.0, 2.0, 1.0]).double(), 2.0, 2)
        >>> at.kept, round(at.information, 4), at.error, at.most_gain
        (1, 0.3466, 5.0, 1.75)
    """
    if not sigma2 > 0:
        raise InputError("sigma2", expected="a number > 0", got=str(sigma2))
    if not 1 <= latent_dim <= len(eigenvalues):
        raise InputError("latent_dim", expected=f"1 to {len(eigenvalues)}", got=str(latent_dim))
    nats = 0.5 * (eigenvalues / sigma2).clamp(min=1).log()
    left = eigenvalues.clone()
    left[:latent_dim] = left[:latent_dim].clamp(max=sigma2)
    kept = eigenvalues > sigma2
    return LinearCollapse(
        int(kept[:latent_dim].sum()),
        int(kept.sum()),
        nats[:latent_dim].sum().item(),
        nats.sum().item(),
        left.sum().item(),
        eigenvalues.sum().item() / (2 * sigma2),
    )
