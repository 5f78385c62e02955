"""Two stochastic layers under every estimator: the linear chain knows the answers."""

import math

import pytest
import torch

import elboscope as es
from elboscope import objectives
from elboscope.core import InputError, seeded, split_parameters
from elboscope.models import LinearChain, hierarchical_vae


def off_by(factor=1.3):
    """The chain with a posterior whose z₂ is too wide."""
    model = LinearChain.instance()
    with torch.no_grad():
        model.encoder_1.log_diagonal += 0.5 * math.log(factor)
        model.encoder_2.log_diagonal += 0.5 * math.log(factor)
    return model


def test_exact_chain_has_no_variance_and_its_elbo_is_log_p():
    model = LinearChain.instance()
    x, _ = model.sample(50, seed=0)
    truth = model.log_likelihood(x)
    torch.testing.assert_close(truth, model.one_layer().log_likelihood(x))
    W, V = model.W.detach(), model.prior_1.A.detach()
    C = W @ (V @ V.T + 0.6 * torch.eye(3)) @ W.T + 0.5 * torch.eye(4)
    direct = torch.distributions.MultivariateNormal(model.b.detach(), C).log_prob(x)
    torch.testing.assert_close(truth, direct)
    elbo = es.evidence_lower_bound(model, x, 10, seed=0)
    torch.testing.assert_close(elbo.values, truth)
    assert elbo.mc_stderr.max() < 1e-9


@pytest.mark.slow
def test_importance_sampling_is_unbiased_with_a_wrong_chain_and_the_elbo_lies_below():
    model = off_by()
    x, _ = model.sample(200, seed=1)
    truth = model.log_likelihood(x)
    log_p = es.importance_sampling(model, x, 4000, seed=0)
    elbo = es.evidence_lower_bound(model, x, 200, seed=0)
    z = (log_p.values - truth) / log_p.mc_stderr
    assert abs(z.mean()) < 4 / math.sqrt(len(x))
    assert z.std() < 1.2
    assert log_p.diagnostics["khat"].median() < 0.5
    assert 0.5 < log_p.diagnostics["ess"].median() / 4000 < 0.99
    # KL(q‖p) of both layers: a Gaussian too wide by the factor f, ½(f − 1 − ln f) a dimension
    gap = 5 * 0.5 * (0.3 - math.log(1.3))
    assert abs((truth - elbo.values).mean().item() - gap) < 4 * elbo.mc_error_of_mean


def test_the_equivalent_one_layer_model_has_the_same_population_answers():
    model = LinearChain.instance()
    x, _ = model.sample(100, seed=2)
    two = es.importance_sampling(model, x, 10, seed=0)
    one = es.importance_sampling(model.one_layer().with_exact_posterior(), x, 10, seed=0)
    torch.testing.assert_close(two.values, one.values)


@pytest.mark.slow
def test_active_units_and_surgery_need_no_closed_form():
    model = LinearChain.instance()
    x, _ = model.sample(400, seed=3)
    units = es.active_units(model, x, seed=0)
    A = model.encoder_1.A.detach()
    z1 = x @ A.T + model.encoder_1.c.detach()
    means = torch.cat([z1, z1 @ model.encoder_2.A.detach().T], 1)  # affine: E[z₂] is known here
    assert ((units.values - means.var(0)) / units.mc_stderr).abs().max() < 4
    surgery = es.elbo_surgery(model, x, seed=0)
    kl = es.evidence_lower_bound(model, x, 200, seed=0).diagnostics["kl"].mean().item()
    assert abs(surgery.kl.mean - kl) < 4 * surgery.kl.stderr


