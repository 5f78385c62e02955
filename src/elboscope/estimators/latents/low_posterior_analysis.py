r"""Does the model know that its samples from uncovered latents are bad? Five looks at them.

1. The nearest datapoint of each in pixels: what they imitate.
2. Histograms of pixel values, per channel: too much ink, white backgrounds.
3. Histograms of KL(q(z|x) ‖ p(z)) for data, for the neighbours and for the samples encoded again.
4. Histograms of the ELBO for the same, with the area under the ROC curve,

   .. math:: \mathrm{AUROC} = P(\mathrm{ELBO}(x_\text{data}) > \mathrm{ELBO}(x_\text{low}))
             + \tfrac12 P(=)

   1: the likelihood tells them apart; ½: it is blind; below: it is fooled, and scores them higher.
5. A t-SNE map of prior draws, draws of q(z), and the low-q latents.

The ELBO is of one draw of p(x|z), which is data as the likelihood knows them; decoder means are
smoother and score higher, and are scored beside it only where they are in the likelihood's
support.

References:
    | Distribution Matching in Variational Inference (Rosca et al., 2018),
      https://arxiv.org/abs/1802.06847, section 3.3 and appendix A
    | A leisurely look at the bootstrap (Efron and Gong, 1983)
"""

from __future__ import annotations

__all__ = ["LowSampleAnalysis", "Separation", "auroc", "embed", "examine_low_samples"]

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor
from torch.distributions.kl import kl_divergence

from elboscope.core import InputError, LatentVariableModel, evaluating, given, is_in_support, seeded

from ..inputs import Inputs, blocks, prepared, require_positive
from ..likelihood.bounds import evidence_lower_bound
from ..posteriors import encode_posteriors
from .low_posterior import LatentSamples, LowPosteriorSamples

NUM_BINS = 256
ENCODED_AT_ONCE = 256
BOOTSTRAP = 1000
RECOMPUTED = 5
NORMAL_95, AREAS = 1.96, 20_001

_Set = tuple[Tensor, Tensor | None]
"""Datapoints and their conditions."""


@dataclass(frozen=True)
class Separation:
    """How well the ELBO tells data from low-q samples.

    Attributes:
        auroc: P(data scores higher), ties counted half.
        stderr: Its standard error: of the bootstrap, or of the interval's width if that is more.
        low: Lower end of the 95 % interval: the bootstrap's or Newcombe's, whichever is lower.
        high: The same above.
    """

    auroc: float
    stderr: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"AUROC {self.auroc:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True, eq=False)
class LowSampleAnalysis:
    """The five analyses; each mapping goes by "data", "neighbours", "low", "ordinary".

    Attributes:
        samples: What was examined.
        low: The ranking that was: ``samples.by_ratio`` or ``by_density``.
        neighbours: The datapoints nearest to the low samples' means.
        distance: Their squared distance.
        pixels: Counts of pixel values, ``(C, 256)``, of decoder means for samples.
        edges: The 257 edges of those bins.
        kl: KL(q(z|x) ‖ p(z)) per datapoint; empty where there is no closed form.
        elbo: The ELBO per datapoint; "low means" too where they are in the support.
        separation: Data against low samples, by their ELBO.
        embedding: Two coordinates of "prior", "aggregate posterior" and "low" latents.
        embedded_by: "t-SNE", or "latents" where there are two of them at most.
        settings: What was done.
    """

    samples: LowPosteriorSamples
    low: LatentSamples
    neighbours: Float[Tensor, "n *X"]
    distance: Float64[Tensor, " n"]
    pixels: Mapping[str, Float64[Tensor, "C bins"]]
    edges: Float64[Tensor, " edges"]
    kl: Mapping[str, Float64[Tensor, " _"]]
    elbo: Mapping[str, Float64[Tensor, " _"]]
    separation: Separation
    embedding: Mapping[str, Float64[Tensor, "_ 2"]]
    embedded_by: str
    settings: Mapping[str, object]


