"""(c) log p(x) by importance sampling: K = 5000 for 1000 images of 784 pixels, decoder 50-200-200.

Against the loop over images that scripts contain (one image at a time, its K samples in blocks),
and against the matrix products of the decoder alone; then the peak of memory while 10,000 images
are weighed at once, by this decoder and by a convolutional one.
"""

from __future__ import annotations

import math
import multiprocessing
import resource
from collections.abc import Callable

import torch
from torch import Tensor

from elboscope.core import LatentVariableModel, log_joint, seeded
from elboscope.estimators import importance_sampling
from elboscope.models import conv_vae, mlp_vae

from .measure import interleaved, ratio, write

K, N, SOME = 5000, 1000, 50
ROUNDS = 5


def main() -> None:
    """Runs, prints seconds, ratios and memory, writes ``results/importance.json``."""
    model, x = fully_connected(), images(N)
    some = x[:SOME]
    seconds = interleaved(
        {
            "elboscope": lambda: importance_sampling(model, some, K, seed=0),
            "image by image": lambda: image_by_image(model, some),
            "matrix products": products(SOME),
        },
        ROUNDS,
    )
    whole = interleaved({"elboscope, 1000 images": lambda: importance_sampling(model, x, K)}, 1)
    megabytes = {
        "10000 images, fully connected": grown_by(fully_connected),
        "10000 images, convolutional": grown_by(convolutional),
    }
    facts: dict[str, object] = {
        "K": K, "N": N, "rounds_with": SOME,
        "times_image_by_image": ratio(seconds, "image by image", "elboscope"),
        "times_matrix_products": ratio(seconds, "elboscope", "matrix products"),
        "peak_megabytes_above_the_data": megabytes,
    }  # fmt: skip
    print(f"(c) importance sampling, K={K}, {N} images, {torch.get_num_threads()} threads")
    print(f"  {whole['elboscope, 1000 images'][0]:.0f} s (to reach: 60)")
    print(f"  {facts['times_image_by_image']:.2f}× the loop over images")
    print(f"  {facts['times_matrix_products']:.2f}× the matrix products alone")
    for name, size in megabytes.items():
        print(f"  {size:.0f} MB at most above the data for {name}")
    write("importance", {**seconds, **whole}, facts)


def fully_connected() -> LatentVariableModel:
    with seeded(0):
        return mlp_vae((784,), latent_dim=50, hidden=(200, 200))


def convolutional() -> LatentVariableModel:
    with seeded(0):
        return conv_vae((1, 28, 28), latent_dim=16)


def images(n: int, shape: tuple[int, ...] = (784,)) -> Tensor:
    g = torch.Generator().manual_seed(0)
    return (torch.rand(n, *shape, generator=g) < 0.13).float()


@torch.no_grad()
def image_by_image(model: LatentVariableModel, x: Tensor, block: int = 1000) -> Tensor:
    """What scripts do where they are right: the same arithmetic, one image after the other."""
    values = []
    for one in x.split(1):
        q = model.encode(one)
        log_w = []
        for _ in range(0, K, block):
            z = q.rsample(torch.Size((block,)))
            log_w.append(log_joint(model, one, z) - q.log_prob(z))
        values.append(torch.cat(log_w).logsumexp(0) - math.log(K))
    return torch.cat(values)


def products(n: int, rows: int = 4096) -> Callable[[], None]:
    """The decoder's three matrix products, as often as K·n rows need them."""
    z, h = torch.randn(rows, 50), torch.randn(rows, 200)
    a, b, c = torch.randn(50, 200), torch.randn(200, 200), torch.randn(200, 784)

    def run() -> None:
        for _ in range(K * n // rows):
            torch.mm(z, a), torch.mm(h, b), torch.mm(h, c)

    return run


def grown_by(build: Callable[[], LatentVariableModel]) -> float:
    """Returns by how many megabytes a process grows while it weighs 10,000 images, K = 64."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_growth, (build,))


def _growth(build: Callable[[], LatentVariableModel]) -> float:
    model = build()
    x = images(10_000, (784,) if build is fully_connected else (1, 28, 28))
    importance_sampling(model, x[:256], 1, seed=0)  # what the libraries load at first use
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    importance_sampling(model, x, 64, seed=0)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
