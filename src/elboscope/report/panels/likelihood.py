"""What is drawn for each question; where nothing can be, the reason stands in its place."""

from __future__ import annotations

__all__ = ["panels_of"]

from collections.abc import Callable
from dataclasses import replace

from markupsafe import Markup
from torch import Tensor

from elboscope import plots
from elboscope.diagnostics.evidence import Evidence
from elboscope.estimators import Convergence, OptimalPosterior

from ..quantities import searched_rows
from .kinds import Listing, MapPanel, Missing, Panel, Pictures, drawing, reason_of
from .latents import interpolations_panel, manifold_panel, traversals_panel, units_panel
from .prior import (
    disagreements_panel,
    fitted_prior_panel,
    low_gallery_panel,
    low_places_panel,
    low_scores_panel,
    marginal_kl_panel,
)
from .samples import discriminator_panel, pictures_panel, scores_panel, training_panel

MAX_FEATURES = 8


def panels_of(question: str, evidence: Evidence) -> tuple[Panel, ...]:
    """Returns the panels of a question, by its key.

    Args:
        question: A key of :data:`elboscope.report.questions.QUESTIONS`.
        evidence: What was computed.
    """
    made = (make(evidence) for make in _PANELS.get(question, ()))
    return tuple(panel for panel in made if panel is not None)


def _pareto(evidence: Evidence) -> Panel:
    return drawing(
        "Can each weight be believed?",
        "Pareto k̂ per datapoint. Beyond 0.5 the errors are too small, beyond 0.7 the estimate "
        "is not usable.",
        "pareto-k",
        plots.pareto_k_data(evidence.log_px),
        plots.plot_pareto_k,
        reason_of(evidence, "log_px"),
    )


def _likelihoods(evidence: Evidence) -> Panel:
    return drawing(
        "Log-likelihood per datapoint",
        "The mean hides which datapoints the model does not know.",
        "log-likelihood",
        plots.log_likelihood_data(evidence.log_px),
        plots.plot_log_likelihood,
        reason_of(evidence, "log_px"),
    )


def _worst(evidence: Evidence) -> Panel:
    title = "The least likely datapoints"
    data = plots.log_likelihood_data(evidence.log_px)
    if data is None:
        return Missing(title, reason_of(evidence, "log_px"))
    chosen = evidence.x[data.worst.tolist()]
    labels = [
        f"{value:.1f}".replace("-", "−") + (f", k̂\N{NO-BREAK SPACE}{k:.2f}" if k == k else "")
        for value, k in zip(data.worst_values, data.worst_khat, strict=True)
    ]
    caption = "Lowest log p(x) estimates in nats, the lowest first. A high k̂ means that the "
    caption += "estimate may have failed rather than the model."
    images = plots.as_images(chosen, plots.value_range(evidence.x))
    if images is None:
        lines = [
            (f"datapoint {index}", f"{label} nats; {_features(x)}")
            for index, label, x in zip(data.worst, labels, chosen, strict=True)
        ]
        return Listing(title, caption, tuple(lines))
    captions = [f"#{index}: {label}" for index, label in zip(data.worst, labels, strict=True)]
    return Pictures(
        title, caption, (("", tuple(zip(map(plots.png_uri, images), captions, strict=True))),)
    )


def _features(x: Tensor) -> str:
    """The features that lie farthest from zero, by their index."""
    flat = x.detach().flatten().cpu()
    largest = flat.abs().topk(min(MAX_FEATURES, len(flat))).indices.sort().values.tolist()
    parts = [f"x[{index}] = {flat[index]:.3g}" for index in largest]
    return ", ".join(parts) + (", …" if len(flat) > len(parts) else "")


def _bound_by_samples(evidence: Evidence) -> Panel:
    found = evidence.log_likelihood
    beside = (
        "" if found is not None else f" AIS is missing: {reason_of(evidence, 'log_likelihood')}."
    )
    return drawing(
        "The bound against its samples, beside AIS",
        "L_K rises with K and stays below log p(x) on average. Still rising at its end: K is too "
        "small. Flat below AIS: q misses what AIS finds. Bars and band: two Monte Carlo errors."
        + beside,
        "bound-by-samples",
        plots.bound_by_samples_data(
            evidence.bounds_by_samples, None if found is None else found.annealed, evidence.annealed
        ),
        plots.plot_bound_by_samples,
        reason_of(evidence, "log_px"),
    )


