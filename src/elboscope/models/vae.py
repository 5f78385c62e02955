r"""The variational autoencoder: two networks, a likelihood, a prior.

.. math:: p(z) = \mathcal N(0, I), \quad p_\theta(x \mid z) = \mathrm{likelihood}(g_\theta(z)),
          \quad q_\phi(z \mid x) = \mathcal N(\mu_\phi(x), \mathrm{diag}\,\sigma^2_\phi(x))

:class:`VAE` does the bookkeeping between networks, which take one batch axis, and the contract,
whose latents are ``(K, B, *Z)``: it flattens and restores the leading axes, and lays flat pixels
out as images. Nothing else happens to x or z. Parameters keep their names below ``encoder.`` and
``decoder.``.
"""

from __future__ import annotations

__all__ = [
    "VAE",
    "ConditionedVAE",
    "DecoderOutput",
    "EncoderOutput",
    "Head",
    "channels_first",
    "check_range",
    "check_std",
    "num_outputs",
    "output_shape",
    "read_posterior",
    "reference",
]

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from elboscope.core import ContractError, InputError
from elboscope.distributions import diagonal_gaussian

from .posteriors import PosteriorHead
from .priors import PriorFamily, PseudoInputs, made_prior

EncoderOutput = Literal["mu_logvar", "mu_logsigma", "mu_std"]
Head = Callable[[Tensor], Distribution]


