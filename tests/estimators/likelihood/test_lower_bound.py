"""The ELBO and its reconstruction against closed forms, with analytic and with sampled KL."""

import pytest
import torch
from torch import nn
from torch.distributions import (
    AffineTransform,
    Distribution,
    Independent,
    Normal,
    TransformedDistribution,
)

from elboscope.estimators import evidence_lower_bound, reconstruction
from elboscope.models import LinearGaussian

from .test_importance import X, require_calibrated


class Flowing(nn.Module):
    """The same posterior as a flow (an affine one): its KL to the prior has no closed form."""

    def __init__(self, model: LinearGaussian) -> None:
        super().__init__()
        self.inner = model

    def prior(self) -> Distribution:
        return self.inner.prior()

    def decode(self, z: torch.Tensor) -> Distribution:
        return self.inner.decode(z)

    def encode(self, x: torch.Tensor) -> Distribution:
        q = self.inner.encode(x)
        base = Independent(Normal(torch.zeros_like(q.mean), torch.ones_like(q.mean)), 1)
        return TransformedDistribution(base, AffineTransform(q.mean, q.stddev, event_dim=1))


@pytest.mark.parametrize("sampled", [False, True], ids=["analytic", "sampled"])
def test_elbo_of_instance_1(sampled: bool) -> None:
    exact = LinearGaussian.instance_1()
    model = Flowing(exact) if sampled else exact
    e = evidence_lower_bound(model, X.expand(100, 3), 400, seed=0)
    assert e.method == f"ELBO, {'sampled' if sampled else 'analytic'} KL"
    require_calibrated((e.values + 3.7639911095) / e.mc_stderr)
    kl = e.diagnostics["kl"]
    assert abs(kl.mean() - 0.8439411) < (0.02 if sampled else 1e-6)
    assert torch.allclose(e.values, e.diagnostics["reconstruction"] - kl)


def test_reconstruction_of_instance_1() -> None:
    e = reconstruction(LinearGaussian.instance_1(), X.expand(100, 3), 400, seed=1)
    require_calibrated((e.values + 2.9200499) / e.mc_stderr)
    assert e.side == "unbiased"


def test_sampled_form_has_no_variance_at_the_posterior() -> None:
    model = Flowing(LinearGaussian.conjugate(sigma2=1.0, mean=0.0, variance=0.5))
    x = torch.tensor([[0.0]], dtype=torch.float64)
    e = evidence_lower_bound(model, x, 10, seed=0)
    assert e.mc_stderr.item() < 1e-9
    assert abs(e.mean - Normal(0.0, 2**0.5).log_prob(torch.tensor(0.0)).item()) < 1e-6


def test_one_sample_has_no_error_to_report() -> None:
    e = evidence_lower_bound(LinearGaussian.instance_1(), X, 1, seed=0)
    assert e.mc_stderr.isnan().all()
