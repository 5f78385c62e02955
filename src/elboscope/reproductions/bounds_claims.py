r"""Does a value follow the training? Rank statistics of looks that are compared in pairs.

A run is looked at K times on the same test images with the same noise. Of two looks j < k the
second is higher, lower, or the same within two standard errors of the paired difference:

.. math:: \tau = \binom K2^{-1} \sum_{j<k} s_{jk}, \qquad s_{jk} \in \{1, -1, 0\}

is 1 for a value that rises from each look to every later one beyond its error, and 0 where rises
and falls are as many. Its spread over runs is its error. The *smallest rise* between neighbouring
looks is the least of many: its error is enlarged so that all of them hold at once.
"""

from __future__ import annotations

__all__ = ["Course", "claims_of", "simultaneous", "smallest_rise", "tau"]

from collections.abc import Iterator, Mapping, Sequence

import torch
from jaxtyping import Float64
from scipy.stats import norm
from torch import Tensor

from .bounds_values import Values
from .claims import ERRORS, Claim, Difference, difference, judged

FIGURES = "Rosca et al. 2018, Figs. 5 and 23, arXiv 1802.06847"
CLASSIFIERS = "Rosca et al. 2018, Fig. 4, arXiv 1802.06847"
Course = Sequence[Values]
"""The looks of one run, in time."""


def tau(looks: Float64[Tensor, "K n"]) -> float:
    """Returns τ: the mean sign of later minus earlier, 0 within two paired errors.

    Example:
        >>> rising = torch.arange(4.0).double()[:, None].expand(4, 5)
        >>> tau(rising), tau(-rising), tau(0 * rising)
        (1.0, -1.0, 0.0)
    """
    signs = []
    for k in range(1, len(looks)):
        rises = looks[k] - looks[:k]
        error = rises.std(1) / rises.shape[1] ** 0.5
        mean = rises.mean(1)
        signs.append(mean.sign() * (mean.abs() > ERRORS * error))
    return torch.cat(signs).mean().item()


def simultaneous(number: int) -> float:
    """Returns by how much errors grow for that many differences to hold at once with 95 %.

    Example:
        >>> round(simultaneous(1), 2), round(simultaneous(20), 2)
        (0.98, 1.51)
    """
    return float(norm.ppf(1 - 0.025 / number)) / ERRORS


def smallest_rise(runs: Sequence[Float64[Tensor, "K n"]]) -> Difference:
    """Returns the least mean difference of neighbouring looks in units of its error, of all runs.

    Example:
        >>> a = torch.tensor([[0.0, 0.0], [1.0, 1.2], [0.8, 1.1]]).double()
        >>> print(smallest_rise([a]))
        -0.150 ± 0.056 nats (1 seed, 2 test images)
    """
    steps = torch.stack([looks.diff(dim=0) for looks in runs]).flatten(0, 1)
    mean, error = steps.mean(1), steps.std(1) / steps.shape[1] ** 0.5
    worst = int((mean / error.clamp(min=1e-12)).argmin())
    enlarged = error[worst].item() * simultaneous(len(steps))
    return Difference(mean[worst].item(), enlarged, len(runs), steps.shape[1])


def claims_of(
    found: Mapping[str, Sequence[Course]], fitted: Mapping[str, Float64[Tensor, "S three two"]]
) -> Iterator[Claim]:
    """Yields the claims.

    Args:
        found: Runs by kind: "VAE", "AAE", "VEEGAN".
        fitted: What classifiers trained at the end say, by kind, for VAE and AAE.
    """
    values = {kind: [_of(run, "value") for run in runs] for kind, runs in found.items()}
    taus = {k: torch.tensor([[tau(r)] for r in runs]).double() for k, runs in values.items()}
    zero = torch.zeros_like(taus["VAE"])
    rising = _in_ranks(difference(taus["VAE"], zero))
    yield judged("a VAE's ELBO rises over training (rank correlation τ > 0)", FIGURES, rising)
    text = "a VAE's ELBO rises monotonically: from each look to the next (the smallest rise)"
    yield judged(text, FIGURES, smallest_rise(values["VAE"]))
    for kind in ("AAE", "VEEGAN"):
        text = (
            f"what the paper calls a bound of {kind} follows training less than a VAE's ELBO does "
            "(difference of τ)"
        )
        yield judged(text, FIGURES, _in_ranks(difference(taus["VAE"], taus[kind])))
        fall = smallest_rise(values[kind])
        text = (
            f"what the paper calls a bound of {kind} does not rise monotonically (the clearest "
            "fall between two looks)"
        )
        data = "draws" if kind == "VEEGAN" else fall.data
        yield judged(text, FIGURES, fall._replace(value=-fall.value, data=data))
    yield from _underestimates(found, fitted)


def _underestimates(
    found: Mapping[str, Sequence[Course]], fitted: Mapping[str, Tensor]
) -> Iterator[Claim]:
    less = "is less than the mixture's KL(q_N‖p), at the end of training"
    for kind, by_classifier in fitted.items():
        last = [run[-1] for run in found[kind]]
        mixture = torch.stack([one["kl"] - one["information"] for one in last])
        text = f"{kind}: the KL by a classifier trained for nothing else {less}"
        apart = difference(mixture.mean(1, keepdim=True), by_classifier[:, 0, :1])
        yield judged(text, CLASSIFIERS, apart)
        if kind == "AAE":
            ratio = torch.stack([one["ratio"] for one in last])
            apart = difference(mixture, ratio, data="images of the mixture")
            text = f"{kind}: the KL by its own discriminator {less}"
            yield judged(text, CLASSIFIERS, apart)


def _of(run: Course, name: str) -> Float64[Tensor, "K n"]:
    return torch.stack([look[name] for look in run])


def _in_ranks(found: Difference) -> Difference:
    return found._replace(unit="of τ")
