"""The latent units one by one: what each costs, moves, tells and is worth, and what that means."""

from __future__ import annotations

__all__ = ["units_panel"]

from elboscope.diagnostics import UnitRow, unit_table
from elboscope.diagnostics.evidence import Evidence

from .panel_kinds import Listing, Missing, Panel, reason_of

TITLE = "Unit by unit"
MOST = 50
CAPTION = (
    "The most expensive first: nats of KL, variance of the posterior mean, nats of information "
    "I(n; z_j), nats of reconstruction lost without the unit. Used: it moves and is missed. "
    "Pruned: it equals the prior and nobody asks for it, no fault by itself. Ignored: the decoder "
    "does not listen. Constant: it costs and says nothing. Unread: the decoder listens and the "
    "encoder says nothing."
)


def units_panel(evidence: Evidence) -> Panel:
    """Returns a line per unit, at most fifty, or why there is none."""
    rows = unit_table(evidence)
    if not rows:
        return Missing(TITLE, reason_of(evidence, "active_units"))
    lines = [(f"unit {row.unit}", _line(row)) for row in rows[:MOST]]
    if len(rows) > MOST:
        lines.append(("besides", f"{len(rows) - MOST} cheaper units"))
    return Listing(TITLE, CAPTION, tuple(lines))


def _line(row: UnitRow) -> str:
    numbers = (("KL", row.kl), ("variance", row.variance), ("information", row.information),
               ("lost without it", row.effect))  # fmt: skip
    shown = ", ".join(f"{name} {value:.3f}" for name, value in numbers if value == value)
    return f"{row.state}: {shown}".replace("-", "−")