def examine_low_samples(
    model: LatentVariableModel,
    x: object,
    samples: LowPosteriorSamples,
    *,
    by: str = "ratio",
    num_data: int = 500,
    num_samples: int = 100,
    num_embedded: int = 300,
    seed: int | None = None,
    condition: Tensor | None = None,
) -> LowSampleAnalysis:
    """Compares low-q samples with data in pixels, in KL, in likelihood and in latent space.

    It measures whether the likelihood separates them from data, not whether they look bad: that
    is for the gallery and the eye.

    Args:
        model: The model.
        x: The data to compare with, as binarised as the model's data are.
        samples: As :func:`low_posterior_samples` returns them.
        by: "ratio" (log q − log p) or "density" (log q).
        num_data: Datapoints chosen at random for the histograms.
        num_samples: K of the ELBO.
        num_embedded: Prior and posterior draws on the map; 0 leaves it out.
        seed: Random seed; None picks one and records it.
        condition: One row per datapoint; the samples keep their own.

    Raises:
        InputError: Another ranking; conditions for x and not for the samples; x of another
            shape than the samples.

    Example:
        >>> import elboscope as es
        >>> model = es.models.LinearGaussian.perfect(2, 8, sigma2=0.1)
        >>> x, _ = model.sample(500, seed=0)
        >>> low = es.latents.low_posterior_samples(model, x, 50, num_prior=2000, seed=0)
        >>> found = examine_low_samples(model, x, low, seed=0)
        >>> found.separation.low < 0.5 < found.separation.high or found.separation.auroc > 0.5
        True
    """
    inputs = prepared(model, x, condition)
    require_positive("num_data", num_data)
    if by not in ("ratio", "density"):
        raise InputError("by", expected="'ratio' or 'density'", got=repr(by))
    low = samples.by_ratio if by == "ratio" else samples.by_density
    if low.mean.shape[1:] != inputs.x.shape[1:]:
        shapes = [str(tuple(t.shape[1:])) for t in (low.mean, inputs.x)]
        raise InputError("x", expected=f"data of shape {shapes[0]}", got=shapes[1])
    _require_conditions(condition, low)
    with evaluating(model), seeded(seed) as used:
        index, distance = nearest_in_pixels(low.mean, inputs.x)
        chosen = torch.randperm(len(inputs.x))[:num_data].to(inputs.x.device)
        sets: dict[str, _Set] = {
            "data": inputs.rows(chosen),
            "neighbours": inputs.rows(index),
            "low": (low.drawn, low.condition),
            "ordinary": (samples.ordinary.drawn, samples.ordinary.condition),
        }
        shown = {name: some for name, (some, _) in sets.items()}
        pixels, edges = _pixels(shown | {"low": low.mean, "ordinary": samples.ordinary.mean})
        scored = dict(sets)
        if is_in_support(given(model, low.condition).decode(low.z), low.mean):
            scored["low means"] = (low.mean, low.condition)
        elbo = {
            name: evidence_lower_bound(
                model, some, num_samples, seed=used, condition=c
            ).values.double()
            for name, (some, c) in scored.items()
        }
        kl = _kls(model, sets)
        separation = auroc(elbo["data"], elbo["low"], seed=used)
        embedding, how = embed(model, inputs, low, num_embedded, used)
    settings = {"by": by, "num_data": len(chosen), "num_samples": num_samples, "seed": used}
    return LowSampleAnalysis(
        samples, low, inputs.x[index], distance, pixels, edges, kl, elbo, separation,
        embedding, how, {**samples.settings, **settings},
    )  # fmt: skip


def nearest_in_pixels(
    some: Float[Tensor, "n *X"], x: Float[Tensor, "N *X"]
) -> tuple[Int64[Tensor, " n"], Float64[Tensor, " n"]]:
    """Returns the nearest datapoint of each, and the squared distance.

    One matrix product finds five candidates; these are measured directly, so that the rounding of
    the expanded square decides nothing.

    Example:
        >>> index, d = nearest_in_pixels(torch.tensor([[0.9]]), torch.tensor([[0.0], [1.0]]))
        >>> index.tolist(), round(d.item(), 6)
        ([1], 0.01)
    """
    flat, data = some.flatten(1).double(), x.flatten(1)
    parts = []
    for rows in blocks(len(data), 8192):
        block = data[rows].double()
        parts.append(block.square().sum(1) - 2 * flat @ block.T)
    candidates = torch.cat(parts, 1).topk(min(RECOMPUTED, len(data)), largest=False).indices
    direct = (data[candidates].double() - flat[:, None]).square().sum(-1)
    best = direct.min(1)
    return candidates.gather(1, best.indices[:, None])[:, 0], best.values


def auroc(
    data: Float64[Tensor, " n"], low: Float64[Tensor, " m"], *, seed: int | None = None
) -> Separation:
    """Returns P(data > low) + ½ P(=), with an interval over both sets.

    A bootstrap of two sets that do not overlap sees no error at all. So the interval contains
    Newcombe's too, which inverts the variance of Hanley and McNeil and does not end there.

    Args:
        data: Scores of data.
        low: Scores of the others.
        seed: Random seed; None picks one and records it.

    Example:
        >>> auroc(torch.tensor([2.0, 3.0]).double(), torch.tensor([0.0, 1.0]).double(), seed=0)
        Separation(auroc=1.0, stderr=0.156..., low=0.385..., high=1.0)

    References:
        | Confidence intervals for an effect size measure based on the Mann–Whitney statistic.
          Part 2 (Newcombe, 2006)
    """
    wins = (data[:, None] > low).double() + 0.5 * (data[:, None] == low).double()
    with seeded(seed):
        draws = torch.stack([_resample(wins) for _ in range(BOOTSTRAP)])
    area = wins.mean().item()
    ends = _newcombe(area, *wins.shape)
    least = min(draws.quantile(0.025).item(), ends[0])
    most = max(draws.quantile(0.975).item(), ends[1])
    stderr = max(draws.std().item(), (most - least) / (2 * NORMAL_95))
    return Separation(area, stderr, least, most)


