r"""How good samples are where no likelihood says it: several scores, each with its blind spot.

====================  =====================================================================
Inception Score       sure and varied answers of a classifier; blind to copies and to memory
modes, KL             which classes are met, how evenly; blind within a class
MS-SSIM diversity     how unlike two samples are; noise scores best
precision, density    samples lie near data; one good image, repeated, suffices
recall, coverage      data lie near samples; a memorised set suffices
Fréchet distance      means and covariances of features
independent critic    a distance on pixels, and the signal of memorised training data
====================  =====================================================================

All but MS-SSIM and the critic are numbers about *a classifier's* view, which is named with its
measured error beside each score. Everything has a fixed count of images, is compared with the
same scores of held-out data, and for reconstructions as for samples of the prior: what samples
lack beside reconstructions is the inference–generation gap.

References:
    Distribution Matching in Variational Inference (Rosca et al., 2018),
    https://arxiv.org/abs/1802.06847
"""

from __future__ import annotations

__all__ = ["Reference", "reference_of", "sample_quality", "sample_quality_gap", "scored"]

import math
from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from elboscope.classifiers import Extracted, Extractor, classifier_for
from elboscope.core import Estimate, InputError, Sampled, data_id, paired_difference, seeded
from elboscope.data import as_tensor

from .classifier import inception_score, mode_kl, modes_covered, ms_ssim_diversity
from .critic import CriticTraining, Sampler, WassersteinCritic, wasserstein_critic
from .distances import GROUPS, feature_frechet_distance, neighbour_metrics
from .result import SampleQuality, SampleQualityGap
from .samplers import as_images, drawn_images, reconstructions_of, sampler_of

MANY_CLASSES, PROTOCOL, FEW = 1000, 26_000, 10_000
FEWEST, FEWEST_COMPARED, SPLITS = 40, 2 * GROUPS, 10


class Reference(NamedTuple):
    """Data to compare with, in a random order that all samplers share, and how to compare."""

    images: Float[Tensor, "N C H W"]
    extracted: Extracted
    data_id: str
    classifier: Extractor
    train: Tensor | None
    num_compared: int
    critic: CriticTraining | None
    seed: int

    @property
    def label(self) -> str:
        """The classifier and its error, as they are printed with every score of it."""
        error = self.classifier.test_error
        known = "unknown" if math.isnan(error) else f"{error:.2%}"
        return f"{self.classifier.name}, {known} test error"


def sample_quality(
    sampler: Sampler,
    x: object,
    *,
    x_train: object = None,
    classifier: Extractor | None = None,
    num_images: int | None = None,
    num_compared: int = 2000,
    critic: CriticTraining | None = CriticTraining(),  # noqa: B008
    seed: int | None = None,
) -> SampleQuality:
    """Scores samples against held-out data.

    Args:
        sampler: Any callable from n to n images (n, C, H, W) or (n, H, W) in [0, 1], each call
            with fresh ones; ``sampler_of(model)`` makes one.
        x: Data that the sampler was not trained on, of the same shape. The critic learns from
            one half of them and is scored on the other.
        x_train: The sampler's training data, in which the critic looks for overfitting.
        classifier: Features and log p(y|x); None takes the packaged one of this shape.
        num_images: Samples for the Inception Score and the modes; None takes 26 000 (Stacked MNIST)
            for 1000 classes, and 10 000 for fewer.
        num_compared: Data, and samples, for neighbours, Fréchet distance and pairs; at most as
            many as there are data.
        critic: Its settings; None leaves it out.
        seed: Random seed; None picks one and records it.

    Returns:
        The scores, each an Estimate with its error; ``table()`` for all of them.

    Raises:
        InputError: Images of another shape or range, too few of them, or no classifier for them.

    Example:
        >>> import elboscope as es
        >>> x = es.data.digits().test
        >>> noise = sample_quality(lambda n: torch.rand(n, 1, 8, 8), x, num_images=400,
        ...                        critic=None, seed=0)
        >>> noise.coverage.mean < 0.2, noise.inception_score.mean < 3
        (True, True)
    """
    images = as_images(x, "x")
    train = None if x_train is None else as_images(x_train, "x_train")
    with seeded(seed) as used:
        reference = reference_of(images, train, classifier, num_compared, critic, used)
        classes = reference.extracted.log_probs.shape[1]
        usual = PROTOCOL if classes >= MANY_CLASSES else FEW
        return scored(sampler, usual if num_images is None else num_images, reference)


