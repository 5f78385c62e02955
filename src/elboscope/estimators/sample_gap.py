r"""The inference–generation gap: samples of the prior scored beside reconstructions.

Both come out of one decoder. Reconstructions have z ~ q(z|x) of data, samples z ~ p(z); where the
aggregate posterior is the prior, the two have one distribution, and every score agrees within its
error. What differs is therefore due to latents that inference never visits: a number for what
pictures of the two show. Scores with little gap and both poor are the decoder's fault.

References:
    Distribution Matching in Variational Inference (Rosca et al., 2018),
    https://arxiv.org/abs/1802.06847
"""

from __future__ import annotations

__all__ = ["sample_quality_gap"]

import math
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from elboscope.classifiers import Extractor
from elboscope.core import Estimate, InputError, Sampled, paired_difference, seeded
from elboscope.data import as_tensor

from .independent_critic import CriticTraining
from .sample_images import as_images
from .sample_quality_result import SampleQualityGap
from .sample_scores import reference_of, scored
from .samplers import reconstructions_of, sampler_of


def sample_quality_gap(
    model: Sampled,
    x: object,
    *,
    x_train: object = None,
    classifier: Extractor | None = None,
    num_samples: int | None = None,
    num_compared: int = 2000,
    critic: CriticTraining | None = None,
    noise: bool = False,
    images: object = None,
    seed: int | None = None,
) -> SampleQualityGap:
    """Scores prior samples and reconstructions of one model, and their difference.

    Both are compared with one half of x; the other half is reconstructed, since a reconstruction
    lies near *its* datapoint whatever the model. No datapoint is reconstructed twice: both
    samplers give as many images as that half has, or ``num_samples`` if that is fewer.

    Args:
        model: The model, with an encoder.
        x: Data that the model was not trained on, with values in [0, 1].
        x_train: The model's training data.
        classifier: As in :func:`sample_quality`.
        num_samples: At most; of both.
        num_compared: As in :func:`sample_quality`.
        critic: Its settings; left out by default.
        noise: Draws from p(x|z) instead of its mean, of both.
        images: What is compared with, a row per row of x, where x is not shown itself: grey
            images of which x is a binary draw. By default x.
        seed: Of the halves, the draws and the critics.

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
        count = most if num_samples is None else min(num_samples, most)
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
    )