def _newcombe(area: float, n: int, m: int) -> tuple[float, float]:
    """All areas A within 1.96 errors of this one, each with the error that A itself would have."""
    A = torch.linspace(0, 1, AREAS, dtype=torch.float64)
    pairs = 1 + ((n + m) / 2 - 1) * ((1 - A) / (2 - A) + A / (1 + A))
    error = (A * (1 - A) * pairs / (n * m)).sqrt()
    within = A[(A - area).abs() <= NORMAL_95 * error]
    ends = torch.cat([within, A.new_tensor([area])])
    return ends.min().item(), ends.max().item()


def _resample(wins: Tensor) -> Tensor:
    n, m = wins.shape
    rows, columns = (torch.randint(k, (k,)).bincount(minlength=k).double() for k in (n, m))
    return rows.to(wins) @ wins @ columns.to(wins) / (n * m)


def _pixels(sets: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Float64[Tensor, " edges"]]:
    low = min(some.min().item() for some in sets.values())
    high = max(some.max().item() for some in sets.values())
    low, high = min(low, 0.0), max(high, 1.0)
    counts = {}
    for name, some in sets.items():
        channels = some.shape[1] if some.ndim == 4 else 1
        values = some.reshape(len(some), channels, -1).transpose(0, 1).flatten(1).double().cpu()
        counts[name] = torch.stack([torch.histc(v, NUM_BINS, low, high) for v in values])
    return counts, torch.linspace(low, high, NUM_BINS + 1, dtype=torch.float64)


def _require_conditions(condition: Tensor | None, low: LatentSamples) -> None:
    if (condition is None) != (low.condition is None):
        raise InputError(
            "condition",
            expected="conditions for x where the samples have some, and only there",
            got="none for x" if condition is None else "none for the samples",
            do="Give the same condition= to low_posterior_samples and examine_low_samples.",
        )


def _kls(model: LatentVariableModel, sets: Mapping[str, _Set]) -> dict[str, Tensor]:
    try:
        return {name: _kl(model, *some) for name, some in sets.items()}
    except NotImplementedError:
        return {}


def _kl(model: LatentVariableModel, x: Tensor, condition: Tensor | None) -> Tensor:
    parts = []
    for rows in blocks(len(x), ENCODED_AT_ONCE):
        local = given(model, None if condition is None else condition[rows])
        parts.append(kl_divergence(local.encode(x[rows]), local.prior()).reshape(-1).double())
    return torch.cat(parts)


# Where low-q latents lie among draws of the prior and of q(z): two coordinates of each.
#
# The latents themselves where there are two at most, else t-SNE (after PCA to fifty), which keeps
# neighbours and not distances: pockets that no draw of q(z) enters mean something, the size of a
# gap does not.
#
# References:
#     | Visualizing Data using t-SNE (van der Maaten and Hinton, 2008)

MOST_PRINCIPAL = 50


def embed(
    model: LatentVariableModel, inputs: Inputs, low: LatentSamples, num: int, seed: int
) -> tuple[dict[str, Tensor], str]:
    """Returns two coordinates of each latent by name, and how they were found.

    Runs inside ``core.evaluating`` and ``core.seeded``.

    Args:
        model: The model.
        inputs: The data behind q(z).
        low: The latents to place among the others.
        num: Draws of the prior and of q(z); 0 leaves the map out.
        seed: Random seed; None picks one and records it.
    """
    if not num:
        return {}, ""
    q = encode_posteriors(model, inputs)
    drawn = q.draw(torch.randint(len(q), (num,)).to(inputs.x.device))
    local = given(model, inputs.rows(slice(0, 1))[1])
    prior = local.prior().sample(torch.Size((num,))).flatten(1)
    named = {"prior": prior, "aggregate posterior": drawn, "low": low.z.flatten(1)}
    together = torch.cat([z.double().cpu() for z in named.values()])
    flat = together.shape[1] <= 2
    points = together if flat else _tsne(together, seed)
    if points.shape[1] == 1:
        points = torch.cat([points, torch.zeros_like(points)], 1)
    parts = points.split([len(z) for z in named.values()])
    return dict(zip(named, parts, strict=True)), "latents" if flat else "t-SNE"


def _tsne(z: Float64[Tensor, "n d"], seed: int) -> Float64[Tensor, "n 2"]:
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    array = z.numpy()
    if array.shape[1] > MOST_PRINCIPAL:
        array = PCA(MOST_PRINCIPAL, random_state=0).fit_transform(array)
    perplexity = min(30.0, (len(array) - 1) / 3)
    tsne = TSNE(2, perplexity=perplexity, init="pca", random_state=seed % 2**32)
    return torch.from_numpy(tsne.fit_transform(array)).double()
