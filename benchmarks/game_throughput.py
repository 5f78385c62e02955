"""(f) Steps of games at CIFAR-10's shape against the bare passes of their networks.

The limit is what the losses need and nothing more: each network's forward passes and the backward
passes to the players' parameters, of the same losses on the same draws, without optimiser,
bookkeeping or the rows of a history. Batch 64, one thread, the DCGAN for 32 × 32 pixels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import softplus

import elboscope as es
from elboscope.training import VGH, GANGame, Minibatch, adversarial_step, game_optimizer

from .measure import interleaved, ratio, write

B, SHAPE, LATENT = 64, (3, 32, 32), 50
ROUNDS = 5
Model = es.models.GAN | es.models.Hybrid


def main() -> None:
    """Runs, prints ratios, writes ``results/game_throughput.json``."""
    torch.set_num_threads(1)
    with es.seeded(0):
        x = torch.rand(B, *SHAPE)
        gan, hybrid = es.models.dcgan(SHAPE, LATENT), es.models.dcgan_hybrid(SHAPE, LATENT)
    candidates = {
        "DCGAN": played(gan, GANGame(), x),
        "DCGAN, bare": lambda: bare_gan(gan, x),
        "VGH": played(hybrid, VGH(), x),
        "VGH, bare": lambda: bare_hybrid(hybrid, x),
    }
    seconds = interleaved(candidates, ROUNDS)
    facts: dict[str, object] = {
        name: ratio(seconds, name, f"{name}, bare") for name in ("DCGAN", "VGH")
    }
    for name, value in facts.items():
        print(f"(f) a step of {name}: {value:.2f}× its bare passes (to reach: 1.3)")
    write("game_throughput", seconds, facts)


def played(model: Model, game: GANGame | VGH, x: Tensor) -> Callable[[], object]:
    """Returns a function that plays one round."""
    step = adversarial_step(model, game, game_optimizer(game, model, 2e-4, (0.5, 0.9)))
    batch = Minibatch(x, 1.0)
    return lambda: step(batch)


def bare_gan(model: Model, x: Tensor) -> None:
    """One forward pass of G, three of D, and the backward passes of both losses."""
    D = model.adversaries["data"]
    fake = model.generate(torch.randn(len(x), LATENT))
    judge = softplus(-D(x)).mean() + softplus(D(fake.detach())).mean()
    judge.backward(inputs=list(D.parameters()))
    maker = softplus(-D(fake)).mean()
    maker.backward(inputs=list(model.generator.parameters()))


def bare_hybrid(model: Model, x: Tensor) -> None:
    """The passes of encoder, decoder and both discriminators, and four backward passes."""
    D, C = model.adversaries["data"], model.adversaries["code"]
    z, code = torch.randn(len(x), LATENT), model.encode(x).rsample()
    again = model.decode(code).mean
    cost = (x - again).abs().mean()
    encoder = 10 * cost + softplus(-C(code)).mean()
    encoder.backward(inputs=list(model.encoder.parameters()), retain_graph=True)
    decoder = 10 * cost + softplus(-D(again)).mean()
    decoder.backward(inputs=list(model.decoder.parameters()))
    judge = softplus(-D(x)).mean() + softplus(D(again.detach())).mean()
    judge.backward(inputs=list(D.parameters()))
    codes = softplus(-C(z)).mean() + softplus(C(code.detach())).mean()
    codes.backward(inputs=list(C.parameters()))


if __name__ == "__main__":
    main()
