"""The losses of a game, at their known optima and against literal formulas."""

from __future__ import annotations

import math

import pytest
import torch

import elboscope as es
from elboscope.core import InputError, seeded
from elboscope.objectives import (
    discriminator_loss,
    gradient_penalty,
    maximum_mean_discrepancy,
    non_saturating_loss,
    ratio_accuracy,
    reverse_kl_loss,
    saturating_loss,
    wasserstein_critic_loss,
)

JS = 0.11142148  # of N(0, 1) and N(1, 1), in nats


def two_gaussians(n: int = 400_000) -> tuple[torch.Tensor, torch.Tensor]:
    with seeded(0):
        return torch.randn(n, dtype=torch.float64), 1 + torch.randn(n, dtype=torch.float64)


def optimal_logit(x):
    return 0.5 - x


def test_the_bayes_discriminator_has_the_cross_entropy_of_ln_2_less_js():
    real, fake = two_gaussians()
    t, u = optimal_logit(real), optimal_logit(fake)
    each = torch.cat([torch.log1p(torch.exp(-t)), torch.log1p(torch.exp(u))])
    error = each.std().item() / math.sqrt(len(each))
    assert abs(discriminator_loss(t, u).item() / 2 - (math.log(2) - JS)) < 4 * error
    worse = [discriminator_loss(a * t, a * u) for a in (0.8, 1.25)]
    assert all(loss > discriminator_loss(t, u) + 1e-3 for loss in worse)


def test_its_mean_logit_under_the_fakes_is_the_kl():
    _, fake = two_gaussians()
    t = optimal_logit(fake)
    error = t.std().item() / math.sqrt(len(t))
    assert abs(reverse_kl_loss(t).item() - 0.5) < 4 * error


def test_the_reverse_kl_loss_with_a_frozen_optimal_logit_has_the_gradient_of_the_kl():
    """q = N(m, s²), p = N(0, 1): ∂KL/∂m = m and ∂KL/∂s = s − 1/s, by the same noise."""
    m = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    s = torch.tensor(0.6, dtype=torch.float64, requires_grad=True)
    with seeded(1):
        z = m + s * torch.randn(400_000, dtype=torch.float64)
    frozen_m, frozen_s = m.item(), s.item()
    t = 0.5 * ((z - frozen_m) / frozen_s) ** 2 - 0.5 * z**2 + math.log(frozen_s)
    reverse_kl_loss(t).backward()
    assert m.grad.item() == pytest.approx(0.7, abs=0.02)
    assert s.grad.item() == pytest.approx(0.6 - 1 / 0.6, abs=0.02)


def test_losses_are_the_logarithms_of_probabilities_and_stay_finite_where_these_do_not():
    t = torch.tensor([-2.0, 0.3, 1.7], dtype=torch.float64)
    C = torch.sigmoid(t)
    assert non_saturating_loss(t).item() == pytest.approx(-C.log().mean().item(), rel=1e-14)
    assert saturating_loss(t).item() == pytest.approx((1 - C).log().mean().item(), rel=1e-14)
    both = reverse_kl_loss(t).item()
    assert both == pytest.approx((-C.log() + (1 - C).log()).mean().item(), rel=1e-14)
    extreme = torch.tensor([-1e4])
    assert non_saturating_loss(extreme).item() == 1e4
    assert discriminator_loss(extreme, -extreme).item() == 2e4


def test_gradients_saturate_where_the_names_say_so():
    t = torch.tensor([-20.0], dtype=torch.float64, requires_grad=True)
    (weak,) = torch.autograd.grad(saturating_loss(t), t)
    (strong,) = torch.autograd.grad(non_saturating_loss(t), t)
    assert abs(weak.item()) < 1e-8
    assert strong.item() == pytest.approx(-1.0)


def test_two_fakes_of_weight_one_move_the_optimum_and_of_weight_half_do_not():
    """All three alike: C = 1/3 with weight 1, ½ with weight ½."""
    for weight, best in ((1.0, -math.log(2)), (0.5, 0.0)):
        t = torch.zeros(1, dtype=torch.float64, requires_grad=True)
        with torch.no_grad():
            t.fill_(best)
        discriminator_loss(t, t, t, fake_weight=weight).backward()
        assert abs(t.grad.item()) < 1e-12


