"""Flow posteriors: Jacobians, inverses and densities against autograd and quadrature."""

import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.distributions import Independent, Normal

from elboscope.core import InputError, seeded
from elboscope.distributions import (
    FlowPosterior,
    PlanarPosterior,
    coupling_flow,
    detached,
    diagonal_gaussian,
    full_covariance_gaussian,
    inverse_autoregressive_flow,
    masked_autoregressive_flow,
)

DOUBLE = torch.float64
BUILDERS = (coupling_flow, inverse_autoregressive_flow, masked_autoregressive_flow)
flows = pytest.mark.parametrize("build", BUILDERS, ids=lambda b: b.__name__)


def randomised(module, scale=0.5):
    """The flow with random weights in every layer: at first it is the identity."""
    with torch.no_grad():
        for p in module.parameters():
            p.normal_(0, scale / max(1, p.shape[-1]) ** 0.5 if p.ndim > 1 else scale)
    return module


def flow_posterior(build, d=2, B=3, c=4, scale=0.5, context=True):
    """q(z|x) with random networks, and everything that it has parameters in."""
    with seeded(0):
        flow = randomised(build(d, c if context else 0, 2, 16).double(), scale)
        mu = nn.Parameter(0.5 * torch.randn(B, d, dtype=DOUBLE))
        log_variance = nn.Parameter(0.3 * torch.randn(B, d, dtype=DOUBLE))
        h = nn.Parameter(torch.randn(B, c, dtype=DOUBLE)) if context else None
    q = FlowPosterior(diagonal_gaussian(mu, log_variance), flow, h)
    return q, [mu, log_variance, *([] if h is None else [h]), *flow.parameters()]


def planar_posterior(d=2, B=3, T=4, scale=1.0):
    with seeded(1):
        tensors = [
            nn.Parameter(scale * torch.randn(*shape, dtype=DOUBLE))
            for shape in ((B, d), (B, d), (B, T, d), (B, T, d), (B, T))
        ]
    mu, log_variance, u, w, b = tensors
    return PlanarPosterior(diagonal_gaussian(mu, 0.3 * log_variance), u, w, b), tensors


@flows
def test_log_determinants_are_those_of_autograd_and_the_inverse_inverts(build):
    q, _ = flow_posterior(build, d=5)
    with seeded(2):
        z0 = torch.randn(3, 5, dtype=DOUBLE)
    z, log_det = q.flow(z0, q.context)
    back, log_det_back = q.flow.inverse(z, q.context)
    torch.testing.assert_close(back, z0, atol=1e-10, rtol=0)
    torch.testing.assert_close(log_det_back, -log_det, atol=1e-10, rtol=0)
    assert (z - z0).abs().max() > 0.1
    for n in range(3):
        h = q.context[n]
        J = torch.autograd.functional.jacobian(lambda y, h=h: q.flow(y, h)[0], z0[n])
        assert abs(J.slogdet().logabsdet - log_det[n]) < 1e-10
        K = torch.autograd.functional.jacobian(lambda y, h=h: q.flow.inverse(y, h)[0], z[n])
        assert abs(K.slogdet().logabsdet - log_det_back[n]) < 1e-10


def grid(n=301, reach=12.0):
    axis = torch.linspace(-reach, reach, n, dtype=DOUBLE)
    return torch.cartesian_prod(axis, axis), (axis[1] - axis[0]) ** 2


@flows
@pytest.mark.parametrize("context", [True, False])
def test_densities_integrate_to_one(build, context):
    q, _ = flow_posterior(build, scale=0.25, context=context)
    z, area = grid()
    with torch.no_grad():
        mass = q.log_prob(z[:, None]).exp().sum(0) * area
    torch.testing.assert_close(mass, torch.ones(3, dtype=DOUBLE), atol=1e-4, rtol=0)


