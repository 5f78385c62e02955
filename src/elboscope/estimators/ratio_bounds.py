r"""Lower bounds on a KL divergence by any critic, from its values on draws of both sides.

.. math:: \mathrm{KL}(q \| p) \ge \mathbb{E}_{q}[T] - \log \mathbb{E}_{p}[e^{T}]
          \ \text{(Donsker–Varadhan)}, \qquad
          \mathrm{KL} \ge \mathbb{E}_{q}[T] - \mathbb{E}_{p}[e^{T - 1}] \ \text{(NWJ)}

hold for every T, but their E_p[e^T] rests on the few draws of p where T is large, and a critic
whose peaks no draw has met would be believed. So T is cut at a ceiling M, which one set of draws
picks, and 3e^M/S, what S draws may miss with 95 % (the rule of three), is added to the mean of
e^T on the other. Neither bound then exceeds log(S/3) + 1.

References:
    | Estimating divergence functionals and the likelihood ratio by convex risk minimization
      (Nguyen, Wainwright, Jordan, 2010), https://arxiv.org/abs/0809.0853
    | Formal Limitations on the Measurement of Mutual Information (McAllester, Stratos, 2018),
      https://arxiv.org/abs/1811.04251
"""

from __future__ import annotations

__all__ = ["RatioBounds", "Scores", "ratio_bounds"]

import math
from typing import NamedTuple

import torch
from jaxtyping import Float64
from torch import Tensor

from elboscope.core import standard_error

RULE_OF_THREE = 3.0
CEILINGS = 33


class Scores(NamedTuple):
    """T on draws of q and of p, where KL(q‖p) is sought."""

    q: Float64[Tensor, " S"]
    p: Float64[Tensor, " P"]


class RatioBounds(NamedTuple):
    """Two lower bounds on KL(q‖p), in nats: each the mean of its values.

    Attributes:
        donsker_varadhan: A value for each held-out draw of q.
        nwj: The same by Nguyen, Wainwright and Jordan.
        donsker_varadhan_error: What the draws of p add to its error, shared by all values.
        nwj_error: The same for the other.
        ceiling: M.
    """

    donsker_varadhan: Float64[Tensor, " S"]
    nwj: Float64[Tensor, " S"]
    donsker_varadhan_error: float
    nwj_error: float
    ceiling: float


def ratio_bounds(choosing: Scores, held_out: Scores) -> RatioBounds:
    """Returns both bounds, from draws of which the critic has seen none.

    Args:
        choosing: Values on draws that pick the ceiling and the offset of NWJ.
        held_out: Values on other draws, which make the bounds.

    Example:
        >>> x = torch.linspace(-3, 3, 3000).double()
        >>> blind = Scores(0 * x, 0 * x)
        >>> abs(ratio_bounds(blind, blind).donsker_varadhan.mean().item()) < 2e-3
        True
    """
    M = _ceiling(choosing)
    c = _log_normaliser(choosing.p, M).item()
    log_mean = _log_normaliser(held_out.p, M).item()
    T, e = held_out.q.clamp(max=M), held_out.p.clamp(max=M)
    nwj = T - c + 1 - (e - c).exp().mean()
    return RatioBounds(T - log_mean, nwj, _error(e - log_mean), _error(e - c), M)


def _log_normaliser(T: Float64[Tensor, " P"], M: float) -> Float64[Tensor, ""]:
    """log of the mean of e^min(T, M) plus what the draws may have missed."""
    missed = M + math.log(RULE_OF_THREE)
    return torch.cat([T.clamp(max=M), T.new_tensor([missed])]).logsumexp(0) - math.log(len(T))


def _ceiling(scores: Scores) -> float:
    """The M at which the Donsker–Varadhan bound of these draws is largest."""
    ladder = torch.linspace(0.0, math.log(len(scores.p) / 20), CEILINGS).tolist()
    bounds = [scores.q.clamp(max=M).mean() - _log_normaliser(scores.p, M) for M in ladder]
    return float(ladder[int(torch.stack(bounds).argmax())])


def _error(log_terms: Float64[Tensor, " P"]) -> float:
    """The standard error of the mean of their exponentials."""
    return standard_error(log_terms.exp())
