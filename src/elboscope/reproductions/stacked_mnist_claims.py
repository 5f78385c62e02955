r"""Rows and verdicts of Stacked MNIST.

That a model *learns* it is a threshold of ours: half of the modes that as many perfect samples
would cover, :math:`C(1 - (1 - 1/C)^n)/2`: once met by any samples, as the published protocol
counts them, and once by those of which the classifier is sure. The published claim is that VEEGAN
covers more modes than the DCGAN.

Errors of counts are of these images; the spread of trainings joins them where there are several
seeds. With one, a verdict is about these trained models alone.
"""

from __future__ import annotations

__all__ = ["SHARE", "Found", "data_rows", "rows_of", "stacked_claims"]

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import product

import torch

from .claims import Claim, Difference, judged, student
from .density_ratio_runs import Rows
from .published import Published
from .result import Row
from .stacked_mnist_plan import ENCODERS, LEARNERS, MODELS, Model
from .stacked_mnist_scores import KINDS, SCORES, Tally, perfect_modes

Found = Mapping[Model, Sequence[Rows]]
"""The looks of each seed; the last of each is judged."""
PAPER = "Srivastava et al. 2017, Stacked MNIST, arXiv 1705.07761"
OURS = "a threshold of ours, no published claim"
SHARE = 0.5
COUNTS = {"modes": "its samples", "sure_modes": "those of its samples that are sure"}


def stacked_claims(found: Found, num: int, classes: int) -> list[Claim]:
    """Returns a verdict for each model that is to learn, and for the published order.

    Args:
        found: Looks at all runs.
        num: Samples at the last look.
        classes: Modes there are.
    """
    needed = SHARE * perfect_modes(num, classes)
    claims = []
    for model, (key, what) in product(LEARNERS, COUNTS.items()):
        text = (
            f"{model} learns Stacked MNIST: {what} cover more than {needed:.0f} modes, half of "
            f"what {num} perfect ones would"
        )
        value, error = _mean_and_error(found[model], f"samples: {key}")
        gap = Difference(value - needed, error, len(found[model]), num, "modes", "samples")
        claims.append(judged(text, OURS, gap))
    more = _difference(found["VEEGAN"], found["DCGAN"], "samples: modes", num)
    text = "VEEGAN covers more modes than DCGAN (published: 150 against 99)"
    return [*claims, judged(text, PAPER, more)]


def _difference(a: Sequence[Rows], b: Sequence[Rows], key: str, num: int) -> Difference:
    """The mean of a − b, seed by seed."""
    values = torch.tensor([_last(x, key) - _last(y, key) for x, y in zip(a, b, strict=True)])
    own = [math.hypot(_own(x, key), _own(y, key)) for x, y in zip(a, b, strict=True)]
    error = _error(values.tolist(), own)
    return Difference(values.mean().item(), error, len(values), num, "modes", "samples")


def _mean_and_error(runs: Sequence[Rows], key: str) -> tuple[float, float]:
    values = [_last(rows, key) for rows in runs]
    return sum(values) / len(values), _error(values, [_own(rows, key) for rows in runs])


def _error(values: Sequence[float], own: Sequence[float]) -> float:
    """That of a mean over runs; what images add is in their spread, so the larger one counts."""
    S = len(values)
    of_images = math.sqrt(sum(e * e for e in own)) / S
    if S == 1:
        return of_images
    spread = torch.tensor(values, dtype=torch.float64).std().item() / math.sqrt(S) * student(S - 1)
    return max(of_images, spread)


def _last(rows: Rows, key: str) -> float:
    return rows[-1][key]


def _own(rows: Rows, key: str) -> float:
    error = rows[-1][f"{key} error"]
    return error if math.isfinite(error) else 0.0


def rows_of(found: Found, num: int, published: Mapping[str, Published]) -> Iterator[Row]:
    """Yields each model's scores of samples and of reconstructions, published ones beside."""
    keys = {"modes": "modes covered", "kl": "KL"}
    for model in MODELS:
        for kind in KINDS if model in ENCODERS else KINDS[:1]:
            for score, (quantity, unit) in SCORES.items():
                values = [_last(rows, f"{kind}: {score}") for rows in found[model]]
                own = [_own(rows, f"{kind}: {score}") for rows in found[model]]
                theirs = published.get(f"{model}, {keys.get(score)}") if kind == "samples" else None
                yield _row(f"{model}, {kind}", quantity, unit, values, own, num, theirs)


def data_rows(found: Tally, num: int) -> Iterator[Row]:
    """Yields what held-out data score in the place of samples: the classifier's own errors."""
    for score, (quantity, unit) in SCORES.items():
        label = "test images in the place of samples"
        yield _row(label, quantity, unit, [found[score]], [found[f"{score} error"]], num, None)


def _row(
    label: str, quantity: str, unit: str, values: Sequence[float], own: Sequence[float], num: int,
    published: Published | None,
) -> Row:  # fmt: skip
    several = len(values) > 1
    mean = sum(values) / len(values)
    error = torch.tensor(values, dtype=torch.float64).std().item() if several else own[0]
    kind = f"sd over {len(values)} seeds" if several else "own error, one run"
    return Row(
        label, quantity, mean, error, kind, num_data=num, published=published,
        unit="units" if unit in ("modes", "share") else unit, per_seed=tuple(values),
    )  # fmt: skip
