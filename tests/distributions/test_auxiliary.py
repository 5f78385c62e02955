"""The auxiliary-variable flow: Jacobians, and that any r(v|x, z) keeps weights unbiased."""

import pytest
import torch
from torch import nn

from elboscope.core import seeded
from elboscope.distributions import AuxiliaryFlow, AuxiliaryPosterior, diagonal_gaussian

DOUBLE = torch.float64


def net(d_in, d_out, scale):
    layers = nn.Sequential(nn.Linear(d_in, 12), nn.ELU(), nn.Linear(12, d_out)).double()
    with torch.no_grad():
        for p in layers.parameters():
            p.normal_(0, scale * p.shape[-1] ** -0.5)
    return layers


def flow(d=2, c=3, T=2, scale=1.0, seed=0):
    with seeded(seed):
        steps = [[net(d + c, 2 * d, scale) for _ in range(T)] for _ in range(2)]
        return AuxiliaryFlow(steps[0], steps[1], net(d + c, 2 * d, scale), net(d + c, 2 * d, scale))


def posterior(d=2, c=3, B=3, scale=1.0):
    """q(z, v|x) with random networks, and its parameters but those of r."""
    with seeded(1):
        tensors = [nn.Parameter(torch.randn(B, k, dtype=DOUBLE)) for k in (d, d, c)]
    networks = flow(d, c, scale=scale)
    of_r = {id(p) for p in networks.reverse.parameters()}
    of_q = [p for p in networks.parameters() if id(p) not in of_r]
    mu, log_variance, h = tensors
    q = AuxiliaryPosterior(diagonal_gaussian(mu, 0.3 * log_variance - 1), networks, h)
    return q, [*tensors[:2], *of_q], h


def test_log_determinants_are_those_of_autograd_and_the_inverse_inverts():
    q, _, h = posterior(d=4)
    with seeded(2):
        z0, v0 = torch.randn(2, 3, 4, dtype=DOUBLE).unbind(0)
    z, v, log_det = q.flow(z0, v0, h)
    back = q.flow.inverse(z, v, h)
    for mine, expected in zip(back, (z0, v0, -log_det), strict=True):
        torch.testing.assert_close(mine, expected, atol=1e-10, rtol=0)
    assert bool((log_det < 0).all())  # each gate shrinks
    for n in range(3):

        def joint(zv, n=n):
            return torch.cat(q.flow(zv[:4], zv[4:], h[n])[:2])

        J = torch.autograd.functional.jacobian(joint, torch.cat([z0[n], v0[n]]))
        assert abs(J.slogdet().logabsdet - log_det[n]) < 1e-10


def test_one_step_is_the_published_one():
    """v' = v ⊙ σ(s₁) + m₁ given (z, h), then z' = z ⊙ σ(s₂) + m₂ given (v', h)."""
    one = flow(d=2, c=3, T=1)
    with seeded(3):
        z, v, h = (torch.randn(k, dtype=DOUBLE) for k in (2, 2, 3))
    m1, s1 = one.move_v[0](torch.cat([z, h])).chunk(2)
    v_new = v * s1.sigmoid() + m1
    m2, s2 = one.move_z[0](torch.cat([v_new, h])).chunk(2)
    found = one(z, v, h)
    expected = (z * s2.sigmoid() + m2, v_new, (s1.sigmoid() * s2.sigmoid()).log().sum())
    for mine, value in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, value)


def test_the_joint_density_integrates_to_one():
    """On a 2-D grid of one z and one v."""
    q, _, h = posterior(d=1, B=1, scale=0.7)
    axis = torch.linspace(-12, 12, 601, dtype=DOUBLE)
    z, v = (t[:, None, None] for t in torch.cartesian_prod(axis, axis).unbind(1))
    with torch.no_grad():
        z0, rest = q.flow.traced(z, v, h)
        mass = (q.base.log_prob(z0) + rest).exp().sum() * (axis[1] - axis[0]) ** 2
    assert abs(mass - 1) < 1e-3


def test_value_is_joint_density_minus_reverse_density():
    q, _, h = posterior()
    seen = {}
    q.flow.register_forward_hook(lambda m, a, out: seen.update(z=out[0], v=out[1]))
    for freeze in (False, True):
        with seeded(4):
            z, value = q.rsample_and_log_prob(torch.Size((5,)), freeze=freeze)
        assert torch.equal(z, seen["z"])
        z0, rest = q.flow.traced(z, seen["v"], h)
        log_r = q.flow.back(z, h).log_prob(seen["v"])
        torch.testing.assert_close(value, q.base.log_prob(z0) + rest - log_r)


