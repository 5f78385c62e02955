r"""What every estimator does before it estimates: take the data, place it, name its provenance.

Data arrive as a tensor, an array, a data set or a loader; they are converted once, moved to the
model's device and dtype, and identified by a checksum *before* the move, so that two models in
different precision are still compared on the same data. Randomness enters only afterwards.
"""

from __future__ import annotations

__all__ = [
    "Inputs",
    "blocks",
    "bounded_support",
    "error_per_unit",
    "first_answered",
    "is_real",
    "likelihood_of",
    "log_prob_within",
    "prepared",
    "require_conditions",
    "require_positive",
    "within",
]

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor
from torch.distributions import Distribution, constraints

from elboscope.core import (
    ContractError,
    GenerativeModel,
    InputError,
    LatentVariableModel,
    blocks,
    data_id,
    family,
    given,
    is_in_support,
    placed_like,
)
from elboscope.core.errors import refuses_values
from elboscope.data import as_tensor


class Inputs(NamedTuple):
    """Data on the model's device, the conditions that go with them, and where they came from."""

    x: Tensor
    condition: Tensor | None
    data_id: str
    treatment: str

    def rows(self, index: slice | Tensor) -> tuple[Tensor, Tensor | None]:
        """Returns the datapoints and conditions of some rows."""
        return self.x[index], None if self.condition is None else self.condition[index]

    def take(self, index: slice | Tensor) -> Inputs:
        """Returns the same inputs restricted to some rows, keeping the checksum of the whole."""
        return Inputs(*self.rows(index), self.data_id, self.treatment)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was done to the data, for the notes of an estimate."""
        return (self.treatment,)


def prepared(
    model: GenerativeModel, x: object, condition: Tensor | None, name: str = "x"
) -> Inputs:
    """Converts the data, places them like the model, and checks the conditions' length.

    Raises:
        InputError: x cannot be data; the conditions are not one per datapoint.
    """
    batch = as_tensor(x, name=name)
    local = model if condition is None else given(model, condition)
    placed = placed_like(batch.x, local)
    _require_one_prior(local)
    if condition is not None and len(condition) != len(placed):
        raise InputError(
            "condition",
            expected=f"one row for each of the {len(placed)} datapoints of {name}",
            got=f"{len(condition)} rows",
        )
    if condition is not None:
        kind = placed.dtype if condition.is_floating_point() else condition.dtype
        condition = condition.to(device=placed.device, dtype=kind)
    return Inputs(placed, condition, data_id(batch.x), batch.treatment)


def require_conditions(
    x_train: object, condition: Tensor | None, condition_train: Tensor | None
) -> None:
    """Refuses conditions for one of x and x_train, or for an x_train that is not given."""
    if x_train is None and condition_train is not None:
        raise InputError("condition_train", expected="x_train with it", got="no x_train")
    if x_train is not None and (condition is None) != (condition_train is None):
        raise InputError(
            "condition_train",
            expected="conditions for both x and x_train, or for neither",
            got="conditions for one of them",
        )


def likelihood_of(model: GenerativeModel, inputs: Inputs) -> Mapping[str, object]:
    """Returns the families of p(x|z) and, where there is one, of q(z|x), for the record."""
    x, condition = inputs.rows(slice(0, 1))
    local = given(model, condition)
    z = local.prior().sample(torch.Size((1, 1)))
    likelihood = local.decode(z)
    _require_shape(likelihood, inputs.x)
    _require_support(likelihood, inputs.x)
    record: dict[str, object] = {"likelihood": family(likelihood)}
    if isinstance(local, LatentVariableModel):
        x, condition = inputs.rows(first_answered(model, inputs))
        record["posterior"] = family(_encode(model, x, condition))
    return {**record, "data": inputs.treatment}


def _encode(model: GenerativeModel, x: Tensor, condition: Tensor | None) -> Distribution:
    local = given(model, condition)
    assert isinstance(local, LatentVariableModel)
    return local.encode(x)


def first_answered(model: GenerativeModel, inputs: Inputs) -> slice:
    """Returns the first row of which the encoder has an answer: validation may refuse a NaN."""
    for row in range(len(inputs.x)):
        x, condition = inputs.rows(slice(row, row + 1))
        try:
            _encode(model, x, condition)
        except ValueError as error:
            if not refuses_values(error):
                raise
            continue
        return slice(row, row + 1)
    return slice(0, 1)


def _require_one_prior(model: GenerativeModel) -> None:
    """Refuses p(z|c): the prior of one condition would be taken for that of all others."""
    batch = tuple(model.prior().batch_shape)
    if batch:
        raise ContractError(
            "prior()",
            expected="one prior for all datapoints, batch shape ()",
            got=f"batch shape {batch}",
            do="A prior that depends on the condition is not supported; latents are event "
            "dimensions: wrap them in Independent.",
        )


def _require_shape(p: Distribution, x: Tensor) -> None:
    """Refuses datapoints of another shape than the decoder's: they might broadcast to a number."""
    decoded, given = tuple(p.event_shape), tuple(x.shape[1:])
    if decoded != given:
        raise InputError(
            "x",
            expected=f"datapoints of shape {decoded}, the event shape of decode(z)",
            got=f"shape {given}, {len(x)} of them",
            do="Reshape x, or wrap the likelihood in Independent.",
        )


