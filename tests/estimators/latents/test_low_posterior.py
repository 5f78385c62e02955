"""Low-q samples where q(z) is Gaussian, and the verdict on healthy and on holed models."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal

import elboscope as es
from elboscope.core import InputError, evaluating, seeded
from elboscope.diagnostics.checks.low_posterior import low_posterior_verdict
from elboscope.estimators import auroc, examine_low_samples, low_posterior_samples
from elboscope.estimators.latents.low_posterior_analysis import nearest_in_pixels
from elboscope.models import LinearGaussian


def narrow_in_one_direction():
    """Codes of an encoder that squeezes the second unit: q(z) = N(0, C) with C known."""
    model = LinearGaussian.perfect(2, 8, sigma2=0.5)
    squeezed = model.with_mistuned_posterior(0.0, torch.tensor([1.0, 0.05], dtype=torch.float64))
    A = squeezed.encoder.A.detach()
    A = A * torch.tensor([[1.0], [0.2]], dtype=torch.float64)
    squeezed.encoder.A.data.copy_(A)
    with evaluating(squeezed):
        v = squeezed.encode(torch.zeros(1, 8, dtype=torch.float64)).variance[0]
    return squeezed, A @ model.marginal().covariance_matrix @ A.T + torch.diag(v)


def test_log_q_is_the_mixture_and_near_its_gaussian_limit():
    model, C = narrow_in_one_direction()
    x, _ = model.sample(3000, seed=0)
    low = low_posterior_samples(model, x, 50, num_prior=3000, seed=1)
    z = low.by_density.z.double()
    with evaluating(model):
        literal = model.encode(x).log_prob(z[:, None]).logsumexp(1) - math.log(len(x))
    assert (literal - low.by_density.log_q).abs().max() < 1e-9
    assert low.mixture_size == low.settings["mixture_size"] == 3000
    q = MultivariateNormal(torch.zeros(2).double(), C)
    ordinary = low.ordinary
    inside = q.log_prob(ordinary.z.double()) > -5
    assert (q.log_prob(ordinary.z.double()) - ordinary.log_q)[inside].abs().median() < 0.2


def test_the_ratio_selects_along_the_smallest_eigenvector_of_the_covariance_of_q():
    model, C = narrow_in_one_direction()
    x, _ = model.sample(3000, seed=0)
    low = low_posterior_samples(model, x, 30, num_prior=3000, seed=1)
    direction = torch.linalg.eigh(C).eigenvectors[:, 0]
    along = (low.by_ratio.z.double() @ direction).abs()
    across = (low.by_ratio.z.double() @ torch.linalg.eigh(C).eigenvectors[:, 1]).abs()
    assert along.min() > 2.0
    assert across.mean() < 1.5
    assert low.log_q.min() == low.by_density.log_q[0]
    ratio = low.log_q - low.log_p
    assert torch.equal(ratio.sort().values[:30], low.by_ratio.log_q - low.by_ratio.log_p)


def test_a_perfect_model_is_covered():
    model = LinearGaussian.perfect(2, 8, sigma2=0.5)
    x, _ = model.sample(600, seed=0)
    low = low_posterior_samples(model, x, 40, num_prior=2000, seed=0)
    finding = low_posterior_verdict(examine_low_samples(model, x, low, num_embedded=0, seed=0))
    assert finding.severity == "ok"
    assert "q(z) covers the prior" in finding.summary


def test_a_perfect_model_with_narrow_posteriors_is_never_told_of_a_hole():
    """log q_N of every fresh draw is far below log p, and yet there is no hole."""
    model = LinearGaussian.perfect(20, 64)
    x, _ = model.sample(600, seed=0)
    low = low_posterior_samples(model, x, 40, num_prior=2000, seed=0)
    assert (low.by_ratio.log_q - low.by_ratio.log_p).mean() < -20
    assert low.uncovered < 0.03
    finding = low_posterior_verdict(examine_low_samples(model, x, low, num_embedded=0, seed=0))
    assert finding.severity == "undecided"
    assert "Posteriors are too narrow for 600 datapoints" in finding.summary


@pytest.mark.parametrize(
    ("stretch", "shift", "severity", "words"),
    [(6.0, 0.0, "ok", "model knows"), (1.0, 6.0, "warning", "model knows"),
     (0.4, 6.0, "problem", "is fooled: it prefers them")],
)  # fmt: skip
def test_whether_the_model_knows_of_its_holes(stretch, shift, severity, words):
    """A decoder that answers too loudly, one that is right for codes elsewhere, one too quiet.

    Stretched, samples lie where no data are and score low; shrunk, they lie at the mean of the
    data, where x is easiest, and score above it.
    """
    base = LinearGaussian.perfect(2, 8, sigma2=0.1)
    x, _ = base.sample(600, seed=0)
    model = LinearGaussian(base.W.detach() * stretch, base.b.detach(), 0.1)
    model = model.with_mistuned_posterior(shift)
    low = low_posterior_samples(model, x, 300, num_prior=3000, seed=0)  # every seed decides
    assert low.uncovered > 0.2
    finding = low_posterior_verdict(examine_low_samples(model, x, low, num_embedded=0, seed=0))
    assert (finding.severity, words in finding.summary) == (severity, True), str(finding)
    assert (finding.action == "") is (severity == "ok")


@pytest.fixture(scope="module")
def digits_found():
    images = es.data.digits()
    x = es.data.Binarisation("fixed", seed=0).fixed_draw(images.train[:400])
    model = es.models.mlp_vae((1, 8, 8), 4, hidden=(16,))
    low = low_posterior_samples(model, x, 20, num_prior=500, seed=0)
    return (
        x,
        low,
        examine_low_samples(
            model, x, low, by="density", num_data=50, num_samples=4, num_embedded=40, seed=0
        ),
    )


def test_the_five_analyses(digits_found):
    x, low, found = digits_found
    distances = (low.by_density.mean.flatten(1)[:, None] - x.flatten(1)).square().sum(-1).double()
    assert (found.distance - distances.min(1).values).abs().max() < 1e-5
    assert {k: v.sum().item() for k, v in found.pixels.items()} == {
        "data": 50 * 64, "neighbours": 20 * 64, "low": 20 * 64, "ordinary": 20 * 64,
    }  # fmt: skip
    assert set(found.elbo) == {"data", "neighbours", "low", "ordinary"}, "means are not binary"
    assert {k: len(v) for k, v in found.kl.items()} == {
        "data": 50, "neighbours": 20, "low": 20, "ordinary": 20,
    }  # fmt: skip
    assert found.embedded_by == "t-SNE"
    assert {k: tuple(v.shape) for k, v in found.embedding.items()} == {
        "prior": (40, 2), "aggregate posterior": (40, 2), "low": (20, 2),
    }  # fmt: skip
    assert torch.isfinite(torch.cat(list(found.embedding.values()))).all()
    assert found.embedding["prior"].std() > 1  # it spread out
    assert set(low.by_density.drawn.unique().tolist()) == {0.0, 1.0}


@pytest.mark.slow
def test_auroc_is_the_normal_one_and_its_interval_covers():
    """Two unit Gaussians a distance δ apart: Φ(δ/√2)."""
    truth = 0.5 * (1 + math.erf(1.0 / 2))
    inside = 0
    for seed in range(40):
        g = torch.Generator().manual_seed(seed)
        a, b = (torch.randn(120, generator=g, dtype=torch.float64) for _ in range(2))
        found = auroc(a + 1.0, b, seed=seed)
        inside += found.low <= truth <= found.high
    assert 34 <= inside <= 40
    same = torch.zeros(5).double()
    assert auroc(same, same, seed=0).auroc == 0.5
    assert auroc(same, same + 1, seed=0).low == auroc(same, same + 1, seed=0).auroc == 0.0


def test_the_nearest_datapoint_is_found_where_the_expanded_square_cancels():
    x = 1e4 + torch.arange(50.0)[:, None].expand(50, 3) * 1e-2
    some = x[[7, 31]] + 1e-3
    index, distance = nearest_in_pixels(some, x)
    assert index.tolist() == [7, 31]
    assert distance.max() < 1e-4


def test_mistakes_are_named():
    model = LinearGaussian.perfect(2, 8)
    x, _ = model.sample(10, seed=0)
    with pytest.raises(InputError, match="num_low: expected at most num_prior, 5; got 9"):
        low_posterior_samples(model, x, 9, num_prior=5, seed=0)
    with pytest.raises(InputError, match="number of datapoints: expected at least 4; got 3"):
        low_posterior_samples(model, x[:3], 2, num_prior=5, seed=0)
    low = low_posterior_samples(model, x, 2, num_prior=5, seed=0)
    with pytest.raises(InputError, match="by: expected 'ratio' or 'density'; got 'worst'"):
        examine_low_samples(model, x, low, by="worst", seed=0)


class Joined(nn.Linear):
    """A layer of (x, c) or of (z, c)."""

    def forward(self, h, c):
        return super().forward(torch.cat([h, c.expand(*h.shape[:-1], c.shape[-1])], -1))


def test_each_sample_of_a_conditional_model_keeps_its_own_condition():
    """The decoder adds the condition to x, so that it can be read off every mean."""
    with seeded(0):
        encoder, decoder = Joined(8 + 1, 4), Joined(2 + 1, 8)
    with torch.no_grad():
        decoder.weight[:, 2], decoder.bias[:] = 100.0, 0.0
        decoder.weight[:, :2] *= 0.01
    model = es.models.from_modules(
        encoder, decoder, "gaussian", scale=1.0, data_shape=(8,), latent_shape=(2,),
        conditional=True,
    )  # fmt: skip
    condition = (torch.arange(40) % 2).float()[:, None]
    with evaluating(model):
        x = model.given(condition).decode(torch.zeros(40, 2)).mean
    low = low_posterior_samples(model, x, 12, num_prior=60, seed=0, condition=condition)
    for some in (low.by_ratio, low.by_density, low.ordinary):
        assert torch.allclose(some.mean, 100 * some.condition.expand(-1, 8), atol=0.5)
    assert 0 < low.by_ratio.condition.sum() < 12
    found = examine_low_samples(model, x, low, num_samples=2, seed=0, condition=condition)
    assert torch.allclose(found.neighbours, 100 * low.by_ratio.condition.expand(-1, 8), atol=0.5)
    assert found.elbo["low"].min() > -20_000, "decoded with its own condition"
    with pytest.raises(InputError, match="condition: expected conditions for x where the samples"):
        examine_low_samples(model, x, low, num_samples=2, seed=0)


def test_a_flow_posterior_is_scored_pair_by_pair():
    with seeded(0):
        model = es.models.mlp_vae((1, 8, 8), 3, hidden=(8,), posterior=es.models.RealNVP())
    x = es.data.Binarisation("fixed", seed=0).fixed_draw(es.data.digits().train[:60])
    low = low_posterior_samples(model, x, 10, num_prior=100, seed=0)
    with evaluating(model):
        q = model.encode(x)
        pairs = torch.stack([q.log_prob(z.expand(60, 3)) for z in low.by_density.z])
    literal = pairs.double().logsumexp(1) - math.log(60)
    assert (literal - low.by_density.log_q).abs().max() < 1e-4
    found = examine_low_samples(model, x, low, num_data=20, num_samples=2, num_embedded=9, seed=0)
    assert found.kl == {}, "no closed form"
    assert len(found.elbo["low"]) == 10