@pytest.mark.parametrize("r_seed", [5, 6])
def test_any_reverse_model_keeps_the_weights_unbiased(r_seed):
    """E exp(log f(z) − value) = ∫ f = 1 for a density f, whatever r: z-scores of 3 datapoints."""
    q, _, _ = posterior(scale=0.3)
    q.flow.reverse = flow(scale=0.3, seed=r_seed).reverse
    with torch.no_grad():
        q.flow.reverse[-1].bias[2:] -= 3.5  # r narrower than q(v|z): weights of finite variance
    with seeded(7), torch.no_grad():
        z, value = q.rsample_and_log_prob(torch.Size((40_000,)))
        spread = z.std(0)
        f = torch.distributions.Independent(torch.distributions.Normal(z.mean(0), 0.7 * spread), 1)
        w = (f.log_prob(z) - value).exp()
    error = w.std(0) / 200
    assert error.max() < 0.05
    assert ((w.mean(0) - 1) / error).abs().max() < 4
    assert bool((w.log().mean(0) < 0).all())  # and so E log w is a lower bound on log 1


def test_frozen_density_keeps_the_gradient_of_the_reverse_model():
    q, parameters, _ = posterior()
    reverse = list(q.flow.reverse.parameters())
    gradients = {}
    for freeze in (False, True):
        with seeded(8):
            _, value = q.rsample_and_log_prob(torch.Size((6,)), freeze=freeze)
        everything = [*reverse, *parameters]
        gradients[freeze] = torch.autograd.grad(value.sum(), everything, retain_graph=True)
    n = len(reverse)
    for live, frozen in zip(gradients[False][:n], gradients[True][:n], strict=True):
        torch.testing.assert_close(live, frozen)
    assert any((a - b).abs().max() > 0.1 for a, b in zip(*gradients.values(), strict=True))


def test_frozen_and_live_gradients_agree_in_expectation():
    q, parameters, h = posterior()
    everything, means = [*parameters, h], []
    for batch in range(64):
        with seeded(batch):
            _, live = q.rsample_and_log_prob(torch.Size((256,)))
        with seeded(batch):
            _, frozen = q.rsample_and_log_prob(torch.Size((256,)), freeze=True)
        score = torch.autograd.grad((live - frozen).mean(), everything, retain_graph=True)
        means.append(torch.cat([g.flatten() for g in score]))
    g = torch.stack(means)
    moving = g.std(0) > 1e-12
    z = (g.mean(0) / (g.std(0) / 8))[moving]
    assert moving.sum() > 100
    assert z.abs().max() < 5
    assert z.square().mean() < 2


def test_sticking_the_landing_gradient_of_q_is_zero_when_q_is_the_target():
    """The target is q(z, v|x) itself with the r in place: log w = 0 for every draw."""
    q, parameters, h = posterior()
    fixed = h.detach()
    q = AuxiliaryPosterior(q.base, q.flow, fixed)
    target, _, _ = posterior()  # the same numbers, other parameters
    for p in target.flow.parameters():
        p.requires_grad_(False)
    seen = {}
    q.flow.register_forward_hook(lambda m, a, out: seen.update(v=out[1]))
    sizes = {}
    for freeze in (True, False):
        with seeded(9):
            z, value = q.rsample_and_log_prob(torch.Size((6,)), freeze=freeze)
        z0, rest = target.flow.traced(z, seen["v"], fixed)
        base = diagonal_gaussian(target.base.mean.detach(), target.base.variance.log().detach())
        joint = base.log_prob(z0) + rest
        log_w = joint - q.flow.back(z, fixed).log_prob(seen["v"]) - value
        torch.testing.assert_close(log_w, torch.zeros_like(log_w), atol=1e-9, rtol=0)
        grads = torch.autograd.grad(log_w.sum(), parameters, retain_graph=True)
        sizes[freeze] = max(g.abs().max().item() for g in grads)
    assert sizes[True] < 1e-9
    assert sizes[False] > 0.1


def test_density_and_mean_of_z_are_not_implemented():
    q, _, _ = posterior()
    with pytest.raises(NotImplementedError, match="no density of z alone"):
        q.log_prob(q.sample())
    with pytest.raises(NotImplementedError):
        _ = q.mean
    with seeded(10):
        drawn = q.sample((4,))
    with seeded(10):
        z, _ = q.rsample_and_log_prob(torch.Size((4,)))
    assert torch.equal(drawn, z)
