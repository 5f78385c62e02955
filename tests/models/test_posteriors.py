"""Every posterior family on a model whose every quantity is known, and downstream of it."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

import elboscope as es
from elboscope.core import ContractError, InputError, log_weights, seeded
from elboscope.diagnostics import QUICK
from elboscope.distributions import GaussianLikelihood
from elboscope.models import (
    IAF,
    MAF,
    VAE,
    AuxiliaryRealNVP,
    FullCovariance,
    LinearGaussian,
    Planar,
    RealNVP,
    conv_vae,
    from_modules,
    mlp_vae,
    stack,
)

DOUBLE = torch.float64
SMALL = {"hidden": 12, "context": 3}
FAMILIES = (
    FullCovariance(),
    RealNVP(**SMALL),
    MAF(**SMALL),
    IAF(**SMALL),
    Planar(num_steps=3),
    AuxiliaryRealNVP(**SMALL),
)
families = pytest.mark.parametrize("family", FAMILIES, ids=lambda f: type(f).__name__)
WITH_DENSITY = (FullCovariance, RealNVP, MAF, IAF)


def vae(family, scale=0.25, seed=0):
    """Instance 1 with an encoder of this family, random in every weight but the decoder's."""
    truth = LinearGaussian.instance_1()
    with seeded(seed):
        encoder = nn.Linear(3, family.num_outputs(2)).double()
        decoder = nn.Linear(2, 3).double()
        head = family.head(2).double()
        with torch.no_grad():
            for p in [*encoder.parameters(), *head.parameters()]:
                p.normal_(0, scale * p.shape[-1] ** -0.5 if p.ndim > 1 else 0.5 * scale)
            if isinstance(family, AuxiliaryRealNVP):  # widen q, narrow r: weights with a variance
                encoder.bias[2:4] += 2.0
                head.flow.reverse[-1].bias[2:] -= 3.0
            decoder.weight.copy_(truth.W)
            decoder.bias.copy_(truth.b)
    for p in decoder.parameters():
        p.requires_grad_(False)
    likelihood = GaussianLikelihood((3,), math.sqrt(0.5))
    model = VAE(
        encoder, decoder, likelihood, latent_shape=(2,), data_shape=(3,), encoder_output=head
    )
    x, _ = truth.sample(4, seed=1)
    return model, truth, x


def z_scores(model, truth, x, n=40_000, seed=2):
    """The mean weight against p(x), and the mean log-weight against log p(x)."""
    with seeded(seed), torch.no_grad():
        log_w = log_weights(model, x, n) - truth.log_likelihood(x)
    w = log_w.exp()
    unbiased = (w.mean(0) - 1) / (w.std(0) / math.sqrt(n))
    below = log_w.mean(0) / (log_w.std(0) / math.sqrt(n))
    return unbiased, below, (w.std(0) / math.sqrt(n)).max()


def trained(model, x, steps=60):
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(parameters, lr=0.02)
    with seeded(3):
        for _ in range(steps):
            optimiser.zero_grad()
            es.objectives.elbo(model, x, 16).loss.backward()
            optimiser.step()
    return model


@families
def test_importance_weights_are_unbiased_and_the_elbo_lies_below(family):
    model, truth, x = vae(family)
    for stage in ("random", "trained"):
        unbiased, below, error = z_scores(
            trained(model, x) if stage == "trained" else model, truth, x
        )
        assert unbiased.abs().max() < 4, stage
        assert error < 0.1, stage
        assert below.max() < -4, stage


@families
def test_training_closes_most_of_the_gap(family):
    """60 steps on four datapoints; where the exact posterior is in the family, most of it."""
    model, truth, x = vae(family)
    with torch.no_grad():
        before = (truth.log_likelihood(x) - log_weights(model, x, 2000).mean(0)).mean()
    trained(model, x, 150)
    with torch.no_grad():
        after = (truth.log_likelihood(x) - log_weights(model, x, 2000).mean(0)).mean()
    assert after < 0.5 * before


def exact(truth):
    """The encoder of a full-covariance posterior that is p(z|x)."""
    target = truth.with_exact_posterior().encoder
    encoder = nn.Linear(3, FullCovariance().num_outputs(2)).double()
    with torch.no_grad():
        L = target.scale_tril
        encoder.weight.zero_()
        encoder.weight[:2] = target.A
        encoder.bias.copy_(torch.cat([target.c, 2 * L.diagonal().log(), L[1:2, 0]]))
    return encoder


