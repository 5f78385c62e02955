r"""What is drawn together, what is decoded at once, and how many bytes that may take.

Random numbers are drawn on a grid: a cell is a few datapoints times a few samples, and has a random
stream of its own. The grid follows from the data and K alone. How much of a cell is decoded at once
is another question, answered by ``batch_size``, ``sample_chunk`` and the memory; it changes the
rounding of a number and nothing else.
"""

from __future__ import annotations

__all__ = [
    "Grid",
    "Pieces",
    "Streams",
    "blocks",
    "decode_in_pieces",
    "memory_budget",
    "rows_in_memory",
    "values_per_sample",
]

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from contextvars import ContextVar
from typing import NamedTuple, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.distributions import Distribution

from .errors import InputError
from .model import GenerativeModel, LatentVariableModel, evaluating, given, modules_of
from .random import next_stream, seeded

M = TypeVar("M", bound=GenerativeModel)
# Samples × datapoints of a cell and of a decoded piece: rows of the matrix products in the decoder.
# A few thousand keep a layer's activations in a CPU's cache; a GPU wants more.
ROWS_ON_CPU, ROWS_ELSEWHERE = 2**12, 2**15
# Numbers of the largest tensor of a piece: 4 MB, which a CPU's cache still holds (1.8 times the
# speed of 16 MB).
ELEMENTS_ON_CPU, ELEMENTS_ELSEWHERE = 2**20, 2**24
# Numbers of the latents of a cell, for latents that are images themselves.
LATENTS = 2**22
# Datapoints of a cell: many for few samples each, few for many.
FEWEST, MOST = 64, 256
# What a piece holds beside the tensors that the gradient needs: gradients, copies, results.
OVERHEAD = 2.0
# Tensors of the largest size, where what a gradient keeps cannot be measured.
UNMEASURED = 16

DEFAULT_BUDGET = 2**31
_budget: ContextVar[int] = ContextVar("budget", default=DEFAULT_BUDGET)