def reference_of(
    images: Tensor,
    train: Tensor | None,
    classifier: Extractor | None,
    num_compared: int,
    critic: CriticTraining | None,
    seed: int,
) -> Reference:
    """Returns data to compare with, in random order, with their features."""
    if len(images) < FEWEST:
        raise InputError("x", expected=f"at least {FEWEST} images", got=str(len(images)))
    _require_enough("num_compared", num_compared, FEWEST_COMPARED)
    if train is not None and train.shape[1:] != images.shape[1:]:
        expected = f"images of shape {tuple(images.shape[1:])}, as the data"
        raise InputError("x_train", expected=expected, got=f"{tuple(train.shape[1:])}")
    extractor = classifier or classifier_for(tuple(images.shape[1:]))
    order = images[torch.randperm(len(images))]
    return Reference(
        order, extractor(order), data_id(images), extractor, train, num_compared, critic, seed
    )


def scored(sampler: Sampler, count: int, reference: Reference) -> SampleQuality:
    """Returns the scores of ``count`` samples."""
    _require_enough("num_images", count, FEWEST)
    data = reference.images
    images = drawn_images(sampler, count, data)
    found = reference.classifier(images)
    compared = min(reference.num_compared, count, len(data))
    features = reference.extracted.features[:compared], found.features[:compared]
    near = dict(vars(neighbour_metrics(*features)))
    near["frechet_distance"] = feature_frechet_distance(*features)
    near = {name: _label(e, reference.label) for name, e in near.items()}
    classifier = reference.classifier
    return SampleQuality(
        **{name: replace(e, data_id=reference.data_id) for name, e in near.items()},
        **_of_images(images, found.log_probs, count // SPLITS, reference),
        num_samples=count,
        classifier=classifier.name,
        classifier_error=classifier.test_error,
        critic=_critic(sampler, reference),
        of_data=_of_data(reference, count),
        settings={
            "sampler": getattr(sampler, "description", "samples"),
            "num_samples": count,
            "num_compared": compared,
            "classifier": classifier.name,
            "classifier_error": classifier.test_error,
            "seed": reference.seed,
        },
    )


def _of_images(
    images: Tensor, log_probs: Tensor, size: int, reference: Reference
) -> dict[str, Estimate]:
    """The scores that need no comparison, so that data have them too.

    The Inception Score of ``size`` images a split, for data as for samples: it depends on it.
    """
    splits = min(SPLITS, len(log_probs) // size)
    whole = log_probs[: splits * size]
    scores = {"inception_score": inception_score(whole, splits=splits)} if splits else {}
    scores |= {"modes_covered": modes_covered(log_probs), "mode_kl": mode_kl(log_probs)}
    scores = {name: _label(estimate, reference.label) for name, estimate in scores.items()}
    pairs = max(1, reference.num_compared // 2)
    scores["ms_ssim_diversity"] = ms_ssim_diversity(images, num_pairs=pairs)
    return {name: replace(e, data_id=reference.data_id) for name, e in scores.items()}


def _of_data(reference: Reference, count: int) -> dict[str, Estimate]:
    """The data's own scores, of as many images as there are samples, or of all."""
    log_probs = reference.extracted.log_probs[:count]
    return _of_images(reference.images, log_probs, count // SPLITS, reference)


def _require_enough(name: str, count: int, least: int) -> None:
    if count < least:
        raise InputError(name, expected=f"at least {least}", got=str(count))


def _critic(sampler: Sampler, reference: Reference) -> WassersteinCritic | None:
    if reference.critic is None:
        return None
    data, half = reference.images, len(reference.images) // 2
    return wasserstein_critic(
        lambda n: drawn_images(sampler, n, data),
        data[:half],
        data[half:],
        train=reference.train,
        training=reference.critic,
        seed=reference.seed,
    )


def _label(estimate: Estimate, label: str) -> Estimate:
    return replace(estimate, method=f"{estimate.method}; {label}")


# The inference–generation gap: samples of the prior scored beside reconstructions.
#
# Both come out of one decoder. Reconstructions have z ~ q(z|x) of data, samples z ~ p(z); where
# the aggregate posterior is the prior, the two have one distribution, and every score agrees
# within its error. What differs is therefore due to latents that inference never visits: a number
# for what pictures of the two show. Scores with little gap and both poor are the decoder's fault.
#
# References:
#     Distribution Matching in Variational Inference (Rosca et al., 2018),
#     https://arxiv.org/abs/1802.06847


def sample_quality_gap(
    model: Sampled,
    x: object,
    *,
    x_train: object = None,
    classifier: Extractor | None = None,
    num_images: int | None = None,
    num_compared: int = 2000,
    critic: CriticTraining | None = None,
    noise: bool = False,
    images: object = None,
    seed: int | None = None,
) -> SampleQualityGap:
    """Scores prior samples and reconstructions of one model, and their difference.

    Both are compared with one half of x; the other half is reconstructed, since a reconstruction
    lies near *its* datapoint whatever the model. No datapoint is reconstructed twice: both
    samplers give as many images as that half has, or ``num_images`` if that is fewer.

    Args:
        model: The model, with an encoder.
        x: Data that the model was not trained on, with values in [0, 1].
        x_train: The model's training data.
        classifier: As in :func:`sample_quality`.
        num_images: At most so many images of both kinds.
        num_compared: As in :func:`sample_quality`.
        critic: Its settings; left out by default.
        noise: Draws from p(x|z) instead of its mean, of both.
        images: What is compared with, a row per row of x, where x is not shown itself: grey
            images of which x is a binary draw. By default x.
        seed: Random seed; None picks one and records it.

    Returns:
        Both sets of scores and, a score each, samples − reconstructions. Where the two share their
        data the error is that of the pairs.

    Raises:
        InputError: As in :func:`sample_quality`; a model without an encoder.

    Example:
        >>> import elboscope as es
        >>> model = es.models.mlp_vae((1, 8, 8), 2, hidden=(8,))
        >>> sample_quality_gap(model, es.data.digits().test, seed=0).gap["recall"].axis
        'group'
    """
    encoded = as_tensor(x).x
    shown = as_images(encoded, "x") if images is None else _rows(images, len(encoded))
    train = None if x_train is None else as_images(x_train, "x_train")
    with seeded(seed) as used:
        order = torch.randperm(len(shown))
        compared, reconstructed = shown[order[: len(shown) // 2]], encoded[order[len(shown) // 2 :]]
        most = len(reconstructed)
        count = most if num_images is None else min(num_images, most)
        reference = reference_of(compared, train, classifier, num_compared, critic, used)
        samplers = (
            sampler_of(model, noise=noise),
            reconstructions_of(model, reconstructed, noise=noise),
        )
        shape = tuple(shown.shape[1:])
        samples, reconstructions = (scored(s.shaped(shape), count, reference) for s in samplers)
    others = reconstructions.estimates
    gap = {name: _difference(a, others[name]) for name, a in samples.estimates.items()}
    return SampleQualityGap(samples, reconstructions, gap)


def _rows(images: object, n: int) -> Float[Tensor, "n C H W"]:
    """Returns the images, one a datapoint."""
    found = as_images(images, "images")
    if len(found) != n:
        raise InputError(
            "images", expected=f"one row per datapoint ({n})", got=f"{len(found)} rows"
        )
    return found


def _difference(a: Estimate, b: Estimate) -> Estimate:
    """Scores by groups share the data, group by group; the others are independent."""
    name = f"{a.name}: samples − reconstructions"
    if a.axis == "group":
        return replace(paired_difference(a, b, name, method=a.method), measured_in=a.measured_in)
    return replace(
        a,
        name=name,
        values=a.values.double() - b.values.double(),
        mc_stderr=torch.hypot(a.mc_stderr.double(), b.mc_stderr.double()),
        stderr=math.hypot(a.stderr, b.stderr),
        side="none",
        diagnostics={},
        nonnegative=False,
        expected=math.nan,
    )
