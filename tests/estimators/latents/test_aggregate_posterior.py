"""The blocked matrix products against the literal formula, family by family."""

import math
import subprocess
import sys

import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal, Uniform

from elboscope.core import ContractError, evaluating, seeded
from elboscope.estimators import (
    DiagonalPosteriors,
    FullPosteriors,
    encode_posteriors,
    log_aggregate_posterior,
    log_marginal_posteriors,
    marginal_kl,
)
from elboscope.estimators.inputs import prepared
from elboscope.estimators.latents.aggregate import default_num_draws
from elboscope.models import LinearGaussian, RealNVP, mlp_vae

from ..likelihood.test_lower_bound import Flowing


def literal(q: Distribution, z: Tensor) -> Tensor:
    """log q_N by the broadcast formula, float64, one z at a time."""
    N = q.batch_shape[0]
    return torch.stack([q.log_prob(row).logsumexp(0) for row in z]) - math.log(N)


def diagonal(N: int, d: int, *, spread: float = 1.0, least: float = 0.05) -> DiagonalPosteriors:
    with seeded(0):
        mu = spread * torch.randn(N, d, dtype=torch.float64) + 3
        return DiagonalPosteriors(mu, least + 0.5 * torch.rand(N, d, dtype=torch.float64))


@pytest.mark.parametrize("spread", [0.1, 1.0], ids=["overlapping", "separated"])
@pytest.mark.parametrize("own", [True, False], ids=["own", "foreign"])
def test_diagonal_agrees_with_the_literal_formula(spread: float, own: bool) -> None:
    q = diagonal(2500, 50, spread=spread)
    index = torch.arange(0, 2500, 50)
    with seeded(1):
        z = q.draw(index)
    truth = literal(Independent(Normal(q.mu, q.sigma), 1), z)
    found = log_aggregate_posterior(z, q, index if own else None)
    assert (found - truth).abs().max() < 1e-8


def test_full_covariance_agrees_with_the_literal_formula() -> None:
    with seeded(0):
        mu = torch.randn(700, 6).double()
        L = 0.3 * torch.randn(700, 6, 6).double().tril(-1)
        L = L + torch.diag_embed(0.1 + torch.rand(700, 6).double())
        q, index = FullPosteriors(mu, L), torch.arange(0, 700, 7)
        z = q.draw(index)
    truth = literal(MultivariateNormal(mu, scale_tril=L), z)
    assert (log_aggregate_posterior(z, q, index) - truth).abs().max() < 1e-9
    assert (log_aggregate_posterior(z, q) - truth).abs().max() < 1e-9


def test_flow_is_evaluated_component_by_component() -> None:
    exact = LinearGaussian.instance_1()
    x, _ = exact.sample(300, seed=0)
    model = Flowing(exact)
    with evaluating(model), seeded(0):
        flow = encode_posteriors(model, prepared(model, x, None))
        gaussian = encode_posteriors(exact, prepared(exact, x, None))
        index = torch.arange(300)
        z = flow.draw(index)
        difference = log_aggregate_posterior(z, flow, index) - log_aggregate_posterior(z, gaussian)
    assert type(flow).__name__ == "OtherPosteriors"
    assert difference.abs().max() < 1e-10


def test_tiny_scales_fall_back_to_differences() -> None:
    q = diagonal(300, 20, least=1e-7)
    q = DiagonalPosteriors(q.mu, q.sigma * 1e-7)
    z = q.mu[:40] + 3 * q.sigma[:40]
    truth = literal(Independent(Normal(q.mu, q.sigma), 1), z)
    assert (log_aggregate_posterior(z, q) - truth).abs().max() < 1e-6


def test_impossible_components_in_the_first_blocks_lose_nothing() -> None:
    class Boxes(Flowing):
        def encode(self, x: Tensor) -> Distribution:
            low = x[:, :1]
            return Independent(Uniform(low, low + 1, validate_args=False), 1, validate_args=False)

    model = Boxes(LinearGaussian.conjugate())
    x = torch.full((3000, 1), 5.0, dtype=torch.float64)
    x[-1] = 0.0
    q = encode_posteriors(model, prepared(model, x, None))
    z = torch.full((1000, 1), 0.5, dtype=torch.float64)
    assert q.block_size(1000) < 1000
    assert (log_aggregate_posterior(z, q) + math.log(3000)).abs().max() < 1e-12
    assert bool((log_aggregate_posterior(z + 2, q) == -math.inf).all())


