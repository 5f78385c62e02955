"""The conformance check: does an object keep the contract of a latent-variable model?

Structural breaches (a forgotten ``Independent``, a wrong batch shape, datapoints that leak into
each other) make every later number wrong, so they raise, naming the clause, what came and what
to do. Numeric ones (NaN, infinite density) are returned, so that *diverged* can be a finding.
"""

from __future__ import annotations

__all__ = ["check_generator", "check_model"]

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import cast

import torch
from jaxtyping import Shaped
from torch import Tensor
from torch.distributions import Distribution

from .capabilities import Capabilities, draw_once, is_in_support, measure
from .errors import ContractError, InputError, blamed_on, refuses_nan, require
from .implicit import PointMass, Sampled, as_generative, is_implicit
from .model import (
    GenerativeModel,
    LatentVariableModel,
    given,
    modules_of,
    require_precision,
)
from .random import seeded

# Densities of one datapoint in two batches may differ by the rounding of another kernel.
LEAK_TOLERANCE = 1e-3
PLURALS = {"density": "densities", "value": "values"}


@torch.no_grad()
def check_model(
    model: Sampled, x: Shaped[Tensor, "B *X"], *, condition: Tensor | None = None
) -> Capabilities:
    """Checks a model against every clause of the contract, on a few datapoints.

    Args:
        model: The candidate, in the mode in which it will be used; a generator without a
            density (a GAN) is checked for what it has.
        x: Two or more datapoints; the first 16 are used, and of the others the support.
        condition: One row per datapoint, for ``model.given``.

    Returns:
        What the model can do, and its numeric problems.

    Raises:
        ContractError: A structural breach; the message names the clause.
        InputError: x is empty, no tensor, or not floating; a condition of another length.

    Example:
        >>> import elboscope as es
        >>> model = es.models.LinearGaussian.instance_1()
        >>> x, _ = model.sample(8, seed=0)
        >>> check_model(model, x).posterior
        'Normal'
    """
    x, condition = _require_rows(x), _require_condition(condition, x)
    all_x, x, condition = x, x[:16], None if condition is None else condition[:16]
    with seeded(0):
        whole = as_generative(model) if is_implicit(model) else cast(GenerativeModel, model)
        local = given(whole, condition)
        latent_shape, z = _check_prior(local, x)
        _check_placement(local, x)
        twice = given(whole, None if condition is None else torch.cat([condition, condition]))
        refused: list[str] = []
        likelihood, posterior = None, None
        with _noting_nan(refused):
            likelihood = _check_decode(local, twice, x, z)
            refused += _not_finite(likelihood)
        with _noting_nan(refused):
            posterior = _check_encode(local, twice, x, latent_shape)
        return measure(local, x, z, likelihood, posterior, refused, all_x)


@torch.no_grad()
def check_generator(model: Sampled, num_samples: int) -> Tensor:
    """Checks ``prior()`` and ``decode(z)`` or ``generate(z)`` alone, where there are no data.

    Args:
        model: The candidate, in the mode in which it will be used.
        num_samples: How many z to draw.

    Returns:
        Draws of the prior, ``(num_samples, *Z)``, for which the decoder kept the contract.

    Raises:
        ContractError: A structural breach; the message names the clause.

    Example:
        >>> import elboscope as es
        >>> check_generator(es.models.LinearGaussian.instance_1(), 7).shape[0]
        7
    """
    prior = _method(model, "prior")
    p = _distribution("prior()", _call("prior()", lambda _: prior(), torch.zeros(num_samples)))
    _check_shapes("prior()", p, (), None)
    expected, do = "a distribution that can be sampled", "Check its parameters."
    with blamed_on("prior()", expected, do, ContractError):
        z = p.sample(torch.Size((num_samples,)))
    whole = as_generative(model)
    clause = getattr(whole, "clause", "decode(z)")
    try:
        p = _distribution(clause, _call(clause, _method(whole, "decode"), z))
    except _NaNParametersError as error:
        got = "NaN parameters, which its distribution refuses: the model has diverged"
        raise ContractError(clause, expected="a distribution", got=got) from error
    _check_shapes(clause, p, (num_samples,), None)
    return z


