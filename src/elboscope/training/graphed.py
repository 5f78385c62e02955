r"""One step of training that reads and writes in place, so that a GPU can repeat it unaided.

The data lie on the device; an epoch's order is an index array there; the step counts itself, takes
its rows from the order, and adds its bounds to sums. Nothing is read back. On CUDA the step is
captured once as a graph and replayed: no Python runs within an epoch, whose time for the small
networks of the literature is otherwise that of launching kernels. On a CPU the same function is
called instead, with the same arithmetic. A graph holds the numbers that it was captured with, so
one whose weight of the objective has changed is captured again.

A file of its own because a captured step is an idea of its own: it knows no folder and no clock.

Random numbers come from the device's default generator, which graphs advance at each replay.
"""

from __future__ import annotations

__all__ = ["GraphedStep", "captured", "unchanged"]

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float, Float64, Int64, Shaped
from torch import Tensor, nn
from torch.optim import Optimizer

from elboscope.core import Bound, LatentVariableModel, seeded, split_parameters
from elboscope.data import Binarisation

from .data import permutation

# Runs before a capture, in which libraries allocate what they need.
WARM_UP = 3


class GraphedStep:
    """A step on the next minibatch of each of S models that are stacked in one.

    Args:
        model: The model of S·B rows.
        objective: ``(model, x, epoch) -> Bound``, asked at ``time``.
        optimizer: Holds the parameters; its rate is a tensor.
        x: All data on the device; bytes are grey values 0 … 255.
        batch_size: B.
        members: S.
        binarisation: Applied to each minibatch.
    """

    def __init__(
        self,
        model: LatentVariableModel,
        objective: Callable[[LatentVariableModel, Tensor, float], Bound],
        optimizer: Optimizer,
        x: Shaped[Tensor, "N *X"],
        batch_size: int,
        members: int,
        binarisation: Binarisation,
    ) -> None:
        self.model, self.objective, self.optimizer = model, objective, optimizer
        self.x, self.members, self.binarisation = x, members, binarisation
        self.time = 0.5  # in epochs: the middle of the first
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.sums: Float64[Tensor, " S"] = torch.zeros(
            members, dtype=torch.float64, device=x.device
        )
        shape = (len(x) // batch_size, members * batch_size)
        self.order: Int64[Tensor, "T SB"] = torch.zeros(shape, dtype=torch.int64, device=x.device)
        self.position = torch.zeros(1, dtype=torch.int64, device=x.device)
        with seeded(0):
            self.encoder, self.decoder = split_parameters(model, self.minibatch())

    def shuffle(self, seed: int, epoch: int) -> None:
        """Writes an epoch's order; member s's is a function of seed + s and the epoch alone."""
        T, SB = self.order.shape
        B = SB // self.members
        orders = [permutation(len(self.x), seed + s, epoch) for s in range(self.members)]
        self.order.copy_(torch.cat([o[: T * B].reshape(T, B) for o in orders], dim=1))

    @property
    def weight(self) -> float:
        """The objective's weight at this time; 1 for a function, which has none."""
        weight = getattr(self.objective, "weight", None)
        return 1.0 if weight is None else float(weight(self.time))

    def minibatch(self) -> Float[Tensor, "SB *X"]:
        """Returns the rows whose turn it is, members in blocks, binarised."""
        x = self.x.index_select(0, self.order.index_select(0, self.position)[0])
        dtype = self.parameters[0].dtype
        grey = x.to(dtype) / 255 if x.dtype == torch.uint8 else x.to(dtype)
        return self.binarisation.batch(grey)

    def __call__(self) -> None:
        """Takes the step."""
        bound = self.objective(self.model, self.minibatch(), self.time)
        self._set_gradients(bound)
        self.optimizer.step()
        self.sums += bound.value.double().reshape(self.members, -1).mean(1)
        self.position += 1

    def _set_gradients(self, bound: Bound) -> None:
        """Each member's own gradient: a loss is a mean over rows, 1/S of the members' sum."""
        apart = bound.encoder_loss is not None
        pairs = [(bound.loss, self.decoder if apart else self.parameters)]
        if bound.encoder_loss is not None:
            pairs.append((bound.encoder_loss, self.encoder))
        for left, (loss, wrt) in zip(reversed(range(len(pairs))), pairs, strict=True):
            gradients = torch.autograd.grad(
                self.members * loss, wrt, retain_graph=left > 0, allow_unused=True
            )
            for p, gradient in zip(wrt, gradients, strict=True):
                p.grad = gradient

    def state(self) -> list[Tensor]:
        """Everything the step writes to, beside the random state."""
        modules = [self.model] if isinstance(self.model, nn.Module) else []
        buffers = [b for m in modules for b in m.buffers()]
        return [*self.parameters, *buffers, *_tensors(self.optimizer), self.sums, self.position]


def _tensors(optimizer: Optimizer) -> list[Tensor]:
    entries = (entry for state in optimizer.state.values() for entry in state.values())
    return [entry for entry in entries if isinstance(entry, Tensor)]


def captured(step: GraphedStep) -> Callable[[], object]:
    """Returns what takes the step: on CUDA the replay of its graph, on a CPU the step itself.

    Capturing runs the step a few times; everything that it changed is put back.
    """
    if step.x.device.type != "cuda":
        return step
    with torch.cuda.device(step.x.device), unchanged(step):
        graph = _recorded(step)
    return graph.replay


@contextmanager
def unchanged(step: GraphedStep) -> Iterator[None]:
    """Puts parameters, moments, sums, position and random state back, in place."""
    device = step.x.device
    on_cuda = device.type == "cuda"
    random = torch.cuda.get_rng_state(device) if on_cuda else torch.get_rng_state()
    before = {id(t): t.detach().clone() for t in step.state()}
    yield
    with torch.no_grad():
        for t in step.state():  # moments that were not there before begin at 0
            t.zero_() if id(t) not in before else t.copy_(before[id(t)])
    if on_cuda:
        torch.cuda.set_rng_state(random, device)
    else:
        torch.set_rng_state(random)


def _recorded(step: GraphedStep) -> torch.cuda.CUDAGraph:
    """Warms up and captures on one side stream, whose library handles then exist already."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*without CUDA graph capture")
        for _ in range(WARM_UP):
            step.position.zero_()
            step()
        step.position.zero_()
    torch.cuda.current_stream().wait_stream(stream)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        step()
    torch.cuda.current_stream().wait_stream(stream)
    return graph
