"""The aggregate posterior on the page: three estimators, a fitted prior, low-q samples."""

from __future__ import annotations

__all__ = [
    "disagreements_panel",
    "fitted_prior_panel",
    "low_gallery_panel",
    "low_places_panel",
    "low_scores_panel",
    "marginal_kl_panel",
    "surgery_panel",
]

from elboscope import plots
from elboscope.diagnostics import Evidence
from elboscope.diagnostics.checks.prior_hole import population_bounds
from elboscope.diagnostics.quantities.prior import (
    FITTED_PRIOR,
    FITTED_PRIOR_ELBO,
    FITTED_PRIOR_SAMPLES,
    LOW_POSTERIOR,
    MARGINAL_KL_COMPARISON,
    SURGERY,
)
from elboscope.diagnostics.quantities.samples import DISCRIMINATOR_KL, PRIOR_SAMPLES
from elboscope.estimators import Disagreement
from elboscope.plots.surgery import WORDS

from ..tables import number
from .kinds import Listing, Missing, Panel, Pictures, drawing

NUM_SHOWN = 16


def surgery_panel(evidence: Evidence) -> Panel:
    """Returns the average KL as mutual information plus the marginal KL."""
    s = evidence.get(SURGERY)
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
        evidence.reason(SURGERY),
    )


def marginal_kl_panel(evidence: Evidence) -> Panel:
    """Returns all estimates of the marginal KL, each as what it is."""
    beside, found = "", evidence.get(DISCRIMINATOR_KL)
    own = {} if found is None else {"discriminator": found.kl}
    if MARGINAL_KL_COMPARISON not in evidence:
        reason = evidence.reason(MARGINAL_KL_COMPARISON)
        beside = f" Classifier and density networks are missing: {reason}."
    return drawing(
        "Three kinds of estimate of KL(q(z) ‖ p(z))",
        "Blue: the mixture of the N posteriors, with the band that holds KL(q_N ‖ p) whatever was "
        "drawn; on average no less than the population's KL. Orange: lower bounds, on data that "
        "they were not fitted to; the population's KL lies to their right. Grey: a classifier's "
        "ratio, which is no bound. Bars: two standard errors." + beside,
        "marginal-kl",
        plots.marginal_kl_data(
            evidence.get(MARGINAL_KL_COMPARISON),
            evidence.get(SURGERY),
            population_bounds(evidence) | own,
        ),
        plots.plot_marginal_kl,
        evidence.reason(MARGINAL_KL_COMPARISON, SURGERY),
    )


def disagreements_panel(evidence: Evidence) -> Panel:
    """Returns which estimates differ beyond their errors, and what follows."""
    title, found = "Where these estimates disagree", evidence.get(MARGINAL_KL_COMPARISON)
    if found is None:
        return Missing(title, evidence.reason(MARGINAL_KL_COMPARISON))
    groups: dict[tuple[str, str], list[Disagreement]] = {}
    for one in found.disagreements:
        groups.setdefault((one.higher, one.meaning), []).append(one)
    lines = [(_pair(group), f"{_amounts(group)}: {group[0].meaning}.") for group in groups.values()]
    lines += [(WORDS.get(name, name), reason) for name, reason in found.unavailable.items()]
    return Listing(
        title,
        "Pairs that differ by more than three standard errors of their difference. A difference "
        "says something about an estimator or about the model; what, depends on the two kinds.",
        tuple(lines) or (("none", "no two differ by more than three standard errors"),),
    )


def _pair(group: list[Disagreement]) -> str:
    lower = [WORDS.get(one.lower, one.lower) for one in group]
    return f"{WORDS.get(group[0].higher, group[0].higher)} > {', '.join(lower)}"


def _amounts(group: list[Disagreement]) -> str:
    amounts = ", ".join(number(one.difference, one.stderr) for one in group)
    return f"by {amounts} nats"