def test_objectives_train_two_layers_and_parameters_are_split():
    with seeded(0):
        model = hierarchical_vae((6,), (3, 2), ((8,), (4,)))
        x = torch.bernoulli(torch.full((32, 6), 0.3))
    phi, theta = split_parameters(model, x)
    names = dict(model.named_parameters())
    assert {id(p) for p in phi} == {id(p) for n, p in names.items() if n.startswith("encoder")}
    assert len(phi) + len(theta) == len(names)
    values = []
    for bound in (objectives.elbo, objectives.iwae, objectives.sticking_the_landing):
        with seeded(1):
            values.append(bound(model, x, 200).value)
    assert bool((values[0] < values[1]).all())
    torch.testing.assert_close(values[1], values[2])  # one value, two gradients


def test_pathwise_gradient_is_the_same_in_expectation_when_frozen():
    model = off_by()
    x, _ = model.sample(2, seed=4)
    weight = model.encoder_2.A
    grads = {}
    for freeze in (True, False):
        with seeded(5):
            log_w = es.core.log_weights(model, x, 4000, freeze=freeze)
        rows = [torch.autograd.grad(part.mean(), weight, retain_graph=True)[0]
                for part in log_w.split(200)]  # fmt: skip
        grads[freeze] = torch.stack(rows)
    difference = grads[True] - grads[False]
    error = difference.std(0) / math.sqrt(len(difference))
    assert (difference.mean(0) / error).abs().max() < 4.5


@pytest.mark.slow
def test_diagnose_answers_and_says_what_it_cannot_be_asked():
    model = off_by()
    x, _ = model.sample(120, seed=6)
    diagnosis = es.diagnose(model, x, budget="quick", seed=0)
    estimate = diagnosis.estimates["log_px"]
    truth = model.log_likelihood(diagnosis.evidence.x)
    assert abs(estimate.mean - truth.mean().item()) < 4 * estimate.mc_error_of_mean + 1e-3
    skipped = diagnosis.evidence.skipped
    assert {"kl", "unit_kl", "posterior_means"} <= set(skipped)
    assert all(skipped.values())


def test_architecture_of_burda_and_its_zero_start():
    model = hierarchical_vae((784,))
    shapes = {n: tuple(p.shape) for n, p in model.named_parameters() if n.endswith("weight")}
    assert list(shapes.values()) == [
        (200, 784), (200, 200), (200, 200),
        (100, 100), (100, 100), (100, 100),
        (100, 50), (100, 100), (200, 100),
        (200, 100), (200, 200), (784, 200),
    ]  # fmt: skip
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    x = torch.zeros(3, 784)
    log_w = es.core.log_weights(model, x, 2)  # everything is standard normal, and pixels are coins
    torch.testing.assert_close(log_w, torch.full((2, 3), -784 * math.log(2)))


def test_bad_shapes_are_named():
    with pytest.raises(InputError, match="at least one unit"):
        hierarchical_vae((4,), (3, 0))
    with pytest.raises(InputError, match=r"x: expected shape \(B, 4\)"):
        hierarchical_vae((4,), (3, 2)).encode(torch.zeros(2, 5))


def test_annealing_path_has_gradients_for_z():
    model = hierarchical_vae((6,), (3, 2), ((8,), (4,)))
    z = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    with torch.no_grad():
        p = model.prior()
    (grad,) = torch.autograd.grad(p.log_prob(z).sum(), z)
    h = 1e-3
    for j in range(5):
        step = torch.zeros(5)
        step[j] = h
        slope = (p.log_prob(z + step) - p.log_prob(z - step)).detach() / (2 * h)
        torch.testing.assert_close(grad[..., j], slope, atol=5e-3, rtol=5e-3)


@pytest.mark.slow
def test_annealed_importance_sampling_finds_log_p():
    model = off_by(1.5)
    x, _ = model.sample(20, seed=7)
    estimate = es.annealed_importance_sampling(model, x, num_temperatures=60, num_chains=16, seed=0)
    error = estimate.values - model.log_likelihood(x)
    assert abs(error.mean()) < 4 * estimate.mc_error_of_mean
    assert error.abs().max() < 0.5
