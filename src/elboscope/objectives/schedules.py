r"""Weights of an objective as pure functions of training time.

Time is counted in epochs, as a real number: after step t of an epoch of T steps it has grown by
t/T. A schedule has no state, so a resumed run needs to remember nothing but where it was, and a
test can ask for any moment. Which weight multiplies what (the KL, the entropy) is the
objective's business.
"""

from __future__ import annotations

__all__ = ["cyclical", "entropy_annealing", "linear_warm_up"]

import math


def linear_warm_up(epoch: float, length: float, start: float = 0.0, end: float = 1.0) -> float:
    r"""Returns :math:`\mathrm{start} + (\mathrm{end} - \mathrm{start}) \min(1, t / \mathrm{length})`.

    Args:
        epoch: t, in epochs.
        length: Epochs after which the end is reached; 0 is no warm-up.
        start: The value at t = 0.
        end: The value from ``length`` on.

    References:
        | Generating Sentences from a Continuous Space (Bowman et al., 2016), arXiv 1511.06349
        | Ladder Variational Autoencoders (Sønderby et al., 2016), arXiv 1602.02282

    Example:
        >>> linear_warm_up(5.0, 10.0), linear_warm_up(50.0, 10.0)
        (0.5, 1.0)
    """  # noqa: E501
    if epoch >= length:
        return end
    return start + (end - start) * epoch / length


def cyclical(epoch: float, period: float, rising: float = 0.5, end: float = 1.0) -> float:
    r"""Returns a weight that climbs from 0 to ``end`` anew in each period.

    Within a period it rises linearly for the fraction ``rising`` and then stays at ``end``.

    Args:
        epoch: t, in epochs.
        period: Length of one cycle in epochs.
        rising: Fraction of the period spent rising, in (0, 1].
        end: The value of the plateau.

    References:
        | Cyclical Annealing Schedule (Fu et al., 2019), arXiv 1903.10145

    Example:
        >>> [cyclical(t, 10.0) for t in (0.0, 2.5, 5.0, 9.9, 12.5)]
        [0.0, 0.5, 1.0, 1.0, 0.5]
    """
    return end * min(1.0, math.fmod(epoch, period) / (rising * period))


def entropy_annealing(epoch: float, length: float) -> float:
    r"""Returns :math:`\lambda = \min(1, \lceil t \rceil / \mathrm{length})`, a staircase.

    The first epoch has λ = 1/length and never 0, where the optimal posterior is a point.

    References:
        | Inference Suboptimality in Variational Autoencoders (Cremer et al., 2018),
          arXiv 1801.03558

    Example:
        >>> [entropy_annealing(t, 4.0) for t in (0.01, 1.0, 1.01, 3.5, 9.0)]
        [0.25, 0.25, 0.5, 1.0, 1.0]
    """
    return 1.0 if length <= 0 else min(1.0, max(1, math.ceil(epoch)) / length)
