"""HMC against its definition: reversible, volume-preserving, second order, invariant, L passes."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from scipy import stats
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal

from elboscope.core import evaluating, seeded
from elboscope.estimators.likelihood.annealing import annealing_path
from elboscope.estimators.likelihood.hmc import (
    LogDensities,
    Noise,
    State,
    draw_noise,
    evaluate,
    hmc_step,
    leapfrog,
)
from elboscope.models import Bimodal, LinearGaussian, mlp_vae

ONE = torch.ones(1, 1, dtype=torch.float64)
TARGET = MultivariateNormal(
    torch.tensor([1.0, -2.0]).double(), torch.tensor([[1.0, 0.9], [0.9, 1.5]]).double()
)
BASE = Independent(Normal(torch.zeros(2).double(), torch.ones(2).double()), 1)


def gaussian(z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A path whose f_1 is TARGET."""
    log_base = BASE.log_prob(z)
    return log_base, TARGET.log_prob(z) - log_base


def curved() -> LogDensities:
    """A path with a strongly curved log f: z ~ N(0, 1), x | z ~ N(z², 0.25²)."""
    return annealing_path(Bimodal(0.25), ONE, "prior").log_densities


def moved(
    densities: LogDensities,
    z: torch.Tensor,
    steps: int,
    step_size: float,
    L: int,
    beta: float = 1.0,
) -> State:
    state = evaluate(densities, z)
    for _ in range(steps):
        state, _ = hmc_step(state, draw_noise(state.z), densities, beta, step_size, L)
    return state


def test_leapfrog_is_reversible():
    densities, steps = curved(), torch.tensor([[0.05], [0.08]]).double()
    with seeded(0):
        start = evaluate(densities, torch.randn(2, 1, 1).double())
        p = torch.randn(2, 1, 1).double()
    there, momentum = leapfrog(start, p, densities, 0.7, steps, 12)
    assert (there.z - start.z).abs().min() > 0.05
    back, returned = leapfrog(there, -momentum, densities, 0.7, steps, 12)
    assert (back.z - start.z).abs().max() < 1e-10
    assert (returned + p).abs().max() < 1e-10


def test_leapfrog_preserves_volume():
    """Determinant of the map (z, p) → (z', p'), by central differences."""
    with seeded(0):
        model = mlp_vae((6,), 2, hidden=(8,), nonlinearity="tanh").double()
        x = torch.randint(0, 2, (1, 6)).double()
        place, h = torch.randn(4).double(), 1e-5
    densities = annealing_path(model, x, "prior").log_densities
    ends = torch.cat([place + h * torch.eye(4).double(), place - h * torch.eye(4).double()])
    z, p = ends[:, None, :2], ends[:, None, 2:]
    steps = torch.full((8, 1), 0.4).double()
    after, momentum = leapfrog(evaluate(densities, z), p, densities, 1.0, steps, 7)
    image = torch.cat([after.z, momentum], -1)[:, 0]
    jacobian = (image[:4] - image[4:]).T / (2 * h)
    assert (jacobian - torch.eye(4)).abs().max() > 0.1
    assert abs(jacobian.det().item() - 1) < 1e-8


def test_energy_error_is_of_second_order():
    def error(step_size: float, L: int) -> torch.Tensor:
        steps = torch.full((1, 1), step_size).double()
        state = evaluate(gaussian, torch.tensor([[[0.3, 0.4]]]).double())
        p = torch.tensor([[[1.0, -0.5]]]).double()
        before = 0.5 * p.square().sum() - state.log_density(1.0)
        state, p = leapfrog(state, p, gaussian, 1.0, steps, L)
        return (0.5 * p.square().sum() - state.log_density(1.0) - before).item()

    errors = [error(0.2 / 2**n, 5 * 2**n) for n in range(4)]
    ratios = [a / b for a, b in pairwise(errors)]
    assert ratios[-1] == pytest.approx(4, abs=0.05)


@pytest.mark.parametrize("step_size", [0.3, 0.9])
def test_a_gaussian_stays_what_it_is(step_size):
    n = 40_000
    with seeded(0):
        z = moved(gaussian, TARGET.sample((n, 1)), 4, step_size, 3).z[:, 0]
    white = torch.linalg.solve_triangular(TARGET.scale_tril, (z - TARGET.mean).T, upper=False)
    assert (white.mean(1) * math.sqrt(n)).abs().max() < 3.5
    second = white @ white.T / n - torch.eye(2)
    assert (second * math.sqrt(n) / (1 + torch.eye(2)).sqrt()).abs().max() < 3.5
    for unit in white:
        assert stats.kstest(unit.numpy(), "norm").pvalue > 1e-3


def test_chains_find_the_target_from_elsewhere():
    n = 10_000
    with seeded(1):
        z = moved(gaussian, BASE.sample((n, 1)), 40, 0.6, 5).z[:, 0]
    white = torch.linalg.solve_triangular(TARGET.scale_tril, (z - TARGET.mean).T, upper=False)
    assert (white.mean(1) * math.sqrt(n)).abs().max() < 3.5
    assert ((white.square().mean(1) - 1) * math.sqrt(n / 2)).abs().max() < 3.5


