"""Each surrogate's gradient against the exact one; the value is the bound, never the surrogate."""

import itertools

import pytest
import torch
from torch import nn
from torch.distributions import Independent, Normal, OneHotCategorical

from elboscope.core import ContractError, InputError, log_joint, log_mean_exp, seeded
from elboscope.models import LinearGaussian
from elboscope.objectives import (
    dreg,
    elbo,
    iwae,
    miwae,
    score_function,
    sticking_the_landing,
    wake_phase,
)

BATCHES, ROWS = 200, 1000
ONE = torch.ones(ROWS, 1, dtype=torch.float64)
# The gradient with respect to the mean of q = N(0.3, 2/3); z ~ N(0, 1), x | z ~ N(z, 1), x = 1.
EXACT = {1: 0.400, 2: 0.1604, 8: 0.03408, 64: 0.00409}


def conjugate():
    return LinearGaussian.conjugate(mean=0.3, variance=2 / 3)


def mean_gradient(objective, batches=BATCHES):
    """Mean over independent batches of ∂value/∂c, ascending, and its standard error."""
    model, draws = conjugate(), []
    for seed in range(batches):
        with seeded(seed):
            bound = objective(model, ONE)
        loss = bound.loss if bound.encoder_loss is None else bound.encoder_loss
        draws.append(-torch.autograd.grad(loss, model.encoder.c)[0].item())
    draws = torch.tensor(draws, dtype=torch.float64)
    return draws.mean().item(), draws.std().item() / batches**0.5


def agrees(objective, truth, rounding=5e-5, limit=3.5, batches=BATCHES):
    mean, error = mean_gradient(objective, batches)
    assert abs(mean - truth) < limit * error + rounding, (mean, error, truth)
    return error


@pytest.mark.parametrize(("K", "truth"), [(2, 0.1604), (8, 0.03408)])
def test_dreg_and_iwae_have_the_same_known_mean_and_dreg_less_noise(K, truth):
    plain = agrees(lambda m, x: iwae(m, x, K), truth)
    doubly = agrees(lambda m, x: dreg(m, x, K), truth)
    assert doubly < plain / 5  # SNR 0.151 and 1.111 at K = 2; 0.0703 and 2.17 at K = 8


@pytest.mark.parametrize(("K", "truth"), [(1, 0.400), (2, 0.340), (8, 0.309), (64, 0.301)])
def test_sticking_the_landing_is_biased_for_more_than_one_sample_as_known(K, truth):
    error = agrees(lambda m, x: sticking_the_landing(m, x, K), truth, 6e-4, batches=50)
    if K > 1:
        assert truth - EXACT[K] > 20 * error


def test_dreg_with_one_sample_is_sticking_the_landing():
    model = conjugate()
    with seeded(0):
        a = dreg(model, ONE, 1)
    with seeded(0):
        b = sticking_the_landing(model, ONE, 1)
    assert torch.equal(a.encoder_loss, b.encoder_loss)


@pytest.mark.parametrize("K", [2, 8])
def test_dreg_of_the_wake_phase_is_unbiased_for_the_wake_phase(K):
    plain, error = mean_gradient(lambda m, x: wake_phase(m, x, K))
    agrees(lambda m, x: dreg(m, x, K, alpha=1.0), plain, rounding=3.5 * error)


def test_alpha_mixes_the_two_weights():
    model = conjugate()
    losses = []
    for alpha in (0.0, 0.9, 1.0):
        with seeded(0):
            losses.append(dreg(model, ONE, 4, alpha).encoder_loss)
    torch.testing.assert_close(losses[1], 0.1 * losses[0] + 0.9 * losses[2])


@pytest.mark.parametrize("K", [1, 5])
def test_sticking_the_landing_lands_at_the_exact_posterior(K):
    model = LinearGaussian.instance_1().with_exact_posterior()
    x, _ = model.sample(7, seed=0)
    for objective in (sticking_the_landing, dreg):
        loss = objective(model, x, K).encoder_loss
        for g in torch.autograd.grad(loss, list(model.encoder.parameters()), allow_unused=True):
            assert g is None or g.abs().max() < 1e-12
    # the plain gradient of the ELBO is noise there
    (g,) = torch.autograd.grad(elbo(model, x).loss, model.encoder.c)
    assert g.abs().max() > 1e-2


