r"""From the usual pair of modules to a model: most people's code is ``(mu, logvar) = encoder(x)``.

Which shapes go in and out is *measured* by one forward pass on random pixels in evaluation mode,
before anything is computed with the model; what was concluded is stated by ``repr(model)``, and
what does not fit is refused. Two mistakes that would cost nats silently are looked for there: a
decoder that ends in probabilities where logits were declared, and an encoder whose "standard
deviations" are negative.
"""

from __future__ import annotations

__all__ = ["DecoderOutput", "LikelihoodName", "from_modules", "make_likelihood"]

import math
from collections.abc import Callable
from functools import partial
from numbers import Integral, Real
from typing import Literal, cast, get_args

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from elboscope.core import InputError, evaluating, seeded
from elboscope.core.errors import blamed_on, require
from elboscope.distributions import (
    BernoulliLikelihood,
    CategoricalLikelihood,
    ContinuousBernoulliLikelihood,
    DequantizedNormalLikelihood,
    DiscretisedLogisticLikelihood,
    GaussianLikelihood,
    LaplaceLikelihood,
    QuantizedNormalLikelihood,
    Scale,
)

from .posteriors import PosteriorFamily, measured_head
from .priors import PriorFamily
from .vae import (
    VAE,
    DecoderOutput,
    EncoderOutput,
    Head,
    check_range,
    check_std,
    output_shape,
    reference,
)

PROBE_ROWS = 16


def from_modules(
    encoder: nn.Module,
    decoder: nn.Module,
    likelihood: LikelihoodName | Head = "bernoulli",
    encoder_output: EncoderOutput | Callable[..., Distribution] = "mu_logvar",
    *,
    data_shape: tuple[int, ...] | None = None,
    latent_shape: tuple[int, ...] | None = None,
    decoder_output: DecoderOutput | None = None,
    scale: Scale | None = None,
    levels: int | None = None,
    prior: Distribution | nn.Module | PriorFamily | None = None,
    posterior: PosteriorFamily | None = None,
    conditional: bool = False,
) -> VAE:
    r"""Makes a model of an encoder and a decoder.

    The modules are used, not copied: training the model trains them, and its ``state_dict`` has
    their keys below ``encoder.`` and ``decoder.``. An encoder whose first layer is linear gets x
    flattened; pixels that leave the decoder flat are laid out as ``data_shape``.

    Args:
        encoder: Takes x, ``(N, *X)``; returns a pair, or one tensor to be halved along axis 1.
        decoder: Takes z with one batch axis, ``(N, *Z)``; returns the parameters of the pixels.
        likelihood: ``"bernoulli"`` (binary pixels), ``"continuous_bernoulli"`` (grey values in
            [0, 1]), ``"gaussian"``, ``"laplace"`` (densities; need ``scale``), ``"categorical"``,
            ``"discretised_logistic"``, ``"quantized_normal"``, ``"dequantized_normal"`` (a bound)
            for pixels with ``levels``, of which all but the first need ``scale``; or a function
            from the decoder's output, laid out as ``(*batch, *X)``, to a distribution with event
            ``(*X)``.
        encoder_output: ``"mu_logvar"``, ``"mu_logsigma"``, ``"mu_std"``, or a function from the
            encoder's output to q(z|x).
        data_shape: ``(*X)``; needed unless the encoder's first layer is linear, whose
            ``in_features`` are taken.
        latent_shape: ``(*Z)``; measured if None.
        decoder_output: ``"logits"`` or ``"probs"``, for the two Bernoullis. If None, logits, and
            a decoder whose outputs all lie in [0, 1] is refused.
        scale: σ of the Gaussian, or what the others have for it: a number, ``"learned"``,
            ``"learned_per_pixel"``, ``"predicted"`` (the decoder gives twice as many numbers) or,
            for the two densities, ``"optimal"`` (σ² is the mean squared error of each batch).
        levels: L, of the discrete likelihoods; 256 if None.
        prior: p(z), or a family such as ``models.VampPrior()``, ``MixturePrior()`` or
            ``FlowPrior()``, whose parameters are the model's; N(0, I) if None.
        posterior: A family such as ``models.RealNVP()``, whose networks are the model's; the
            encoder then returns (μ, log σ², h) on one axis, as a tuple or one tensor, with as
            many numbers as ``posterior.num_outputs(latent_dim)``. Diagonal Gaussian if None.
        conditional: Both modules take a condition as second argument. Then ``data_shape`` and
            ``latent_shape`` must be given, and nothing is measured.

    Raises:
        InputError: Shapes that do not fit, sigmoid outputs declared as logits, negative standard
            deviations, a missing ``scale`` or shape.

    Example:
        >>> model = from_modules(nn.Linear(64, 4), nn.Linear(2, 64), data_shape=(1, 8, 8))
        >>> print(model.extra_repr())
        p(x|z): Bernoulli (binary pixels, decoder output: logits), x (1, 8, 8)
        q(z|x): diagonal Gaussian from mu_logvar, z (2,)
        p(z): N(0, I)
        encoder takes x reshaped to (64,)
        >>> model.decode(torch.zeros(5, 3, 2)).event_shape
        torch.Size([1, 8, 8])
    """
    _require_networks(encoder, decoder)
    _require_kinds(likelihood, encoder_output, prior, posterior, conditional)
    _require_numbers(scale, levels)
    latent_shape = None if latent_shape is None else as_shape("latent_shape", latent_shape)
    x_shape = _data_shape(encoder, data_shape)
    if posterior is not None:
        declared = _declared(latent_shape, data_shape) if conditional else latent_shape
        probe = torch.zeros(PROBE_ROWS, *_input_shape(encoder, x_shape)).to(reference(encoder))
        with blamed_on("posterior", "a family that fits the encoder", FAMILY):
            encoder_output = measured_head(posterior, encoder, encoder_output, probe, declared)
    head = make_likelihood(
        likelihood, x_shape, decoder_output=decoder_output, scale=scale, levels=levels
    )
    if isinstance(head, nn.Module):
        head.to(reference(encoder, decoder))  # a learned σ follows the networks
    build = partial(
        VAE,
        encoder,
        decoder,
        head,
        data_shape=x_shape,
        encoder_output=encoder_output,
        input_shape=_input_shape(encoder, x_shape),
    )
    if conditional:
        declared = _declared(latent_shape, data_shape)
        with blamed_on("prior", "a prior for these shapes", FAMILY):
            return build(latent_shape=declared, conditional=True, prior=prior)
    measured = _measured_latent_shape(build(latent_shape=()), latent_shape)
    with blamed_on("prior", f"a prior of latents of shape {measured}", FAMILY):
        model = build(latent_shape=measured, prior=prior)
    _check_decoder(model, likelihood, decoder_output)
    return model


