"""(d) AIS transitions: 60 temperatures, 500 chains, decoder 50-200-200-784 with ELU, one thread.

Three candidates walk the same chains with 10 leapfrog steps a transition. elboscope's loop; the
schedule of the obvious published implementation, re-implemented here: at every temperature it
evaluates log f at two temperatures for the increment, differentiates log f at the start and after
each of 10 position updates, clips the gradient, and evaluates the energies at both ends once more,
so that a transition costs 11 gradients and 4 decoder passes, all with their graphs, the likelihood
being written out, xa − max(a, 0) − log(1 + exp(−|a|)); the same schedule with PyTorch's fused loss;
and the matrix products alone of 10 gradients a transition, into buffers that exist
already, which is the limit.

Then a VAE of that size is trained on binary MNIST, and the time in which elboscope puts log p(x) of
its own data between two bounds is compared with the time that the published schedule needs for a
sandwich of its own with 500 temperatures: the forward run is timed and counted twice, the way back
being the same loop. elboscope's is the whole call: data, pilot, forward and reverse with T and 2T
increments, from q(z|x).
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

import elboscope as es
from elboscope.core import log_mean_exp
from elboscope.estimators.inputs import prepared
from elboscope.estimators.likelihood.annealed_run import anneal, plan_annealing
from elboscope.training import ELBO, adam, fit, minibatches, objective_step

from .measure import interleaved, ratio, write
from .training_throughput import binary_images

T, C, L = 60, 500, 10
PER_TURN = 6  # transitions: candidates take turns often, so that a busy moment hits all of them
WIDTHS = (50, 200, 200, 784)
ROUNDS = 30
N_DATA, N_CHAINS, T_SANDWICH, T_PUBLISHED, STEPS = 60, 16, 30, 500, 3000


def main() -> None:
    """Runs, prints ratios, writes ``results/annealed.json``."""
    torch.set_num_threads(1)
    model, x = problem()
    chains = x.repeat_interleave(C // len(x), 0)
    candidates = {
        "elboscope": elboscope_run(model, x),
        "published schedule": published_run(model, chains, PER_TURN, written_out),
        "published schedule, fused loss": published_run(model, chains, PER_TURN, fused),
        "matrix products": matrix_products(),
    }
    seconds = interleaved(candidates, ROUNDS)
    transitions = C * PER_TURN
    facts: dict[str, object] = {
        "load_average": os.getloadavg(),
        "temperatures": T, "chains": C, "leapfrog": L, "decoder": WIDTHS,
        "transitions_per_second":
            {k: transitions / sorted(v)[len(v) // 2] for k, v in seconds.items()},
        "seconds_of_60_temperatures":
            {k: T / PER_TURN * sorted(v)[len(v) // 2] for k, v in seconds.items()},
        "times_published": ratio(seconds, "published schedule", "elboscope"),
        "times_published_with_fused_loss":
            ratio(seconds, "published schedule, fused loss", "elboscope"),
        "times_matrix_products": ratio(seconds, "elboscope", "matrix products"),
    }  # fmt: skip
    print(f"(d) AIS, {T} temperatures, {C} chains, decoder {WIDTHS}, one thread")
    print(f"  {facts['times_published']:.2f}× the published schedule (to reach: 2.2)")
    print(f"  {facts['times_published_with_fused_loss']:.2f}× it with PyTorch's fused loss")
    print(f"  {facts['times_matrix_products']:.2f}× the time of the matrix products (at most 1.7)")
    facts |= sandwich()
    print(f"  a sandwich of {facts['sandwich_width']:.3f} nats (to reach: 0.1)")
    print(f"  in {facts['sandwich_share']:.2f} of the time of the published one (to reach: 0.2),")
    print(f"  whose forward run ends {facts['published_below_our_upper']:.2f} nats below our upper")
    write("annealed", seconds, facts)


def sandwich() -> dict[str, object]:
    """Times the sandwich of a trained VAE's data, and the published schedule on the same x."""
    x, name = binary_images()
    model = trained(x)
    began = time.process_time()
    s = es.bidirectional_monte_carlo(
        model, N_DATA, num_temperatures=T_SANDWICH, num_chains=N_CHAINS, path="posterior", seed=0
    )
    ours = time.process_time() - began
    run = published_run(model, s.x.repeat(N_CHAINS, 1), T_PUBLISHED, written_out)
    began = time.process_time()
    log_w = run()
    published = time.process_time() - began
    below = log_mean_exp(log_w.reshape(N_CHAINS, N_DATA))
    print(f"  {s}")
    return {
        "sandwich_data": f"{N_DATA} simulated by a VAE trained on {name}",
        "sandwich_settings": dict(s.lower_doubled.settings),
        "sandwich_width": s.width.mean,
        "sandwich_width_stderr": s.width.stderr,
        "sandwich_cpu_seconds": ours,
        "published_forward_cpu_seconds": published,
        "published_temperatures": T_PUBLISHED,
        "published_below_our_upper": (s.upper_doubled.values - below).mean().item(),
        "sandwich_share": ours / (2 * published),
    }