class ThreeStates(nn.Module):
    """z ∈ {0, 1, 2} uniformly, x | z ~ N(z, 1): everything is a sum of three terms."""

    def __init__(self):
        super().__init__()
        self.logits = nn.Parameter(torch.tensor([0.5, -0.3, 0.1], dtype=torch.float64))
        self.shift = nn.Parameter(torch.zeros((), dtype=torch.float64))

    def prior(self):
        return OneHotCategorical(logits=torch.zeros(3, dtype=torch.float64))

    def encode(self, x):
        return OneHotCategorical(logits=self.logits.expand(len(x), 3))

    def decode(self, z):
        state = z @ torch.arange(3.0, dtype=torch.float64)
        return Independent(Normal((state + self.shift)[..., None], 1.0), 1)

    def log_weights(self, x):
        z = torch.eye(3, dtype=torch.float64)[:, None].expand(3, len(x), 3)
        return log_joint(self, x, z) - self.encode(x).log_prob(z)

    def exact_elbo(self, x):
        return (self.encode(x).probs.T * self.log_weights(x)).sum(0)


def test_the_score_function_is_unbiased_for_discrete_latents():
    model, x = ThreeStates(), torch.full((5000, 1), 0.7, dtype=torch.float64)
    truth = torch.autograd.grad(-model.exact_elbo(x[:1]).mean(), [model.logits, model.shift])
    draws = []
    for seed in range(100):
        with seeded(seed):
            bound = score_function(model, x, 3)
        (phi,) = torch.autograd.grad(bound.encoder_loss, model.logits, retain_graph=True)
        (theta,) = torch.autograd.grad(bound.loss, model.shift)
        draws.append(torch.cat([phi, theta[None]]))
    draws = torch.stack(draws)
    score = (draws.mean(0) - torch.cat([truth[0], truth[1][None]])) / (draws.std(0) / 10)
    assert score.abs().max() < 3.5, score


def test_the_baseline_is_the_mean_of_the_other_samples():
    model, x = ThreeStates(), torch.tensor([[0.7], [2.0]], dtype=torch.float64)
    with seeded(1):
        fast = score_function(model, x, 4)
    with seeded(1), torch.no_grad():
        z = model.encode(x).sample((4,))
    log_q = model.encode(x).log_prob(z)
    log_w = (log_joint(model, x, z) - log_q).detach()
    slow = torch.zeros((), dtype=torch.float64)
    for k in range(4):
        baseline = torch.stack([log_w[j] for j in range(4) if j != k]).mean(0)
        slow = slow - ((log_w[k] - baseline) * log_q[k]).mean() / 4
    torch.testing.assert_close(fast.encoder_loss, slow)
    torch.testing.assert_close(fast.value, log_w.mean(0))


@pytest.mark.parametrize("K", [2, 3])
def test_the_gap_of_the_bound_is_the_divergence_in_the_extended_space(K):
    """log p(x) − L_K = KL(q^IS ‖ p^IS), by summing over every tuple of K states."""
    model, x = ThreeStates(), torch.tensor([[0.7]], dtype=torch.float64)
    with torch.no_grad():
        log_q = model.encode(x).probs[0].log()
        log_w = model.log_weights(x)[:, 0]
        log_p = (log_q + log_w).logsumexp(0)
        log_posterior = log_q + log_w - log_p
        divergence = 0.0
        for states in itertools.product(range(3), repeat=K):
            log_q_is = sum(log_q[s] for s in states)
            terms = [log_posterior[s] + log_q_is - log_q[s] for s in states]
            log_p_is = log_mean_exp(torch.stack(terms))
            divergence += float(log_q_is.exp() * (log_q_is - log_p_is))
        with seeded(K):
            value = iwae(model, x.expand(100_000, 1), K).value
    error = value.std().item() / len(value) ** 0.5
    assert divergence > 20 * error
    assert abs(log_p.item() - value.mean().item() - divergence) < 3.5 * error


