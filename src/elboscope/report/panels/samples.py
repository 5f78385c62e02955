"""Samples on the page: their scores beside those of reconstructions and of data, and pictures."""

from __future__ import annotations

__all__ = ["NOT_IMAGES", "discriminator_panel", "pictures_panel", "scores_panel", "training_panel"]

from elboscope import plots
from elboscope.core import Estimate
from elboscope.diagnostics import Evidence
from elboscope.diagnostics.checks.prior_hole import population_bound, population_bounds
from elboscope.diagnostics.quantities.prior import SURGERY
from elboscope.diagnostics.quantities.samples import (
    DISCRIMINATOR_KL,
    PRIOR_SAMPLES,
    RECONSTRUCTIONS,
    SAMPLE_QUALITY,
    SAMPLE_QUALITY_GAP,
    SCORES,
)
from elboscope.estimators.samples.result import BETTER, beside, plain

from ..tables import number
from .kinds import Listing, Missing, Panel, Pictures, Scores, drawing

NOT_IMAGES = "the data do not look like images: (H, W), (C, H, W) or a flat square"
NUM_SHOWN = 16
BLIND = (
    "Each score is blind to something: to memorised data all but the critic. They are of equal "
    "counts of images, and comparable under equal counts and one classifier only. The Fréchet "
    "distance is no FID."
)


def scores_panel(evidence: Evidence) -> Panel:
    """Returns a line a score: samples, reconstructions and their difference, and data."""
    title, samples = "Scores, and what data score", evidence.get(SAMPLE_QUALITY)
    if samples is None:
        return Missing(title, evidence.reason(SAMPLE_QUALITY))
    both = evidence.get(SAMPLE_QUALITY_GAP)
    head = ["samples", "data", "better"]
    if both is not None:
        head[1:1] = ["reconstructions", "samples − reconstructions"]
    lines = []
    for name, estimate in samples.estimates.items():
        cells = [_plus_minus(estimate), beside(estimate, samples.of_data.get(name)), BETTER[name]]
        if both is not None:
            cells[1:1] = [
                _plus_minus(both.reconstructions.estimates[name]),
                _plus_minus(both.gap[name]),
            ]
        lines.append((SCORES[name].title, tuple(cells)))
    seen = f"{evidence.settings.get('classifier', samples.classifier)}"
    half = " Samples and reconstructions are held against one half of the data; the other half is "
    half += "reconstructed." if both is not None else ""
    caption = f"{samples.num_samples} images of each; {seen}."
    caption += half if both is not None else ""
    return Scores(title, f"{caption} {BLIND}", tuple(head), tuple(lines))


def _plus_minus(estimate: Estimate) -> str:
    return plain(estimate).replace("-", "−")


def pictures_panel(evidence: Evidence) -> Panel:
    """Returns data, their reconstructions and prior samples, a row each."""
    title = "Reconstructions beside prior samples"
    limits = plots.value_range(evidence.x)
    named = {
        "data": evidence.x[:NUM_SHOWN],
        "reconstructions": evidence.get(RECONSTRUCTIONS),
        "prior samples": evidence.get(PRIOR_SAMPLES),
    }
    if RECONSTRUCTIONS not in evidence and PRIOR_SAMPLES not in evidence:
        reasons = dict.fromkeys(map(evidence.reason, (RECONSTRUCTIONS, PRIOR_SAMPLES)))
        return Missing(title, "; ".join(reasons))
    images = {k: None if v is None else plots.as_images(v, limits) for k, v in named.items()}
    rows = tuple(
        (label, tuple((plots.png_uri(image), "") for image in some[:NUM_SHOWN]))
        for label, some in images.items()
        if some is not None
    )
    if not rows:
        return Missing(title, NOT_IMAGES)
    if RECONSTRUCTIONS not in evidence:
        return Pictures("Samples", "What the generator makes of draws of the prior.", rows)
    caption = "Decoder means. Good reconstructions beside poor samples point to a mismatch "
    caption += "between the aggregate posterior and the prior."
    return Pictures(title, caption, rows)


def discriminator_panel(evidence: Evidence) -> Panel | None:
    """Returns the KL that a hybrid's own discriminator tells, beside what is measured."""
    own = evidence.get(DISCRIMINATOR_KL)
    if own is None:
        return None
    accuracy = own.accuracy
    lines = [
        ("its own discriminator", f"≈ {number(own.kl.mean, own.kl.stderr)} nats, no bound"),
        ("its accuracy", f"{number(accuracy.mean, accuracy.stderr)}; ½ sees no difference"),
    ]
    if SURGERY in evidence:
        mixture, (low, high) = evidence[SURGERY].marginal_kl, evidence[SURGERY].interval
        room = f"KL(q_N ‖ p) in [{number(max(low, 0.0))}, {number(high)}]"
        lines.append(("mixture", f"{number(mixture.mean, mixture.stderr)} nats; {room}"))
    best = population_bound(population_bounds(evidence))
    if best is not None:
        proven = f"≥ {number(best.mean, best.stderr)} nats, of the population"
        lines.append(("held-out bound", proven))
    caption = (
        "The logit of the best discriminator of codes is log p(z) − log q(z), and −E C(z) is then "
        "the KL. From the discriminator that was trained against this encoder it is what the game "
        "was told: below a held-out bound it is certainly too small."
    )
    return Listing("What its own discriminator says", caption, tuple(lines))


# How a game went, on the page: nothing where none was played.

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