def _require_rows(x: object) -> Tensor:
    do = "Use torch.as_tensor(x).float()."
    require("x", isinstance(x, Tensor), "a Tensor of floating numbers", x, do)
    x = cast(Tensor, x)
    odd = {"nested": x.is_nested, "sparse": x.layout != torch.strided, "meta": x.is_meta}
    odd["quantized"] = x.is_quantized
    for kind, holds in odd.items():
        do = "Use x.to_dense(), x.dequantize(), or real values."
        require("x", not holds, "a dense Tensor with values", f"a {kind} one", do)
    if x.ndim < 1 or len(x) == 0 or not x.is_floating_point():
        raise InputError(
            "x",
            expected="floating numbers, one row a datapoint",
            got=f"shape {tuple(x.shape)}, {x.dtype}",
            do="Use x.float().",
        )
    return x


def _require_condition(condition: object, x: object) -> Tensor | None:
    if condition is None:
        return None
    expected = f"a Tensor of {len(cast(Tensor, x))} rows, one a datapoint"
    rows = isinstance(condition, Tensor) and condition.ndim > 0
    require("condition", rows, expected, condition)
    condition = cast(Tensor, condition)
    fits = len(condition) == len(cast(Tensor, x))
    require("condition", fits, expected, len(condition))
    return condition


class _NaNParametersError(Exception):
    """A distribution refused NaN parameters: the model has diverged, which breaks no clause."""


@contextmanager
def _noting_nan(refused: list[str]) -> Iterator[None]:
    try:
        yield
    except _NaNParametersError as error:
        refused.append(f"{error} is refused by its distribution: NaN parameters")


def _call(clause: str, function: Callable[[Tensor], object], argument: Tensor) -> object:
    """Calls a method of the model; a failure inside it becomes a breach of its clause."""
    expected = f"an answer for an argument of shape {tuple(argument.shape)}"
    do = (
        "Use es.from_modules if the network takes one batch axis, and check the shape "
        "of x; in training mode, call model.eval()."
    )
    with blamed_on(clause, expected, do, ContractError):
        try:
            return function(argument)
        except ValueError as error:
            if isinstance(error, InputError) or not refuses_nan(error):
                raise
            nan = error
    if clause == "prior()":  # without draws of z nothing can be checked
        got = "NaN parameters, which its distribution refuses"
        raise ContractError(clause, expected="a distribution", got=got, do="Train again.") from nan
    raise _NaNParametersError(clause) from nan


def _distribution(clause: str, answer: object) -> Distribution:
    if isinstance(answer, Distribution):
        return answer
    raise ContractError(
        clause,
        expected="a torch.distributions.Distribution",
        got=type(answer).__name__,
        do="Return a distribution, or wrap the modules with es.from_modules.",
    )


def _method(model: object, name: str) -> Callable[..., object]:
    method = getattr(model, name, None)
    if callable(method):
        return method  # type: ignore[no-any-return]
    raise ContractError(
        name,
        expected=f"a method {name}(…)",
        got=f"{type(model).__name__} without it",
        do="Add it, or wrap an encoder and a decoder with es.from_modules.",
    )


def _check_shapes(
    clause: str, q: Distribution, batch: tuple[int, ...], event: tuple[int, ...] | None
) -> None:
    got_batch, got_event = tuple(q.batch_shape), tuple(q.event_shape)
    if got_batch == batch and event in (None, got_event):
        return
    missing = len(got_batch) - len(batch)
    forgotten = missing > 0 and got_batch[: len(batch)] == batch
    remedy = "Keep the leading axes of the argument as the batch, one entry a datapoint."
    if forgotten:
        remedy = f"Wrap it in Independent(…, {missing}): pixels and latents are event dimensions."
    elif got_batch == batch:
        remedy = "Give the event the shape of x (z): es.from_modules(…, data_shape=x.shape[1:])."
    expected_event = "any event shape" if event is None else f"event shape {event}"
    raise ContractError(
        clause,
        expected=f"batch shape {batch} and {expected_event}",
        got=f"batch shape {got_batch} and event shape {got_event}",
        do=remedy,
    )


def _check_prior(model: GenerativeModel, x: Tensor) -> tuple[tuple[int, ...], Tensor]:
    prior = _method(model, "prior")
    p = _distribution("prior()", _call("prior()", lambda _: prior(), x))
    _check_shapes("prior()", p, (), None)
    _method(model, "decode")
    return tuple(p.event_shape), p.sample(torch.Size((2, len(x))))


