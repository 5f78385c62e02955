"""What is drawn for each question; where nothing can be, the reason stands instead."""

from __future__ import annotations

__all__ = ["panels_of"]

from collections.abc import Callable

from elboscope.diagnostics import Evidence

from .inference import local_posteriors_panel, optimal_panel, waterfall_panel
from .kinds import Panel
from .latents import (
    active_panel,
    interpolations_panel,
    manifold_panel,
    map_panel,
    traversals_panel,
    unit_kl_panel,
    units_panel,
)
from .likelihood import (
    bound_by_samples_panel,
    likelihoods_panel,
    pareto_panel,
    sandwich_panel,
    worst_panel,
)
from .prior import (
    disagreements_panel,
    fitted_prior_panel,
    low_gallery_panel,
    low_places_panel,
    low_scores_panel,
    marginal_kl_panel,
    surgery_panel,
)
from .samples import discriminator_panel, pictures_panel, scores_panel, training_panel

PANELS: dict[str, tuple[Callable[[Evidence], Panel | None], ...]] = {
    "trust": (pareto_panel, likelihoods_panel, worst_panel),
    "certificate": (bound_by_samples_panel, sandwich_panel),
    "inference": (waterfall_panel, optimal_panel, local_posteriors_panel),
    "latents": (
        unit_kl_panel,
        active_panel,
        units_panel,
        traversals_panel,
        interpolations_panel,
        manifold_panel,
        map_panel,
    ),
    "prior": (
        surgery_panel,
        marginal_kl_panel,
        discriminator_panel,
        disagreements_panel,
        fitted_prior_panel,
        low_gallery_panel,
        low_scores_panel,
        low_places_panel,
    ),
    "samples": (scores_panel, pictures_panel),
    "divergence": (training_panel,),
}


def panels_of(question: str, evidence: Evidence) -> tuple[Panel, ...]:
    """Returns the panels of a question, by its key.

    Args:
        question: A key of :data:`elboscope.report.html.QUESTIONS`.
        evidence: What was computed.
    """
    made = (make(evidence) for make in PANELS.get(question, ()))
    return tuple(panel for panel in made if panel is not None)
