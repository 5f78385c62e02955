"""A run in progress: what was asked for, where it is, and what identifies it."""

from __future__ import annotations

__all__ = ["Run"]

from dataclasses import dataclass, field

from torch import Tensor, nn
from torch.optim import Optimizer

from elboscope.core import Sampled

from .checkpoint import TrainingState
from .data_split import TrainingData
from .games import Game
from .metrics import Row
from .minibatches import steps_per_epoch
from .objective import Objective
from .run_folder import RunFolder
from .settings import TrainingSettings

# Settings that may change between two sittings of one run.
FREE = ("epochs", "patience", "device", "compile", "tensorboard", "checkpoint_seconds",
        "checkpoint_epochs")  # fmt: skip


@dataclass
class Run:
    """A run in progress: what was asked for, and where it is.

    Attributes:
        record: ``run.json``.
        kept: The last finite weights, where there is no folder to keep them.
        looked_at: Losses of this epoch known to be finite.
        saved_at: When the last checkpoint was written, on the monotonic clock.
        began_at: When this sitting began, less the time of earlier ones.
    """

    model: Sampled
    module: nn.Module
    optimizer: Optimizer
    objective: Objective | Game
    settings: TrainingSettings
    data: TrainingData
    folder: RunFolder | None
    record: dict[str, object]
    state: TrainingState = field(default_factory=TrainingState)
    history: list[Row] = field(default_factory=list)
    kept: dict[str, Tensor] = field(default_factory=dict)
    looked_at: int = 0
    saved_at: float = 0.0
    began_at: float = 0.0

    @property
    def steps_per_epoch(self) -> int:
        """T."""
        return steps_per_epoch(len(self.data.x), self.settings.batch_size)

    @property
    def epoch(self) -> float:
        """Training time, in epochs."""
        return self.state.step / self.steps_per_epoch

    @property
    def bounded(self) -> bool:
        """Whether q(z|x) and p(x|z) have the densities that an ELBO is made of."""
        return bool(self.record["has_bound"])

    @property
    def identity(self) -> dict[str, object]:
        """What may not change between two sittings."""
        kept = {k: v for k, v in self.settings.record().items() if k not in FREE}
        data = {f"data {k}": v for k, v in self.data.record.items()}
        return kept | data | {"binarisation": self.record["binarisation"]}
