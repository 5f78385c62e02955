"""How a game went, on the page: nothing where none was played."""

from __future__ import annotations

__all__ = ["training_panel"]

from elboscope import plots
from elboscope.diagnostics.evidence import Evidence

from .panel_kinds import Panel, drawing

BOUNDS = (
    "The training curve is a mean over epochs in which the parameters moved; only the "
    "held-out ELBO, at β = 1, is a bound."
)
GAME = (
    "A game was played: no curve here is a bound on log p(x), and none has a best value. An "
    "adversary's accuracy of ½ says that it sees no difference, 1 that its ratio is beyond it."
)


def training_panel(evidence: Evidence) -> Panel:
    """Returns the curves of the training: of bounds, or of a game's players."""
    game = plots.game_curves_data(evidence.history)
    if game is not None:
        return drawing("Training", GAME, "training", game, plots.plot_game_curves, "")
    return drawing(
        "Training", BOUNDS, "training", plots.training_curves_data(evidence.history),
        plots.plot_training_curves, "no training history was given",
    )  # fmt: skip
