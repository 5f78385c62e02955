r"""Draws from q(z) in three parts of the datapoints: to fit, to choose and to evaluate.

Whatever is learned about q(z), a density or a classifier, is learned from draws of the posteriors
of *some* datapoints. On those very datapoints it may score their N narrow posteriors instead of
the population's q(z). So the parts hold different datapoints: the second stops and chooses, and
only the third is reported, once. Values on it are unbiased for what was learned, and statements
about the population.
"""

from __future__ import annotations

__all__ = ["Part", "Parts", "aggregate_inputs", "require_volume", "split_aggregate"]

from typing import NamedTuple

import torch
from jaxtyping import Float64, Int64
from torch import Tensor
from torch.distributions import Distribution

from elboscope.core import ContractError, InputError, LatentVariableModel, family, given

from ..inputs import Inputs, has_volume, prepared, require_conditions
from ..posteriors import Posteriors, encode_posteriors, gaussian_posteriors
from .aggregate import log_prior

FEWEST_DATAPOINTS = 20
FIT_DRAWS = 10_000
MOST_DRAWS_EACH = 10


def require_volume(prior: Distribution) -> None:
    """Refuses latents whose prior is no density over R^d: log r − log p would compare two measures.

    Raises:
        ContractError: The latents are discrete, or points of a simplex.
    """
    if has_volume(prior):
        return
    raise ContractError(
        "prior()",
        expected="a density over R^d, which a fitted density can be compared with",
        got=f"{family(prior)}, whose latents are discrete or on a simplex",
        do="Use the mixture, es.marginal_kl(model, x, 'mixture'), which counts q(z|x) itself.",
    )


class Part(NamedTuple):
    """Draws of one part of the datapoints, how many each, and their log-density under p."""

    z: Float64[Tensor, "S d"]
    which: Int64[Tensor, " S"]
    log_p: Float64[Tensor, " S"]
    size: int
    posteriors: Posteriors

    def fresh(self, num_draws: int) -> Float64[Tensor, "n d"]:
        """Draws anew from the posteriors of datapoints chosen at random."""
        index = torch.randint(self.size, (num_draws,), device=self.z.device)
        return self.posteriors.draw(index)


class Parts(NamedTuple):
    """Three parts of the datapoints, and the prior that their q(z) is compared with."""

    fit: Part
    choose: Part
    evaluate: Part
    prior: Distribution
    dtype: torch.dtype
    data_id: str
    notes: tuple[str, ...]

    def prior_draws(self, num_draws: int) -> Float64[Tensor, "n d"]:
        """Draws from p(z), latent axes flattened."""
        return self.prior.sample(torch.Size((num_draws,))).reshape(num_draws, -1).double()

    @property
    def settings(self) -> dict[str, object]:
        """How many datapoints were used for what."""
        return {
            "fitted_on": self.fit.size,
            "chosen_on": self.choose.size,
            "evaluated_on": self.evaluate.size,
        }


def split_aggregate(
    model: LatentVariableModel,
    x: object,
    x_train: object = None,
    condition: Tensor | None = None,
    condition_train: Tensor | None = None,
) -> Parts:
    """Splits data at random and draws from each part's posteriors, several times if it is small.

    Runs inside ``core.evaluating`` and ``core.seeded``.

    Args:
        model: The model, with an encoder.
        x: Data to evaluate on; without x_train a quarter of them, while half fits and a quarter
            chooses.
        x_train: Data of which two thirds fit and one third chooses.
        condition: One row per datapoint of x.
        condition_train: One row per datapoint of x_train.

    Raises:
        InputError: Fewer than twenty datapoints; draws that are not finite; conditions for one
            of the two data sets.
    """
    held_out = prepared(model, x, condition)
    inputs = aggregate_inputs(model, held_out, x_train, condition_train)
    pieces = _pieces(inputs, None if x_train is None else held_out)
    prior = given(model, inputs.rows(slice(0, 1))[1]).prior()
    fit, choose, evaluate = (_draw(model, prior, piece) for piece in pieces)
    return Parts(fit, choose, evaluate, prior, inputs.x.dtype, held_out.data_id, held_out.notes)


def aggregate_inputs(
    model: LatentVariableModel, inputs: Inputs, x_train: object, condition_train: Tensor | None
) -> Inputs:
    """Returns the data whose aggregate posterior is meant: x_train where given, else x.

    Raises:
        InputError: Conditions for one of the two data sets.
    """
    require_conditions(x_train, inputs.condition, condition_train)
    if x_train is None:
        return inputs
    return prepared(model, x_train, condition_train, "x_train")


def _pieces(inputs: Inputs, other: Inputs | None) -> tuple[Inputs, Inputs, Inputs]:
    N = len(inputs.x)
    order = torch.randperm(N).to(inputs.x.device)
    cuts = (N // 2, 3 * N // 4) if other is None else (2 * N // 3, N)
    last = inputs.take(order[cuts[1] :]) if other is None else other
    if min(N, 4 * len(last.x)) < FEWEST_DATAPOINTS:
        raise InputError(
            "x of the held-out bound",
            expected=f"at least {FEWEST_DATAPOINTS} datapoints",
            got=f"{N}" if other is None else f"{N}, and {len(last.x)} held out",
            do="Evaluate on more data.",
        )
    return inputs.take(order[: cuts[0]]), inputs.take(order[cuts[0] : cuts[1]]), last


def _draw(model: LatentVariableModel, prior: Distribution, inputs: Inputs) -> Part:
    q = encode_posteriors(model, inputs)
    each = max(1, min(MOST_DRAWS_EACH, FIT_DRAWS // len(q)))
    index = torch.arange(len(q), device=inputs.x.device).repeat(each)
    z = q.draw(index)
    if not bool(z.isfinite().all()):
        raise InputError(
            "encode(x)",
            expected="finite means and scales",
            got="draws that are NaN or infinite",
            do="The model has diverged: train it again with a smaller learning rate.",
        )
    log_p = log_prior(prior, gaussian_posteriors(prior), z, inputs.x.dtype)
    return Part(z, index, log_p, len(q), q)