@flows
def test_a_draw_scores_itself_as_log_prob_does(build):
    q, _ = flow_posterior(build, d=3)
    for freeze in (False, True):
        with seeded(3):
            z, log_q = q.rsample_and_log_prob(torch.Size((7,)), freeze=freeze)
        assert (z.shape, q.batch_shape, q.event_shape) == ((7, 3, 3), (3,), (3,))
        torch.testing.assert_close(log_q, q.log_prob(z), atol=1e-10, rtol=0)
    with seeded(3):
        assert torch.equal(z, q.sample((7,)))


def test_the_flow_begins_as_the_diagonal_gaussian():
    for build in BUILDERS:
        q, _ = flow_posterior(lambda *a, build=build: build(*a), scale=0.0)
        z = q.sample((5,))
        torch.testing.assert_close(q.log_prob(z), q.base.log_prob(z))


def test_autoregressive_flows_move_a_coordinate_given_the_ones_before():
    with seeded(4):
        one = randomised(inverse_autoregressive_flow(4, 0, 1, 16).double())
        z0 = torch.randn(4, dtype=DOUBLE)
    J = torch.autograd.functional.jacobian(lambda z: one(z, None)[0], z0)
    assert torch.equal(J.triu(1), torch.zeros_like(J))
    assert (J.tril(-1) != 0).sum() == 6


# What freezing stops.


def posteriors():
    return [flow_posterior(b) for b in BUILDERS] + [planar_posterior()]


@pytest.mark.parametrize("which", range(4))
def test_frozen_density_reaches_parameters_through_z_alone(which):
    """And d log q/dz is the density's own: of log_prob at fixed parameters where there is one."""
    q, parameters = posteriors()[which]
    with seeded(5):
        z, frozen = q.rsample_and_log_prob(torch.Size((4,)), freeze=True)
    (by_z,) = torch.autograd.grad(frozen.sum(), z, retain_graph=True)
    through_z = torch.autograd.grad(z, parameters, by_z, retain_graph=True)
    direct = torch.autograd.grad(frozen.sum(), parameters, retain_graph=True)
    for mine, expected in zip(direct, through_z, strict=True):
        torch.testing.assert_close(mine, expected)
    if not isinstance(q, PlanarPosterior):
        leaf = z.detach().requires_grad_()
        (expected,) = torch.autograd.grad(q.log_prob(leaf).sum(), leaf)
        torch.testing.assert_close(by_z, expected)


@pytest.mark.parametrize("which", range(4))
def test_the_score_has_mean_zero_so_that_frozen_and_live_gradients_agree_in_expectation(which):
    """Σ over draws of (live − frozen) is the score: z-scores over 64 batches of 256 draws."""
    q, parameters = posteriors()[which]
    means = []
    for batch in range(64):
        with seeded(batch):
            _, live = q.rsample_and_log_prob(torch.Size((256,)))
        with seeded(batch):
            _, frozen = q.rsample_and_log_prob(torch.Size((256,)), freeze=True)
        score = torch.autograd.grad((live - frozen).mean(), parameters, retain_graph=True)
        means.append(torch.cat([g.flatten() for g in score]))
    g = torch.stack(means)
    moving = g.std(0) > 1e-12
    z = (g.mean(0) / (g.std(0) / 8))[moving]
    assert moving.sum() > 10
    assert z.abs().max() < 5
    assert z.square().mean() < 2


@flows
def test_sticking_the_landing_gradient_is_zero_when_q_is_the_target(build):
    q, parameters = flow_posterior(build)
    target = detached(q)
    assert target.log_prob(q.sample((3,))).requires_grad is False
    sizes = {}
    for freeze in (True, False):
        with seeded(6):
            z, log_q = q.rsample_and_log_prob(torch.Size((8,)), freeze=freeze)
        grads = torch.autograd.grad(
            (target.log_prob(z) - log_q).sum(), parameters, retain_graph=True
        )
        sizes[freeze] = max(g.abs().max().item() for g in grads)
    assert sizes[True] < 1e-10
    assert sizes[False] > 0.1


