"""Samples scored without a likelihood, what a hybrid's own discriminator says, and pictures.

Scores are of as many images as the budget names, by a packaged classifier that knows such images.
A model with an encoder has its reconstructions scored beside its samples, of and against different
halves of the data; a GAN has its samples alone, against all. Where the data are binary draws, the
grey images they were drawn from are compared with decoder means; without these, draws of x are
compared with draws.

The list is long because which classifier may score an image is decided here as well.
"""

from __future__ import annotations

__all__ = [
    "DISCRIMINATOR_KL",
    "PRIOR_SAMPLES",
    "QUANTITIES",
    "RECONSTRUCTIONS",
    "SAMPLE_QUALITY",
    "SAMPLE_QUALITY_GAP",
    "SCORES",
    "SCORING",
    "Scoring",
    "Suitable",
    "as_pictures",
    "suitable_classifier",
]

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar, cast

import torch
from jaxtyping import Float
from torch import Tensor

from elboscope import estimators
from elboscope.classifiers import Extractor, classifier_for
from elboscope.core import Estimate, InputError, LatentVariableModel, given, seeded
from elboscope.data.files import NAMES
from elboscope.estimators import CriticTraining, DiscriminatorKL, SampleQuality, SampleQualityGap

from ..plan import stratified
from ..quantity import Number, Quantity, Subject, no_encoder, no_latents
from .latents import POSTERIOR_MEANS

T = TypeVar("T")
# Neighbours of fewer, in ten groups, tell nothing; a half must have as many.
FEWEST = 40
CONDITIONAL = (
    "samples of a conditional model are of the conditions that one gives it: "
    "es.sample_quality takes any function from n to n images"
)


@dataclass(frozen=True, eq=False)
class Scoring:
    """The rows of x that are scored, what they show, and by which classifier.

    Attributes:
        x: These rows.
        images: What they show, with axes for channels, height and width.
        x_train: Training images, where the critic may compare with them.
        noise: Whether draws of p(x|z) are scored instead of its means.
        suitable: The classifier, and by what it was chosen.
    """

    x: Tensor
    images: Tensor
    x_train: Tensor | None
    noise: bool
    suitable: Suitable

    @property
    def settings(self) -> dict[str, object]:
        """What is printed beside the numbers."""
        classifier = self.suitable.classifier
        if classifier is None:
            return {}
        error = f"{classifier.test_error:.2%} test error"
        return {
            "classifier": f"{classifier.name}, {error}, chosen by {self.suitable.chosen_by}",
            "n_scored": len(self.images),
        }


def _scoring(subject: Subject) -> Scoring:
    """Raises ValueError where no packaged classifier may score these images."""
    plan, shown = subject.plan, subject.x if subject.images is None else subject.images
    halves = not no_encoder(subject)
    rows = stratified(len(subject.x), plan.budget.num_scored, plan.seed + 7)
    rows = rows[len(rows) % 2 :] if halves else rows
    images = as_pictures(shown[rows.to(shown.device)].detach().cpu())
    reason = _no_images(images, FEWEST * (2 if halves else 1))
    if reason:
        raise ValueError(reason)
    suitable = suitable_classifier(images, subject.evidence.settings.get("data", ""))
    if suitable.reason:
        raise ValueError(suitable.reason)
    train = plan.x_train if subject.images is None else None
    binary = bool(((images == 0) | (images == 1)).all())
    return Scoring(
        x=subject.x[rows.to(subject.x.device)],
        images=images,
        x_train=None if train is None else as_pictures(train).cpu(),
        noise=subject.evidence.capabilities.likelihood == "Bernoulli" and binary,
        suitable=suitable,
    )


def _no_images(images: Tensor, needed: int) -> str:
    if images.ndim != 4:
        return "the data are not images: (H, W) or (C, H, W)"
    low, high = images.min().item(), images.max().item()
    if low < 0 or high > 1:
        return f"values from {low:.4g} to {high:.4g} are no images in [0, 1]"
    return "" if len(images) >= needed else f"{len(images)} images, where {needed} are needed"


