import inspect
import math

import pytest
import torch

from elboscope.core import InputError, check_model, log_weights, seeded
from elboscope.distributions import BernoulliLikelihood
from elboscope.models import conv_vae, from_modules, mlp_vae, stack
from elboscope.models.autoencoder import conv_autoencoder, mlp_autoencoder
from elboscope.models.from_modules import make_likelihood
from elboscope.models.hierarchical import hierarchical_vae
from elboscope.nn import mlp

SHAPE = (2, 8, 8)
DISCRETE = ("categorical", "discretised_logistic", "quantized_normal", "dequantized_normal")
UNITS = {
    "categorical": {},
    "laplace": {"scale": 0.2},
    "gaussian": {"scale": "predicted"},
    "discretised_logistic": {"scale": "learned"},
    "quantized_normal": {"scale": 0.1},
    "dequantized_normal": {"scale": "predicted"},
}


def eight_bit(n, shape=SHAPE, levels=256):
    return torch.randint(levels, (n, *shape)).float() / (levels - 1)


@pytest.mark.parametrize("name", UNITS)
def test_every_architecture_gives_the_numbers_that_a_likelihood_takes(name):
    with seeded(0):
        x = eight_bit(5)
        for model in (
            mlp_vae(SHAPE, 2, hidden=(6,), likelihood=name, **UNITS[name]),
            conv_vae(SHAPE, 2, channels=(2, 3), likelihood=name, **UNITS[name]),
            hierarchical_vae(SHAPE, (3, 2), ((4,), (4,)), likelihood=name, **UNITS[name]),
        ):
            found = check_model(model, x)
            assert found.finite
            assert found.in_support
            assert found.data_shape == SHAPE
        for auto in (mlp_autoencoder, conv_autoencoder):
            value = auto(SHAPE, 2, likelihood=name, **UNITS[name]).log_reconstruction(x)
            assert value.isfinite().all()


@pytest.mark.parametrize("name", DISCRETE)
def test_grey_values_that_are_no_level_are_out_of_support(name):
    model = mlp_vae((4,), 1, hidden=(), likelihood=name, **UNITS[name])
    found = check_model(model, torch.rand(6, 4))
    assert not found.in_support
    assert "x lies outside the support of" in found.problems[0]


def test_the_numbers_of_a_convolution_and_of_a_perceptron_mean_the_same():
    """Level by level, then channels: logit l of channel c is number l·C + c."""
    head = make_likelihood("categorical", (2, 1, 1), levels=3)
    flat = torch.arange(6.0)[None]
    p = head(flat.reshape(1, 3, 2, 1, 1))
    conv = head(flat.reshape(1, 6, 1, 1).reshape(1, 3, 2, 1, 1))
    x = torch.tensor([1.0, 0.5]).reshape(1, 2, 1, 1)
    slow = flat.reshape(3, 2).log_softmax(0)
    assert p.log_prob(x).item() == pytest.approx((slow[2, 0] + slow[1, 1]).item())
    assert conv.log_prob(x).item() == p.log_prob(x).item()


def test_all_images_of_a_discrete_model_sum_to_one():
    """Σ_x p(x|z) over all 3⁴ images, for every discrete word."""
    grid = torch.cartesian_prod(*4 * [torch.arange(3.0) / 2]).double()
    for name in DISCRETE[:3]:
        with seeded(0):
            model = mlp_vae((4,), 2, (5,), likelihood=name, levels=3, **UNITS[name]).double()
            z = torch.randn(1, 2, dtype=torch.float64)
        total = model.decode(z.expand(81, 2)).log_prob(grid).logsumexp(0)
        assert total.item() == pytest.approx(0, abs=1e-12)


def test_the_predicted_scale_is_the_decoders_second_half():
    head = make_likelihood("gaussian", (2,), scale="predicted")
    output = torch.tensor([[[0.1, 0.2], [-1.0, -100.0]]], dtype=torch.float64)
    p = head(output)
    assert p.mean.tolist() == [[0.1, 0.2]]
    assert p.stddev.log().tolist()[0] == pytest.approx([-1, -6])
    with pytest.raises(InputError, match=r"scale: expected one that does not depend on z"):
        head.sigma(output)


