"""Likelihoods by their names, as functions, configurations and the command line give them."""

from __future__ import annotations

__all__ = ["LikelihoodName", "make_likelihood"]

from typing import Literal, get_args

from elboscope.core import InputError
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

from .output_checks import DecoderOutput
from .vae import Head

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
