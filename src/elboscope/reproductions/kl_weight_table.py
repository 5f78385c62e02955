r"""Rows, claims and notes of the sweep.

A setting *collapsed* if no unit is active. Beside each stands what a linear VAE would do at the
σ² that it implies, from the covariance of the training pixels. I ≤ R holds of every model: their
difference is the marginal KL. The other side of the sandwich, H − D ≤ I, needs the entropy of the
data in the same units as the distortion, which nobody knows: only differences of D can be read.
"""

from __future__ import annotations

__all__ = ["sweep_claims", "sweep_notes", "sweep_rows"]

import math
from collections.abc import Iterator, Mapping

import torch
from jaxtyping import Float64
from torch import Tensor

from .claims import ERRORS, Claim, Verdict, difference, judged, verdict
from .kl_weight_measures import Latents, Measured, Value
from .kl_weight_networks import LATENTS, Setting
from .linear_collapse import LinearCollapse, linear_collapse
from .result import Row

SOURCE = "blog on posterior collapse of an MNIST VAE"
LINEAR = "linear truth: Lucas et al. 2019, arXiv 1911.02469"
AUTOENCODER = "autoencoder"
DECODED = ("squared error", "ELBO")
ACTIVE = 0.01
ROUNDING = 1e-6
PUBLISHED_EPOCHS = 15
Collapse = Mapping[Setting, LinearCollapse]


def predictions(
    settings: Mapping[Setting, Measured], eigenvalues: Float64[Tensor, " D"]
) -> dict[Setting, LinearCollapse]:
    """Returns what a linear VAE would do at the σ² of each setting."""
    D = len(eigenvalues)
    return {s: linear_collapse(eigenvalues, s.variance(D), LATENTS) for s in settings}


def sweep_rows(
    found: Mapping[Setting, Measured],
    spaces: Mapping[str, Latents],
    autoencoder: Float64[Tensor, " n"],
    eigenvalues: Float64[Tensor, " D"],
    epochs: int,
    counts: tuple[int, int],
) -> Iterator[Row]:
    """Yields each setting's numbers beside the linear prediction, then the latent spaces.

    Args:
        found: The measures of each setting.
        spaces: Latent spaces by name.
        autoencoder: Its squared errors.
        eigenvalues: Of the pixels' covariance.
        epochs: Of each training.
        counts: How many images are encoded, and how many decoded.
    """
    images = "se over images"
    for setting, m in found.items():
        linear = linear_collapse(eigenvalues, setting.variance(len(eigenvalues)), LATENTS)
        beside = (
            ("active units", m.units, "from the error of each variance", "units"),
            ("I(n; z)", m.information, images, "nats"),
            ("KL(q(z|x)‖p(z))", m.rate, images, "nats"),
            ("KL(q(z)‖p(z))", m.marginal, images, "nats"),
            ("squared error", m.error, images, "per image"),
            ("ELBO", m.elbo, images, "nats"),
        )
        for quantity, (value, error), kind, unit in beside:
            n = counts[quantity in DECODED]
            yield Row(str(setting), quantity, value, error, kind, epochs, None, n, unit=unit)
        exact = (
            ("implied σ²", 1e3 * setting.variance(len(eigenvalues)), "10⁻³"),
            ("linear VAE: units kept", float(linear.kept), "units"),
            ("linear VAE: units kept of all pixels", float(linear.kept_of_all), "units"),
            ("linear VAE: I", linear.information, "nats"),
            ("linear VAE: squared error", linear.error, "per image"),
            ("any decoder gains at most", linear.most_gain, "nats"),
        )
        for quantity, value, unit in exact:
            yield Row(str(setting), quantity, value, math.nan, unit=unit)
    mean = difference(autoencoder[None], torch.zeros_like(autoencoder[None]))
    yield Row(
        AUTOENCODER,
        "squared error",
        mean.value,
        mean.error,
        images,
        epochs,
        None,
        counts[1],
        unit="per image",
    )
    for name, space in spaces.items():
        yield from _space_rows(name, space, epochs)


def _space_rows(name: str, space: Latents, epochs: int) -> Iterator[Row]:
    shares = {"uncovered": space.uncovered, "uncovered, by density": space.by_density}
    values = {"completeness": space.completeness, "continuity": space.continuity}
    n, kind = len(space.drawn), "se over draws"
    for quantity, (value, error) in values.items():
        yield Row(name, quantity, value, error, kind, epochs, None, n, unit="ratio")
    for quantity, share in shares.items():
        if share is not None:
            percent, unit = (100 * share[0], 100 * share[1]), "% of draws"
            yield Row(name, quantity, *percent, kind, epochs, None, n, unit=unit)


def sweep_claims(
    found: Mapping[Setting, Measured],
    spaces: Mapping[str, Latents],
    errors: Mapping[str, Float64[Tensor, " n"]],
    eigenvalues: Float64[Tensor, " D"],
    parted: float,
) -> tuple[Claim, ...]:
    """Returns the verdicts.

    Args:
        found: The measures of each setting.
        spaces: Latent spaces; the autoencoder's, and of the VAE that it is compared with.
        errors: Squared errors of the same two, image by image.
        eigenvalues: Of the pixels' covariance.
        parted: How far one optimiser and two have parted.
    """
    collapsed, healthy = Setting(1.0, "mean"), Setting(1.0, "sum")
    linear = predictions(found, eigenvalues)
    name = next(key for key in spaces if key != AUTOENCODER)
    return (
        _forced(found[collapsed], linear[collapsed], collapsed),
        _uses(found[healthy], healthy),
        _agrees(found, linear),
        _same(parted),
        _greater(
            "draws of the autoencoder's codes fall into holes more often than a VAE's: share",
            spaces[AUTOENCODER].uncovered,
            spaces[name].uncovered,
            name,
        ),
        judged(
            "an autoencoder reconstructs better than a VAE: squared error",
            SOURCE,
            difference(errors[name][None], errors[AUTOENCODER][None], unit="per image"),
        ),
    )