def _no_scores(subject: Subject) -> str:
    budget = subject.plan.budget
    if not budget.num_scored:
        return f"budget {budget.name!r} scores no samples"
    return CONDITIONAL if subject.plan.condition is not None else ""


SCORING = Quantity[Scoring](
    "scoring",
    "the classifier that scores samples",
    "",
    _scoring,
    needs=(_no_scores, no_latents),
    shown_as=(),
    failure="sample_quality",
    settings=lambda scoring: scoring.settings,
)


def _critic(subject: Subject) -> CriticTraining | None:
    """Independent critics, where the budget trains some."""
    steps = subject.plan.budget.critic_steps
    return CriticTraining(steps=steps) if steps else None


def _sample_quality_gap(subject: Subject) -> SampleQualityGap:
    scoring = subject.evidence[SCORING]
    return estimators.sample_quality_gap(
        subject.sampled,
        scoring.x,
        x_train=scoring.x_train,
        classifier=scoring.suitable.classifier,
        num_compared=len(scoring.images),
        critic=_critic(subject),
        noise=scoring.noise,
        images=scoring.images,
        seed=subject.plan.seed,
    )


def _sample_quality(subject: Subject) -> SampleQuality:
    """The samples' scores: from the comparison with reconstructions where there is one."""
    gap = subject.evidence.get(SAMPLE_QUALITY_GAP)
    if gap is not None:
        return gap.samples
    scoring = subject.evidence[SCORING]
    sampler = estimators.sampler_of(subject.sampled, noise=scoring.noise)
    return estimators.sample_quality(
        sampler.shaped(tuple(scoring.images.shape[1:])),
        scoring.images,
        x_train=scoring.x_train,
        classifier=scoring.suitable.classifier,
        num_images=len(scoring.images),
        num_compared=len(scoring.images),
        critic=_critic(subject),
        seed=subject.plan.seed,
    )


class Score(NamedTuple):
    """What a score is called, and to what it is blind."""

    title: str
    is_not: str


_OWN = "Not a distance of its own: compare it under equal settings only."
SCORES = {
    "inception_score": Score(
        "Inception Score",
        "Not about quality within a class: copies and memorised data score as well.",
    ),
    "modes_covered": Score("modes covered", "Not about anything within a class."),
    "mode_kl": Score(
        "KL(modes ‖ uniform)", "Not zero for perfect samples: about (C − 1)/(2n) nats."
    ),
    "ms_ssim_diversity": Score(
        "MS-SSIM diversity", "Not quality: noise is most diverse. Compare it with the data's."
    ),
    "precision": Score("precision", "Not variety: one good image, repeated, suffices."),
    "recall": Score("recall", "Not quality: samples far from data do not lower it."),
    "density": Score("density", "Not variety: it may exceed 1 where samples crowd."),
    "coverage": Score(
        "coverage", "Not quality of every sample: bad ones beside good ones do not lower it."
    ),
    "frechet_distance": Score(
        "Fréchet distance of features",
        "Not the FID: features of this classifier, not of Inception.",
    ),
    "critic_validation": Score("critic, validation", _OWN),
    "critic_test": Score("critic, test", _OWN),
    "critic_train": Score("critic, training data", _OWN),
    "overfitting": Score(
        "critic, test − training data",
        "Not proof of generalisation where it is zero: a small critic may miss memorised images.",
    ),
}


def _scores(
    prefix: str, words: str, read: Callable[[T], Mapping[str, Estimate]]
) -> tuple[Number[T], ...]:
    """Numbers of all scores that are read off one set of images; a table shows them."""
    return tuple(
        Number(
            f"{prefix}_{name}",
            f"{score.title}, {words}",
            score.is_not,
            _entry(name, read),
            in_panel=True,
            optional=True,
        )
        for name, score in SCORES.items()
    )


def _entry(
    name: str, read: Callable[[T], Mapping[str, Estimate]]
) -> Callable[[T], Estimate | None]:
    return lambda value: read(value).get(name)


