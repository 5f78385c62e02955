"""``metrics.csv``: one row an epoch, in full precision, that can be cut back to a checkpoint.

With the held-out bound that a row reports and training is judged by.
"""

from __future__ import annotations

__all__ = [
    "COLUMNS",
    "HeldOut",
    "Reporter",
    "Row",
    "Tracker",
    "append_row",
    "held_out_bound",
    "open_tracker",
    "read_rows",
    "reporting",
    "write_rows",
]

import csv
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from elboscope.core import (
    InputError,
    LatentVariableModel,
    evaluating,
    given,
    sample_posterior,
    seeded,
)
from elboscope.core.errors import blamed_on, first_line
from elboscope.core.files import readable, replace_file

Row = dict[str, float]

# Columns that depend on the clock, last; all others repeat bit for bit.
COLUMNS = (
    "step",
    "epoch",
    "train_bound",  # mean over the epoch's datapoints, nats; parameters move while it is taken
    "loss",
    "validation_elbo",  # at β = 1, nats, one fixed draw of data and noise
    "validation_kl",
    "weight",  # β or λ of the objective
    "learning_rate",
    "seconds",
    "samples_per_s",
)


def _line(values: Iterable[object]) -> str:
    text = StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue()


def _cells(row: Row, columns: Iterable[str]) -> list[str]:
    """Returns shortest texts that read back as the same numbers; missing ones and NaN are empty."""
    values = [row.get(name, math.nan) for name in columns]
    return ["" if math.isnan(value) else repr(value) for value in values]


def append_row(path: Path, row: Row, columns: tuple[str, ...] = COLUMNS) -> None:
    """Appends one row in a single write."""
    with path.open("a", encoding="utf-8") as file:
        file.write(_line(_cells(row, columns)))


def write_rows(path: Path, rows: Iterable[Row], columns: tuple[str, ...] = COLUMNS) -> None:
    """Replaces the file by its header and these rows."""
    text = _line(columns) + "".join(_line(_cells(row, columns)) for row in rows)
    replace_file(path, lambda aside: aside.write_text(text, encoding="utf-8"))


def read_rows(path: Path) -> list[Row]:
    """Returns the complete rows; a last line that a killed process left unfinished is ignored.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "metrics.csv"
        >>> write_rows(path, [{"step": 18.0, "epoch": 1.0, "train_bound": -0.1}])
        >>> [row["train_bound"] for row in read_rows(path)]
        [-0.1]
    """
    if not path.exists():
        return []
    try:
        lines = readable(path).read_text(encoding="utf-8").splitlines(keepends=True)
        complete = [line for line in lines if line.endswith("\n")]
        rows = list(csv.DictReader(complete, restkey="", restval="", strict=True))
        return [{name: _number(cell) for name, cell in row.items()} for row in rows]
    except (ValueError, TypeError, OSError, csv.Error) as error:
        raise InputError(
            str(path),
            expected="a line of names and a line of numbers for each epoch",
            got=f"a damaged file ({first_line(error)})",
            do="Restore it, or move it away: the weights do not depend on it.",
        ) from error


def _number(cell: str) -> float:
    return float(cell) if cell else math.nan


# A progress bar with nats and samples per second, only where one was asked for.

# Seconds between two readings of a bound: each waits for the device.
PERIOD = 0.25


@dataclass
class Reporter:
    """Shows where training is, at most a few times a second.

    Attributes:
        show: Takes (epochs done, text); ``None`` shows nothing.
        say: Takes a sentence.
        done: Takes the epochs done, after each.
    """

    show: Callable[[float, str], None] | None = None
    say: Callable[[str], None] | None = None
    done: Callable[[int], None] | None = None
    _next: float = 0.0

    def step(self, epoch: float, value: Tensor, rate: float, held_out: float | None) -> None:
        """Reports a step; the bound is read from the device only when it will be shown."""
        if self.show is None or (now := time.monotonic()) < self._next:
            return
        self._next = now + PERIOD
        text = f"{value.mean().item():9.2f} nats  {rate:8,.0f} samples/s"
        valid = "" if held_out is None or math.isnan(held_out) else f"  held out {held_out:.2f}"
        self.show(epoch, text + valid)

    def played(self, epoch: float, measured: Mapping[str, Tensor], rate: float) -> None:
        """Reports a step of a game: the players' losses, which are no bounds."""
        if self.show is None or (now := time.monotonic()) < self._next:
            return
        self._next = now + PERIOD
        losses = {k.removesuffix("_loss"): v for k, v in measured.items() if k.endswith("_loss")}
        text = "  ".join(f"{name} {value.item():.3g}" for name, value in losses.items())
        self.show(epoch, f"{text}  {rate:8,.0f} samples/s")

    def epoch(self, number: int) -> None:
        """Reports the end of an epoch."""
        if self.done is not None:
            self.done(number)

    def note(self, text: str) -> None:
        """Says a sentence once."""
        if self.say is not None:
            self.say(text)