def _state(m: Measured) -> tuple[float, float]:
    """The largest unit variance above the threshold, and its error."""
    largest = max(range(len(m.variance)), key=lambda j: m.variance[j])
    return m.variance[largest] - ACTIVE, m.variance_stderr[largest]


def _forced(m: Measured, linear: LinearCollapse, setting: Setting) -> Claim:
    above, error = _state(m)
    text = f"{setting}: the posterior collapses"
    evidence = (
        f"largest Var E_q[z] {above + ACTIVE:.1e} ± {error:.0e} against {ACTIVE:g}; any decoder "
        f"gains at most {linear.most_gain:.3f} nats"
    )
    return Claim(text, SOURCE, verdict(above, error, -1), evidence, above, error)


def _uses(m: Measured, setting: Setting) -> Claim:
    above, error = _state(m)
    text = f"{setting}: the posterior does not collapse"
    evidence = f"largest Var E_q[z] {above + ACTIVE:.3f} ± {error:.3f} against {ACTIVE:g}"
    return Claim(text, SOURCE, verdict(above, error), evidence, above, error)


def _agrees(found: Mapping[Setting, Measured], linear: Collapse) -> Claim:
    """Whether the linear VAE says of every setting if it collapses."""
    others, unsure = [], []
    for setting, m in found.items():
        above, error = _state(m)
        if abs(above) <= ERRORS * error:
            unsure.append(str(setting))
        elif (above > 0) != (linear[setting].kept > 0):
            others.append(str(setting))
    outcome: Verdict = "contradicted" if others else "undecided" if unsure else "reproduced"
    evidence = f"{len(found) - len(others) - len(unsure)} of {len(found)} settings agree"
    evidence += f"; not {', '.join(others)}" if others else ""
    evidence += f"; unsure: {', '.join(unsure)}" if unsure else ""
    text = "the linear VAE's λ₁ > σ² says which settings collapse"
    return Claim(text, LINEAR, outcome, f"{evidence} (± two errors of each variance)")


def _same(parted: float) -> Claim:
    outcome: Verdict = "reproduced" if parted <= ROUNDING else "contradicted"
    text = "one Adam over both networks takes the steps of an Adam for each, to rounding"
    evidence = f"largest difference of a parameter {parted:.1e} ± 0"
    return Claim(
        text, "exact: Adam treats each parameter by itself", outcome, evidence, parted, 0.0
    )


def _greater(text: str, a: Value, b: Value, name: str) -> Claim:
    value, error = a[0] - b[0], math.hypot(a[1], b[1])
    evidence = f"{value:+.4f} ± {error:.4f} against {name} (one model each)"
    return Claim(text, SOURCE, verdict(value, error), evidence, value, error)


def sweep_notes(
    eigenvalues: Float64[Tensor, " D"],
    spaces: Mapping[str, Latents],
    log_n: float,
    epochs: int,
) -> tuple[str, ...]:
    """Returns what must be read with the numbers."""
    leading = ", ".join(f"{v:.4f}" for v in eigenvalues[:5].tolist())
    notes = [
        "‖x − x̂‖² + w·KL is the ELBO of a Gaussian decoder with σ² = w/2 if the error is summed "
        f"over the {len(eigenvalues)} pixels, and σ² = w·{len(eigenvalues)}/2 if it is their mean.",
        f"Covariance of the training pixels: total {eigenvalues.sum().item():.4f}, leading "
        f"eigenvalues {leading}. The linear VAE is a prediction for these networks, and no bound; "
        "its error is that of the training images, ours that of the first test images.",
        "The ELBO is a density of grey pixels, without dequantisation: it is compared between "
        "settings and means nothing against a Bernoulli's.",
        f"I(n; z) is of the mixture of the test images and at most {log_n:.2f} nats: where it "
        "comes near, the posteriors are narrower than the images are many.",
        "I ≤ R of every model, the difference being KL(q(z)‖p(z)); H − D ≤ I cannot be drawn, "
        "since the entropy H of grey images is not known.",
        "uncovered: draws of the prior (autoencoder: of the Gaussian fitted to its codes) farther "
        "from any code than 99 % of further codes; 1 % without holes. completeness: distance of "
        "their images to the data, in units of the data's own. continuity: squared change of the "
        "image for a step of a tenth of the codes' distance; 0.01 for a linear decoder.",
        "The autoencoder's draws are of a Gaussian fitted to its codes, the kindest choice; a "
        "VAE's are of the prior that it was trained for. Uncovered: "
        + ", ".join(f"{name} {space.uncovered[0]:.1%}" for name, space in spaces.items())
        + "; distance of the images to the data (completeness): "
        + ", ".join(f"{name} {space.completeness[0]:.2f}" for name, space in spaces.items())
        + ". The second need not follow the first: a decoder can return good images in a hole.",
        "One seed, the same for all settings: errors hold for these models, and not for another "
        "run.",
    ]
    if epochs < PUBLISHED_EPOCHS:
        notes.append(f"Trained for {epochs} of the {PUBLISHED_EPOCHS} published epochs.")
    return tuple(notes)
