r"""Aggressive training of the encoder: against an inference that lags behind the decoder.

Early in training the decoder learns to do without z before q(z|x) has learnt to follow
p(z|x): the encoder lags, its KL has nothing to show for it, and the code collapses. The remedy
of He et al.: for the first epochs, before each step of the decoder, step the encoder alone on
minibatches drawn at random, until the mean loss of ten steps no longer falls.

The encoder's steps are taken by the same optimiser, whose moments of the decoder they leave
alone. Their minibatches and noise come from the ambient random state, which checkpoints carry, so
that a resumed run repeats them.

References:
    | Lagging Inference Networks and Posterior Collapse in Variational Autoencoders (He et al.,
      2019), https://arxiv.org/abs/1901.05534
"""

from __future__ import annotations

__all__ = ["lagging_inference_step", "random_minibatches"]

import math
from collections.abc import Callable

import torch
from torch import Tensor

from elboscope.core import Bound
from elboscope.data import Binarisation

from .minibatches import Minibatch
from .steps import Step

# He et al.: the loss is judged over ten steps, and there are at most a hundred.
WINDOW, MOST_STEPS = 10, 100


def lagging_inference_step(
    step: Step,
    encoder_step: Step,
    decoder_step: Step,
    draw: Callable[[float], Minibatch],
    epochs: float,
    *,
    most_steps: int = MOST_STEPS,
) -> Step:
    """Returns a step that lets the encoder catch up before the decoder moves, for some epochs.

    It is not stopped by the mutual information, as He et al. do, but by the clock: choose about
    as many epochs as it takes the held-out bound to settle. Each costs several ordinary ones.

    Args:
        step: The ordinary step, taken from then on.
        encoder_step: Moves the encoder alone: ``objective_step(…, only="encoder")``.
        decoder_step: Moves the rest alone.
        draw: Returns a random minibatch for the encoder, given the time in epochs.
        epochs: For how long.
        most_steps: The most steps of the encoder for one of the decoder.

    Example:
        >>> taken = []
        >>> def named(name, loss):
        ...     return lambda batch: taken.append(name) or Bound(batch.x, torch.tensor(loss))
        >>> batch = Minibatch(torch.zeros(1), 0.5)
        >>> encoder, decoder = named("encoder", 1.0), named("decoder", 1.0)
        >>> step = lagging_inference_step(decoder, encoder, decoder, lambda epoch: batch, 1.0)
        >>> _ = step(batch)
        >>> taken.count("encoder"), taken[-1]  # twice ten: the loss did not fall
        (20, 'decoder')
    """

    def lagging(batch: Minibatch) -> Bound:
        if batch.epoch > epochs:
            return step(batch)
        _while_falling(lambda: encoder_step(draw(batch.epoch)).loss, most_steps)
        return decoder_step(batch)

    return lagging


def _while_falling(take: Callable[[], Tensor], most_steps: int) -> None:
    """Takes steps as long as the mean loss of one window is below that of the last."""
    before = math.inf
    for start in range(0, most_steps, WINDOW):
        losses = [take() for _ in range(min(WINDOW, most_steps - start))]
        mean = torch.stack(losses).mean().item()
        if not mean < before:
            return
        before = mean


def random_minibatches(
    x: Tensor, batch_size: int, condition: Tensor | None, binarisation: Binarisation
) -> Callable[[float], Minibatch]:
    """Returns a function of the time that draws B rows, from the ambient random state.

    Example:
        >>> draw = random_minibatches(torch.zeros(9, 2), 4, None, Binarisation("none"))
        >>> draw(0.5).x.shape
        torch.Size([4, 2])
    """

    def draw(epoch: float) -> Minibatch:
        rows = torch.randint(len(x), (min(batch_size, len(x)),)).to(x.device)
        batch = binarisation.batch(x.index_select(0, rows))
        return Minibatch(
            batch, epoch, None if condition is None else condition.index_select(0, rows)
        )

    return draw
