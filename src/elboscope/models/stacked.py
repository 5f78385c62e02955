r"""S variational autoencoders trained at once as one model of S·B rows.

A stack has the same methods as one model, and its rows belong to its members in turn: of a batch
of S·B datapoints the first B are the first member's. So every objective trains all members at
once. An objective's loss is a mean over rows; S times it is the sum of the members' losses, whose
gradient is for each member its own (with Adam the factor matters through eps).

A stack is for training. What a row's density is depends on where the row stands, which the
contract of a model forbids; for estimates take the members out, one by one.
"""

from __future__ import annotations

__all__ = ["StackedVAE", "member", "stack"]

import copy
from collections.abc import Sequence
from typing import cast, overload

from torch import Tensor, nn
from torch.distributions import Distribution

from elboscope.core import InputError
from elboscope.nn.stacked import StackedMLP, num_members

from .hierarchical import HierarchicalVAE
from .vae import VAE, output_shape


class StackedVAE(VAE):
    """A :class:`VAE` whose networks are :class:`~elboscope.nn.stacked.StackedMLP`.

    Example:
        >>> import torch
        >>> from elboscope.models import mlp_vae
        >>> vaes = stack([mlp_vae((6,), 2, (8,)) for _ in range(3)])
        >>> z = vaes.encode(torch.zeros(3 * 5, 6)).rsample((7,))
        >>> z.shape, vaes.decode(z).batch_shape
        (torch.Size([7, 15, 2]), torch.Size([7, 15]))
    """

    def _decode(self, z: Tensor, c: Tensor | None) -> Distribution:
        """The samples' axes stay apart from the rows, which tell the members."""
        output = self.decoder(z)
        shape = output_shape(self.likelihood, self.data_shape)
        return self.likelihood(output.reshape(*z.shape[:-1], *shape))


@overload
def stack(models: Sequence[VAE]) -> StackedVAE: ...
@overload
def stack(models: Sequence[HierarchicalVAE]) -> HierarchicalVAE: ...


def stack(models: Sequence[VAE] | Sequence[HierarchicalVAE]) -> StackedVAE | HierarchicalVAE:
    """Returns a model of S·B rows with the weights of S models of one shape.

    Args:
        models: From :func:`mlp_vae` or :func:`hierarchical_vae`, all built alike.

    Raises:
        InputError: No model; models of other kinds or of different shapes; a likelihood with
            parameters, or a prior other than N(0, I); frozen weights.

    Example:
        >>> import torch
        >>> from elboscope.models import hierarchical_vae
        >>> twins = stack([hierarchical_vae((6,), (3, 2), ((8,), (4,))) for _ in range(2)])
        >>> twins.encode(torch.zeros(10, 6)).batch_shape
        torch.Size([10])
    """
    _require_alike(models)
    first, S = models[0], range(len(models))
    if isinstance(first, HierarchicalVAE):
        layered = cast(Sequence[HierarchicalVAE], models)
        nets = [StackedMLP.of([_networks(layered[s])[i] for s in S]) for i in range(4)]
        return _hierarchical(first, nets)
    plain = cast(Sequence[VAE], models)
    return StackedVAE(
        StackedMLP.of([m.encoder for m in plain]),
        StackedMLP.of([m.decoder for m in plain]),
        copy.deepcopy(first.likelihood),
        latent_shape=first.latent_shape,
        data_shape=first.data_shape,
        encoder_output=first.encoder_output,
        input_shape=first.input_shape,
    )


@overload
def member(stacked: StackedVAE, s: int) -> VAE: ...
@overload
def member(stacked: HierarchicalVAE, s: int) -> HierarchicalVAE: ...


def member(stacked: StackedVAE | HierarchicalVAE, s: int) -> VAE | HierarchicalVAE:
    """Returns an ordinary model with a copy of the weights of member s, for evaluation.

    Args:
        stacked: From :func:`stack`.
        s: 0 … S − 1.

    Raises:
        InputError: There is no such member.

    Example:
        >>> import torch
        >>> from elboscope.models import mlp_vae
        >>> singles = [mlp_vae((6,), 2, (8,)) for _ in range(3)]
        >>> vae = member(stack(singles), 2)
        >>> bool((vae.encoder[0].weight == singles[2].encoder[0].weight).all())
        True
    """
    S = num_members(stacked)
    if not 0 <= s < S:
        raise InputError("member", expected=f"a number from 0 to {S - 1}", got=str(s))
    if isinstance(stacked, HierarchicalVAE):
        return _hierarchical(stacked, [_single(net, s) for net in _networks(stacked)])
    return VAE(
        _single(stacked.encoder, s),
        _single(stacked.decoder, s),
        copy.deepcopy(stacked.likelihood),
        latent_shape=stacked.latent_shape,
        data_shape=stacked.data_shape,
        encoder_output=stacked.encoder_output,
        input_shape=stacked.input_shape,
    )


def _networks(model: HierarchicalVAE) -> list[nn.Module]:
    return [model.encoder_1.net, model.encoder_2.net, model.prior_1.net, model.decoder]


def _hierarchical(like: HierarchicalVAE, nets: Sequence[nn.Module]) -> HierarchicalVAE:
    encoder_1, encoder_2, prior_1, decoder = nets
    return HierarchicalVAE(
        encoder_1,
        encoder_2,
        prior_1,
        decoder,
        copy.deepcopy(like.likelihood),
        latent_dims=like.latent_dims,
        data_shape=like.data_shape,
    )


def _single(net: nn.Module, s: int) -> nn.Module:
    return net.member(s) if isinstance(net, StackedMLP) else copy.deepcopy(net)


def _require_alike(models: Sequence[VAE] | Sequence[HierarchicalVAE]) -> None:
    kinds = {_kind(m) for m in models}
    if len(kinds) == 1 and not any(_has_more(m) for m in models):
        return
    raise InputError(
        "models",
        expected="VAEs built alike, with the prior N(0, I), a likelihood without parameters, and "
        "no frozen weights",
        got="none" if not models else "; ".join(sorted(kinds)),
        do="Train other models one at a time.",
    )


def _kind(model: VAE | HierarchicalVAE) -> str:
    return f"{type(model).__name__} ({' '.join(model.extra_repr().split())})"


def _has_more(model: VAE | HierarchicalVAE) -> bool:
    """Whether there is something that a stack of networks does not keep apart."""
    likelihood = model.likelihood
    learned = isinstance(likelihood, nn.Module) and bool(likelihood.state_dict())
    learned |= not all(p.requires_grad for p in model.parameters())  # a stack trains them all
    if isinstance(model, VAE):
        learned |= model.given_prior is not None or model.conditional
        learned |= isinstance(model.encoder_output, nn.Module)
    return learned or num_members(model) > 1
