"""Signal-to-noise ratios of encoder gradients: K = 1 and K → ∞ exactly, in between simulated."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from elboscope.core import InputError, seeded
from elboscope.models.exact.linear_gaussian import LinearGaussian
from elboscope.models.exact.linear_toys import elbo_gradient, iwae_snr_constant, path_gradient
from elboscope.models.exact.quadrature import line

x = torch.ones(1, 1, dtype=torch.float64)
MODEL = LinearGaussian.conjugate(sigma2=1.0, mean=0.3, variance=2 / 3)

# K: SNR of IWAE, SNR of DReG, the mean of either, the mean of STL.
SHEET = {
    1: (0.24495, 0.980, 0.400, 0.400),
    2: (0.1510, 1.111, 0.1604, 0.340),
    8: (0.0703, 2.17, 0.03408, 0.309),
    64: (0.0245, 6.16, 0.00409, 0.301),
    512: (None, 17.4, 0.00051, None),
}
IWAE_DIGITS, DREG_DIGITS = 4, {1: 3, 2: 3, 8: 2, 64: 2, 512: 1}


def draws(K: int, runs: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of IWAE, DReG and STL with respect to the mean, written out for this model."""
    mu, s2 = 0.3, 2 / 3
    with seeded(seed):
        u = torch.randn(K, runs, dtype=torch.float64)
    return gradients(mu + math.sqrt(s2) * u, mu, s2)


def gradients(z: Tensor, mu: float, s2: float) -> tuple[Tensor, Tensor, Tensor]:
    log_w = -0.5 * z**2 - 0.5 * (1 - z) ** 2 + 0.5 * (z - mu) ** 2 / s2
    w = log_w.softmax(0)
    total, path = 1 - 2 * z, 1 - 2 * z + (z - mu) / s2
    return (w * total).sum(0), (w**2 * path).sum(0), (w * path).sum(0)


def test_one_sample():
    total, path = elbo_gradient(MODEL, x), path_gradient(MODEL, x)
    assert total.mean.item() == pytest.approx(0.4, abs=1e-14)
    assert path.mean.item() == pytest.approx(0.4, abs=1e-14)
    assert total.snr.item() == pytest.approx(0.24495, abs=5.1e-6)
    assert path.snr.item() == pytest.approx(0.980, abs=5.1e-4)


def test_large_k_constant():
    assert iwae_snr_constant(MODEL, x) == pytest.approx(0.19404, abs=5.1e-6)


def test_path_gradient_has_no_noise_at_the_posterior():
    exact = LinearGaussian.instance_1().with_exact_posterior()
    data, _ = exact.sample(3, seed=0)
    assert path_gradient(exact, data).std.abs().max() < 1e-12
    assert elbo_gradient(exact, data).mean.abs().max() < 1e-12
    assert elbo_gradient(exact, data).std.min() > 0.5


def test_moments_are_those_of_autograd():
    model = LinearGaussian.instance_1().with_mistuned_posterior(0.2, 1.4)
    data, _ = model.sample(1, seed=0)
    with seeded(0):
        z = model.encode(data.expand(100_000, 3)).rsample()
    q = model.encode(data)
    for frozen, truth in ((False, elbo_gradient(model, data)), (True, path_gradient(model, data))):
        leaf = z.detach().requires_grad_()
        log_w = model.prior().log_prob(leaf) + model.decode(leaf).log_prob(data)
        log_w = log_w - (q.log_prob(leaf) if frozen else 0)
        (gradient,) = torch.autograd.grad(log_w.sum(), leaf, retain_graph=True)
        z_score = (gradient.mean(0) - truth.mean[0]) / (truth.std[0] / math.sqrt(len(z)))
        assert z_score.abs().max() < 3.5
        torch.testing.assert_close(gradient.std(0), truth.std[0].detach(), atol=0, rtol=0.012)


def test_two_samples_by_quadrature():
    u, _ = line(9.0, 1201)
    weight = (-0.5 * u**2).softmax(0)
    mass = weight[:, None] * weight
    z = 0.3 + math.sqrt(2 / 3) * torch.stack(torch.meshgrid(u, u, indexing="ij"))
    means, snrs = [], []
    for g in gradients(z, 0.3, 2 / 3):
        mean = (mass * g).sum()
        means.append(mean.item())
        snrs.append((mean.abs() / ((mass * g**2).sum() - mean**2).sqrt()).item())
    assert means[:2] == pytest.approx([0.1604, 0.1604], abs=5.1e-5)
    assert means[2] == pytest.approx(0.340, abs=5.1e-4)
    # The method sheet prints a simulated 0.1510 ± 0.0002; this is exact.
    assert snrs[0] == pytest.approx(0.15115, abs=5.1e-6)
    assert snrs[1] == pytest.approx(1.111, abs=5.1e-4)


@pytest.mark.parametrize(("K", "runs"), [(8, 400_000), (64, 100_000), (512, 20_000)])
def test_many_samples(K, runs):
    """IWAE's mean is DReG's, which is far less noisy: its SNR is |mean DReG|/sd IWAE."""
    iwae, dreg, stl = draws(K, runs)
    iwae_snr, dreg_snr, mean, stl_mean = SHEET[K]
    root = math.sqrt(runs)
    assert abs(dreg.mean() - mean) < 3.5 * dreg.std() / root + 5e-6
    assert abs(iwae.mean() - mean) < 3.5 * iwae.std() / root
    snr = (dreg.mean() / dreg.std()).item()
    # The relative error of a standard deviation is √((kurtosis − 1)/4R); of the mean 1/(SNR √R).
    kurtosis = (((dreg - dreg.mean()) / dreg.std()) ** 4).mean().item()
    error = snr * math.sqrt((kurtosis - 1) / (4 * runs) + 1 / (snr**2 * runs))
    assert abs(snr - dreg_snr) < 3.5 * error + 0.51 * 10.0 ** -DREG_DIGITS[K]
    if iwae_snr is not None:
        error = iwae_snr * math.hypot(1 / (snr * root), 0.9 / root)
        assert abs((dreg.mean() / iwae.std()).item() - iwae_snr) < 3.5 * error + 5.1e-5
    if stl_mean is not None:
        assert abs(stl.mean() - stl_mean) < 3.5 * stl.std() / root + 5.1e-4


def test_infinite_variance_has_no_constant():
    narrow = LinearGaussian.conjugate(mean=0.3, variance=0.1)
    with pytest.raises(InputError, match=r"finite weight variance; got .* Pareto index 0.80"):
        iwae_snr_constant(narrow, x)