class VAE(nn.Module):
    r"""A latent-variable model made of an encoder, a decoder, a likelihood and a prior.

    Args:
        encoder: From ``(N, *input_shape)`` to what ``encoder_output`` says.
        decoder: From ``(N, *Z)`` to ``(N, *X)``, or to as many flat numbers.
        likelihood: From the decoder's output, ``(*batch, *X)``, to p(x|z); ``(*batch, n, *X)`` if
            it has an attribute ``num_outputs`` = n > 1.
        latent_shape: ``(*Z)``.
        data_shape: ``(*X)``.
        encoder_output: How to read the encoder: ``"mu_logvar"`` :math:`(\mu, \log\sigma^2)`,
            ``"mu_logsigma"`` :math:`(\mu, \log\sigma)` or ``"mu_std"`` :math:`(\mu, \sigma)`, as
            a pair or as one tensor halved along axis 1; or a function from its output to q(z|x),
            as the head of a posterior family is, whose parameters are then the model's.
            :math:`\log\sigma^2` is clamped to [−14, 6].
        input_shape: The shape in which the encoder takes one datapoint; by default ``(*X)``.
        prior: p(z), a distribution, or a module that returns one when called, or a family of
            learned priors such as ``VampPrior()``; N(0, I) if None.
        conditional: Whether both networks take a condition as second argument; the model is
            then used through ``model.given(condition)``.

    Example:
        >>> from elboscope.distributions import GaussianLikelihood
        >>> vae = VAE(nn.Linear(6, 4), nn.Linear(2, 6), GaussianLikelihood((6,), 0.5),
        ...           latent_shape=(2,), data_shape=(6,))
        >>> vae.encode(torch.zeros(5, 6)).event_shape, vae.decode(torch.zeros(7, 5, 2)).batch_shape
        (torch.Size([2]), torch.Size([7, 5]))
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        likelihood: Head,
        *,
        latent_shape: tuple[int, ...],
        data_shape: tuple[int, ...],
        encoder_output: EncoderOutput | Callable[..., Distribution] = "mu_logvar",
        input_shape: tuple[int, ...] | None = None,
        prior: Distribution | nn.Module | PriorFamily | None = None,
        conditional: bool = False,
    ) -> None:
        super().__init__()
        self.encoder, self.decoder, self.likelihood = encoder, decoder, likelihood
        self.latent_shape, self.data_shape = tuple(latent_shape), tuple(data_shape)
        self.input_shape = self.data_shape if input_shape is None else tuple(input_shape)
        self.encoder_output, self.conditional = encoder_output, conditional
        self.given_prior = made_prior(
            prior,
            self.latent_shape,
            self.data_shape,
            reference(encoder, decoder),
            conditional=conditional,
        )
        self.prior_mean: Tensor
        self.prior_scale: Tensor
        zeros = torch.zeros(self.latent_shape).to(reference(encoder, decoder))
        self.register_buffer("prior_mean", zeros, persistent=False)
        self.register_buffer("prior_scale", torch.ones_like(zeros), persistent=False)

    def prior(self) -> Distribution:
        """Returns p(z), event ``(*Z)``."""
        if self.given_prior is None:
            p = Normal(self.prior_mean, self.prior_scale, validate_args=False)
            return Independent(p, len(self.latent_shape), validate_args=False)
        if isinstance(self.given_prior, Distribution):
            return self.given_prior
        if isinstance(self.given_prior, PseudoInputs):
            return self.given_prior(self.encode)  # type: ignore[no-any-return]
        p_z: Distribution = self.given_prior()
        return p_z

    def encode(self, x: Float[Tensor, "B *X"]) -> Distribution:
        """Returns q(z|x), batch ``(B,)``, event ``(*Z)``."""
        return self._encode(x, None)

    def decode(self, z: Float[Tensor, "*B_and_Z"]) -> Distribution:
        """Returns p(x|z), batch ``z.shape[:-len(Z)]``, event ``(*X)``."""
        return self._decode(z, None)

    def given(self, condition: Shaped[Tensor, "B *C"]) -> ConditionedVAE:
        """Returns the model of p(x, z|c) for one batch of conditions, one row a datapoint.

        Raises:
            ContractError: The networks take no condition.
        """
        if not self.conditional:
            raise ContractError(
                "condition",
                expected="none, since this model's networks take no second argument",
                got=f"a condition of shape {tuple(condition.shape)}",
                do="Use es.from_modules(…, conditional=True), or leave the condition out.",
            )
        return ConditionedVAE(self, condition)

    def _encode(self, x: Tensor, c: Tensor | None) -> Distribution:
        if tuple(x.shape[1:]) != self.data_shape:
            raise InputError(
                "x",
                expected=f"shape (B, {', '.join(map(str, self.data_shape))})",
                got=str(tuple(x.shape)),
                do="Reshape x, or build the model with that data_shape.",
            )
        x = x.reshape(len(x), *self.input_shape)
        return read_posterior(self.encoder(x, *self._extra(c)), self.encoder_output)

    def _decode(self, z: Tensor, c: Tensor | None) -> Distribution:
        lead = z.shape[: z.ndim - len(self.latent_shape)]
        c = None if c is None else c.expand(*lead, *c.shape[1:]).reshape(-1, *c.shape[1:])
        output = self.decoder(z.reshape(-1, *self.latent_shape), *self._extra(c))
        shape = output_shape(self.likelihood, self.data_shape)
        return self.likelihood(output.reshape(*lead, *shape))

    def _extra(self, c: Tensor | None) -> tuple[Tensor, ...]:
        if self.conditional and c is None:
            raise ContractError(
                "condition",
                expected="one row per datapoint, since both networks take it",
                got="none",
                do="Pass condition=…, or use model.given(condition).",
            )
        return () if c is None else (c,)

    def extra_repr(self) -> str:
        """States what was assumed: the likelihood, the posterior, the prior, the shapes."""
        read = self.encoder_output
        how = f"diagonal Gaussian from {read}" if isinstance(read, str) else "by encoder_output"
        how = str(read.family) if isinstance(read, PosteriorHead) else how
        lines = [
            f"p(x|z): {_likelihood_name(self.likelihood)}, x {self.data_shape}",
            f"q(z|x): {how}, z {self.latent_shape}",
            f"p(z): {_prior_name(self.given_prior)}",
        ]
        if self.input_shape != self.data_shape:
            lines.append(f"encoder takes x reshaped to {self.input_shape}")
        if self.conditional:
            lines.append("both networks take a condition")
        return "\n".join(lines)


@dataclass(frozen=True)
class ConditionedVAE:
    """A :class:`VAE` for one batch of conditions: p(x|z, c), q(z|x, c) and p(z).

    Attributes:
        model: The VAE, whose parameters are used.
        condition: One row a datapoint.
    """

    model: VAE
    condition: Tensor

    def prior(self) -> Distribution:
        """Returns p(z), which does not depend on the condition."""
        return self.model.prior()

    def encode(self, x: Float[Tensor, "B *X"]) -> Distribution:
        """Returns q(z|x, c), row by row."""
        return self.model._encode(x, self.condition)

    def decode(self, z: Float[Tensor, "*B_and_Z"]) -> Distribution:
        """Returns p(x|z, c); the last batch axis of z runs over the conditions."""
        return self.model._decode(z, self.condition)


def read_posterior(
    output: object,
    encoder_output: EncoderOutput | Callable[..., Distribution],
) -> Distribution:
    """Returns q(z|x) from what an encoder returned.

    Args:
        output: A pair ``(mu, spread)``, or one tensor to be halved along axis 1.
        encoder_output: What the spread is, or a function of ``output``.

    Raises:
        InputError: Neither a pair nor halvable, or an unknown word.

    Example:
        >>> q = read_posterior((torch.zeros(3, 2), torch.ones(3, 2)), "mu_logsigma")
        >>> q.stddev[0, 0].item()
        2.718...
    """
    if not isinstance(encoder_output, str):
        return encoder_output(output)
    mu, spread = _pair(output)
    match encoder_output:
        case "mu_logvar":
            return diagonal_gaussian(mu, spread)
        case "mu_logsigma":
            return diagonal_gaussian(mu, 2 * spread)
        case "mu_std":
            return diagonal_gaussian(mu, 2 * spread.log())
    raise InputError(
        "encoder_output",
        expected=f"one of {', '.join(get_args(EncoderOutput))}, or a function",
        got=repr(encoder_output),
    )


def _pair(output: object) -> tuple[Tensor, Tensor]:
    match output:
        case Tensor() if output.ndim >= 2 and output.shape[1] % 2 == 0:
            mu, spread = output.chunk(2, dim=1)
            return mu, spread
        case (Tensor() as mu, Tensor() as spread) if mu.shape == spread.shape:
            return mu, spread
        case Tensor():
            got = f"one tensor of shape {tuple(output.shape)}"
        case tuple() | list():
            got = f"{len(output)} values: " + ", ".join(
                str(tuple(v.shape)) if isinstance(v, Tensor) else type(v).__name__ for v in output
            )
        case _:
            got = type(output).__name__
    raise InputError(
        "encoder output",
        expected="a pair (mu, spread) of one shape, or one tensor (B, 2d, …) to be halved",
        got=got,
        do="Pass encoder_output=function from it to a distribution.",
    )


def reference(*modules: nn.Module) -> Tensor:
    """Returns a floating parameter whose device and dtype are the model's."""
    found = (p for m in modules for p in m.parameters() if p.is_floating_point())
    return next(found, torch.zeros(()))


