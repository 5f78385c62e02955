r"""Errors of statistics of two samples, by leaving out a group of both at a time.

θ̂ of N data and M samples, θ₍g₎ without the g-th tenth of both:

.. math:: \widehat{\mathrm{Var}}\,\hat\theta = \frac{G - 1}{G} \sum_g
          (\theta_{(g)} - \bar\theta)^2

It sees the fluctuations of the data, of the samples, and of neighbourhoods or covariances made of
them; not the bias of θ̂ for few datapoints. A bootstrap would repeat datapoints, which sets the
distances between nearest neighbours to zero.

The error is *conservative*: in expectation the jackknife's variance is not below the true one (of
samples a tenth smaller; Efron and Stein). It is right for smooth statistics, such as moments, and
up to twice the true error for shares of nearest neighbours.

References:
    | The Jackknife Estimate of Variance (Efron and Stein, 1981),
      https://doi.org/10.1214/aos/1176345462
    | The Jackknife and Bootstrap (Shao and Tu, 1995), section 2.3
"""

from __future__ import annotations

__all__ = ["GROUPS", "group_values"]

from collections.abc import Callable

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from elboscope.core import InputError

GROUPS = 10

Statistic = Callable[[Tensor, Tensor], Tensor]
"""From the rows of the data and of the samples to keep, to one or several numbers."""


def group_values(
    statistic: Statistic, num_data: int, num_samples: int, groups: int = GROUPS
) -> Float64[Tensor, "m G"]:
    """Returns G values of each number: their mean is θ̂, their sd/√G its standard error.

    They are the jackknife's pseudo-values, moved to the mean θ̂. Two statistics that share their
    data, group by group, can be subtracted: the difference has the paired error.

    Args:
        statistic: Of the rows that are kept.
        num_data: N.
        num_samples: M.
        groups: G.

    Raises:
        InputError: Fewer than two groups, or less than two rows in each.

    Example:
        >>> x, y = torch.arange(20.0), torch.zeros(20)
        >>> values = group_values(lambda i, j: (x[i].mean() - y[j].mean())[None], 20, 20)
        >>> values.mean().item()
        9.5
    """
    if groups < 2 or min(num_data, num_samples) < 2 * groups:
        raise InputError(
            "groups",
            expected="at least 2, and two rows of data and of samples in each",
            got=f"{groups} groups of {num_data} and {num_samples} rows",
        )
    full = statistic(torch.arange(num_data), torch.arange(num_samples)).double()
    without = torch.stack(
        [
            statistic(_kept(num_data, g, groups), _kept(num_samples, g, groups)).double()
            for g in range(groups)
        ],
        1,
    )
    return full[:, None] + (groups - 1) * (without.mean(1, keepdim=True) - without)


def _kept(num: int, group: int, groups: int) -> Int64[Tensor, " n"]:
    rows = torch.arange(num)
    return rows[rows % groups != group]
