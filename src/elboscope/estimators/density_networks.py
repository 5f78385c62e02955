r"""Densities of q(z) that are networks: a masked autoregressive flow and an LSTM.

.. math:: \log r_{\mathrm{MAF}}(z) = \log \mathcal N(u; 0, I)
          + \log\left|\det \frac{\partial u}{\partial z}\right|, \qquad
          r_{\mathrm{LSTM}}(z) = \prod_j \mathcal N\bigl(z_j; \mu(z_{<j}), \sigma^2(z_{<j})\bigr)

Both see standardised latents and begin as the standard normal of these: as the factorised
Gaussian of q(z). They are trained by maximum likelihood on fresh draws z ~ q(z|x_n), n uniform
over the part that fits, and stopped by the part that chooses. Which density is fitted changes how
tight the bound on KL(q(z) ‖ p(z)) is, never that it is a bound.
"""

from __future__ import annotations

__all__ = ["AutoregressiveLSTM", "FlowDensity", "fitted_network"]

import math

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from elboscope.distributions import masked_autoregressive_flow

from .aggregate_parts import Part
from .early_stopping import Descent, descend
from .evaluation import blocks
from .gaussian_mixture import LogDensity

LOG_2PI = math.log(2 * math.pi)
BATCH, SCORED_AT_ONCE = 512, 4096


class FlowDensity(nn.Module):
    """log r(z) of a standard normal pushed through a masked autoregressive flow.

    Args:
        latent_dim: d ≥ 2.
        num_steps: Transformations, in alternating order of the coordinates.
        hidden: Width of the hidden layer of each.

    Example:
        >>> r = FlowDensity(3)
        >>> bool((r(torch.zeros(1, 3)) + 1.5 * LOG_2PI).abs() < 1e-6)
        True
    """

    def __init__(self, latent_dim: int, num_steps: int = 4, hidden: int = 128) -> None:
        super().__init__()
        self.flow = masked_autoregressive_flow(latent_dim, 0, num_steps, hidden)

    def forward(self, z: Float[Tensor, "S d"]) -> Float[Tensor, " S"]:
        """Returns log r(z)."""
        u, log_det = self.flow.inverse(z, None)
        log_r: Tensor = log_det - 0.5 * (u.square() + LOG_2PI).sum(1)
        return log_r


class AutoregressiveLSTM(nn.Module):
    """log r(z) with a Gaussian of each latent given those before it.

    Args:
        latent_dim: d.
        hidden: Units of the LSTM.

    Example:
        >>> r = AutoregressiveLSTM(3)
        >>> bool((r(torch.zeros(1, 3)) + 1.5 * LOG_2PI).abs() < 1e-6)
        True
    """

    def __init__(self, latent_dim: int, hidden: int = 64) -> None:
        super().__init__()
        self.lstm = nn.LSTM(1, hidden, batch_first=True)
        self.head = nn.Linear(hidden, 2)
        self.offset = nn.Parameter(torch.zeros(latent_dim, 2))
        for p in self.head.parameters():
            nn.init.zeros_(p)

    def forward(self, z: Float[Tensor, "S d"]) -> Float[Tensor, " S"]:
        """Returns log r(z)."""
        before = torch.cat([torch.zeros_like(z[:, :1]), z[:, :-1]], 1)
        mu, log_sigma = (self.head(self.lstm(before[..., None])[0]) + self.offset).unbind(-1)
        u = (z - mu) * (-log_sigma).exp()
        log_r: Tensor = -(0.5 * u.square() + log_sigma + 0.5 * LOG_2PI).sum(1)
        return log_r


def fitted_network(
    network: FlowDensity | AutoregressiveLSTM,
    fit: Part,
    choose: Part,
    *,
    max_steps: int,
    learning_rate: float = 1e-3,
) -> tuple[LogDensity, Descent]:
    """Trains a density on fresh draws and returns its logarithm with how the training ended.

    Args:
        network: The density of standardised latents, in float32.
        fit: The part whose posteriors are drawn from.
        choose: The part that stops.
        max_steps: Gradient steps of 512 draws at most.
        learning_rate: Adam's.
    """
    centre, scale = fit.z.mean(0), fit.z.std(0).clamp(min=torch.finfo(fit.z.dtype).tiny)
    network.to(fit.z.device)

    def standardised(z: Float64[Tensor, "S d"]) -> Float[Tensor, "S d"]:
        return ((z - centre) / scale).float()

    def log_r(z: Float64[Tensor, "S d"]) -> Float64[Tensor, " S"]:
        u = standardised(z)
        with torch.no_grad():
            parts = [network(u[rows]).double() for rows in blocks(len(u), SCORED_AT_ONCE)]
        return torch.cat(parts) - scale.log().sum()

    ended = descend(
        network,
        lambda: -network(standardised(fit.fresh(BATCH))).mean(),
        lambda: log_r(choose.z).mean().item(),
        max_steps=max_steps,
        learning_rate=learning_rate,
    )
    return log_r, ended