FAMILY = "Families have whole numbers ≥ 1 as their settings."


def _require_networks(encoder: object, decoder: object) -> None:
    for name, module in (("encoder", encoder), ("decoder", decoder)):
        do = "Wrap functions in a module with a forward method; of a class, pass an instance."
        require(name, isinstance(module, nn.Module), "an nn.Module", module, do)
        meta = any(p.is_meta for p in cast(nn.Module, module).parameters())
        require(name, not meta, "parameters with values", "parameters on the meta device")


def _require_kinds(
    likelihood: object,
    encoder_output: object,
    prior: object,
    posterior: object,
    conditional: object,
) -> None:
    """Refuses what could only fail later, in words about something else."""
    for name, value, hint in (
        ("likelihood", likelihood, LikelihoodName),
        ("encoder_output", encoder_output, EncoderOutput),
    ):
        known = value in get_args(hint) if isinstance(value, str) else callable(value)
        require(name, known, f"one of {', '.join(get_args(hint))}, or a function", value)
    for name, value, kinds, expected in (
        ("prior", prior, (Distribution, nn.Module, PriorFamily), "a Distribution or nn.Module, "),
        ("posterior", posterior, (PosteriorFamily,), ""),
    ):
        fits = value is None or (isinstance(value, kinds) and not isinstance(value, type))
        require(name, fits, f"{expected}a family such as models.MAF(), not its class", value)
    require("conditional", isinstance(conditional, bool), "True or False", conditional)


def _require_numbers(scale: object, levels: object) -> None:
    number = isinstance(scale, Real) and not isinstance(scale, bool)
    fits = scale is None or isinstance(scale, str) or number
    require("scale", fits, "a number > 0, or a word such as 'learned'", scale)
    whole = isinstance(levels, Integral) and not isinstance(levels, bool)
    fits = levels is None or (whole and 2 <= int(cast(int, levels)) <= 2**16)
    require("levels", fits, "a whole number from 2 to 65536", levels)


