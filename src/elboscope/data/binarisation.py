r"""How grey values become binary, and what a number about binary data was computed on.

A Bernoulli likelihood is a distribution over x ∈ {0, 1}. Grey values p ∈ [0, 1] are turned into
such data in one of three ways, and their log-likelihoods differ by nats:

- **dynamic**: x ~ Bernoulli(p), afresh each time a training minibatch is used; evaluated on one
  draw, fixed by a seed (Salakhutdinov & Murray 2008; Burda et al. 2015).
- **fixed**: one draw, fixed by a seed, for training and evaluation (Larochelle & Murray 2011; our
  draw is not their published file).
- **threshold**: x = 1 where p > 0.5.

With **none** the values stay as they are; a Bernoulli "likelihood" of grey values is then a
cross-entropy and no log-probability. Numbers of two modes never share a table.
"""

from __future__ import annotations

__all__ = ["Binarisation"]

import hashlib
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from elboscope.core import InputError, seeded

from .inputs import nearest, require_range

Mode = Literal["dynamic", "fixed", "threshold", "none"]


@dataclass(frozen=True)
class Binarisation:
    """The rule that makes binary data of grey values; its text belongs beside every number.

    Args:
        mode: "dynamic", "fixed", "threshold" or "none".
        seed: Seed of the evaluation draw ("dynamic") or of the one draw there is ("fixed").
        threshold: Grey value above which a pixel is 1; "threshold" only.

    Raises:
        InputError: An unknown mode, a seed that is no whole number ≥ 0, a threshold outside [0, 1).

    References:
        Burda, Grosse, Salakhutdinov (2015). Importance weighted autoencoders. arXiv 1509.00519.

    Example:
        >>> binarisation = Binarisation("dynamic", seed=7)
        >>> print(binarisation)
        dynamic binarisation (x ~ Bernoulli(grey), afresh in each training minibatch; evaluated on one draw, seed 7)
        >>> x = torch.full((2, 4), 0.5)
        >>> torch.equal(binarisation.fixed_draw(x), binarisation.fixed_draw(x))
        True
        >>> binarisation.fixed_draw(x).unique().tolist()
        [0.0, 1.0]
    """  # noqa: E501

    mode: str = "dynamic"
    seed: int = 0
    threshold: float = 0.5

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode):
            raise InputError(
                "binarisation",
                expected="one of " + ", ".join(get_args(Mode)),
                got=repr(self.mode),
                do=nearest(self.mode, get_args(Mode)),
            )
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise InputError(
                "binarisation seed",
                expected="a whole number ≥ 0",
                got=repr(self.seed),
                do="The seed names the evaluation draw; without one no number can be repeated.",
            )
        if not 0.0 <= self.threshold < 1.0:
            raise InputError(
                "binarisation threshold",
                expected="a grey value in [0, 1)",
                got=repr(self.threshold),
                do="0.5 is the literature's.",
            )

    @property
    def is_binary(self) -> bool:
        """Whether the data come out as 0 and 1, so that a Bernoulli value is a log-probability."""
        return self.mode != "none"

    def fixed_draw(self, x: Float[Tensor, "N *X"], *, stream: int = 0) -> Float[Tensor, "N *X"]:
        """Returns the data every number is computed on: one draw, the same at each call.

        The draw is made on the CPU from the seed, so it is the same on every device, and the
        first n rows of the draw of N rows are the draw of the first n.

        Args:
            x: Grey values in [0, 1], ``(N, *X)``.
            stream: 0 for evaluation data. Binarise training data ("fixed") with another number,
                so that they do not share their noise with the test data.

        Returns:
            Binary data of x's shape, dtype and device ("none": x itself).

        Raises:
            InputError: Values outside [0, 1], unless the mode is "none".
        """
        if self.mode == "none":
            return x
        require_range(x, 0.0, 1.0, name="x", do="Rescale the values or use binarisation 'none'.")
        if self.mode == "threshold":
            return (x > self.threshold).to(x.dtype)
        with seeded(_stream_seed(self.seed, stream)):
            uniform = torch.rand(x.shape, dtype=torch.float32, device="cpu")
        return (uniform.to(x.device) < x).to(x.dtype)

    def batch(self, x: Float[Tensor, "B *X"]) -> Float[Tensor, "B *X"]:
        """Returns a training minibatch: a fresh draw from the ambient random state if dynamic.

        "fixed" and "threshold" return x as it is: binarise the training data once, with
        ``fixed_draw``. The range is not checked here, because this runs in the inner loop.
        """
        if self.mode != "dynamic":
            return x
        return (torch.rand_like(x) < x).to(x.dtype)

    def __str__(self) -> str:
        match self.mode:
            case "dynamic":
                rule = (
                    "x ~ Bernoulli(grey), afresh in each training minibatch; "
                    f"evaluated on one draw, seed {self.seed}"
                )
            case "fixed":
                rule = f"one draw x ~ Bernoulli(grey), seed {self.seed}"
            case "threshold":
                rule = f"x = 1 where grey > {self.threshold:g}"
            case _:
                return "no binarisation (values as they are)"
        return f"{self.mode} binarisation ({rule})"


def _stream_seed(seed: int, stream: int) -> int:
    if stream == 0:
        return seed
    digest = hashlib.sha256(f"{seed} {stream}".encode()).digest()
    return int.from_bytes(digest[:7], "big")
