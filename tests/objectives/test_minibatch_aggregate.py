"""MWS and MSS in the limits where their errors are known, and β-TCVAE where it is the ELBO."""

import inspect
import math
from itertools import combinations

import pytest
import torch
from scipy.stats import t as student
from torch.distributions import Independent, Normal

from elboscope.core import InputError, seeded
from elboscope.models import LinearGaussian
from elboscope.objectives import beta_tcvae, elbo, minibatch_surgery, minibatch_weights
from elboscope.training import BetaTCVAE

N, B = 1000, 16


def posteriors(mu: torch.Tensor, sigma: float = 1.0) -> Independent:
    return Independent(Normal(mu, torch.full_like(mu, sigma)), 1)


def standard(d: int) -> Independent:
    return posteriors(torch.zeros(d).double())


def error_of_log_q(mu: torch.Tensor, truth_shift: float, estimator) -> torch.Tensor:
    """log q̂(z) − log q_N(z), where log q_N(z) = log q(z|x) + truth_shift."""
    with seeded(0):
        q = posteriors(mu)
        z = q.sample((3,))
    information = minibatch_surgery(q, standard(2), z, N, estimator).mutual_information
    return -information - truth_shift


@pytest.mark.parametrize(("estimator", "error"), [("mws", -math.log(N)), ("mss", 0.0)])
def test_identical_posteriors(estimator, error: float) -> None:
    found = error_of_log_q(torch.zeros(B, 2).double(), 0.0, estimator)
    assert (found - error).abs().max() < 1e-10


@pytest.mark.parametrize(("estimator", "error"), [("mws", -math.log(B)), ("mss", 0.0)])
def test_separated_posteriors(estimator, error: float) -> None:
    mu = 1000 * torch.arange(B).double()[:, None].expand(B, 2)
    found = error_of_log_q(mu, -math.log(N), estimator)
    assert (found - error).abs().max() < 1e-10


def test_stratified_weights_by_the_definition() -> None:
    W = minibatch_weights(4, 10).exp()
    M = 3
    for i in range(4):
        row = W[i]
        assert row[i].item() == pytest.approx(1 / 10)
        others = sorted(row[j].item() for j in range(4) if j != i)
        assert others == pytest.approx([(10 - M) / (10 * M), 1 / M, 1 / M])
    assert torch.allclose(W.sum(1), torch.ones(4).double())
    assert torch.allclose(minibatch_weights(4, 10, "mws").exp(), torch.tensor(1 / 40).double())


def test_stratified_q_is_unbiased_over_all_minibatches() -> None:
    """Every minibatch of four of seven datapoints that contains the first, enumerated."""
    with seeded(0):
        mu = torch.randn(7, 2).double()
        z = mu[:1] + 0.5 * torch.randn(1, 2).double()
    truth = posteriors(mu, 0.5).log_prob(z).exp().mean()
    found = []
    for others in combinations(range(1, 7), 3):
        for k in range(3):  # each of the others takes the place with the smaller weight
            order = [0, others[k], *(j for j in others if j != others[k])]
            q = posteriors(mu[order], 0.5)
            parts = minibatch_surgery(q, standard(2), z.expand(1, 4, 2), 7)
            log_q = q.log_prob(z.expand(4, 2))[0] - parts.mutual_information[0, 0]
            found.append(log_q.exp())
    assert torch.stack(found).mean().item() == pytest.approx(truth.item(), abs=1e-14)


def test_two_posteriors_along_an_axis_and_along_the_diagonal() -> None:
    """N = B = 2 is the exact mixture: no total correlation along an axis, log 2 along both."""
    for end, truth in (([60.0, 0.0], 0.0), ([60.0, 60.0], math.log(2))):
        q = posteriors(torch.tensor([[0.0, 0.0], end]).double())
        with seeded(0):
            parts = minibatch_surgery(q, standard(2), q.sample((5,)), 2)
        assert (parts.total_correlation - truth).abs().max() < 1e-10
        assert (parts.mutual_information - math.log(2)).abs().max() < 1e-10


