"""The defensive mixture: unbiased, and with a variance where the plain weights have none."""

import math

import pytest
import torch
from torch.distributions import Distribution, Independent, LogNormal, Normal

from elboscope.core import ContractError, InputError
from elboscope.estimators import importance_sampling, widened_importance_sampling
from elboscope.models import LinearGaussian

from .test_importance import X, require_calibrated

LOG_PX_2 = -3.9942076535


@pytest.mark.slow
def test_instance_2_is_repaired_by_widening_and_only_then_calibrated() -> None:
    model, same = LinearGaussian.instance_2(), X.expand(200, 3)
    plain = importance_sampling(model, same, 3000, seed=0)
    wide = widened_importance_sampling(model, same, 3000, seed=0)
    assert (plain.diagnostics["khat"] >= 0.5).double().mean() > 0.7
    assert wide.diagnostics["khat"].max() < 0.2
    assert wide.settings["widened"] == "q stretched 2 times"
    require_calibrated((wide.values - LOG_PX_2) / wide.mc_stderr)


@pytest.mark.parametrize(("share", "scale"), [(0.1, 1.5), (0.37, None), (0.9, 3.0)])
@pytest.mark.parametrize("K", [1, 7])
def test_the_average_is_unbiased_for_p_of_x_for_every_share_and_k(share, scale, K) -> None:
    model = LinearGaussian.instance_1()
    e = widened_importance_sampling(
        model, X.expand(20_000, 3), K, share=share, scale=scale, seed=1, batch_size=20_000
    )
    p = e.values.exp()
    error = p.std() / math.sqrt(len(p))
    assert abs(p.mean() - math.exp(-3.6964690082)) < 3.5 * error


def test_chunks_change_neither_the_shares_nor_the_density() -> None:
    model = LinearGaussian.instance_2()
    values = [
        widened_importance_sampling(
            model, X.expand(400, 3), 120, share=0.3, seed=2, sample_chunk=chunk
        )
        for chunk in (7, 120)
    ]
    for e in values:
        bias = 0.5 * e.mc_stderr.square().mean()
        assert abs(e.mean + bias - LOG_PX_2) < 4 * e.stderr
        assert abs(e.diagnostics["half"].mean() + 2 * bias - LOG_PX_2) < 6 * e.stderr


class Positive:
    """z > 0: nothing to stretch about a mean."""

    def prior(self) -> Distribution:
        return Independent(LogNormal(torch.zeros(1), torch.ones(1)), 1)

    def decode(self, z: torch.Tensor) -> Distribution:
        return Independent(Normal(z.log(), 1.0), 1)

    def encode(self, x: torch.Tensor) -> Distribution:
        return Independent(LogNormal(x / 2, torch.full_like(x, 0.2)), 1)


def test_a_posterior_on_half_the_line_is_mixed_with_the_prior() -> None:
    x = torch.full((200, 1), 0.7)
    e = widened_importance_sampling(Positive(), x, 500, seed=0)
    assert e.settings["widened"] == "the prior"
    truth = Normal(0.0, math.sqrt(2)).log_prob(torch.tensor(0.7)).item()
    assert abs(e.mean - truth) < 4 * e.stderr + 1e-3


def test_no_density_and_wrong_mixtures_are_named() -> None:
    model = LinearGaussian.instance_1()

    class Implicit(LinearGaussian):
        def encode(self, x: torch.Tensor) -> Distribution:
            q = super().encode(x)
            q.log_prob = _refuse  # type: ignore[method-assign]
            return q

    def _refuse(z: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    with pytest.raises(ContractError, match=r"a density at any z.*annealed_importance_sampling"):
        widened_importance_sampling(Implicit(model.W, model.b, 0.5), X, 10)
    with pytest.raises(InputError, match="scale: expected at least 1, how many times wider; got"):
        widened_importance_sampling(model, X, 10, scale=0.5)
    with pytest.raises(InputError, match=r"share: expected a number between 0 and 1; got 1\.0"):
        widened_importance_sampling(model, X, 10, share=1.0)
    with pytest.raises(InputError, match="num_samples: expected at least 1; got 0"):
        widened_importance_sampling(model, X, 0)