def _sandwich(evidence: Evidence) -> Panel:
    return drawing(
        "The sandwich, on simulated data",
        "For data that the model simulates, log p(x) lies between blue and orange on average. No "
        "such upper bound exists for the real data.",
        "sandwich",
        plots.sandwich_data(evidence.log_likelihood),
        plots.plot_sandwich,
        reason_of(evidence, "log_likelihood"),
    )


def _waterfall(evidence: Evidence) -> Panel:
    return drawing(
        "From log p(x) down to the encoder's bound",
        "Blue: what the family of the posterior loses. Orange: what the encoder loses against the "
        "best q* of that family. All differences are of pairs, datapoint by datapoint.",
        "waterfall",
        plots.waterfall_data(evidence.inference_gap),
        plots.plot_waterfall,
        reason_of(evidence, "inference_gap"),
    )


def _optimal(evidence: Evidence) -> Panel:
    """How sure it is that each q* is the best of its family."""
    title = "Is q* the best of its family?"
    gap = evidence.inference_gap
    if gap is None:
        return Missing(title, reason_of(evidence, "inference_gap"))
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


def _local_posteriors(evidence: Evidence) -> Panel:
    return drawing(
        "True posteriors, and what approximates them",
        "Four datapoints, found by their gaps. A q that is too narrow, or lies beside the blue, "
        "loses nats: the encoder's orange one by amortisation, the best q* by their family alone. "
        "Each KL is known on a grid and is what log p̂ − L[q] estimates.",
        "local-posteriors",
        plots.local_posteriors_data(evidence.local_posteriors),
        plots.plot_local_posteriors,
        reason_of(evidence, "local_posteriors"),
    )


def _unit_kl(evidence: Evidence) -> Panel:
    return drawing(
        "What each unit costs",
        "KL to the prior per latent unit. A unit at zero is unused; a unit that costs nats while "
        "nothing is lost without it is ignored by the decoder.",
        "unit-kl",
        plots.unit_kl_data(evidence.unit_kl, evidence.zeroing),
        plots.plot_unit_kl,
        reason_of(evidence, "unit_kl"),
    )


def _active(evidence: Evidence) -> Panel:
    return drawing(
        "Active units",
        "Variance of each unit's posterior mean over the data. The count means something where "
        "the dashed threshold divides two groups.",
        "active-units",
        plots.active_units_data(evidence.active_units),
        plots.plot_active_units,
        reason_of(evidence, "active_units"),
    )


def _surgery(evidence: Evidence) -> Panel:
    s = evidence.surgery
    bars = None
    if s is not None:
        bars = plots.surgery_data(
            s.kl, s.mutual_information, s.marginal_kl, s.marginal_kl_held_out, s.log_n
        )
    return drawing(
        "ELBO surgery",
        "The average KL is mutual information plus the marginal KL. Where the first reaches its "
        "ceiling log N, the second overstates the mismatch in the population; the interval and "
        "the held-out bound then decide.",
        "surgery",
        bars,
        plots.plot_surgery,
        reason_of(evidence, "surgery"),
    )


def _map(evidence: Evidence) -> Panel:
    data = plots.latent_map_data(evidence.posterior_means, evidence.x, evidence.log_px)
    if data is None:
        return Missing("Latent map", reason_of(evidence, "posterior_means"))
    html = plots.latent_map_html(data)
    projected = evidence.posterior_means is not None and evidence.posterior_means.shape[1] > 2
    caption = f"Posterior means of {len(data.index)} of {data.shown_of} datapoints"
    caption += ", projected on their first two principal components" if projected else ""
    caption += "; brighter is more likely. Point at one to see it."
    # Bokeh's own text; the strings in it are numbers and data URIs.
    return MapPanel("Latent map", caption, Markup(html.place), Markup(html.script))


_PANELS: dict[str, tuple[Callable[[Evidence], Panel | None], ...]] = {
    "trust": (_pareto, _likelihoods, _worst),
    "certificate": (_bound_by_samples, _sandwich),
    "inference": (_waterfall, _optimal, _local_posteriors),
    "latents": (
        _unit_kl,
        _active,
        units_panel,
        traversals_panel,
        interpolations_panel,
        manifold_panel,
        _map,
    ),
    "prior": (
        _surgery,
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
