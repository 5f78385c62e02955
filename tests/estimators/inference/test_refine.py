"""Refined encoders: between the encoder's ELBO and that of q*, and ordinary models otherwise."""

import pytest
import torch
from torch.distributions import Bernoulli, Distribution, Independent, MultivariateNormal

import elboscope as es
from elboscope.core import ContractError, InputError, check_model, evaluating
from elboscope.estimators import refine
from elboscope.models import LinearGaussian
from elboscope.models.exact.affine_encoder import AffineDiagonal


def sick() -> LinearGaussian:
    """Instance 1 with an encoder that is off by half a unit and too narrow."""
    best = LinearGaussian.instance_1()
    x = torch.zeros(1, 3, dtype=torch.float64)
    q = best.encode(x)
    jacobian = torch.autograd.functional.jacobian(lambda x: best.encode(x).mean[0], x)[:, 0]
    encoder = AffineDiagonal(jacobian, q.mean[0].detach() + 0.5, q.variance[0].detach() / 4)
    return LinearGaussian(best.W, best.b, 0.5, encoder)


def data(n: int) -> torch.Tensor:
    return sick().sample(n, seed=0)[0]


def test_between_the_encoder_and_the_optimum_and_nearer_with_more_steps() -> None:
    model, x = sick(), data(100)
    best = LinearGaussian.instance_1().elbo(x)
    deficits = []
    for steps in (1, 3, 10, 40):
        with torch.no_grad():
            q = refine(model, steps, learning_rate=0.3).encode(x)
        refined = model.elbo(x, q)
        assert (refined > model.elbo(x)).all()
        assert (refined < best + 1e-9).all()
        deficits.append((best - refined).mean().item())
    assert deficits == sorted(deficits, reverse=True)
    assert deficits[0] < 0.8 * (best - model.elbo(x)).mean()
    assert deficits[-1] < 1e-3


def test_the_best_encoder_is_left_where_it_is() -> None:
    model, x = LinearGaussian.instance_2(), data(50)
    with torch.no_grad():
        q = refine(model).encode(x)
    assert (model.elbo(x) - model.elbo(x, q)).max() < 1e-6


@pytest.mark.parametrize("seed", range(4))
def test_the_best_encoder_of_many_correlated_latents_is_left_too(seed) -> None:
    W = 0.5 + 0.3 * torch.randn(30, 20, generator=torch.Generator().manual_seed(0)).double()
    model = LinearGaussian(W, torch.zeros(30).double(), 0.5)
    x, _ = model.sample(50, seed=1)
    with torch.no_grad():
        q = refine(model, seed=seed).encode(x)  # fewer samples of a step than latents: all noise
    assert (model.elbo(x) - model.elbo(x, q)).max() < 0.02


def test_an_answer_does_not_depend_on_the_batch_the_call_or_the_mode() -> None:
    refined, x = refine(sick()), data(20)
    q = refined.encode(x)
    with torch.no_grad():
        again, alone = refine(sick()).encode(x), refined.encode(x[3:4])
    assert torch.equal(q.mean, again.mean)
    torch.testing.assert_close(alone.mean, q.mean[3:4], atol=1e-9, rtol=0)
    state = torch.get_rng_state()
    refined.encode(x[:2])
    assert torch.equal(state, torch.get_rng_state())
    assert all(p.grad is None for p in refined.model.parameters())
    assert check_model(refined, x).finite


def test_a_change_of_the_model_changes_the_answer() -> None:
    model, x = sick(), data(4)
    refined = refine(model, 20)
    before = refined.encode(x).mean
    with torch.no_grad():
        model.b += 1.0
    after = refined.encode(x).mean
    torch.testing.assert_close(after, model.posterior(x).mean, atol=0.02, rtol=0)
    assert (after - before).abs().max() > 0.1


@pytest.mark.slow
def test_estimators_work_on_it_unchanged() -> None:
    model, x = sick(), data(200)
    refined = refine(model, 20)
    log_px = es.importance_sampling(refined, x, 400, seed=0)
    truth = model.log_likelihood(x).mean().item()
    assert abs(log_px.mean - truth) < 4 * log_px.mc_error_of_mean + 1e-3
    worse = es.importance_sampling(model, x, 400, seed=0)
    assert log_px.diagnostics["ess"].mean() > 2 * worse.diagnostics["ess"].mean()
    elbo = es.evidence_lower_bound(refined, x, 500, seed=0)
    optimum = LinearGaussian.instance_1().elbo(x).mean().item()
    assert abs(elbo.mean - optimum) < 4 * elbo.mc_error_of_mean + 2e-3
    surgery = es.elbo_surgery(refined, x[:60], seed=0)
    assert surgery.mutual_information.mean > 0.5


def test_conditions_and_evaluation_mode_pass_through() -> None:
    model = es.from_modules(
        Joined(4, 4), Joined(3, 3), latent_shape=(2,), data_shape=(3,), conditional=True
    )
    x, c = torch.bernoulli(torch.full((30, 3), 0.5)), torch.ones(30, 1)
    refined = refine(model, 20)
    before = es.evidence_lower_bound(model, x, 500, seed=0, condition=c)
    after = es.evidence_lower_bound(refined, x, 500, seed=0, condition=c)
    assert after.mean > before.mean
    best = es.optimal_posterior(model, x, num_samples=500, seed=0, condition=c)
    assert after.mean < best.elbo.mean + 4 * best.elbo.mc_error_of_mean + 4 * after.mc_error_of_mean
    with evaluating(refined):
        assert not model.training
    assert model.training


class Joined(torch.nn.Module):
    """A linear layer of its input and the condition."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(inputs, outputs)

    def forward(self, x: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        return self.layer(torch.cat([x, c], 1))


def test_a_full_posterior_and_discrete_latents_are_refused() -> None:
    class Full(LinearGaussian):
        def encode(self, x: torch.Tensor) -> Distribution:
            q = super().encode(x)
            return MultivariateNormal(q.mean, torch.diag_embed(q.variance))

    class Discrete(LinearGaussian):
        def prior(self) -> Distribution:
            return Independent(Bernoulli(torch.full((2,), 0.5)), 1)

    model = LinearGaussian.instance_1()
    with pytest.raises(ContractError, match=r"encode\(x\): expected a diagonal Gaussian.*Multi"):
        refine(Full(model.W, model.b, 0.5)).encode(data(2))
    with pytest.raises(ContractError, match=r"prior\(\): expected latents on all real numbers"):
        refine(Discrete(model.W, model.b, 0.5)).encode(data(2))


def test_a_model_without_an_encoder_is_refused_at_once() -> None:
    class Half:
        prior, decode = sick().prior, sick().decode

    with pytest.raises(ContractError, match=r"got Half without one\. Use es.optimal_posterior"):
        refine(Half())


def test_mistakes_are_named() -> None:
    model = sick()
    with pytest.raises(InputError, match="steps: expected at least 1; got 0"):
        refine(model, 0)
    with pytest.raises(InputError, match=r"learning_rate: expected a number in \(0, 1\]; got 2.0"):
        refine(model, learning_rate=2.0)
    with pytest.raises(InputError, match="num_samples: expected at least 2; got 1"):
        refine(model, num_samples=1)