def _require_support(p: Distribution, x: Tensor) -> None:
    """Refuses data for which log p(x|z) is the density of nothing: it would look like a score."""
    if not is_in_support(p, x):
        raise InputError(
            "x",
            expected=f"values in the support of the likelihood, {family(p)}",
            got=f"values from {x.min().item():.4g} to {x.max().item():.4g}, for which log p(x|z) "
            "is a cross-entropy and no density",
            do="Binarise them, es.data.Binarisation('dynamic').fixed_draw(x), or take a "
            "likelihood of grey values.",
        )


def require_positive(name: str, value: int | None, least: int = 1) -> None:
    """Refuses counts below the least that gives a number; ``None`` stands for a default."""
    if isinstance(value, bool) or not (value is None or hasattr(value, "__index__")):
        raise InputError(name, expected="a whole number", got=repr(value))
    if value is not None and value < least:
        raise InputError(name, expected=f"at least {least}", got=str(value))


def error_per_unit(values: Float64[Tensor, "n d"]) -> Float64[Tensor, " d"]:
    """Returns sd/√n of every unit over the datapoints; NaN where there is one datapoint."""
    n = len(values)
    return values.std(0) / math.sqrt(n) if n > 1 else torch.full_like(values[0], torch.nan)


# Where a density is: priors and posteriors on a part of the space, which HMC leaves.
#
# Outside its support a density is zero. :mod:`torch.distributions` raises there, or, with its
# checks off, continues the formula as if there were more space. Both are avoided by looking
# first.

Densities = Callable[[Tensor], tuple[Tensor, Tensor]]


def is_real(support: constraints.Constraint | None) -> bool:
    """Whether a support is the whole space.

    Example:
        >>> is_real(constraints.independent(constraints.real, 1)), is_real(constraints.positive)
        (True, False)
    """
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    return support in (constraints.real, constraints.real_vector)


def bounded_support(p: Distribution) -> constraints.Constraint | None:
    """Returns the support of p if it is known and not the whole space."""
    try:
        support = p.support
    except NotImplementedError:
        return None
    if support is None or is_real(support) or constraints.is_dependent(support):
        return None
    return support


def log_prob_within(p: Distribution, z: Float[Tensor, "*K B *Z"]) -> Float[Tensor, "*K B"]:
    """Returns log p(z), which is −∞ outside the support of p."""
    support = bounded_support(p)
    inside = None if support is None else support.check(z)
    if inside is None or bool(inside.all()):
        log_p: Tensor = p.log_prob(z)
        return log_p
    placed = torch.where(_like(inside, z), z, p.sample())
    return p.log_prob(placed).masked_fill(~inside, -torch.inf)


def within(
    densities: Densities, supports: Sequence[Distribution], somewhere: Float[Tensor, "B *Z"]
) -> Densities:
    """Returns log-densities that are −∞ outside the support of any of some distributions.

    Args:
        densities: From z ``(C, B, *Z)`` to two log-densities.
        supports: The distributions.
        somewhere: A place inside all of them for each datapoint, at which the model is evaluated
            instead of a z that lies outside.
    """
    bounds = [support for support in map(bounded_support, supports) if support is not None]
    if not bounds:
        return densities

    def inner(z: Tensor) -> tuple[Tensor, Tensor]:
        inside = torch.stack([_inside(bound, z) for bound in bounds]).all(0)
        placed = torch.where(_like(inside, z), z, somewhere)
        log_base, log_ratio = densities(placed)
        return (
            log_base.masked_fill(~inside, -torch.inf),
            log_ratio.masked_fill(~inside, -torch.inf),
        )

    return inner


def _inside(support: constraints.Constraint, z: Tensor) -> Bool[Tensor, "C B"]:
    found: Tensor = support.check(z)
    return found


def _like(inside: Tensor, z: Tensor) -> Tensor:
    return inside.reshape(*inside.shape, *(1,) * (z.ndim - inside.ndim))