def test_a_full_covariance_posterior_at_the_exact_one_has_no_gap():
    model, truth, x = vae(FullCovariance())
    model.encoder = exact(truth)
    log_w = log_weights(model, x, 50)
    torch.testing.assert_close(log_w, truth.log_likelihood(x).expand(50, 4), atol=1e-10, rtol=0)
    elbo = es.evidence_lower_bound(model, x, 10, seed=0)
    torch.testing.assert_close(elbo.values, truth.log_likelihood(x), atol=1e-10, rtol=0)
    loss = es.objectives.sticking_the_landing(model, x, 4).loss
    grads = torch.autograd.grad(loss, model.encoder.parameters())
    assert max(g.abs().max() for g in grads) < 1e-10


@pytest.mark.parametrize("objective", ["elbo", "iwae", "dreg", "sticking_the_landing"])
@families
def test_pathwise_objectives_reach_the_encoder_and_the_flow(family, objective):
    model, _, x = vae(family)
    bound = getattr(es.objectives, objective)(model, x, 4)
    loss = bound.loss if bound.encoder_loss is None else bound.encoder_loss
    named = {k: p for k, p in model.named_parameters() if p.requires_grad}
    grads = torch.autograd.grad(loss, list(named.values()))
    still = [k for k, g in zip(named, grads, strict=True) if not bool((g != 0).any())]
    assert still == []


@families
def test_capabilities_say_what_can_be_asked(family):
    model, _, x = vae(family)
    found = es.check_model(model, x)
    assert found.has_posterior_density == isinstance(family, WITH_DENSITY)
    assert found.scores_own_draws == (not isinstance(family, FullCovariance))
    assert found.reparameterised
    assert found.problems == ()
    phi, _ = es.core.split_parameters(model, x)
    assert {id(p) for p in phi} == {id(p) for p in model.parameters() if p.requires_grad}


@families
def test_what_needs_the_density_of_a_given_z_is_refused_where_there_is_none(family):
    model, _, x = vae(family)

    def wake():
        return es.objectives.wake_phase(model, x, 4).value

    def annealed():
        return es.annealed_importance_sampling(
            model, x, num_temperatures=8, num_chains=2, num_leapfrog=2, path="posterior", seed=0
        ).values

    if isinstance(family, WITH_DENSITY):
        assert bool(wake().isfinite().all())
        assert bool(annealed().isfinite().all())
        return
    with pytest.raises(ContractError, match="which cannot score them"):
        wake()
    with pytest.raises(ContractError, match="a density, from which path='posterior' starts"):
        annealed()


@families
def test_weights_survive_safetensors(family, tmp_path):
    from safetensors.torch import load_model, save_model

    model, _, x = vae(family)
    other, _, _ = vae(family, seed=9)
    save_model(model, str(tmp_path / "model.safetensors"))
    load_model(other, str(tmp_path / "model.safetensors"))
    values = [es.importance_sampling(m, x, 50, seed=0).values for m in (model, other)]
    assert torch.equal(*values)


CONFIG = """
data: digits
model:
  class_path: mlp_vae
  init_args:
    latent_dim: 2
    hidden: [8]
    posterior: {class_path: RealNVP, init_args: {hidden: 8, context: 2}}
objective: {class_path: BetaELBO, init_args: {analytic_kl: false, warm_up_epochs: 1}}
training: {epochs: 1, seed: 0, tensorboard: false}
"""


def test_a_trained_run_is_loaded_with_its_flow(tmp_path, capsys):
    from elboscope.cli import main
    from elboscope.cli.evaluation_data import load_target

    config, run = tmp_path / "c.yaml", tmp_path / "run"
    config.write_text(CONFIG.replace("analytic_kl: false", "analytic_kl: true"))
    assert main(["train", str(config), "--out", str(tmp_path / "no")]) == 2
    assert "got FlowPosterior and Normal. Sample it: " in capsys.readouterr().err
    config.write_text(CONFIG)
    assert main(["train", str(config), "--out", str(run)]) == 0
    model = load_target(str(run)).model
    assert model.encoder_output.family == RealNVP(hidden=8, context=2)
    last = model.encoder_output.flow.steps[0].hyper[-1].weight
    assert last.abs().max() > 0  # trained away from the identity, and saved


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: type(f).__name__)
def test_diagnose_answers_what_can_be_asked_and_says_why_not(family):
    x = (es.data.digits().test[:64] > 0.5).float()
    with seeded(4):
        model = mlp_vae((1, 8, 8), 2, hidden=(16,), posterior=family)
    found = es.diagnose(model, x, budget=replace(QUICK, num_optimised=10, num_prior=300))
    evidence = found.evidence
    assert evidence["log_px"].mean >= evidence["elbo"].mean
    assert type(family).__name__ in repr(model)
    dense = isinstance(family, WITH_DENSITY)
    assert ("surgery" in evidence) == dense
    assert ("has no density" in evidence.skipped.get("surgery", "")) == (not dense)
    assert all(evidence.skipped.values())
    assert "log p" in found.to_json()