def test_far_components_in_the_first_block_lose_nothing() -> None:
    mu = torch.full((3000, 1), 1e5, dtype=torch.float64)
    mu[-1] = 0.0
    q = DiagonalPosteriors(mu, torch.ones_like(mu))
    found = log_aggregate_posterior(torch.tensor([[40.0]]).double(), q)
    expected = -800 - 0.5 * math.log(2 * math.pi) - math.log(3000)
    assert found.item() == pytest.approx(expected, abs=1e-9)


def test_marginals_agree_with_the_literal_formula() -> None:
    q, index = diagonal(1500, 3), torch.arange(0, 1500, 15)
    with seeded(1):
        z = q.draw(index)
    found = log_marginal_posteriors(z, q, index)
    for j in range(3):
        truth = literal(Normal(q.mu[:, j], q.sigma[:, j]), z[:, j])
        assert (found[:, j] - truth).abs().max() < 1e-10


def test_latent_images_are_flattened() -> None:
    class Image:
        def prior(self) -> Distribution:
            zero = torch.zeros(2, 3, 3)
            return Independent(Normal(zero, zero + 1), 3)

        def decode(self, z: Tensor) -> Distribution:
            return Independent(Normal(z, torch.ones(())), 3)

        def encode(self, x: Tensor) -> Distribution:
            return Independent(Normal(x / 2, torch.full_like(x, 0.7)), 3)

    with seeded(0):
        x = torch.randn(50, 2, 3, 3)
        q = encode_posteriors(Image(), prepared(Image(), x, None))
        z = q.draw(torch.arange(50))
    truth = literal(Image().encode(x.double()), z.reshape(50, 2, 3, 3))
    assert (log_aggregate_posterior(z, q) - truth).abs().max() < 1e-6  # 0.7 in float32


def test_posterior_without_density_is_refused_by_name() -> None:
    class Implicit(Distribution):
        def __init__(self, x: Tensor) -> None:
            super().__init__(x.shape[:1], x.shape[1:], validate_args=False)
            self.x = x

        def sample(self, shape: tuple[int, ...] = ()) -> Tensor:
            return self.x.expand(*shape, *self.x.shape).clone()

    class Model(Flowing):
        def encode(self, x: Tensor) -> Distribution:
            return Implicit(x[:, :2])

    model = Model(LinearGaussian.instance_1())
    x, _ = model.inner.sample(30, seed=0)
    q = encode_posteriors(model, prepared(model, x, None))
    with pytest.raises(ContractError, match="Implicit, which can only be sampled"):
        log_aggregate_posterior(q.draw(torch.arange(5)), q)


def test_a_flow_gets_a_thousand_draws_however_many_its_components() -> None:
    model = Flowing(LinearGaussian.instance_1())
    for N, S in ((400, 10_000), (20_000, 1000), (60_000, 1000)):
        q = encode_posteriors(model, prepared(model, torch.zeros(N, 3).double(), None))
        assert default_num_draws(q) == S


def test_real_nvp_is_inverted_for_every_pair() -> None:
    """Against each posterior asked alone; its own draws are scored without rounding trouble."""
    with seeded(0):
        model = mlp_vae((6,), 3, hidden=(8,), posterior=RealNVP(hidden=8, context=4)).double()
        for p in model.parameters():
            p.data += 0.2 * torch.randn_like(p)
        x = torch.rand(40, 6).double().round()
        with evaluating(model):
            q = encode_posteriors(model, prepared(model, x, None))
            index = torch.arange(40)
            z = q.draw(index)
            alone = torch.stack([model.encode(x[n : n + 1]).log_prob(z) for n in range(40)])
            found = log_aggregate_posterior(z, q, index)
            kl = marginal_kl(model, x, num_draws=4000, seed=0)
    assert (found - (alone.logsumexp(0) - math.log(40))).abs().max() < 1e-9
    assert "sampled average KL" in kl.method
    assert kl.mixture_size == kl.settings["mixture_size"] == 40


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_pairs() -> None:
    """N = S = 20 000, d = 50: the matrix of pairs alone would be 3 GiB."""
    code = """
import resource, torch
from elboscope.estimators import DiagonalPosteriors, log_aggregate_posterior
q = DiagonalPosteriors(torch.randn(20_000, 50).double(), 0.5 + torch.rand(20_000, 50).double())
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
log_aggregate_posterior(q.mu, q, torch.arange(20_000))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(ran.stdout) / 2**20 < 0.25