def test_tempered_density_is_left_invariant():
    model = LinearGaussian.instance_1()
    x, _ = model.sample(3, seed=0)
    f = model.tempered_posterior(x, 0.3)
    densities, n = annealing_path(model, x, "prior").log_densities, 20_000
    with seeded(2):
        z = moved(densities, f.sample((n,)), 3, 1.2, 3, beta=0.3).z
    white = torch.linalg.solve_triangular(f.scale_tril, (z - f.mean).unsqueeze(-1), upper=False)
    assert (white.mean(0) * math.sqrt(n)).abs().max() < 3.7
    assert ((white.square().mean(0) - 1) * math.sqrt(n / 2)).abs().max() < 3.7


def test_a_step_that_is_far_too_long_moves_no_one():
    with seeded(0):
        state = evaluate(curved(), torch.randn(50, 1, 1).double())
        after, info = hmc_step(state, draw_noise(state.z), curved(), 1.0, 1e6, 10)
    assert not info.accepted.any()
    assert info.acceptance.max() == 0
    for old, new in zip(state, after, strict=True):
        assert torch.equal(old, new)


def test_what_the_state_keeps_is_what_is_there():
    """Accepted or not, densities and gradients belong to z, so that nothing is evaluated again."""
    densities = curved()
    with seeded(0):
        state = moved(densities, torch.randn(200, 1, 1).double(), 3, 0.4, 4)
    for kept, fresh in zip(state, evaluate(densities, state.z), strict=True):
        torch.testing.assert_close(kept, fresh, rtol=1e-12, atol=1e-12)


class Counting:
    """A model that counts the passes through its decoder, and watches its weights' gradients."""

    def __init__(self) -> None:
        with seeded(0):
            self.inner = mlp_vae((6,), 2, hidden=(5,))
        self.forward = self.backward = self.weights = 0
        for weight in self.inner.parameters():
            weight.register_hook(self.watch)

    def watch(self, _: torch.Tensor) -> None:
        self.weights += 1

    def watch_z(self, _: torch.Tensor) -> None:
        self.backward += 1

    def prior(self) -> Distribution:
        return self.inner.prior()

    def decode(self, z: torch.Tensor) -> Distribution:
        self.forward += 1
        inner = z.clone()
        inner.register_hook(self.watch_z)
        return self.inner.decode(inner)

    def encode(self, x: torch.Tensor) -> Distribution:
        return self.inner.encode(x)


@pytest.mark.parametrize("path", ["prior", "posterior"])
@pytest.mark.parametrize("L", [1, 7])
def test_a_transition_costs_exactly_one_pass_and_back_per_step(path, L):
    model, x = Counting(), torch.ones(3, 6)
    densities = annealing_path(model, x, path).log_densities
    with evaluating(model), seeded(0):
        state = evaluate(densities, torch.randn(4, 3, 2))
        model.forward = model.backward = 0
        for beta in (0.1, 0.5, 0.9):  # another temperature costs nothing
            state, _ = hmc_step(state, draw_noise(state.z), densities, beta, 0.1, L)
    assert (model.forward, model.backward, model.weights) == (3 * L, 3 * L, 0)


def test_nan_region_is_never_entered_and_is_counted():
    """log r is NaN for z > 1: what remains is a standard normal cut off there."""

    def densities(z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        log_base = -0.5 * z.square().sum(-1)
        return log_base, torch.where(z[..., 0] > 1, torch.nan, 0.0) * z[..., 0]

    n, cut = 20_000, stats.truncnorm(-math.inf, 1)
    with seeded(0):
        start = torch.from_numpy(cut.rvs((n, 1, 1), random_state=0))
        state, divergent = evaluate(densities, start), 0
        for _ in range(5):
            state, info = hmc_step(state, draw_noise(state.z), densities, 0.5, 0.7, 3)
            assert not (info.divergent & info.accepted).any()
            assert (info.acceptance[info.divergent] == 0).all()
            divergent += int(info.divergent.sum())
    assert divergent > n / 10
    assert state.z.max() <= 1
    assert stats.kstest(state.z.flatten().numpy(), cut.cdf).pvalue > 1e-3


def test_latents_of_any_rank_move_alike():
    def flat(z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return -0.5 * z.square().sum(-1), -(z**4).sum(-1)

    def deep(z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return flat(z.flatten(2))

    with seeded(0):
        z = torch.randn(20, 3, 6)
        noise = draw_noise(z)
    reshaped = Noise(noise.momentum.reshape(20, 3, 2, 3), noise.shrinkage, noise.log_uniform)
    a, info_a = hmc_step(evaluate(flat, z), noise, flat, 0.5, 0.4, 3)
    b, info_b = hmc_step(evaluate(deep, z.reshape(20, 3, 2, 3)), reshaped, deep, 0.5, 0.4, 3)
    assert torch.equal(a.z.reshape(20, 3, 2, 3), b.z)
    assert torch.equal(info_a.accepted, info_b.accepted)


def test_a_decoder_that_ignores_z_has_no_gradient():
    def densities(z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return -0.5 * z.square().sum(-1), torch.full(z.shape[:2], -3.0)

    state = evaluate(densities, torch.ones(2, 1, 3))
    assert torch.equal(state.grad_ratio, torch.zeros(2, 1, 3))
    assert torch.equal(state.gradient(0.5), -torch.ones(2, 1, 3))
