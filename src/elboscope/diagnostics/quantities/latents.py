r"""What a diagnosis measures of the latent units, and the pictures of what they show.

No picture is a number by which a model is judged: they show what the numbers are about. All come
from the data behind q(z); paths lead from evaluation data to evaluation data.
"""

from __future__ import annotations

__all__ = [
    "ACTIVE_UNITS",
    "IMPLIED_KL_WEIGHT",
    "INTERPOLATIONS",
    "MANIFOLD",
    "POSTERIOR_MEANS",
    "QUANTITIES",
    "TRAVERSALS",
    "UNIT_KL",
    "ZEROING",
]

import math
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from elboscope import estimators
from elboscope.core import Estimate, given, mean_of, seeded
from elboscope.estimators import LatentInterpolations, LatentManifold, LatentTraversals
from elboscope.estimators.latents.paths import LEVELS

from ..plan import batches
from ..quantity import (
    Number,
    Quantity,
    Subject,
    gradient_needed_by,
    no_density,
    no_encoder,
    no_latents,
    no_likelihood,
)

WIDTH_SAMPLES = 64  # per datapoint: near a collapse the widths balance hundredths of a nat


def _unit_kl(subject: Subject) -> Estimate:
    plan = subject.plan
    return estimators.unit_kl(subject.vae, plan.x, condition=plan.condition)


UNIT_KL = Quantity(
    "unit_kl",
    "KL(q(z_j|x) ‖ p(z_j))",
    "Not use: a unit can cost nats and the decoder can ignore it.",
    _unit_kl,
    needs=(no_density,),
    asked_in=("latents",),
)


def _active_units(subject: Subject) -> Estimate:
    plan = subject.plan
    return estimators.active_units(subject.vae, plan.x, seed=plan.seed, condition=plan.condition)


ACTIVE_UNITS = Quantity[Estimate](
    "active_units",
    "The variance of the posterior means",
    "",
    _active_units,
    needs=(no_encoder,),
    shown_as=(
        Number(
            "active_units",
            "active units, Var_x E_q[z_j|x]",
            "Not use by the decoder: only that the encoder moves the unit with the data.",
            asked_in=("latents",),
            show="count",
            unit="variance of z",
        ),
    ),
)


def _zeroing(subject: Subject) -> Estimate:
    plan = subject.plan
    return estimators.zeroing_effect(subject.vae, plan.x, seed=plan.seed, condition=plan.condition)


ZEROING = Quantity[Estimate](
    "zeroing",
    "What the reconstruction loses without a unit",
    "",
    _zeroing,
    needs=(no_encoder, no_likelihood),
    shown_as=(
        Number(
            "zeroing",
            "reconstruction lost by zeroing unit j",
            "Not additive: units that carry the same information replace each other.",
            asked_in=("latents",),
            show="range",
        ),
    ),
)


def _implied_kl_weight(subject: Subject) -> Estimate:
    plan = subject.plan
    with gradient_needed_by("it"):
        return estimators.implied_kl_weight(
            subject.vae, plan.x, WIDTH_SAMPLES, seed=plan.seed, condition=plan.condition
        )


IMPLIED_KL_WEIGHT = Quantity(
    "implied_kl_weight",
    "KL weight β that the encoder's widths imply",
    "Not the weight of the loss: the β at which the posterior's widths would be optimal for this "
    "decoder.",
    _implied_kl_weight,
    needs=(no_density, no_likelihood),
    asked_in=("latents",),
)


def _posterior_means(subject: Subject) -> Tensor:
    """E_q[z|x], flattened to (n, d)."""
    plan = subject.plan
    parts = batches(subject.vae, plan.x, plan.condition)
    return torch.cat([local.encode(rows).mean.flatten(1) for local, rows in parts])


POSTERIOR_MEANS = Quantity[Tensor](
    "posterior_means",
    "the posterior means E_q[z|x]",
    "",
    _posterior_means,
    needs=(no_encoder,),
    shown_as=(),
)


# The pictures: what units show, what lies between two codes, and the plane of two latents.