@contextmanager
def reporting(
    epochs: int, progress: Callable[[int, int], None] | bool | None
) -> Iterator[Reporter]:
    """Yields the reporter: a rich bar on standard error, a call after each epoch, or silence.

    Example:
        >>> with reporting(3, progress=lambda done, total: print(done, "of", total)) as reporter:
        ...     reporter.epoch(1)
        1 of 3
    """
    if callable(progress):
        yield Reporter(done=partial(_call, progress, epochs))
        return
    if not progress:
        yield Reporter()
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("epoch"),
        MofNCompleteColumn(),
        BarColumn(),
        TextColumn("{task.fields[numbers]}", markup=False),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("training", total=epochs, numbers="")
        yield Reporter(
            lambda epoch, text: bar.update(task, completed=int(epoch), numbers=text),
            lambda text: bar.console.print(text, markup=False, highlight=False),
        )


def _call(progress: Callable[[int, int], None], epochs: int, done: int) -> None:
    with blamed_on("progress", "a function of (done, total)", "Fix it, or pass progress=None."):
        progress(done, epochs)


# TensorBoard events beside ``metrics.csv``, where TensorBoard is installed.

Tracker = Callable[[Row], None]

MISSING = "no TensorBoard events: TensorBoard is not installed (pip install 'elboscope[track]')"


@contextmanager
def open_tracker(folder: Path | None, start: int, notes: list[str]) -> Iterator[Tracker]:
    """Yields a function that writes a row's numbers as scalars at the row's step.

    Args:
        folder: Where; ``None`` for nowhere.
        start: The step training starts from: events of later steps, left by a killed process,
            are marked as superseded.
        notes: Takes the sentence that TensorBoard is missing, said once.

    Example:
        >>> with open_tracker(None, 0, []) as track:
        ...     track({"step": 1.0})
    """
    if folder is None:
        yield lambda row: None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        notes.append(MISSING)
        yield lambda row: None
        return
    writer = SummaryWriter(str(folder), purge_step=start + 1 if start else None)

    def track(row: Row) -> None:
        for name, value in row.items():
            if name != "step" and not math.isnan(value):
                writer.add_scalar(name, value, int(row["step"]))

    try:
        yield track
    finally:
        writer.close()


# The held-out bound that training is judged by, and the rule that stops it.
#
# .. math::
#
#     \mathrm{ELBO}(x) = \mathbb{E}_{q(z \mid x)}[\log p(x \mid z) + \log p(z) - \log q(z \mid x)]
#
# always at β = 1, whatever the objective, on one fixed draw of the data and of the noise: two
# epochs differ by the model alone, not by luck. One sample per datapoint suffices for the mean;
# it is not a per-datapoint estimate.


class HeldOut(NamedTuple):
    """Means over the held-out data, in nats."""

    elbo: float
    kl: float


def held_out_bound(
    model: LatentVariableModel,
    x: Float[Tensor, "N *X"],
    *,
    seed: int = 0,
    num_samples: int = 1,
    batch_size: int = 500,
    condition: Tensor | None = None,
) -> HeldOut:
    """Returns the mean ELBO (all-sampled) and its KL part; the model's mode is left as it was.

    Args:
        model: The model.
        x: Held-out data, binarised.
        seed: Seed of the noise, the same at each call.
        num_samples: K, per datapoint.
        batch_size: Datapoints of one block.
        condition: One row per datapoint.

    Example:
        >>> import elboscope as es
        >>> model = es.models.LinearGaussian.instance_1()
        >>> x, _ = model.sample(2000, seed=0)
        >>> held_out_bound(model, x).elbo < model.log_likelihood(x).mean().item()
        True
    """
    elbos, kls = [], []
    with evaluating(model), seeded(seed):
        for start in range(0, len(x), batch_size):
            rows = slice(start, start + batch_size)
            local = given(model, None if condition is None else condition[rows])
            z, log_q = sample_posterior(local, x[rows], num_samples)
            kl = (log_q - local.prior().log_prob(z)).double()
            elbos.append(local.decode(z).log_prob(x[rows]).double() - kl)
            kls.append(kl)
        return HeldOut(torch.cat(elbos, 1).mean().item(), torch.cat(kls, 1).mean().item())