@flows
def test_a_posterior_built_without_gradients_is_scored_without_them(build):
    live, parameters = flow_posterior(build)
    with torch.no_grad():
        q = FlowPosterior(detached(live.base), live.flow, live.context.detach())
    z = q.sample((4,)).requires_grad_()
    grads = torch.autograd.grad(q.log_prob(z).sum(), [z, *parameters], allow_unused=True)
    assert grads[1:] == (None,) * len(parameters)
    assert grads[0].abs().min() > 0


# Planar flows.


def test_planar_determinants_are_those_of_autograd():
    q, _ = planar_posterior(d=5)
    with seeded(7):
        z = torch.randn(3, 5, dtype=DOUBLE)
    for t in range(4):
        J = torch.autograd.functional.jacobian(lambda y, t=t: q.step(t, y)[0], z)
        for n in range(3):
            assert abs(J[n, :, n].slogdet().logabsdet - q.step(t, z)[1][n]) < 1e-10
        formula = 1 + (q.w[:, t] * q.u_hat[:, t]).sum(-1) * (1 - q._h(t, z).square())
        torch.testing.assert_close(q.step(t, z)[1], formula.log())


@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_planar_steps_are_invertible_for_any_u(scale):
    """Along w a step is s ↦ s + wᵀû tanh(s + b): increasing, so found again by bisection."""
    q, _ = planar_posterior(B=20, scale=scale)
    w_u = (q.w * q.u_hat).sum(-1)
    assert bool((w_u > -1 - 1e-9).all())
    s = torch.linspace(-40, 40, 4001, dtype=DOUBLE)[:, None, None]
    mapped = s + w_u * (s + q.b).tanh()
    assert bool((mapped.diff(dim=0) >= -1e-9).all())
    z = q.base.sample()
    moved, log_det = q.step(0, z)
    assert bool(log_det.isfinite().all())
    target = (q.w[:, 0] * moved).sum(-1)
    low, high = torch.full_like(target, -1e5), torch.full_like(target, 1e5)
    for _ in range(120):
        middle = (low + high) / 2
        above = middle + w_u[:, 0] * (middle + q.b[:, 0]).tanh() > target
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    found = moved - q.u_hat[:, 0] * (low + q.b[:, 0]).tanh()[:, None]
    torch.testing.assert_close(found, z, atol=1e-5 * scale**2, rtol=0)


def test_planar_flow_without_u_or_w_is_the_base_and_its_gradients_are_finite():
    base = diagonal_gaussian(torch.zeros(3, 2), torch.zeros(3, 2))
    u, w = torch.zeros(3, 1, 2, requires_grad=True), torch.zeros(3, 1, 2, requires_grad=True)
    z, log_q = PlanarPosterior(base, u, w, torch.zeros(3, 1)).rsample_and_log_prob((5,))
    torch.testing.assert_close(log_q, base.log_prob(z))
    grads = torch.autograd.grad(log_q.sum() + z.sum(), [u, w])
    assert all(bool(g.isfinite().all()) for g in grads)


def test_planar_density_of_its_draws_integrates_to_one():
    """E_q[g(z)/q(z)] = ∫ g = 1 for a g inside the tails of q, in units of its own error."""
    q, _ = planar_posterior(B=1)
    with seeded(8), torch.no_grad():
        z, log_q = q.rsample_and_log_prob(torch.Size((40_000,)))
        centre = z.mean(0)
        g = Independent(Normal(centre, 0.5 * z.std(0)), 1)
        ratio = (g.log_prob(z) - log_q).exp()
    error = ratio.std(0) / 200
    assert ((ratio.mean(0) - 1) / error).abs() < 4
    assert error < 0.05


def test_planar_density_of_a_given_z_is_not_implemented():
    q, _ = planar_posterior()
    with pytest.raises(NotImplementedError, match="scores its own draws"):
        q.log_prob(q.sample())
    with pytest.raises(NotImplementedError):
        _ = q.mean


# A Gaussian with all correlations.