def as_shape(name: str, shape: object) -> tuple[int, ...]:
    """Returns a shape as a tuple of whole numbers ≥ 1.

    Raises:
        InputError: It is none.
    """
    sizes = list(shape) if isinstance(shape, tuple | list) else []
    whole = all(isinstance(n, Integral) and not isinstance(n, bool) and int(n) >= 1 for n in sizes)
    fits = whole and len(sizes) > 0 and math.prod(sizes) < 2**31
    require(name, fits, "a tuple of whole numbers ≥ 1, such as (1, 28, 28)", shape)
    return tuple(map(int, sizes))


def _first_layer(module: nn.Module) -> nn.Module | None:
    return next((m for m in module.modules() if any(True for _ in m.parameters(False))), None)


def _data_shape(encoder: nn.Module, data_shape: tuple[int, ...] | None) -> tuple[int, ...]:
    first = _first_layer(encoder)
    if data_shape is not None:
        return as_shape("data_shape", data_shape)
    if isinstance(first, nn.Linear):
        return (first.in_features,)
    raise InputError(
        "data_shape",
        expected="the shape of one datapoint, such as (1, 28, 28)",
        got=f"none, and an encoder that begins with {type(first).__name__}, which does not tell it",
        do="Pass data_shape=tuple(x.shape[1:]).",
    )