def _check_placement(model: object, x: Tensor) -> None:
    named = chain.from_iterable(module.named_parameters() for module in modules_of(model))
    for name, p in named:
        require_precision(p.dtype)
        if p.device != x.device:
            raise ContractError(
                "device",
                expected=f"the model on x's device {x.device}",
                got=f"parameter {name} on {p.device}",
                do=f"Use model.to({str(x.device)!r}) or move x.",
            )
        if p.is_floating_point() and p.dtype != x.dtype:
            raise ContractError(
                "dtype",
                expected=f"the model in x's dtype {x.dtype}",
                got=f"parameter {name} in {p.dtype}",
                do=f"Use x.to({p.dtype}) or model.to({x.dtype}).",
            )


def _check_decode(
    model: GenerativeModel, twice: GenerativeModel, x: Tensor, z: Tensor
) -> Distribution:
    clause = getattr(model, "clause", "decode(z)")
    p = _distribution(clause, _call(clause, model.decode, z))
    _check_shapes(clause, p, (2, len(x)), tuple(x.shape[1:]))
    if len(x) > 1:
        more = torch.cat([z, torch.zeros_like(z)], dim=1)
        other = _distribution(clause, _call(clause, twice.decode, more))
        sample = _scorable(p, x)
        widened = torch.cat([sample, sample], dim=1)
        _check_leak(clause, p, sample, other, widened, len(x), dim=1, model=model)
    return p


def _not_finite(p: Distribution) -> list[str]:
    """What is said of a generator's values, of which no density will tell."""
    bad = 0 if not isinstance(p, PointMass) else int((~p.mean.isfinite()).sum())
    return [f"generate(z) is NaN or infinite for {bad} of {p.mean.numel()} values"] if bad else []


def _scorable(p: Distribution, x: Tensor) -> Tensor:
    """A draw; x itself of an autoregressive p, without a mean, whose draws take a pass a value."""
    try:
        p.mean  # noqa: B018
    except NotImplementedError:
        return x.expand(p.batch_shape + p.event_shape) if is_in_support(p, x) else draw_once(p, x)
    return draw_once(p, x)


def _check_encode(
    model: GenerativeModel, twice: GenerativeModel, x: Tensor, latent_shape: tuple[int, ...]
) -> Distribution | None:
    if not isinstance(model, LatentVariableModel) or not isinstance(twice, LatentVariableModel):
        return None
    q = _distribution("encode(x)", _call("encode(x)", model.encode, x))
    _check_shapes("encode(x)", q, (len(x),), latent_shape)
    more = torch.cat([x, torch.zeros_like(x)])
    other = _distribution("encode(x)", _call("encode(x)", twice.encode, more))
    z = draw_once(q, x)
    _check_leak("encode(x)", q, z, other, torch.cat([z, z]), len(x), dim=0, model=model)
    return q


def _check_leak(
    clause: str,
    alone: Distribution,
    value: Tensor,
    together: Distribution,
    widened: Tensor,
    B: int,
    *,
    dim: int,
    model: object,
) -> None:
    """Compares the density of the same datapoints alone and in the company of others."""
    what, unit = "density", " nats"
    try:
        if isinstance(alone, PointMass):  # of which only the place can be compared
            (a, b), what, unit = (alone.mean, together.mean.narrow(dim, 0, B)), "value", ""
        else:
            a = alone.log_prob(value)
            b = together.log_prob(widened).narrow(dim, 0, B)
    except (NotImplementedError, ValueError):
        return  # no density to compare, or one that is not finite: told elsewhere
    far = (a - b).abs() > LEAK_TOLERANCE * (1 + a.abs())
    if not bool(far.any()):
        return
    training = any(m.training for root in modules_of(model) for m in root.modules())
    raise ContractError(
        clause,
        expected=f"each datapoint's {what} to depend on that datapoint alone",
        got=f"{PLURALS[what]} that change by up to {(a - b).abs().max().item():.3g}{unit} with "
        "the rest of the batch or from call to call",
        do="The model is in training mode (BatchNorm, Dropout): call model.eval()."
        if training
        else "The model mixes datapoints or draws noise inside: compute each row by itself.",
    )