def trained(x: Tensor) -> es.VAE:
    """Returns a VAE 784-200-200-50 with ELU after some epochs of the ELBO."""
    with es.seeded(0):
        model = es.models.mlp_vae((784,), WIDTHS[0], hidden=WIDTHS[1:-1], nonlinearity="elu")
        bounds = fit(objective_step(model, ELBO(), adam(model.parameters(), 1e-3)),
                     minibatches(x, 100, seed=0))  # fmt: skip
        for _ in range(STEPS):
            next(bounds)
    return model


def problem() -> tuple[es.VAE, Tensor]:
    """Returns a VAE with the decoder of the comparison, as it is initialised, and five x."""
    with es.seeded(0):
        model = es.models.mlp_vae((784,), WIDTHS[0], hidden=WIDTHS[1:-1], nonlinearity="elu")
        x = model.decode(torch.randn(1, 5, WIDTHS[0])).sample()[0]
    return model, x


def elboscope_run(model: es.VAE, x: Tensor) -> Callable[[], object]:
    """Returns a function that anneals 100 chains for each of five x."""
    plan = plan_annealing(PER_TURN + 1, C // len(x), L, "linear", "prior", None)
    steps = torch.full((PER_TURN,), 0.1, dtype=torch.float64)
    inputs = prepared(model, x, None)

    def run() -> object:
        with es.core.evaluating(model), es.seeded(0):
            return anneal(model, inputs, None, plan, steps, None)

    return run


def published_run(
    model: es.VAE, x: Tensor, T: int, log_bernoulli: Callable[[Tensor, Tensor], Tensor]
) -> Callable[[], Tensor]:
    """Returns the published schedule, one chain for each row of x, in plain PyTorch.

    It adapts the step of each chain while it runs, which makes its bound no bound.
    """
    decoder, betas = model.decoder, torch.linspace(0, 1, T + 1).tolist()

    def log_f(z: Tensor, beta: float) -> Tensor:
        return log_standard_normal(z) + log_bernoulli(decoder(z), x).mul_(beta)

    def gradient(z: Tensor, beta: float) -> Tensor:
        z = z.detach().requires_grad_()
        energy = -log_f(z, beta)
        (grad,) = torch.autograd.grad(energy, z, torch.ones_like(energy))
        return grad.clamp(-10_000, 10_000)

    def transition(z: Tensor, beta: float, step: Tensor) -> tuple[Tensor, Tensor]:
        start = torch.randn_like(z)
        p = start - gradient(z, beta) * step * 0.5
        proposal = z + p * step
        for _ in range(L - 1):
            p = p - gradient(proposal, beta) * step
            proposal = proposal + p * step
        p = p - gradient(proposal, beta) * step * 0.5
        before = -log_f(z, beta) - log_standard_normal(start)
        after = -log_f(proposal, beta) - log_standard_normal(p)
        accepted = (torch.rand_like(before) < (before - after).exp()).float()[:, None]
        return (proposal * accepted + z * (1 - accepted)).detach(), accepted

    def run() -> Tensor:
        z, log_w = torch.randn(len(x), WIDTHS[0]), torch.zeros(len(x))
        step, history = torch.full((len(x), 1), 0.01), torch.zeros(len(x), 1)
        for t, (low, high) in enumerate(pairwise(betas), 1):
            log_w += (log_f(z, high) - log_f(z, low)).detach()
            z, accepted = transition(z, high, step)
            history += accepted
            step = torch.where(history / t > 0.65, step * 1.02, step * 0.98).clamp(1e-4, 0.5)
        return log_w

    return run


def log_standard_normal(z: Tensor) -> Tensor:
    """The log-density of a Gaussian with mean and log-variance zero, as a general one."""
    mean = log_variance = torch.zeros_like(z)
    square = (z - mean).pow(2) / log_variance.exp()
    return -0.5 * (log_variance.sum(1) + square.sum(1) + z.shape[1] * math.log(2 * math.pi))


def written_out(logits: Tensor, x: Tensor) -> Tensor:
    """The Bernoulli log-likelihood as the published code writes it."""
    return (-logits.relu() + x * logits - torch.log(1.0 + torch.exp(-logits.abs()))).sum(-1)


def fused(logits: Tensor, x: Tensor) -> Tensor:
    """The same by PyTorch's own loss."""
    return -binary_cross_entropy_with_logits(logits, x, reduction="none").sum(-1)


def matrix_products() -> Callable[[], object]:
    """Returns the products of 10 gradients a transition, forward and back to z, and no more."""
    layers = [
        (torch.randn(C, a), torch.randn(b, a), torch.randn(C, b), torch.empty(C, b),
         torch.empty(C, a))
        for a, b in pairwise(WIDTHS)
    ]  # fmt: skip

    def run() -> None:
        for _ in range(L * PER_TURN):
            for u, W, _, out, _ in layers:
                torch.mm(u, W.T, out=out)
            for _, W, g, _, grad in reversed(layers):
                torch.mm(g, W, out=grad)

    return run