def fitted_prior_panel(evidence: Evidence) -> Panel:
    """Returns samples before and after a prior was fitted to q(z), and the bound before and after.

    The samples are decoder means of draws of either prior, by the same decoder.
    """
    title, model = "A prior fitted to q(z): before and after", evidence.get(FITTED_PRIOR)
    if model is None:
        return Missing(title, evidence.reason(FITTED_PRIOR))
    gain, bounds = model.gain, evidence.get(FITTED_PRIOR_ELBO)
    lines = [
        ("the fitted prior", str(gain.settings["density"])),
        ("held-out gain", f"{number(gain.mean, gain.stderr)} nats, {len(gain.values)} datapoints"),
    ]
    if bounds is not None:
        words = ("ELBO before", "ELBO after")
        lines += [
            (word, f"≥ {number(e.mean, e.stderr)} nats")
            for word, e in zip(words, bounds, strict=True)
        ]
    caption = (
        "Encoder and decoder are unchanged, so that the gain is the prior's alone: a lower bound "
        "on KL(q(z) ‖ p(z)). The bound after it is on another model's log p(x), whose samples "
        "come from the fitted prior."
    )
    limits = plots.value_range(evidence.x)
    named = {
        "prior": evidence.get(PRIOR_SAMPLES),
        "fitted prior": evidence.get(FITTED_PRIOR_SAMPLES),
    }
    rows = tuple(
        (f"samples of the {name}", tuple((plots.png_uri(image), "") for image in images))
        for name, some in named.items()
        if some is not None and (images := plots.as_images(some[:NUM_SHOWN], limits)) is not None
    )
    if not rows:
        return Listing(title, caption, tuple(lines))
    told = "; ".join(f"{name}: {text}" for name, text in lines)
    return Pictures(title, f"{told[0].upper()}{told[1:]}. {caption}", rows)


def low_gallery_panel(evidence: Evidence) -> Panel:
    """Returns the samples where q(z) hardly goes, above their neighbours and ordinary samples."""
    title, found = "Samples from where q(z) hardly goes", evidence.get(LOW_POSTERIOR)
    if found is None:
        return Missing(title, evidence.reason(LOW_POSTERIOR))
    S, N = len(found.samples.log_q), found.samples.mixture_size
    caption = (
        f"Decoder means of those of {S} prior draws with the lowest log q(z) − log p(z), the "
        f"lowest first; q is the mixture of {N} posteriors. Below each its nearest datapoint in "
        "pixels; then draws of the prior chosen at random."
    )
    limits = plots.value_range(found.neighbours)
    named = {
        "samples where q(z) is low": found.low.mean,
        "their nearest datapoints": found.neighbours,
        "ordinary samples": found.samples.ordinary.mean,
    }
    rows = tuple(
        (label, tuple((plots.png_uri(image), "") for image in images))
        for label, some in named.items()
        if (images := plots.as_images(some[:NUM_SHOWN], limits)) is not None
    )
    if rows:
        return Pictures(title, caption, rows)
    ratio = (found.low.log_q - found.low.log_p).mean().item()
    nearest, told = found.distance.sqrt().mean().item(), str(found.samples)
    lines = (("all draws", told), ("log q(z) − log p(z)", f"{number(ratio)} nats on average"),
             ("nearest datapoint", f"at a distance of {number(nearest)} on average"))  # fmt: skip
    return Listing(title, f"The data are no images. {caption}", lines)


def low_scores_panel(evidence: Evidence) -> Panel:
    """Returns how the model scores these samples, beside data."""
    return drawing(
        "Does the model know?",
        "Where it does, the ELBO of these samples (orange) lies left of that of data (blue): AUROC "
        "1. At ½ it is blind; below, it prefers them. Samples are draws of p(x|z), as data are; "
        "KL of what the encoder makes of them.",
        "low-posterior-scores",
        plots.low_posterior_data(evidence.get(LOW_POSTERIOR)),
        plots.plot_low_posterior_scores,
        evidence.reason(LOW_POSTERIOR),
    )


def low_places_panel(evidence: Evidence) -> Panel:
    """Returns their pixel values, and where their latents lie."""
    return drawing(
        "What they look like, and where they are",
        "Above: shares of pixel values of decoder means and of data. Below, from the standard "
        "budget on: latents of the prior, of q(z), and of these samples.",
        "low-posterior-places",
        plots.low_posterior_data(evidence.get(LOW_POSTERIOR)),
        plots.plot_low_posterior_places,
        evidence.reason(LOW_POSTERIOR),
    )