# How a user gets one.


@families
def test_architectures_take_a_family(family):
    for model in (
        mlp_vae((1, 8, 8), 2, hidden=(8,), posterior=family),
        conv_vae((1, 8, 8), 2, channels=(3, 4), posterior=family),
    ):
        assert str(family) in repr(model)
        q = model.encode(torch.zeros(5, 1, 8, 8))
        assert (q.batch_shape, q.event_shape) == ((5,), (2,))


def test_a_flow_begins_as_the_diagonal_gaussian_of_the_same_encoder():
    with seeded(0):
        flow = mlp_vae((6,), 3, hidden=(8,), posterior=RealNVP(**SMALL))
    mu, log_variance = flow.encoder(torch.ones(1, 6))[:, :6].chunk(2, dim=1)
    plain = es.distributions.diagonal_gaussian(mu, log_variance)
    z = plain.sample((5,))
    torch.testing.assert_close(flow.encode(torch.ones(1, 6)).log_prob(z), plain.log_prob(z))


class Triple(nn.Module):
    """Most people's encoder: a tuple."""

    def __init__(self, *widths):
        super().__init__()
        self.heads = nn.ModuleList(nn.Linear(6, w) for w in widths)

    def forward(self, x):
        return tuple(head(x) for head in self.heads)


def test_from_modules_measures_the_latents_of_a_family():
    pair = from_modules(Triple(2, 2), nn.Linear(2, 6), data_shape=(6,), posterior=MAF(context=0))
    assert pair.latent_shape == (2,)
    triple = from_modules(
        Triple(2, 2, 7), nn.Linear(2, 6), data_shape=(6,), posterior=IAF(hidden=9, context=7)
    )
    assert triple.encode(torch.zeros(4, 6)).event_shape == (2,)
    full = from_modules(nn.Linear(6, 9), nn.Linear(3, 6), posterior=FullCovariance())
    assert full.latent_shape == (3,)


@pytest.mark.parametrize(
    ("encoder", "settings", "message"),
    [
        (nn.Linear(6, 4), {"posterior": RealNVP()}, "encoder output: expected as many .*got 4 num"),
        (nn.Linear(6, 2), {"posterior": MAF(context=0)}, "latent_dim: expected at least 2 for MAF"),
        (
            nn.Linear(6, 4),
            {"posterior": MAF(context=0), "encoder_output": "mu_std"},
            "encoder_output: expected 'mu_logvar'.*got 'mu_std'",
        ),
        (
            nn.Linear(6, 8),
            {"posterior": MAF(context=0), "latent_shape": (2, 2)},
            r"latent_shape: expected \(d,\).*got \(2, 2\)",
        ),
        (
            nn.Sequential(nn.Linear(6, 8), nn.Unflatten(1, (4, 2))),
            {"posterior": MAF(context=0)},
            r"encoder output: expected tensors \(B, n\).*got \(16, 4, 2\)",
        ),
        (nn.Linear(6, 4), {"posterior": Planar(0)}, "num_steps: expected at least 1; got 0"),
    ],
)
def test_what_does_not_fit_is_refused(encoder, settings, message):
    with pytest.raises(InputError, match=message):
        from_modules(encoder, nn.Linear(2, 6), **settings)


def test_outputs_of_another_width_and_stacks_are_refused():
    head = RealNVP(**SMALL).head(2)
    with pytest.raises(
        InputError, match=r"encoder output: expected \(B, 7\) for RealNVP.*\(5, 4\)"
    ):
        head(torch.zeros(5, 4))
    models = [mlp_vae((6,), 2, (8,), posterior=RealNVP(**SMALL)) for _ in range(2)]
    with pytest.raises(InputError, match="Train other models one at a time"):
        stack(models)
    with pytest.raises(InputError, match="hidden: expected at least 1; got 0"):
        mlp_vae((6,), 2, posterior=AuxiliaryRealNVP(hidden=0))
