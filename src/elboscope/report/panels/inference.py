"""What inference loses, on the page: its two parts, their certificates, true posteriors."""

from __future__ import annotations

__all__ = ["local_posteriors_panel", "optimal_panel", "waterfall_panel"]

from dataclasses import replace

from elboscope import plots
from elboscope.diagnostics import Evidence
from elboscope.diagnostics.quantities.inference import (
    INFERENCE_GAP,
    LOCAL_POSTERIORS,
    searched_rows,
)
from elboscope.estimators import Convergence, OptimalPosterior

from .kinds import Listing, Missing, Panel, drawing


def waterfall_panel(evidence: Evidence) -> Panel:
    """Returns the way from log p(x) down to the encoder's bound."""
    return drawing(
        "From log p(x) down to the encoder's bound",
        "Blue: what the family of the posterior loses. Orange: what the encoder loses against the "
        "best q* of that family. All differences are of pairs, datapoint by datapoint.",
        "waterfall",
        plots.waterfall_data(evidence.get(INFERENCE_GAP)),
        plots.plot_waterfall,
        evidence.reason(INFERENCE_GAP),
    )


def optimal_panel(evidence: Evidence) -> Panel:
    """How sure it is that each q* is the best of its family."""
    title = "Is q* the best of its family?"
    gap = evidence.get(INFERENCE_GAP)
    if gap is None:
        return Missing(title, evidence.reason(INFERENCE_GAP))
    sets = [("", gap)] if gap.train is None else [("", gap), (", training data", gap.train)]
    lines = [
        (f"{family}{where}", str(best.certificate if where else _by_row(evidence, best)))
        for where, found in sets
        for family, best in found.optimal.items()
    ]
    lines += [
        (f"besides{where}", reason)  # what no certificate above has said
        for where, found in sets
        for reason in found.reasons
        if not reason.startswith("q*_")
    ]
    lines.append(("log p̂(x)", str(gap.settings["chosen"])))
    caption = "The mean of L[q*] is the family's largest within ±, as far as the starts can tell: "
    caption += "what other starts reached, what the last steps still promised, and noise."
    return Listing(title, caption, tuple(lines))


def _by_row(evidence: Evidence, best: OptimalPosterior) -> Convergence:
    """The certificate, with the rows of x instead of the places among the searched datapoints."""
    found = best.certificate
    return replace(
        found,
        unconverged=searched_rows(evidence, found.unconverged),
        diverged=searched_rows(evidence, found.diverged),
        kept_encoder=searched_rows(evidence, found.kept_encoder),
    )


def local_posteriors_panel(evidence: Evidence) -> Panel:
    """Returns the true posteriors of four datapoints beside q and q*."""
    return drawing(
        "True posteriors, and what approximates them",
        "Four datapoints, found by their gaps. A q that is too narrow, or lies beside the blue, "
        "loses nats: the encoder's orange one by amortisation, the best q* by their family alone. "
        "Each KL is known on a grid and is what log p̂ − L[q] estimates.",
        "local-posteriors",
        plots.local_posteriors_data(evidence.get(LOCAL_POSTERIORS)),
        plots.plot_local_posteriors,
        evidence.reason(LOCAL_POSTERIORS),
    )