SAMPLE_QUALITY_GAP = Quantity[SampleQualityGap](
    "sample_quality_gap",
    "scores of samples beside those of reconstructions",
    "",
    _sample_quality_gap,
    needs=(SCORING, no_encoder),
    shown_as=(
        *_scores("reconstruction", "of reconstructions", lambda gap: gap.reconstructions.estimates),
        *_scores("sample_gap", "samples − reconstructions", lambda gap: gap.gap),
    ),
)
SAMPLE_QUALITY = Quantity[SampleQuality](
    "sample_quality",
    "A score of samples",
    "",
    _sample_quality,
    needs=(SCORING,),
    shown_as=(
        *_scores("sample", "of samples", lambda samples: samples.estimates),
        *_scores("data", "of data", lambda samples: samples.of_data),
    ),
)


def _no_discriminator(subject: Subject) -> str:
    carried = tuple(getattr(subject.sampled, "adversaries", ()))
    if "code" in carried:
        return ""
    if "joint" in carried:
        return "the model's adversary judges pairs of x and z, not codes"
    return "the model carries no discriminator of codes"


def _discriminator_kl(subject: Subject) -> DiscriminatorKL:
    plan, carrier = subject.plan, cast(LatentVariableModel, subject.sampled)
    return estimators.discriminator_kl(carrier, plan.x, seed=plan.seed, condition=plan.condition)


DISCRIMINATOR_KL = Quantity[DiscriminatorKL](
    "discriminator_kl",
    "KL(q(z) ‖ p(z)) by the model's own discriminator",
    "",
    _discriminator_kl,
    needs=(no_encoder, _no_discriminator),
    shown_as=(
        Number(
            "marginal_kl_discriminator",
            "KL(q(z) ‖ p(z)), by its own discriminator (no bound)",
            "Not a bound on either side, and no measurement: what the game was told, usually too "
            "small.",
            lambda own: own.kl,
            ("prior",),
        ),
        Number(
            "discriminator_accuracy",
            "accuracy of its own discriminator of codes",
            "Not a sign that q(z) is the prior where it is ½: a weak discriminator sees nothing "
            "either.",
            lambda own: own.accuracy,
            ("prior",),
        ),
    ),
)


# The pictures: decoder means for the first x and for draws of the prior.

NUM_SHOWN = 16


def _decoder_means(subject: Subject, z: Tensor) -> Tensor:
    condition = subject.plan.condition
    local = given(subject.model, None if condition is None else condition[: len(z)])
    return local.decode(z).mean


def _no_means(subject: Subject) -> str:
    return "" if POSTERIOR_MEANS in subject.evidence else "there are no posterior means"


def _reconstructions(subject: Subject) -> Tensor:
    means = subject.evidence[POSTERIOR_MEANS][:NUM_SHOWN]
    shape = subject.evidence.capabilities.latent_shape
    return _decoder_means(subject, means.reshape(len(means), *shape))


RECONSTRUCTIONS = Quantity[Tensor](
    "reconstructions",
    "decoder means of the first 16 x",
    "",
    _reconstructions,
    needs=(no_latents, _no_means),
    shown_as=(),
)


def _prior_samples(subject: Subject) -> Tensor:
    few = min(NUM_SHOWN, len(subject.plan.x))
    with seeded(subject.plan.seed):
        z = subject.model.prior().sample(torch.Size((few,)))
    return _decoder_means(subject, z)


PRIOR_SAMPLES = Quantity[Tensor](
    "prior_samples",
    "decoder means of 16 draws of the prior",
    "",
    _prior_samples,
    needs=(no_latents,),
    shown_as=(),
)

QUANTITIES: tuple[Quantity[Any], ...] = (
    SCORING,
    SAMPLE_QUALITY_GAP,
    SAMPLE_QUALITY,
    DISCRIMINATOR_KL,
    RECONSTRUCTIONS,
    PRIOR_SAMPLES,
)