def _prior_name(prior: Distribution | nn.Module | None) -> str:
    if prior is None:
        return "N(0, I)"
    family = getattr(prior, "family", None)
    return type(prior).__name__ if family is None else str(family)


def _likelihood_name(likelihood: Head) -> str:
    if not isinstance(likelihood, nn.Module):
        return getattr(likelihood, "__name__", type(likelihood).__name__)
    name, details = type(likelihood).__name__.removesuffix("Likelihood"), likelihood.extra_repr()
    return f"{name} ({details})" if details else name


# Two mistakes that would cost nats silently: a decoder that ends in probabilities where logits
# were declared, and an encoder whose "standard deviations" are negative.

DecoderOutput = Literal["logits", "probs"]


def check_std(output: Tensor | tuple[Tensor, Tensor]) -> None:
    """Refuses standard deviations that are not positive."""
    std = output.chunk(2, dim=1)[1] if isinstance(output, Tensor) else output[1]
    if not bool((std <= 0).any()):
        return
    raise InputError(
        "encoder_output 'mu_std'",
        expected="standard deviations, which are positive",
        got=f"values down to {std.min().item():.3g}",
        do="For log-variances use encoder_output='mu_logvar', for log σ 'mu_logsigma'.",
    )


def check_range(decoder: nn.Module, output: Tensor, declared: DecoderOutput | None) -> None:
    """Refuses outputs that are not what was declared: logits, or probabilities."""
    ends_in_sigmoid = isinstance(_last_layer(decoder), nn.Sigmoid)
    inside = bool(((output >= 0) & (output <= 1)).all())
    got = f"outputs from {output.min().item():.3g} to {output.max().item():.3g}" + (
        " of a decoder that ends in Sigmoid" if ends_in_sigmoid else ""
    )
    if declared == "probs" and not inside:
        raise InputError(
            "decoder_output 'probs'", expected="outputs in [0, 1]", got=got, do="Use 'logits'."
        )
    if inside and (declared is None or (declared == "logits" and ends_in_sigmoid)):
        raise InputError(
            "decoder_output",
            expected="logits, which are unbounded",
            got=got,
            do="If they are probabilities, pass decoder_output='probs'; better, drop the Sigmoid "
            "and keep logits"
            + ("." if ends_in_sigmoid else "; if they are logits, say decoder_output='logits'."),
        )


def _last_layer(module: nn.Module) -> nn.Module:
    return [m for m in module.modules() if not any(True for _ in m.children())][-1]


# How many numbers a decoder gives for each value: one, or as many as its likelihood takes.
#
# They are laid out (n, *X): all values' first numbers, then all second ones. A perceptron gives
# them flat, a convolution as n·C channels.


def output_shape(likelihood: object, data_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the shape in which a likelihood takes a decoder's output for one datapoint.

    It is ``(*X)``, or ``(n, *X)`` where a likelihood takes ``num_outputs`` = n numbers a value.

    Example:
        >>> from elboscope.distributions import CategoricalLikelihood
        >>> output_shape(CategoricalLikelihood((1, 8, 8), levels=17), (1, 8, 8))
        (17, 1, 8, 8)
    """
    n = getattr(likelihood, "num_outputs", 1)
    return tuple(data_shape) if n == 1 else (n, *data_shape)


def channels_first(likelihood: object, data_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Returns :func:`output_shape` as a convolution gives it, ``(n·C, H, W)``.

    Example:
        >>> from elboscope.distributions import CategoricalLikelihood
        >>> channels_first(CategoricalLikelihood((3, 8, 8), levels=4), (3, 8, 8))
        (12, 8, 8)
    """
    n = getattr(likelihood, "num_outputs", 1)
    return (n * data_shape[0], *data_shape[1:])


def num_outputs(likelihood: object, data_shape: tuple[int, ...]) -> int:
    """Returns how many numbers a decoder gives for one datapoint.

    Example:
        >>> from elboscope.distributions import GaussianLikelihood
        >>> num_outputs(GaussianLikelihood((3, 8, 8), "predicted"), (3, 8, 8))
        384
    """
    return math.prod(output_shape(likelihood, data_shape))
