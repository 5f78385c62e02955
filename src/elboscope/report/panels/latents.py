"""The latent units on the page: what each costs, shows and is worth, and where the codes lie."""

from __future__ import annotations

__all__ = [
    "active_panel",
    "interpolations_panel",
    "manifold_panel",
    "map_panel",
    "traversals_panel",
    "unit_kl_panel",
    "units_panel",
]


from markupsafe import Markup

from elboscope import plots
from elboscope.diagnostics import Evidence, UnitRow, unit_table
from elboscope.diagnostics.quantities.latents import (
    ACTIVE_UNITS,
    INTERPOLATIONS,
    MANIFOLD,
    POSTERIOR_MEANS,
    TRAVERSALS,
    UNIT_KL,
    ZEROING,
)
from elboscope.diagnostics.quantities.likelihood import LOG_PX
from elboscope.estimators.latents.pictures import DRAWS

from .kinds import Listing, MapPanel, Missing, Panel, drawing

UNCOVERED = "q(z) has less than 5% of the prior's density"


def unit_kl_panel(evidence: Evidence) -> Panel:
    """Returns the KL of each unit beside what is lost without it."""
    return drawing(
        "What each unit costs",
        "KL to the prior per latent unit. A unit at zero is unused; a unit that costs nats while "
        "nothing is lost without it is ignored by the decoder.",
        "unit-kl",
        plots.unit_kl_data(evidence.get(UNIT_KL), evidence.get(ZEROING)),
        plots.plot_unit_kl,
        evidence.reason(UNIT_KL),
    )


def active_panel(evidence: Evidence) -> Panel:
    """Returns the variances of the posterior means."""
    return drawing(
        "Active units",
        "Variance of each unit's posterior mean over the data. The count means something where "
        "the dashed threshold divides two groups.",
        "active-units",
        plots.active_units_data(evidence.get(ACTIVE_UNITS)),
        plots.plot_active_units,
        evidence.reason(ACTIVE_UNITS),
    )


def traversals_panel(evidence: Evidence) -> Panel:
    """Returns the units that tell most, one moving a row, or why there are none."""
    found = evidence.get(TRAVERSALS)
    caption = ""
    if found is not None:
        caption = (
            f"One unit a row, the most informative first ({found.ranked_by}); it moves over the "
            f"quantiles of q(z_j), while all others stay at {found.start_is}. A row that does not "
            "change: near here the decoder does not need the unit." + _draws_note(found.decoded)
        )
    return drawing(
        "What each unit shows", caption, "traversals", plots.traversals_data(found),
        plots.plot_traversals, evidence.reason(TRAVERSALS),
    )  # fmt: skip


def interpolations_panel(evidence: Evidence) -> Panel:
    """Returns paths between the codes of datapoints, or why there are none."""
    found = evidence.get(INTERPOLATIONS)
    caption = ""
    if found is not None:
        caption = (
            f"A {found.path} path from the code of one datapoint to that of another, the two "
            "datapoints outside. Below, in nats, log q(z) − log p(z): zero where q(z) is the "
            "prior, its lowest point in orange. A deep dip is a hole on the way, which the decoder "
            "has not been trained for; where posteriors are narrow for their number q(z), their "
            "mixture, dips between any two."
        )
        caption += f" It is missing: {found.why_no_ratio}." if found.log_ratio is None else ""
        caption += _draws_note(found.decoded)
    return drawing(
        "Between two codes", caption, "interpolations", plots.interpolations_data(found),
        plots.plot_interpolations, evidence.reason(INTERPOLATIONS),
    )  # fmt: skip


def manifold_panel(evidence: Evidence) -> Panel:
    """Returns the plane of two latents (or the line of one), or why there is none."""
    found = evidence.get(MANIFOLD)
    caption = ""
    if found is not None:
        n = found.mean.shape[0] * found.mean.shape[1]
        caption = f"Each tile stands for 1/{n} of the prior's mass ({found.nodes_by})."
        if found.log_ratio is not None:
            share = (found.log_ratio < plots.UNCOVERED).double().mean().item()
            caption += f" Framed: {UNCOVERED}, {share:.0%} of the tiles."
        caption += _draws_note(found.decoded)
    return drawing(
        "The latent manifold", caption, "manifold", plots.manifold_data(found),
        plots.plot_manifold, evidence.reason(MANIFOLD),
    )  # fmt: skip


def _draws_note(decoded: str) -> str:
    return f" Shown are {decoded}: chance is in them." if decoded == DRAWS else ""


def map_panel(evidence: Evidence) -> Panel:
    """Returns the posterior means, two of their directions, or why there are none."""
    means = evidence.get(POSTERIOR_MEANS)
    data = plots.latent_map_data(means, evidence.x, evidence.get(LOG_PX))
    if data is None or means is None:
        return Missing("Latent map", evidence.reason(POSTERIOR_MEANS))
    html = plots.latent_map_html(data)
    caption = f"Posterior means of {len(data.index)} of {data.shown_of} datapoints"
    caption += ", projected on their first two principal components" if means.shape[1] > 2 else ""
    caption += "; brighter is more likely. Point at one to see it."
    # Bokeh's own text; the strings in it are numbers and data URIs.
    return MapPanel("Latent map", caption, Markup(html.place), Markup(html.script))


# The latent units one by one: what each costs, moves, tells and is worth, and what that means.

TITLE = "Unit by unit"
MOST = 50
CAPTION = (
    "The most expensive first: nats of KL, variance of the posterior mean, nats of information "
    "I(n; z_j), nats of reconstruction lost without the unit. Used: it moves and is missed. "
    "Pruned: it equals the prior and no one asks for it, no fault by itself. Ignored: the decoder "
    "does not listen. Constant: it costs and says nothing. Unread: the decoder listens and the "
    "encoder says nothing."
)


def units_panel(evidence: Evidence) -> Panel:
    """Returns a line per unit, at most fifty, or why there is none."""
    rows = unit_table(evidence)
    if not rows:
        return Missing(TITLE, evidence.reason(ACTIVE_UNITS))
    lines = [(f"unit {row.unit}", _line(row)) for row in rows[:MOST]]
    if len(rows) > MOST:
        lines.append(("besides", f"{len(rows) - MOST} cheaper units"))
    return Listing(TITLE, CAPTION, tuple(lines))


def _line(row: UnitRow) -> str:
    numbers = (("KL", row.kl), ("variance", row.variance), ("information", row.information),
               ("lost without it", row.effect))  # fmt: skip
    shown = ", ".join(f"{name} {value:.3f}" for name, value in numbers if value == value)
    return f"{row.state}: {shown}".replace("-", "−")