@pytest.mark.slow
def test_the_parts_approach_those_of_the_population() -> None:
    """Minibatches of a large sample: the mean parts against instance 2 in closed form."""
    model = LinearGaussian.instance_2()
    means = []
    with seeded(0), torch.no_grad():
        for _ in range(12):
            x, _ = model.sample(2000)
            q = model.encode(x)
            parts = minibatch_surgery(q, model.prior(), q.sample((1,)), 10**6)
            means.append(torch.stack([part.mean() for part in parts]))
    found = torch.stack(means)
    error = found.std(0) / math.sqrt(len(found))
    truth = [model.mutual_information(), model.total_correlation(), model.dimensionwise_kl().sum()]
    z = (found.mean(0) - torch.stack(truth).detach()) / error
    # log q̂ is low by about χ²/(2M), half an error here; the error is itself of twelve values.
    assert z.abs().max() < student.isf(5e-4, len(found) - 1)


def test_weights_of_one_are_the_elbo() -> None:
    model = LinearGaussian.instance_1()
    x, _ = model.sample(6, seed=0)
    for estimator in ("mss", "mws"):
        with seeded(1):
            plain = elbo(model, x, 3)
        with seeded(1):
            bound = beta_tcvae(model, x, 50, 1.0, 3, estimator=estimator)
        assert torch.allclose(bound.value, plain.value, atol=1e-10)
        assert abs((bound.loss - plain.loss).item()) < 1e-10
        grads = [torch.autograd.grad(b.loss, model.parameters()) for b in (bound, plain)]
        for ours, truth in zip(*grads, strict=True):
            assert torch.allclose(ours, truth, atol=1e-9)


def test_each_weight_is_of_its_part() -> None:
    model = LinearGaussian.instance_2()
    x, _ = model.sample(6, seed=0)

    def loss(**weights: float) -> torch.Tensor:
        with seeded(1):
            return beta_tcvae(model, x, 50, weights.pop("beta", 1.0), **weights).loss

    with seeded(1):
        q = model.encode(x)
        parts = minibatch_surgery(q, model.prior(), q.rsample((1,)), 50)
    for name, part in zip(("alpha", "beta", "gamma"), parts, strict=True):
        extra = loss(**{name: 3.0}) - loss()
        assert extra.item() == pytest.approx(2 * part.mean().item(), abs=1e-10)


def test_the_setting_is_the_function() -> None:
    model = LinearGaussian.instance_1()
    x, _ = model.sample(6, seed=0)
    objective = BetaTCVAE(dataset_size=50, beta=6.0, warm_up_epochs=4.0)
    with seeded(0):
        a = objective(model, x, 2.0)
    with seeded(0):
        b = beta_tcvae(model, x, 50, 3.0)
    assert torch.equal(a.loss, b.loss)
    with seeded(0):
        alone = objective(model, x[:1], 2.0)
    with seeded(0):
        plain = elbo(model, x[:1])
    assert torch.equal(alone.loss, plain.loss)  # the rest of an epoch may be one datapoint
    assert not objective.settled(2.0)
    assert objective.settled(4.0)


def test_refusals() -> None:
    model = LinearGaussian.instance_1()
    x, _ = model.sample(6, seed=0)
    with pytest.raises(InputError, match="at least two datapoints, one beside the draw's own"):
        beta_tcvae(model, x[:1], 50, 2.0)
    with pytest.raises(InputError, match="at least the 6 datapoints of the minibatch; got 5"):
        beta_tcvae(model, x, 5, 2.0)
    with pytest.raises(InputError, match="beta: expected a number ≥ 0"):
        beta_tcvae(model, x, 50, -2.0)
    with pytest.raises(InputError, match="factorises over units"):
        beta_tcvae(model.with_exact_posterior(), x, 50, 2.0)
    unchecked = inspect.unwrap(minibatch_weights)
    with pytest.raises(InputError, match="'mss' or 'mws'; got 'mmd'"):
        unchecked(3, 5, "mmd")
    with pytest.raises(InputError, match="dataset_size: expected a whole number ≥ 2"):
        BetaTCVAE(dataset_size=1)