def _input_shape(encoder: nn.Module, data_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Flat for an encoder that begins with a linear layer of that many inputs."""
    first, pixels = _first_layer(encoder), math.prod(data_shape)
    flat = isinstance(first, nn.Linear) and first.in_features == pixels
    return (pixels,) if flat else data_shape


def _declared(latent_shape: tuple[int, ...] | None, data_shape: object) -> tuple[int, ...]:
    if latent_shape is None or data_shape is None:
        raise InputError(
            "conditional=True",
            expected="data_shape and latent_shape, since shapes cannot be measured without c",
            got=f"data_shape={data_shape}, latent_shape={latent_shape}",
            do="Pass both.",
        )
    return tuple(latent_shape)


def _probe(model: VAE, shape: tuple[int, ...], noise: Callable[..., Tensor]) -> Tensor:
    with seeded(0):
        return noise(PROBE_ROWS, *shape).to(reference(model))


def _measured_latent_shape(model: VAE, declared: tuple[int, ...] | None) -> tuple[int, ...]:
    shape = (PROBE_ROWS, *model.input_shape)
    do = "Pass data_shape=tuple(x.shape[1:]); a condition needs conditional=True."
    takes = f"a module that takes x of shape {shape}"
    with blamed_on("encoder", takes, do), evaluating(model), seeded(0):
        x = _probe(model, model.data_shape, torch.rand)
        if model.encoder_output == "mu_std":
            check_std(model.encoder(x.reshape(shape)))
        q = model.encode(x)
        _require_rows(q)
    measured = tuple(q.event_shape)
    if declared is not None and tuple(declared) != measured:
        raise InputError(
            "latent_shape",
            expected=f"{measured}, which the encoder returns",
            got=str(tuple(declared)),
            do="Leave latent_shape out, or check whether the encoder returns 2d numbers.",
        )
    return measured


def _require_rows(q: Distribution) -> None:
    do = "Return a distribution of one batch axis: Independent(…, 1) around a Normal of (B, d)."
    expected = f"q(z|x) of {PROBE_ROWS} datapoints with an event of latents"
    require("encoder_output", isinstance(q, Distribution), expected, q, do)
    batch, event = (tuple(s) for s in (q.batch_shape, q.event_shape))
    fits = batch == (PROBE_ROWS,) and len(event) > 0
    require("encoder_output", fits, expected, f"batch shape {batch}, event {event}", do)


def _check_decoder(
    model: VAE, likelihood: LikelihoodName | Head, decoder_output: DecoderOutput | None
) -> None:
    z = _probe(model, model.latent_shape, torch.randn)
    shape = output_shape(model.likelihood, model.data_shape)
    takes = (
        f"a module from z of shape {tuple(z.shape)} to {math.prod(shape)} numbers a datapoint, for "
        f"data_shape {model.data_shape}"
    )
    do = "Check data_shape; a decoder that returns several tensors needs a wrapper."
    with blamed_on("decoder", takes, do), evaluating(model), seeded(0):
        output = model.decoder(z)
        output = output.reshape(len(z), *shape)
        if likelihood in ("bernoulli", "continuous_bernoulli"):
            check_range(model.decoder, output, decoder_output)


# Likelihoods by their names, as functions, configurations and the command line give them.

LikelihoodName = Literal[
    "bernoulli",
    "continuous_bernoulli",
    "gaussian",
    "laplace",
    "categorical",
    "discretised_logistic",
    "quantized_normal",
    "dequantized_normal",
]
DENSITIES = {"gaussian": GaussianLikelihood, "laplace": LaplaceLikelihood}
ROUNDED = {
    "discretised_logistic": DiscretisedLogisticLikelihood,
    "quantized_normal": QuantizedNormalLikelihood,
    "dequantized_normal": DequantizedNormalLikelihood,
}
LEVELS = 256


def make_likelihood(
    likelihood: LikelihoodName | Head,
    data_shape: tuple[int, ...],
    *,
    decoder_output: DecoderOutput | None = None,
    scale: Scale | None = None,
    levels: int | None = None,
) -> Head:
    """Returns the likelihood that a word names; a function is returned as it is.

    Args:
        likelihood: As in :func:`from_modules`.
        data_shape: ``(*X)``.
        decoder_output: As in :func:`from_modules`; None means logits.
        scale: As in :func:`from_modules`.
        levels: As in :func:`from_modules`; None means 256.

    Raises:
        InputError: An unknown word, a missing scale, a setting that the likelihood does not have.

    Example:
        >>> make_likelihood("gaussian", (2,), scale=0.1)
        GaussianLikelihood(σ = 0.1 (fixed))
        >>> make_likelihood("discretised_logistic", (2,), scale="learned")
        DiscretisedLogisticLikelihood(256 levels, s learned)
    """
    _refuse_unused(likelihood, decoder_output, scale, levels)
    parameter = decoder_output or "logits"
    match likelihood:
        case "bernoulli":
            return BernoulliLikelihood(data_shape, parameter)
        case "continuous_bernoulli":
            return ContinuousBernoulliLikelihood(data_shape, parameter)
        case "gaussian" | "laplace":
            return DENSITIES[likelihood](data_shape, _required(scale))
        case "discretised_logistic" | "quantized_normal" | "dequantized_normal":
            return ROUNDED[likelihood](data_shape, _required(scale), levels or LEVELS)
        case "categorical":
            return CategoricalLikelihood(data_shape, levels or LEVELS)
        case str():
            raise InputError(
                "likelihood",
                expected=f"one of {', '.join(get_args(LikelihoodName))}, or a function",
                got=repr(likelihood),
            )
    return likelihood


def _required(scale: Scale | None) -> Scale:
    if scale is not None:
        return scale
    raise InputError(
        "scale",
        expected="a standard deviation σ, 'learned', 'learned_per_pixel' or 'predicted'",
        got="none: there is no density without it",
        do="For a loss ‖x − x̂‖² + w·KL summed over pixels, scale=(w / 2) ** 0.5.",
    )


def _refuse_unused(
    likelihood: LikelihoodName | Head,
    decoder_output: DecoderOutput | None,
    scale: Scale | None,
    levels: int | None,
) -> None:
    bernoulli = likelihood in ("bernoulli", "continuous_bernoulli")
    if decoder_output is not None and not (bernoulli and decoder_output in get_args(DecoderOutput)):
        raise InputError(
            "decoder_output",
            expected="'logits' or 'probs', with one of the two Bernoullis",
            got=f"{decoder_output!r} with likelihood {likelihood!r}",
        )
    if scale is not None and likelihood not in (*DENSITIES, *ROUNDED):
        raise InputError(
            "scale",
            expected=f"none, unless likelihood is one of {', '.join((*DENSITIES, *ROUNDED))}",
            got=f"{scale!r} with likelihood {likelihood!r}",
        )
    if levels is not None and likelihood not in ("categorical", *ROUNDED):
        raise InputError(
            "levels",
            expected=f"none, unless likelihood is one of {', '.join(('categorical', *ROUNDED))}",
            got=f"{levels!r} with likelihood {likelihood!r}",
        )
