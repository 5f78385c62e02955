"""Linear models of real MNIST: closed-form likelihoods and the exact account of collapse."""

from __future__ import annotations

import pytest
import torch

from elboscope.models.exact.affine_encoder import principal_components
from elboscope.models.exact.linear_gaussian import LinearGaussian

# The method sheet divides covariances by N − 1; maximum likelihood by N.
UNBIASED = 60_000 / 59_999

pytestmark = pytest.mark.full_data


@pytest.fixture(scope="module")
def images() -> tuple[torch.Tensor, torch.Tensor]:
    from elboscope import data

    mnist = data.mnist(download=False)
    return tuple(
        torch.as_tensor(part).reshape(len(part), -1).double() for part in (mnist.train, mnist.test)
    )


def test_spectrum(images):
    eigenvalues = principal_components(images[0]).eigenvalues * UNBIASED
    assert eigenvalues.sum().item() == pytest.approx(52.7259, abs=5.1e-5)
    assert eigenvalues[:5].tolist() == pytest.approx(
        [5.1169, 3.7414, 3.2527, 2.8416, 2.5671], abs=5.1e-5
    )
    assert eigenvalues[2:].sum().item() == pytest.approx(43.868, abs=5.1e-4)


@pytest.mark.parametrize(
    ("d", "sigma2", "log_px"),
    [(2, 0.0560967, 14.3600), (10, 0.0348679, 186.0240), (50, 0.0125963, 517.6032)],
)
def test_maximum_likelihood(images, d, sigma2, log_px):
    train, test = images
    best = LinearGaussian.fit(train, d)
    model = LinearGaussian(best.W * UNBIASED**0.5, best.b, best.sigma2.item() * UNBIASED)
    assert model.sigma2.item() == pytest.approx(sigma2, abs=5.1e-8)
    assert model.log_likelihood(test).mean().item() == pytest.approx(log_px, abs=5.1e-5)


@pytest.mark.parametrize(
    ("sigma2", "units", "information", "digits"),
    [(0.5, 23, 10.17, 2), (3.92, 1, 0.133, 3), (0.0131 * 784 / 2, 0, 0.0, 10)],
)
def test_a_linear_vae_collapses_below_its_noise(images, sigma2, units, information, digits):
    model = LinearGaussian.fit(images[0], 40, sigma2=sigma2)
    assert (model.W.norm(dim=0) > 0).sum().item() == units
    assert model.mutual_information().item() == pytest.approx(information, abs=0.51 * 10.0**-digits)