def test_full_covariance_is_that_of_its_factor_and_never_singular():
    with seeded(9):
        mu, factor = torch.randn(3, 4, dtype=DOUBLE), torch.randn(3, 4, 4, dtype=DOUBLE)
    factor[0] = 0
    factor[0].diagonal().fill_(-100.0)
    q = full_covariance_gaussian(mu, factor)
    L = factor.tril(-1) + torch.diag_embed(factor.diagonal(dim1=1, dim2=2).clamp(-7, 3).exp())
    torch.testing.assert_close(q.covariance_matrix, L @ L.mT)
    assert bool(q.log_prob(q.sample()).isfinite().all())
    z = q.sample((100_000,))
    torch.testing.assert_close(z[:, 1].T.cov(), L[1] @ L[1].T, rtol=0.05, atol=0.05)


def test_full_covariance_frozen_gradient_vanishes_at_the_target():
    from elboscope.core import sample_posterior

    with seeded(10):
        tensors = [torch.randn(3, 2, dtype=DOUBLE), torch.randn(3, 2, 2, dtype=DOUBLE)]
    mu, factor = (nn.Parameter(t) for t in tensors)

    class Model:
        def prior(self): ...
        def decode(self, z): ...
        def encode(self, x):
            return full_covariance_gaussian(mu, factor)

    target = detached(full_covariance_gaussian(mu, factor))
    sizes = {}
    for freeze in (True, False):
        with seeded(11):
            z, log_q = sample_posterior(Model(), torch.zeros(3, 1), 4, freeze=freeze)
        grads = torch.autograd.grad((target.log_prob(z) - log_q).sum(), [mu, factor])
        sizes[freeze] = max(g.abs().max().item() for g in grads)
    assert sizes[True] < 1e-10
    assert sizes[False] > 0.1


# Bad input, and what importing zuko leaves behind.


@flows
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1, 4), r"latent_dim: expected at least 2 for .*; got 1.*planar"),
        ((3, -1), "context: expected at least 0; got -1"),
        ((3, 4, 0), "num_steps: expected at least 1; got 0"),
        ((3, 4, 2, 0), "hidden: expected at least 1; got 0"),
    ],
)
def test_flows_that_cannot_be_are_refused(build, arguments, message):
    with pytest.raises(InputError, match=message):
        build(*arguments)
    assert build(3, 0) is not None


def test_events_of_several_axes_are_refused():
    base = diagonal_gaussian(torch.zeros(3, 2, 4), torch.zeros(3, 2, 4))
    with pytest.raises(InputError, match=r"expected event shape \(d,\).*got event shape \(2, 4\)"):
        FlowPosterior(base, coupling_flow(8))
    q = FlowPosterior(diagonal_gaussian(torch.zeros(3, 2), torch.zeros(3, 2)), coupling_flow(2))
    with pytest.raises(InputError, match=r"z: expected shape \(…, 2\); got \(3, 4\)"):
        q.log_prob(torch.zeros(3, 4))
    with pytest.raises(InputError, match=r"factor: expected a matrix of 2 × 2.*\(3, 4, 4\)"):
        full_covariance_gaussian(torch.zeros(3, 2), torch.zeros(3, 4, 4))


@pytest.mark.parametrize("before", [True, False])
def test_importing_zuko_leaves_the_validation_of_distributions_as_it_was(before):
    code = f"""
import torch, warnings
warnings.simplefilter("error")
torch.distributions.Distribution.set_default_validate_args({before})
from elboscope.distributions import FlowPosterior, coupling_flow, diagonal_gaussian
import sys
assert "zuko" not in sys.modules
q = FlowPosterior(diagonal_gaussian(torch.zeros(1, 2), torch.zeros(1, 2)), coupling_flow(2))
assert "zuko" in sys.modules
q.rsample_and_log_prob(torch.Size((3,)))
print(torch.distributions.Distribution._validate_args)
try:
    torch.distributions.Normal(0.0, -1.0)
    print("taken")
except ValueError:
    print("refused")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(before), "refused" if before else "taken"]
