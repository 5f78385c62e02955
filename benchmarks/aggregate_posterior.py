"""(b) log q(z) of the aggregate posterior: N = 10,000, d = 50 and 200, σ ≥ 0.05, centred.

The library's blocked float64 matrix products against the formula as it is written, which fills
(S, N, d) differences block by block (256 MB each at most), against the matrix product alone, and
against a direct float64 evaluation, whose largest deviation is the error. Then how its cost and
its memory grow: seconds per pair for N·S from 10⁷ to 4·10⁷, and the peak for N = S = 60,000.
"""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Callable

import torch
from torch import Tensor

from elboscope.estimators import DiagonalPosteriors, log_aggregate_posterior

from .measure import interleaved, ratio, write

N = 10_000
# (d, S, rounds, times the broadcast formula to reach)
CASES = ((50, 1000, 5, 20), (200, 250, 3, 30))


def main() -> None:
    """Runs, prints ratios, errors and memory, writes ``results/aggregate_posterior*.json``."""
    torch.set_num_threads(1)
    growth()  # first: what it reports is the peak of the process
    for d, S, rounds, target in CASES:
        against_broadcast(d, S, rounds, target)


def against_broadcast(d: int, S: int, rounds: int, target: int) -> None:
    """The library against the formula as it is written."""
    z, mu, sigma, own = problem(N, S, d)
    posteriors = DiagonalPosteriors(mu, sigma)
    ours: Callable[[], Tensor] = lambda: log_aggregate_posterior(z, posteriors, own)  # noqa: E731
    candidates: dict[str, Callable[[], Tensor]] = {
        "elboscope": ours,
        "broadcast": lambda: broadcast(z.float(), mu.float(), sigma.float()),
        "broadcast float64": lambda: broadcast(z, mu, sigma),
        "matrix product": product(S, d),
    }
    seconds = interleaved(candidates, rounds)
    exact = broadcast(z, mu, sigma)
    foreign = torch.randn(S, d, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    facts: dict[str, object] = {
        "N": N, "S": S, "d": d,
        "times_broadcast": ratio(seconds, "broadcast", "elboscope"),
        "times_broadcast_float64": ratio(seconds, "broadcast float64", "elboscope"),
        "share_of_limit": ratio(seconds, "matrix product", "elboscope"),
        "largest_error_nats": (ours() - exact).abs().max().item(),
        # Points of no component: nothing is computed directly, all goes through the product.
        "largest_error_nats_of_foreign_points":
            (log_aggregate_posterior(foreign, posteriors) - broadcast(foreign, mu, sigma))
            .abs().max().item(),
        "largest_error_nats_of_float32_broadcast":
            (broadcast(z.float(), mu.float(), sigma.float()) - exact).abs().max().item(),
    }  # fmt: skip
    print(f"(b) log q(z), N={N}, S={S}, d={d}, one thread")
    print(f"  {facts['times_broadcast']:.1f}× the broadcast formula in float32 (target {target})")
    print(f"  {facts['times_broadcast_float64']:.1f}× it in float64, which is as accurate")
    print(f"  {facts['share_of_limit']:.0%} of the matrix product alone")
    print(f"  largest error {facts['largest_error_nats']:.1e} nats on draws of the mixture,")
    print(f"  {facts['largest_error_nats_of_foreign_points']:.1e} elsewhere (to reach: 1e-8)")
    write("aggregate_posterior" + ("" if d == 50 else f"_d{d}"), seconds, facts)


def growth() -> None:
    """Seconds per pair as N·S grows, and the peak of memory at N = S = 60,000, d = 50."""
    d = 50
    seconds: dict[str, list[float]] = {}
    for n, s in ((10_000, 1000), (20_000, 1000), (10_000, 2000), (20_000, 2000), (60_000, 60_000)):
        z, mu, sigma, own = problem(n, s, d)
        began = time.perf_counter()
        log_aggregate_posterior(z, DiagonalPosteriors(mu, sigma), own)
        seconds[f"N={n} S={s}"] = [time.perf_counter() - began]
        pair = 1e9 * seconds[f"N={n} S={s}"][0] / (n * s)
        print(f"  N={n} S={s}: {pair:.1f} ns per pair, peak {peak_gib():.2f} GiB")
    write("aggregate_posterior_growth", seconds, {"d": d, "peak_gib": peak_gib()})


def peak_gib() -> float:
    """Returns the largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def problem(N: int, S: int, d: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Returns draws z, the components' μ and σ in [0.05, 1], and where each z came from."""
    g = torch.Generator().manual_seed(0)
    mu = torch.randn(N, d, generator=g, dtype=torch.float64)
    mu -= mu.mean(0)
    sigma = 0.05 + 0.95 * torch.rand(N, d, generator=g, dtype=torch.float64)
    own = torch.randint(N, (S,), generator=g)
    z = mu[own] + sigma[own] * torch.randn(S, d, generator=g, dtype=torch.float64)
    return z, mu, sigma, own


def broadcast(z: Tensor, mu: Tensor, sigma: Tensor) -> Tensor:
    """The formula as it is written: every z against every component."""
    parts = []
    rows = 3200 // z.shape[1]
    for block in z.split(rows):
        u = (block[:, None] - mu) / sigma
        log_q = (-0.5 * u.square() - sigma.log() - 0.5 * math.log(2 * math.pi)).sum(-1)
        parts.append(log_q.logsumexp(1) - math.log(len(mu)))
    return torch.cat(parts)


def product(S: int, d: int) -> Callable[[], Tensor]:
    """The (S, 2d+1) by (2d+1, N) product in float64, into a buffer that exists already."""
    a = torch.randn(S, 2 * d + 1, dtype=torch.float64)
    b = torch.randn(2 * d + 1, N, dtype=torch.float64)
    out = torch.empty(S, N, dtype=torch.float64)
    return lambda: torch.mm(a, b, out=out)
