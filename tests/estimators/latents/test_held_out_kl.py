"""The held-out bound: on the right side, on the right data, and zero for a matched prior."""

import pytest
import torch

from elboscope.core import InputError, seeded
from elboscope.estimators import held_out_marginal_kl
from elboscope.models import LinearGaussian

from ..likelihood.test_importance import Shifted
from .test_surgery import Given


def test_matched_priors_stay_at_zero_over_seeds() -> None:
    model = LinearGaussian.perfect(10, 12)
    for seed in range(10):
        x, _ = model.sample(300, seed=seed)
        bound = held_out_marginal_kl(model, x, seed=seed)
        assert bound.mean <= 3 * bound.stderr + 1e-12


def test_held_out_data_evaluate_and_x_fits() -> None:
    model = LinearGaussian.instance_2()
    x, _ = model.sample(3000, seed=0)
    x_new, _ = model.sample(2000, seed=1)
    bound = held_out_marginal_kl(model, x_new, x_train=x, seed=0)
    assert len(bound.values) == bound.settings["evaluated_on"] == 2000
    assert bound.settings["fitted_on"] == 2000
    assert abs(bound.mean - 0.1130020622) < 3.3 * bound.stderr
    assert bound.side == "lower"


def test_two_modes_need_a_mixture() -> None:
    with seeded(0):
        sign = torch.randint(0, 2, (1200, 1)).double() * 2 - 1
        x = 3 * sign.expand(-1, 3) + 0.1 * torch.randn(1200, 3).double()
    bound = held_out_marginal_kl(Given(3, torch.tensor(0.1)), x, seed=0)
    assert "mixture" in bound.method
    assert bound.mean > 10 * bound.stderr


def test_conditions_must_come_for_both() -> None:
    x = torch.zeros(50, 1).double()
    with pytest.raises(InputError, match="conditions for both x and x_train"):
        held_out_marginal_kl(Shifted(), x, x_train=x, condition=x)


def test_diverged_posterior_is_named() -> None:
    x = torch.zeros(50, 3).double()
    with pytest.raises(InputError, match="expected finite means and scales"):
        held_out_marginal_kl(Given(3, torch.tensor(float("inf"))), x, seed=0)
