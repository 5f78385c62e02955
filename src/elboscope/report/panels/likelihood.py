"""log p(x) on the page: what its weights are worth, and how far it can be off."""

from __future__ import annotations

__all__ = [
    "bound_by_samples_panel",
    "likelihoods_panel",
    "pareto_panel",
    "sandwich_panel",
    "worst_panel",
]

from torch import Tensor

from elboscope import plots
from elboscope.diagnostics import Evidence
from elboscope.diagnostics.quantities.likelihood import BOUNDS_BY_SAMPLES, LOG_LIKELIHOOD, LOG_PX

from .kinds import Listing, Missing, Panel, Pictures, drawing

MAX_FEATURES = 8


def pareto_panel(evidence: Evidence) -> Panel:
    """Returns k̂ of each datapoint."""
    return drawing(
        "Can each weight be believed?",
        "Pareto k̂ per datapoint. Beyond 0.5 the errors are too small, beyond 0.7 the estimate "
        "is not usable.",
        "pareto-k",
        plots.pareto_k_data(evidence.get(LOG_PX)),
        plots.plot_pareto_k,
        evidence.reason(LOG_PX),
    )


def likelihoods_panel(evidence: Evidence) -> Panel:
    """Returns how log p(x) spreads over the datapoints."""
    return drawing(
        "Log-likelihood per datapoint",
        "The mean hides which datapoints the model does not know.",
        "log-likelihood",
        plots.log_likelihood_data(evidence.get(LOG_PX)),
        plots.plot_log_likelihood,
        evidence.reason(LOG_PX),
    )


def worst_panel(evidence: Evidence) -> Panel:
    """Returns the least likely datapoints, as pictures or by their features."""
    title = "The least likely datapoints"
    data = plots.log_likelihood_data(evidence.get(LOG_PX))
    if data is None:
        return Missing(title, evidence.reason(LOG_PX))
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


def bound_by_samples_panel(evidence: Evidence) -> Panel:
    """Returns the importance-weighted bounds by K, beside AIS."""
    found = evidence.get(LOG_LIKELIHOOD)
    beside = "" if found is not None else f" AIS is missing: {evidence.reason(LOG_LIKELIHOOD)}."
    return drawing(
        "The bound against its samples, beside AIS",
        "L_K rises with K and stays below log p(x) on average. Still rising at its end: K is too "
        "small. Flat below AIS: q misses what AIS finds. Bars and band: two Monte Carlo errors."
        + beside,
        "bound-by-samples",
        plots.bound_by_samples_data(
            evidence.get(BOUNDS_BY_SAMPLES),
            None if found is None else found.annealed,
            evidence.rows.get(LOG_LIKELIHOOD.name),
        ),
        plots.plot_bound_by_samples,
        evidence.reason(LOG_PX),
    )


def sandwich_panel(evidence: Evidence) -> Panel:
    """Returns both bounds of the data that the model simulates."""
    return drawing(
        "The sandwich, on simulated data",
        "For data that the model simulates, log p(x) lies between blue and orange on average. No "
        "such upper bound exists for the real data.",
        "sandwich",
        plots.sandwich_data(evidence.get(LOG_LIKELIHOOD)),
        plots.plot_sandwich,
        evidence.reason(LOG_LIKELIHOOD),
    )