# Which packaged classifier, if any, may score these images: by their name, shape, and its doubts.
#
# A classifier answers any image of its shape, and scores of the wrong one look like scores. So a
# data set that is known by name gets its own classifier or none (Fashion-MNIST has MNIST's
# shape). Data without a known name get that of their shape, and are kept only if it is about as
# sure of them as of its own test set, and finds most of its classes in them: one minus the mean
# probability of its answer estimates its error without labels.
#
# That doubt is 0.9 % on MNIST (0.4 % errors), 5 % on one Bernoulli draw of it (4 %), 1.3 % on the
# digits, 17 % on a draw of these (34 %), 28 % on Fashion-MNIST, 34 % on noise of 8 × 8.

# Named data that a packaged classifier was trained on; other names have none.
TAUGHT = ("digits", "mnist", "cifar10", "color_digits", "color_mnist")
# How much more in doubt than on its own test set: between a Bernoulli draw of MNIST (4 % more) and
# digits turned upside down (13 %).
MORE_DOUBT = 0.1
FLAT = {64: (1, 8, 8), 784: (1, 28, 28), 3072: (3, 32, 32)}
YOURS = "use your own: es.sample_quality(es.samples.sampler_of(model), x, classifier=…)"


class Suitable(NamedTuple):
    """A classifier for these images, or why there is none.

    Attributes:
        classifier: None where there is none.
        chosen_by: By what it was chosen.
        reason: Why there is none; empty otherwise.
    """

    classifier: Extractor | None
    chosen_by: str = ""
    reason: str = ""


def suitable_classifier(images: Float[Tensor, "n C H W"], data_name: object = "") -> Suitable:
    """Returns the packaged classifier that was trained on such images, or why none is used.

    Args:
        images: Some of the data, in [0, 1].
        data_name: What the data are called, where that is known.

    Example:
        >>> import elboscope as es
        >>> digits = es.data.digits().test
        >>> suitable_classifier(digits, "digits").classifier.name
        'digits classifier'
        >>> suitable_classifier(torch.zeros(9, 1, 8, 8), "Fashion-MNIST").reason
        'no classifier is packaged for fashion_mnist; ...
    """
    shape = tuple(images.shape[1:])
    known = {_plain(name): name for name in NAMES}.get(_plain(str(data_name)))
    if known is not None and known not in TAUGHT:
        return Suitable(None, reason=f"no classifier is packaged for {known}; {YOURS}")
    try:
        classifier = classifier_for(shape)
    except InputError:
        reason = f"no classifier is packaged for images of shape {shape}; {YOURS}"
        return Suitable(None, reason=reason)
    reason = _doubts(classifier, images)
    by = f"the data's name, {known}" if known else "the images' shape, and its answers to them"
    return Suitable(None, reason=reason) if reason else Suitable(classifier, by)


def _doubts(classifier: Extractor, images: Float[Tensor, "n C H W"]) -> str:
    """Why its answers say that it was trained on other images, or nothing."""
    p = classifier(images).log_probs.double().exp()
    doubt = 1 - p.max(1).values.mean().item()
    classes = torch.special.entr(p.mean(0)).sum().exp().item()
    if doubt > classifier.test_error + MORE_DOUBT:
        return (
            f"the {classifier.name} is unsure of {doubt:.0%} of these images (its test error is "
            f"{classifier.test_error:.1%}), so they are not of its kind, or binarised; {YOURS}"
        )
    if classes < min(p.shape[1], len(p)) / 2:
        return (
            f"the {classifier.name} finds about {classes:.1f} of its {p.shape[1]} classes in these "
            f"images, so they are probably not of its kind; {YOURS}"
        )
    return ""


def as_pictures(x: Tensor) -> Tensor:
    """Returns x with axes for channels, height and width, where it can be seen which they are.

    Example:
        >>> [tuple(as_pictures(torch.ones(2, *s)).shape) for s in ((64,), (8, 8), (3, 4, 4), (5,))]
        [(2, 1, 8, 8), (2, 1, 8, 8), (2, 3, 4, 4), (2, 5)]
    """
    if x.ndim == 2 and x.shape[1] in FLAT:
        return x.reshape(len(x), *FLAT[x.shape[1]])
    return x[:, None] if x.ndim == 3 else x


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")
