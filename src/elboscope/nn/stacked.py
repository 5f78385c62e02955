r"""S networks of one shape as one: a matrix product with a leading axis of members.

.. math:: h_s \mapsto h_s W_s + b_s, \qquad s = 1 \dots S

Small networks leave a GPU idle; S of them cost little more than one. The rows of the batch axis
are split evenly: of S·B rows, the first B are the first member's, and so on. No row of one member
meets a weight of another, so that a mean over all rows is 1/S of the sum of the members' means,
and its gradient with respect to a member is that member's alone.
"""

from __future__ import annotations

__all__ = ["StackedLinear", "StackedMLP", "num_members", "stacked_mlp"]

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from elboscope.core import InputError

from .networks import Activation, mlp


class StackedLinear(nn.Module):
    r"""S linear layers :math:`h_s W_s + b_s`.

    Args:
        members: S.
        in_features: Width of the input.
        out_features: Width of the output.

    Example:
        >>> layer = StackedLinear(3, 4, 2)
        >>> layer(torch.zeros(7, 3 * 5, 4)).shape, layer.weight.shape
        (torch.Size([7, 15, 2]), torch.Size([3, 4, 2]))
    """

    def __init__(self, members: int, in_features: int, out_features: int) -> None:
        super().__init__()
        if members < 1:
            raise InputError("members", expected="at least 1", got=repr(members))
        singles = [nn.Linear(in_features, out_features) for _ in range(members)]
        self.weight = nn.Parameter(torch.stack([m.weight.detach().T for m in singles]))
        self.bias = nn.Parameter(torch.stack([m.bias.detach()[None] for m in singles]))

    @classmethod
    def of(cls, layers: Sequence[nn.Linear]) -> StackedLinear:
        """Returns these layers as one."""
        stacked = cls(len(layers), layers[0].in_features, layers[0].out_features)
        stacked.weight = nn.Parameter(torch.stack([m.weight.detach().T for m in layers]))
        stacked.bias = nn.Parameter(torch.stack([m.bias.detach()[None] for m in layers]))
        return stacked

    def member(self, s: int) -> nn.Linear:
        """Returns a copy of layer s."""
        _, n, m = self.weight.shape
        single = nn.Linear(n, m).to(self.weight)
        with torch.no_grad():
            single.weight.copy_(self.weight[s].T)
            single.bias.copy_(self.bias[s, 0])
        return single

    def forward(self, h: Float[Tensor, "*K SB n"]) -> Float[Tensor, "*K SB m"]:
        """Applies to each member's rows its own layer."""
        S = len(self.weight)
        return _by_row(self.by_member(_by_member(h, S)), h.shape[:-2])

    def by_member(self, h: Float[Tensor, "S N n"]) -> Float[Tensor, "S N m"]:
        """The same with the members' rows on an axis of their own."""
        return torch.baddbmm(self.bias, h, self.weight)

    def extra_repr(self) -> str:
        """Gives the shape."""
        S, n, m = self.weight.shape
        return f"members={S}, in_features={n}, out_features={m}"


class StackedMLP(nn.Module):
    """S multilayer perceptrons; the rows are laid out by member once, not in every layer.

    Args:
        layers: :class:`StackedLinear` layers of as many members, and activations.

    Example:
        >>> net = stacked_mlp(2, 4, (8,), 3)
        >>> h = torch.randn(2 * 5, 4)
        >>> bool((net(h)[5:] - net.member(1)(h[5:])).abs().max() < 1e-6)
        True
    """

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.members = next(len(m.weight) for m in layers if isinstance(m, StackedLinear))

    @classmethod
    def of(cls, networks: Sequence[nn.Module]) -> StackedMLP:
        """Returns networks of linear layers and activations as one.

        Raises:
            InputError: Their layers differ, or are others.
        """
        rows = [list(net) if isinstance(net, nn.Sequential) else [net] for net in networks]
        shapes = {tuple(str(layer) for layer in row) for row in rows}
        if len(shapes) != 1 or not all(_stackable(layer) for layer in rows[0]):
            raise InputError(
                "stack",
                expected="networks of the same linear layers and activations",
                got=" and ".join(sorted("-".join(type(m).__name__ for m in r) for r in rows)),
                do="Train other networks one at a time.",
            )
        return cls([_stacked(column) for column in zip(*rows, strict=True)])

    def member(self, s: int) -> nn.Sequential:
        """Returns a copy of network s, as :func:`elboscope.nn.networks` builds them."""
        return nn.Sequential(
            *(m.member(s) if isinstance(m, StackedLinear) else m for m in self.layers)
        )

    def forward(self, h: Float[Tensor, "*K SB n"]) -> Float[Tensor, "*K SB m"]:
        """Applies to each member's rows its own network."""
        rows = _by_member(h, self.members)
        for layer in self.layers:
            rows = layer.by_member(rows) if isinstance(layer, StackedLinear) else layer(rows)
        return _by_row(rows, h.shape[:-2])


def stacked_mlp(
    members: int,
    in_features: int,
    hidden: tuple[int, ...],
    out_features: int,
    nonlinearity: Activation = "relu",
) -> StackedMLP:
    """Returns S newly drawn multilayer perceptrons as one.

    Args:
        members: S.
        in_features: Width of the input.
        hidden: Widths of the hidden layers.
        out_features: Width of the output.
        nonlinearity: The activation's name.

    Example:
        >>> sum(p.numel() for p in stacked_mlp(3, 4, (), 2).parameters())
        30
    """
    singles = [mlp(in_features, hidden, out_features, nonlinearity) for _ in range(members)]
    return StackedMLP.of(singles)


def num_members(module: nn.Module) -> int:
    """Returns S for a model made of stacked networks, and 1 for any other.

    Example:
        >>> num_members(stacked_mlp(3, 4, (), 2)), num_members(nn.Linear(4, 2))
        (3, 1)
    """
    found = (len(m.weight) for m in module.modules() if isinstance(m, StackedLinear))
    return next(found, 1)


def _stackable(layer: nn.Module) -> bool:
    linear = isinstance(layer, nn.Linear) and isinstance(layer.bias, nn.Parameter)
    return linear or not layer.state_dict()


def _stacked(layers: Sequence[nn.Module]) -> nn.Module:
    linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
    return StackedLinear.of(linear) if linear else layers[0]


def _by_member(h: Tensor, S: int) -> Float[Tensor, "S N n"]:
    """(*K, S·B, n) laid out as (S, K·B, n)."""
    rows, n = h.shape[-2:]
    if rows % S:
        raise InputError(
            "rows of the batch",
            expected=f"as many for each of the {S} members",
            got=str(rows),
            do="Repeat x for every member: x.repeat(S, …).",
        )
    return h.reshape(-1, S, rows // S, n).transpose(0, 1).reshape(S, -1, n)


def _by_row(h: Tensor, lead: torch.Size) -> Tensor:
    """Back from (S, K·B, m) to (*K, S·B, m)."""
    S, N, m = h.shape
    K = lead.numel()
    return h.reshape(S, K, N // K, m).transpose(0, 1).reshape(*lead, -1, m)