TOO_MANY = "there are more than two latents: no plane through them is what the prior samples"


class _Size(NamedTuple):
    """How many tiles each picture has."""

    units: int
    levels: tuple[float, ...]
    pairs: int
    steps: int
    nodes: int


# Draws of an autoregressive decoder take a pass per value: fifty of them, not three hundred.
SIZES = {True: _Size(8, LEVELS, 4, 9, 15), False: _Size(3, (0.05, 0.3, 0.5, 0.7, 0.95), 2, 5, 5)}


@runtime_checkable
class _Decoded(Protocol):
    @property
    def mean(self) -> Tensor: ...


D = TypeVar("D", bound=_Decoded)


def _size(subject: Subject) -> _Size:
    """Fewer tiles where p(x|z) does not tell its mean and every tile is a draw."""
    plan = subject.plan
    c = plan.condition_mixture
    local = given(subject.model, None if c is None else c[:1])
    with seeded(plan.seed):
        z = local.prior().sample(torch.Size((1, 1)))
    try:
        mean_of(local.decode(z))
    except NotImplementedError:
        return SIZES[False]
    except (ValueError, RuntimeError):
        return SIZES[True]  # the same error is reported where the picture is decoded
    return SIZES[True]


def _all_finite(found: D) -> D:
    bad = int((~found.mean.isfinite()).sum())
    if bad:
        raise ValueError(f"{bad} of its {found.mean.numel()} values are NaN or infinite")
    return found


def _traversals(subject: Subject) -> LatentTraversals:
    plan, size = subject.plan, _size(subject)
    found = estimators.latent_traversals(
        subject.vae,
        plan.x_mixture,
        num_units=size.units,
        levels=size.levels,
        seed=plan.seed,
        condition=plan.condition_mixture,
    )
    return _all_finite(found)


TRAVERSALS = Quantity[LatentTraversals](
    "traversals",
    "what the decoder shows while one unit moves",
    "",
    _traversals,
    needs=(no_latents, no_encoder),
    shown_as=(),
)


def _interpolations(subject: Subject) -> LatentInterpolations:
    """Between evaluation data where training data are behind q(z); else between its own."""
    plan, size = subject.plan, _size(subject)
    if plan.x_train is None:
        found = estimators.latent_interpolations(
            subject.vae,
            plan.x_mixture,
            size.pairs,
            num_steps=size.steps,
            seed=plan.seed,
            condition=plan.condition_mixture,
        )
    else:
        found = estimators.latent_interpolations(
            subject.vae,
            plan.x,
            size.pairs,
            num_steps=size.steps,
            seed=plan.seed,
            x_train=plan.x_mixture,
            condition=plan.condition,
            condition_train=plan.condition_mixture,
        )
    return _all_finite(found)


INTERPOLATIONS = Quantity[LatentInterpolations](
    "interpolations",
    "paths between the codes of datapoints",
    "",
    _interpolations,
    needs=(no_latents, no_encoder),
    shown_as=(),
)


def _no_plane(subject: Subject) -> str:
    return TOO_MANY if math.prod(subject.evidence.capabilities.latent_shape) > 2 else ""


def _manifold(subject: Subject) -> LatentManifold:
    plan = subject.plan
    found = estimators.latent_manifold(
        subject.model,
        None if no_encoder(subject) else plan.x_mixture,
        num_steps=_size(subject).nodes,
        seed=plan.seed,
        condition=plan.condition_mixture,
    )
    return _all_finite(found)


MANIFOLD = Quantity[LatentManifold](
    "manifold",
    "the decoder over cells of equal prior mass",
    "",
    _manifold,
    needs=(no_latents, _no_plane),
    shown_as=(),
)

QUANTITIES: tuple[Quantity[Any], ...] = (
    UNIT_KL,
    ACTIVE_UNITS,
    ZEROING,
    IMPLIED_KL_WEIGHT,
    POSTERIOR_MEANS,
    TRAVERSALS,
    INTERPOLATIONS,
    MANIFOLD,
)
