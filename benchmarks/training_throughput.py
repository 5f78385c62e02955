"""(a) Training throughput of an MLP VAE 784-512-20, batch 100, one thread.

Each candidate trains one epoch on the same binary data: elboscope's loop with everything it does
in a run without a folder (index selection, ELBO with the analytic KL, fused Adam, its bookkeeping
of bounds and losses), pythae's trainer with its own loop, and the matrix products alone: forward
and backward of the four linear layers into buffers that exist already, which is the limit.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

import elboscope as es
from elboscope.core import InputError
from elboscope.training import ELBO, adam, fit, minibatches, objective_step

from .measure import interleaved, ratio, write

B, D, H, LATENT = 100, 784, 512, 20
N = 10_000
ROUNDS = 9


def main() -> None:
    """Runs, prints ratios, writes ``results/training_throughput.json``."""
    torch.set_num_threads(1)
    x, name = binary_images()
    with TemporaryDirectory() as folder:
        candidates = {
            "elboscope": elboscope_epoch(x),
            "matrix products": matrix_products(x),
        }
        try:
            candidates["pythae"] = pythae_epoch(x, folder)
        except ImportError as error:
            print(f"  without pythae: {error} (pip install 'elboscope[bench]')")
        seconds = interleaved(candidates, ROUNDS)
    facts: dict[str, object] = {
        "data": name,
        "samples_per_second": {k: N / sorted(v)[len(v) // 2] for k, v in seconds.items()},
        "share_of_limit": ratio(seconds, "matrix products", "elboscope"),
    }
    print(f"(a) training, MLP VAE {D}-{H}-{LATENT}, batch {B}, one thread, {name}")
    if "pythae" in seconds:
        facts["times_pythae"] = ratio(seconds, "pythae", "elboscope")
        facts["pythae_share_of_limit"] = ratio(seconds, "matrix products", "pythae")
        facts["times_pythae_at_the_limit"] = ratio(seconds, "pythae", "matrix products")
        print(f"  {facts['times_pythae']:.2f}× pythae (to reach: 3); the matrix products alone "
              f"would be {facts['times_pythae_at_the_limit']:.2f}×")  # fmt: skip
    print(f"  {facts['share_of_limit']:.0%} of the matrix products alone (to reach: 70 %)")
    write("training_throughput", seconds, facts)


def binary_images() -> tuple[Tensor, str]:
    """Returns N MNIST images, binarised once; random ones where MNIST is not here."""
    try:
        images = es.data.load("mnist", download=False).train[:N]
        return es.data.Binarisation("fixed").fixed_draw(images).reshape(N, D), "MNIST"
    except InputError:
        generator = torch.Generator().manual_seed(0)
        return (torch.rand(N, D, generator=generator) < 0.13).float(), "random bits"


def elboscope_epoch(x: Tensor) -> Callable[[], object]:
    """Returns a function that trains one more epoch."""
    with es.seeded(0):
        model = es.models.mlp_vae((D,), LATENT, hidden=(H,))
    optimizer = adam(model.parameters(), 1e-3)
    step = objective_step(model, ELBO(), optimizer)
    bounds = fit(step, minibatches(x, B, seed=0))

    def epoch() -> float:
        values, losses = [], []
        for _ in range(N // B):
            bound = next(bounds)
            values.append(bound.value)
            losses.append(bound.loss)
        assert bool(torch.isfinite(torch.stack(losses)).all())
        return torch.cat(values).double().mean().item()

    return epoch


def pythae_epoch(x: Tensor, folder: str) -> Callable[[], object]:
    """Returns a function that trains one more epoch with pythae's BaseTrainer."""
    from pythae.data.datasets import BaseDataset
    from pythae.models import VAE, VAEConfig
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    logging.disable(logging.INFO)
    config = VAEConfig(input_dim=(1, 28, 28), latent_dim=LATENT, reconstruction_loss="bce")
    settings = BaseTrainerConfig(
        output_dir=folder, per_device_train_batch_size=B, num_epochs=1, learning_rate=1e-3,
        no_cuda=True,
    )  # fmt: skip
    data = BaseDataset(x.reshape(-1, 1, 28, 28), torch.zeros(len(x)))
    trainer = BaseTrainer(VAE(config), train_dataset=data, training_config=settings)
    trainer.prepare_training()
    handler = trainer.callback_handler
    handler.callbacks = [c for c in handler.callbacks if "ProgressBar" not in type(c).__name__]
    return lambda: trainer.train_step(1)


def matrix_products(x: Tensor) -> Callable[[], object]:
    """Returns a function that does an epoch's matrix products, and nothing else."""
    batch = x[:B].contiguous()
    widths = ((D, H), (H, 2 * LATENT), (LATENT, H), (H, D))
    layers = [
        (torch.randn(B, a), torch.randn(b, a), torch.randn(B, b), torch.empty(B, b),
         torch.empty(B, a), torch.empty(b, a))
        for a, b in widths
    ]  # fmt: skip
    layers[0] = (batch, *layers[0][1:])

    def epoch() -> None:
        for _ in range(N // B):
            for u, W, _, out, _, _ in layers:
                torch.mm(u, W.T, out=out)
            for i, (u, W, g, _, grad_u, grad_W) in reversed(list(enumerate(layers))):
                torch.mm(g.T, u, out=grad_W)
                if i:  # no one asks for the gradient of the data
                    torch.mm(g, W, out=grad_u)

    return epoch