def test_accuracy_counts_ties_half():
    zero = torch.zeros(4)
    assert ratio_accuracy(zero, zero) == 0.5
    assert ratio_accuracy(zero + 1, zero - 1) == 1.0
    real, fake = two_gaussians()
    found = ratio_accuracy(optimal_logit(real), optimal_logit(fake)).item()
    assert found == pytest.approx(0.5 * (1 + math.erf(0.5 / math.sqrt(2))), abs=0.003)


def test_the_best_critic_of_shifted_gaussians_has_no_penalty_and_gives_the_distance():
    shift = torch.tensor([0.3, -0.4, 1.2], dtype=torch.float64)
    unit = shift / shift.norm()
    with seeded(0):
        fake = torch.randn(200_000, 3, dtype=torch.float64)
        real = torch.randn(200_000, 3, dtype=torch.float64) + shift

    def critic(x):
        return x @ unit

    assert gradient_penalty(critic, real[:1000], fake[:1000]).item() < 1e-20
    distance = -wasserstein_critic_loss(critic(real), critic(fake)).item()
    assert distance == pytest.approx(shift.norm().item(), abs=4 * math.sqrt(2 / 200_000))
    steep = gradient_penalty(lambda x: 2.5 * critic(x), real[:10], fake[:10])
    assert steep.item() == pytest.approx(1.5**2, rel=1e-9)


def test_the_penalty_is_of_each_pair_at_its_own_point_and_reaches_the_critic():
    scale = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    real, fake = torch.ones(3, 1, 2, dtype=torch.float64), torch.zeros(3, 1, 2, dtype=torch.float64)
    alpha = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)

    def critic(x):  # slope scale · (2x, 2x), norm scale · 2 sqrt(2) x
        return scale * x.square().flatten(1).sum(1)

    found = gradient_penalty(critic, real, fake, alpha)
    norms = 0.5 * 2 * math.sqrt(2) * alpha
    # at the fake end the norm is the square root of its guard
    assert found.item() == pytest.approx((norms - 1).square().mean().item(), abs=1e-5)
    found.backward()
    slope = (2 * (norms - 1) * 2 * math.sqrt(2) * alpha).mean().item()
    assert scale.grad.item() == pytest.approx(slope, rel=1e-6)


def test_a_flat_critic_has_a_gradient_that_is_a_number():
    weight = torch.zeros(2, requires_grad=True)
    gradient_penalty(lambda x: x @ weight, torch.zeros(3, 2), torch.ones(3, 2)).backward()
    assert bool(torch.isfinite(weight.grad).all())


def test_mmd_is_the_mean_over_pairs_written_out():
    with seeded(0):
        z, y = torch.randn(5, 3, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)

    def k(a, b):
        return sum(6 * s / (6 * s + float(((a - b) ** 2).sum())) for s in (0.1, 1.0))

    zz = [k(a, b) for i, a in enumerate(z) for j, b in enumerate(z) if i != j]
    yy = [k(a, b) for i, a in enumerate(y) for j, b in enumerate(y) if i != j]
    zy = [k(a, b) for a in z for b in y]
    truth = sum(zz) / len(zz) + sum(yy) / len(yy) - 2 * sum(zy) / len(zy)
    found = maximum_mean_discrepancy(z, y, scales=(0.1, 1.0))
    assert found.item() == pytest.approx(truth, rel=1e-12)


def test_mmd_is_unbiased_for_equal_and_large_for_different_samples():
    with seeded(0):
        draws = [torch.randn(2, 50, 2, dtype=torch.float64) for _ in range(300)]
    found = torch.stack([maximum_mean_discrepancy(a, b) for a, b in draws])
    assert abs(found.mean().item()) < 4 * found.std().item() / math.sqrt(300)
    assert bool((found < 0).any())  # of a biased statistic none would be
    shifted = torch.stack([maximum_mean_discrepancy(a + 1, b) for a, b in draws])
    assert shifted.min() > found.max()


def test_mistakes_are_named():
    with pytest.raises(InputError, match=r"logits of one source or more, weight ≥ 0; got none"):
        discriminator_loss(torch.zeros(1))
    with pytest.raises(InputError, match=r"fake: expected shape \(2, 3\); got \(2, 4\)"):
        gradient_penalty(lambda x: x.sum(1), torch.zeros(2, 3), torch.zeros(2, 4))
    with pytest.raises(InputError, match="two draws of each side; got 1 and 3"):
        es.objectives.maximum_mean_discrepancy(torch.zeros(1, 2), torch.zeros(3, 2))