def blocks(total: int, size: int) -> Iterator[slice]:
    """Yields consecutive slices of at most ``size`` that cover ``range(total)``.

    Example:
        >>> list(blocks(5, 2))
        [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    for start in range(0, total, size):
        yield slice(start, min(start + size, total))


@contextmanager
def memory_budget(size: int) -> Iterator[None]:
    """Sets the bytes that an estimator may take at once for decoding and its gradients.

    The default is 2 GiB. It bounds what is decoded together, not the results, which are kept; a
    model of which a single z needs more is decoded z by z.

    Args:
        size: Bytes, for the calls inside.

    Raises:
        InputError: No whole number, or one below 1.

    Example:
        >>> import elboscope as es
        >>> model = es.models.LinearGaussian.instance_1()
        >>> x, _ = model.sample(500, seed=0)
        >>> with memory_budget(2**20):
        ...     little = es.importance_sampling(model, x, 100, seed=0)
        >>> ample = es.importance_sampling(model, x, 100, seed=0)
        >>> bool((ample.values - little.values).abs().max() < 1e-9)
        True
    """
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise InputError("size", expected="a whole number of bytes, at least 1", got=repr(size))
    token = _budget.set(size)
    try:
        yield
    finally:
        _budget.reset(token)


class Grid(NamedTuple):
    """The cells that are drawn together: datapoints × samples."""

    rows: int
    samples: int

    @classmethod
    def of(
        cls, model: GenerativeModel, x: Tensor, condition: Tensor | None, num_samples: int
    ) -> Grid:
        """Returns the grid for all of x and K; ``batch_size`` and ``sample_chunk`` have no say."""
        local = given(model, None if condition is None else condition[:1])
        latents = math.prod(local.prior().event_shape)
        most = ROWS_ON_CPU if x.device.type == "cpu" else ROWS_ELSEWHERE
        size = max(1, min(most, LATENTS // max(1, latents)))
        rows = min(max(FEWEST, min(MOST, size // num_samples)), _encoded_in_memory(local, x))
        rows = _even(len(x), rows)
        return cls(rows, max(1, min(num_samples, size // rows)))

    def cells(self, num_data: int, num_samples: int) -> list[tuple[slice, slice]]:
        """Returns datapoints and samples of every cell, all samples of a datapoint in a row."""
        return [
            (rows, samples)
            for rows in blocks(num_data, self.rows)
            for samples in blocks(num_samples, self.samples)
        ]


def _even(total: int, size: int) -> int:
    """The size of equal blocks of at most ``size``: 65 are 33 and 32, not 64 and 1."""
    return max(1, math.ceil(total / max(1, math.ceil(total / size))))


class Streams:
    """A random stream for each cell: what one draws does not depend on the others.

    Example:
        >>> with seeded(0):
        ...     streams = Streams()
        ...     with streams(3):
        ...         x = torch.randn(2)
        >>> with seeded(0), Streams()(3):
        ...     print(torch.equal(x, torch.randn(2)))
        True
    """

    def __init__(self) -> None:
        self.first = next_stream()

    def __call__(self, number: int) -> AbstractContextManager[object]:
        """Returns the context in which the cell of this number is drawn."""
        return seeded(self.first + number)


class Pieces(NamedTuple):
    """What is decoded at once, at most: datapoints × samples."""

    rows: int
    samples: int

    @classmethod
    def of(
        cls,
        model: GenerativeModel,
        x: Tensor,
        condition: Tensor | None,
        grid: Grid,
        batch_size: int | None = None,
        sample_chunk: int | None = None,
    ) -> Pieces:
        """Returns what was asked for; else what is fast, within the budget."""
        rows = min(batch_size or grid.rows, grid.rows)
        if sample_chunk is not None and batch_size is not None:
            return cls(rows, min(sample_chunk, grid.samples))
        values = values_per_sample(model, x, condition)
        fitting = _fitting(model, x, condition, values)
        if batch_size is None:
            rows = min(rows, max(1, fitting // min(sample_chunk or 1, grid.samples)))
        if sample_chunk is not None:
            return cls(rows, min(sample_chunk, grid.samples))
        on_cpu = x.device.type == "cpu"
        most, elements = (
            (ROWS_ON_CPU, ELEMENTS_ON_CPU) if on_cpu else (ROWS_ELSEWHERE, ELEMENTS_ELSEWHERE)
        )
        fast = min(most, elements // values)
        return cls(rows, max(1, min(grid.samples, min(fast, fitting) // rows)))


def decode_in_pieces(
    score: Callable[[M, Tensor, Tensor], Tensor],
    model: M,
    x: Float[Tensor, "B *X"],
    z: Float[Tensor, "K B *Z"],
    pieces: Pieces,
    condition: Tensor | None = None,
) -> Tensor:
    """Returns ``score(model, x, z)``, ``(K, B, …)``, of all of a cell, a piece at a time."""
    columns = []
    for rows in blocks(len(x), pieces.rows):
        local = given(model, None if condition is None else condition[rows])
        parts = [score(local, x[rows], z[s][:, rows]) for s in blocks(len(z), pieces.samples)]
        columns.append(parts[0] if len(parts) == 1 else torch.cat(parts))
    return columns[0] if len(columns) == 1 else torch.cat(columns, 1)


# What one z costs. Nothing is assumed of a network: one z is decoded and scored, and counted is
# what the gradient would keep of it, and the largest tensor on the way.
#
# A Bernoulli decoder gives a number a value, a categorical one 256, and an autoregressive one
# runs its network, with all its feature maps, only when a density is asked for.


def rows_in_memory(model: GenerativeModel, x: Tensor, condition: Tensor | None = None) -> int:
    """Returns how many z may be decoded at once, and followed back to z, within the budget.

    Args:
        model: The model.
        x: Data; the first is scored.
        condition: One row per datapoint.
    """
    return _fitting(model, x, condition, values_per_sample(model, x, condition))


def _fitting(model: GenerativeModel, x: Tensor, condition: Tensor | None, largest: int) -> int:
    with evaluating(model), seeded(0):
        local, rows = _measured(model, x, condition)
        z = local.prior().sample(torch.Size((1, len(rows))))

        def score() -> object:
            place = z.requires_grad_() if z.is_floating_point() else z
            return local.decode(place).log_prob(rows)

        kept = _kept_for_gradients(local, score) // len(rows)
    largest *= z.element_size()
    return max(1, int(_budget.get() / (OVERHEAD * ((kept or UNMEASURED * largest) + largest))))


def _encoded_in_memory(model: GenerativeModel, x: Tensor) -> int:
    """How many datapoints may be encoded at once; the budget in force has no say in the grid."""
    if not isinstance(model, LatentVariableModel) or not len(x):
        return MOST
    with evaluating(model), seeded(0):
        kept = _kept_for_gradients(model, lambda: model.encode(x[:1]))
    return max(1, int(DEFAULT_BUDGET / (OVERHEAD * max(1, kept))))


def _kept_for_gradients(model: object, compute: Callable[[], object]) -> int:
    """Bytes of what autograd keeps of one row, the model's own parameters and buffers aside."""
    sizes: dict[int, int] = {}

    def note(t: Tensor) -> Tensor:
        sizes[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.enable_grad(), saved_tensors_hooks(note, lambda t: t):
        try:
            kept = compute()  # held until all is counted: no address is used twice
        except (NotImplementedError, ValueError, RuntimeError):
            return 0  # told where it is asked for
    own = [t for m in modules_of(model) for t in (*m.parameters(), *m.buffers())]
    for t in own:
        sizes.pop(t.untyped_storage().data_ptr(), None)
    del kept
    return sum(sizes.values())


def values_per_sample(
    model: GenerativeModel, x: Float[Tensor, "B *X"], condition: Tensor | None = None
) -> int:
    """Returns the numbers of the largest tensor that decoding and scoring one z makes.

    At least the values of a datapoint. The random state is left alone. A decoder that has scored
    before it returns (feature maps of its own) is not measured: they are freed layer by layer.

    Args:
        model: The model.
        x: Data; the first is scored.
        condition: One row per datapoint.

    Example:
        >>> import elboscope as es
        >>> model = es.models.mlp_vae((6,), 2, hidden=(8,), likelihood="categorical", levels=17)
        >>> values_per_sample(model, torch.zeros(1, 6))  # six values of 17 levels
        102
    """
    with evaluating(model), seeded(0), _sizes(model) as returned:
        local, rows = _measured(model, x, condition)
        found = [rows.numel()]
        p = local.decode(local.prior().sample(torch.Size((1, len(rows)))))
        returned.clear()  # what the decoder made on its way is freed again
        _keep(p, found)
        with suppress(NotImplementedError, ValueError, RuntimeError):  # told where it is asked for
            p.log_prob(rows)
            found += returned
    return max(found) // len(rows)


def _measured(model: M, x: Tensor, condition: Tensor | None) -> tuple[M, Tensor]:
    """The model given what is measured, one row; all rows where it was given theirs before."""
    local = given(model, None if condition is None else condition[:1])
    try:
        local.decode(local.prior().sample(torch.Size((1, 1))))
    except (RuntimeError, ValueError):
        return local, x
    return local, x[:1]


@contextmanager
def _sizes(model: object) -> Iterator[list[int]]:
    """Collects the numbers of every tensor that a module of the model returns."""
    returned: list[int] = []

    def note(_module: nn.Module, _arguments: object, answer: object) -> None:
        if isinstance(answer, Tensor):
            returned.append(answer.numel())

    with ExitStack() as hooks:
        for module in {m for root in modules_of(model) for m in root.modules()}:
            hooks.callback(module.register_forward_hook(note).remove)
        yield returned


def _keep(p: Distribution, found: list[int]) -> None:
    for value in vars(p).values():
        if isinstance(value, Tensor):
            found.append(value.numel())
        elif isinstance(value, Distribution):
            _keep(value, found)
