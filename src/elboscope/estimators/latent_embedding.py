r"""Where low-q latents lie among draws of the prior and of q(z): two coordinates of each.

The latents themselves where there are two at most, else t-SNE (after PCA to fifty), which keeps
neighbours and not distances: pockets that no draw of q(z) enters mean something, the size of a gap
does not.

References:
    | Visualizing Data using t-SNE (van der Maaten and Hinton, 2008)
"""

from __future__ import annotations

__all__ = ["embedded"]

import torch
from jaxtyping import Float64
from torch import Tensor

from elboscope.core import LatentVariableModel, given

from .evaluation import Inputs
from .low_posterior import LatentSamples
from .posteriors import encode_posteriors

MOST_PRINCIPAL = 50


def embedded(
    model: LatentVariableModel, inputs: Inputs, low: LatentSamples, num: int, seed: int
) -> tuple[dict[str, Tensor], str]:
    """Returns two coordinates of each latent by name, and how they were found.

    Runs inside ``core.evaluating`` and ``core.seeded``.

    Args:
        model: The model.
        inputs: The data behind q(z).
        low: The latents to place among the others.
        num: Draws of the prior and of q(z); 0 leaves the map out.
        seed: Of t-SNE.
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
