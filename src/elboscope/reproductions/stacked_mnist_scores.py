r"""Modes that samples and reconstructions meet, by a classifier of each colour's digit.

.. math:: \hat p_c = \frac1n \#\{i : \arg\max_y p(y|x_i) = c\}, \qquad
          \mathrm{KL}(\hat p \| \text{uniform}) = \sum_c \hat p_c \log (C \hat p_c)

A classifier answers whatever it is shown, so that smears of three colours meet modes too. Beside
the published count stands one of *sure* images alone, p(y|x) > ½ for the triple: what fails there
is no digit that could be told.
"""

from __future__ import annotations

__all__ = ["KINDS", "SCORES", "Score", "Tally", "perfect_modes", "scores_of", "tally"]

import math
from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from elboscope.classifiers import Extractor
from elboscope.core import seeded
from elboscope.estimators import reconstructions_of, sampler_of
from elboscope.estimators.classifier_scores import mode_kl, modes_covered
from elboscope.estimators.independent_critic import Sampler
from elboscope.models import Hybrid

from .hybrids_networks import Trained
from .training import derived_seed

KINDS = ("samples", "reconstructions")
Score = str
SCORES: Mapping[Score, tuple[str, str]] = {
    "modes": ("modes covered", "modes"),
    "kl": ("KL(modes ‖ uniform)", "nats"),
    "sure": ("share of sure images", "share"),
    "sure_modes": ("modes covered by sure images", "modes"),
}
SURE = 0.5
Tally = Mapping[str, float]
"""Each score, and its error by "… error": a bootstrap's, of these images alone."""


def tally(log_probs: Float[Tensor, "n y"]) -> Tally:
    """Returns the scores of images.

    Args:
        log_probs: log p(y|x) of each, nats.

    Example:
        >>> found = tally(torch.tensor([[0.9, 0.1], [0.4, 0.6], [0.5, 0.5]]).log())
        >>> found["modes"], found["sure_modes"], round(found["sure"], 3)
        (2.0, 2.0, 0.667)
    """
    n = len(log_probs)
    sure = log_probs.exp().max(1).values > SURE
    share = sure.double().mean().item()
    covered, kl = modes_covered(log_probs), mode_kl(log_probs)
    found = {"modes": covered.total, "modes error": covered.stderr}
    found |= {"kl": kl.mean, "kl error": kl.stderr}
    found |= {"sure": share, "sure error": math.sqrt(share * (1 - share) / n)}
    of_sure = modes_covered(log_probs[sure]) if bool(sure.any()) else None
    found["sure_modes"] = 0.0 if of_sure is None else of_sure.total
    found["sure_modes error"] = math.nan if of_sure is None else of_sure.stderr
    return found


def perfect_modes(n: int, classes: int) -> float:
    r"""Returns the modes that n perfect samples cover: :math:`C(1 - (1 - 1/C)^n)`.

    Example:
        >>> round(perfect_modes(26_000, 1000), 2), perfect_modes(1, 1000)
        (1000.0, 1.0)
    """
    return -classes * math.expm1(n * math.log1p(-1 / classes))


def scores_of(
    model: Trained, x: Float[Tensor, "N C H W"], num: int, classifier: Extractor, seed: int
) -> Mapping[str, float]:
    """Returns the tallies of samples and, where there is an encoder, of reconstructions.

    Args:
        model: On the device of x.
        x: Held-out images, to reconstruct; each once, and again after the last.
        num: Of images of each kind.
        classifier: Of triples.
        seed: Of all draws; the caller's random state stays as it is.

    Returns:
        Values by "samples: modes" and so on.
    """
    makers: dict[str, Callable[[], Sampler]] = {"samples": lambda: sampler_of(model)}
    if isinstance(model, Hybrid):
        makers["reconstructions"] = lambda: reconstructions_of(model, x)
    found: dict[str, float] = {}
    for kind, make in makers.items():
        with seeded(derived_seed(kind, seed)), torch.no_grad():
            values = tally(classifier(make()(num)).log_probs)
        found |= {f"{kind}: {name}": value for name, value in values.items()}
    return found