@pytest.mark.parametrize("name", ["gaussian", "laplace"])
def test_the_optimal_scale_is_the_batchs_own_in_training_and_a_mean_after(name):
    with seeded(0):
        mu, x = torch.zeros(30, 4).double(), 0.3 * torch.randn(30, 4).double()
    head = make_likelihood(name, (4,), scale="optimal").double().train()
    best = x.square().mean().sqrt() if name == "gaussian" else x.abs().mean()
    fixed = make_likelihood(name, (4,), scale=best.item())
    torch.testing.assert_close(head(mu).log_prob(x), fixed(mu).log_prob(x))
    D = x.numel()
    const = 0.5 * (1 + math.log(2 * math.pi)) if name == "gaussian" else 1 + math.log(2)
    total = -D * (best.log() + const)  # the loss of the σ-VAE, with its constants
    torch.testing.assert_close(head(mu).log_prob(x).sum(), total)
    assert head.eval().sigma(x).item() == pytest.approx(best.item())
    head.train()
    head(mu).log_prob(2 * x)
    expected = best.log() + math.log(2) / 3  # a plain mean of ln s over the first batches
    assert head.sigma(x).log().item() == pytest.approx(expected.item())


def test_the_gradient_at_the_optimal_scale_is_that_of_half_d_ln_mse():
    with seeded(0):
        mu, x = torch.randn(2, 7, 3, dtype=torch.float64)
    mu.requires_grad_()
    head = make_likelihood("gaussian", (3,), scale="optimal").double().train()
    (ours,) = torch.autograd.grad(head(mu).log_prob(x).sum(), mu)
    (slow,) = torch.autograd.grad(-0.5 * x.numel() * (x - mu).square().mean().log(), mu)
    torch.testing.assert_close(ours, slow)


def test_evaluation_with_the_optimal_scale_leaves_it_alone_and_leaks_nothing():
    with seeded(0):
        model, x = mlp_vae((4,), 2, (5,), likelihood="gaussian", scale="optimal"), torch.rand(9, 4)
    check_model(model.train(), x)  # in training mode, too
    assert model.likelihood.num_batches == 0
    model.decode(model.encode(x).rsample()).log_prob(x)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    assert before["likelihood.num_batches"] == 1
    log_weights(model.eval(), x, 3)
    assert all((v == before[k]).all() for k, v in model.state_dict().items())


def test_the_optimal_scale_saves_the_nats_that_a_wrong_one_costs():
    """A decoder that cannot learn: σ² = 1 against the optimum, ½D(r − 1 − ln r) nats."""
    with seeded(0):
        x = 0.1 * torch.randn(4000, 6).double()
    mu = torch.zeros_like(x)
    head = make_likelihood("gaussian", (6,), scale="optimal").double().train()
    head(mu).log_prob(x)
    r = x.square().mean().item()
    gain = (
        head.eval()(mu).log_prob(x).mean()
        - make_likelihood("gaussian", (6,), scale=1.0)(mu).log_prob(x).mean()
    )
    assert gain.item() == pytest.approx(3 * (r - 1 - math.log(r)), rel=1e-6)


@pytest.mark.parametrize(
    ("name", "settings", "told"),
    [
        ("laplace", {}, "scale: expected a standard deviation σ, 'learned'.*got none"),
        ("quantized_normal", {}, "scale: expected a standard deviation"),
        ("categorical", {"scale": 0.1}, "scale: expected none, unless likelihood is one of gauss"),
        ("gaussian", {"scale": 1.0, "levels": 17}, "levels: expected none, unless likelihood is"),
        ("categorical", {"levels": 1}, "levels: expected 2 or more.*got 1"),
        ("quantized_normal", {"scale": "optimal"}, "'learned_per_pixel' or 'predicted'.*'optimal'"),
    ],
)
def test_settings_that_do_not_fit_are_refused(name, settings, told):
    with pytest.raises(InputError, match=told):
        make_likelihood(name, (3,), **settings)


def test_from_modules_measures_and_refuses_by_the_number_of_outputs():
    model = from_modules(mlp(6, (5,), 4), mlp(2, (5,), 6 * 17), "categorical", levels=17)
    assert "Categorical (17 levels)" in repr(model)
    assert model.decode(torch.zeros(3, 2)).log_prob(torch.zeros(3, 6))[0] < 0
    with pytest.raises(InputError, match=r"decoder: expected a module .* to 102 numbers"):
        from_modules(mlp(6, (5,), 4), mlp(2, (5,), 6), "categorical", levels=17)


def test_functions_still_pass():
    head = BernoulliLikelihood((3,))
    assert inspect.unwrap(make_likelihood)(head, (3,)) is head


def test_a_stack_of_models_takes_the_same_numbers():
    with seeded(0):
        models = [mlp_vae((4,), 2, (5,), likelihood="categorical", levels=3) for _ in range(2)]
        z = torch.randn(2, 7, 2)
        x = eight_bit(7, (4,), 3)
    together = stack(models).decode(z.flatten(0, 1)).log_prob(x.repeat(2, 1)).reshape(2, 7)
    alone = torch.stack([m.decode(z[i]).log_prob(x) for i, m in enumerate(models)])
    torch.testing.assert_close(together, alone)