class Tied(nn.Module):
    """The mean of q is Wx, the mean of p(x|z) is Wᵀz."""

    def __init__(self):
        super().__init__()
        self.W = nn.Parameter(torch.tensor([[0.7, -0.2, 0.4]], dtype=torch.float64))

    def prior(self):
        return Independent(Normal(torch.zeros(1).double(), 1.0), 1)

    def encode(self, x):
        return Independent(Normal(x @ self.W.T, 0.6), 1)

    def decode(self, z):
        return Independent(Normal(z @ self.W, 0.5), 1)


def test_a_weight_that_encoder_and_decoder_share_has_the_whole_gradient_of_the_elbo():
    model, x = Tied(), torch.tensor([[1.0, -0.5, 0.3]], dtype=torch.float64)
    W = model.W.detach().requires_grad_()
    mean, v = x @ W.T, 0.36
    ell = (
        -(x - mean @ W).square().sum() / 0.5 - v * W.square().sum() / 0.5 - mean.square().sum() / 2
    )
    (truth,) = torch.autograd.grad(-ell, W)
    with seeded(0):
        draws = []
        for _ in range(200):
            bound = score_function(model, x.expand(100, 3), 4)
            draws.append(torch.autograd.grad(bound.encoder_loss, model.W)[0])
    found = torch.stack(draws)
    z = (found.mean(0) - truth) / (found.std(0) / len(found) ** 0.5)
    assert z.abs().max() < 4


def test_the_wake_phase_of_a_shared_weight_is_the_sum_of_both_losses():
    model, x = Tied(), torch.tensor([[1.0, -0.5, 0.3]], dtype=torch.float64)
    with seeded(0):
        bound = wake_phase(model, x, 6)
    with seeded(0), torch.no_grad():
        z = model.encode(x).sample((6,))
    weights = (log_joint(model, x, z) - model.encode(x).log_prob(z)).detach().softmax(0)
    both = log_joint(model, x, z) + model.encode(x).log_prob(z)
    expected = torch.autograd.grad(-(weights * both).sum(), model.W)
    torch.testing.assert_close(torch.autograd.grad(bound.encoder_loss, model.W), expected)


@pytest.mark.parametrize("objective", [sticking_the_landing, dreg, wake_phase])
def test_the_value_is_the_bound_though_the_surrogate_exceeds_it(objective):
    """Σ w̃ log w = log mean w + KL(w̃ ‖ uniform) ≥ the bound: logging it flatters a model."""
    model = LinearGaussian.instance_1().with_prior_as_posterior()
    x, _ = model.sample(50, seed=0)
    with seeded(0):
        bound = objective(model, x, 20)
    with seeded(0):
        plain = iwae(model, x, 20)
    torch.testing.assert_close(bound.value, plain.value, rtol=0, atol=1e-12)
    torch.testing.assert_close(bound.loss, plain.loss, rtol=0, atol=1e-12)
    assert not bound.value.requires_grad
    if objective is sticking_the_landing:
        assert -bound.encoder_loss > plain.value.mean() + 0.1


@pytest.mark.parametrize("objective", [sticking_the_landing, dreg, wake_phase])
def test_the_decoder_follows_the_plain_gradient(objective):
    model = LinearGaussian.instance_1()
    x, _ = model.sample(9, seed=0)
    gradients = []
    for f in (objective, iwae):
        with seeded(3):
            gradients.append(torch.autograd.grad(f(model, x, 6).loss, [model.W, model.b]))
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("objective", [elbo, iwae, dreg, sticking_the_landing])
def test_pathwise_objectives_refuse_a_posterior_without_a_path(objective):
    with pytest.raises(ContractError, match=r"reparameterised.*Categorical.*score_function"):
        objective(ThreeStates(), torch.zeros(2, 1, dtype=torch.float64), 3)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m, x: iwae(m, x, 0), "num_samples: expected a whole number ≥ 1; got 0"),
        (lambda m, x: miwae(m, x, 0, 2), "num_outer: expected a whole number ≥ 1; got 0"),
        (lambda m, x: wake_phase(m, x, 1), "num_samples: expected a whole number ≥ 2; got 1"),
        (lambda m, x: score_function(m, x, 1), "num_samples: expected a whole number ≥ 2; got 1"),
        (lambda m, x: dreg(m, x, 2, 1.5), "alpha: expected a share of the wake phase"),
    ],
)
def test_counts_and_shares_are_checked(call, words):
    with pytest.raises(InputError, match=words):
        call(conjugate(), ONE)
