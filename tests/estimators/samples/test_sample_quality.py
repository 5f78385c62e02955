"""All scores together, in scenarios: perfect, collapsed, memorised, noise; and the gap."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, Normal

import elboscope as es
from elboscope.classifiers import Extracted, classifier_for
from elboscope.core import InputError, PointMass, seeded
from elboscope.estimators.samples.critic import CriticTraining
from elboscope.estimators.samples.quality import sample_quality, sample_quality_gap
from elboscope.estimators.samples.result import SampleQuality
from elboscope.estimators.samples.samplers import reconstructions_of, sampler_of

DIGITS = es.data.digits()


def scored(sampler, **settings) -> SampleQuality:
    defaults = {"num_images": 1000, "critic": None, "seed": 0}
    return sample_quality(sampler, DIGITS.test, **(defaults | settings))


def real(n: int) -> Tensor:
    return DIGITS.train[torch.randint(len(DIGITS.train), (n,))]


def test_other_real_digits_score_as_data():
    found = scored(real)
    assert found.modes_covered.total == 10
    assert found.coverage.mean > 0.9
    assert abs(found.density.mean - 1) < 4 * found.density.stderr
    data = found.of_data["ms_ssim_diversity"]
    assert abs(found.ms_ssim_diversity.mean - data.mean) < 4 * data.stderr
    data = found.of_data["inception_score"]
    assert abs(found.inception_score.mean - data.mean) < 4 * data.stderr * math.sqrt(10)


def test_mode_collapse():
    found = scored(lambda n: DIGITS.train[:1].expand(n, 1, 8, 8))
    assert found.inception_score.values.tolist() == pytest.approx([1] * 10)
    assert found.modes_covered.total == 1
    assert found.mode_kl.mean == pytest.approx(math.log(10))
    assert found.ms_ssim_diversity.mean == pytest.approx(0, abs=1e-9)
    assert found.recall.mean == 0
    assert found.coverage.mean < 0.1


@pytest.mark.slow
def test_memorised_data_look_perfect_but_to_the_critic():
    """Fifty digits by heart: precise, all modes; the critic knows them from other digits."""
    known = DIGITS.train[:50]
    found = scored(
        lambda n: known[torch.randint(50, (n,))],
        x_train=known,
        critic=CriticTraining(steps=250, num_seeds=2, learning_rate=2e-3, maps=(8, 16)),
    )
    assert found.precision.mean > 0.8
    assert found.modes_covered.total == 10
    overfitting = found.estimates["overfitting"]
    assert overfitting.mean > 2 * overfitting.stderr
    assert found.critic.train.mean < found.critic.test.mean


def test_noise():
    found, healthy = scored(lambda n: torch.rand(n, 1, 8, 8)), scored(real)
    assert found.inception_score.mean < 3
    assert found.coverage.mean < 0.2
    assert found.density.mean < 0.5
    assert found.frechet_distance.mean > 10 * healthy.frechet_distance.mean
    assert found.ms_ssim_diversity.mean > healthy.ms_ssim_diversity.mean


def test_the_classifier_and_its_error_stand_beside_every_score_of_it():
    found = scored(real, critic=CriticTraining(steps=2, num_seeds=1))
    for name, estimate in found.estimates.items():
        judged = "digits classifier, 0.84% test error" in str(estimate)
        assert judged == (not name.startswith(("ms_ssim", "critic", "overfitting"))), name
        assert "nats" not in str(estimate) or name == "mode_kl"
    assert "FID" not in found.table()


def test_the_line_and_the_table_show_the_data_beside():
    found = scored(real)
    assert repr(found).startswith("<SampleQuality of samples: Inception Score ")
    assert "\n" not in repr(found)
    rows = {line.split("  ")[0]: line for line in found.table().splitlines()}
    assert "0.97 expected" in rows["coverage"]
    assert "10 ± 0 of 10 modes " in rows["modes covered"]
    assert " 10 ± 0 (359 images) " in rows["modes covered"]
    assert (found.modes_covered.num_images, found.of_data["modes_covered"].num_images) == (
        1000,
        359,
    )
    assert (found.num_samples, found.classifier) == (1000, "digits classifier")
    assert round(found.classifier_error, 4) == 0.0084
    shown = ("num_samples", "classifier", "classifier_error")
    assert [found.settings[name] for name in shown] == [getattr(found, name) for name in shown]


def test_the_data_s_inception_score_is_of_splits_as_large_as_those_of_samples():
    found = scored(real, num_images=1300)
    score, data = found.inception_score, found.of_data["inception_score"]
    assert (len(score.values), score.num_images) == (10, 1300)
    assert (len(data.values), data.num_images) == (2, 260)
    assert "inception_score" not in scored(real, num_images=3700).of_data


def test_scores_are_reproduced_by_their_seed():
    before = torch.get_rng_state()
    first, second = scored(real), scored(real)
    for name, estimate in first.estimates.items():
        assert torch.equal(estimate.values, second.estimates[name].values), name
    assert torch.equal(before, torch.get_rng_state())


def test_triples_of_digits_have_a_thousand_modes():
    images = es.data.color_digits(10, 500)
    found = sample_quality(lambda n: images.test[torch.randint(500, (n,))], images.test,
                           num_images=600, critic=None, seed=0)  # fmt: skip
    assert found.modes_covered.settings["classes"] == 1000
    classifier = classifier_for((3, 8, 8))
    assert found.settings["classifier"] == classifier.name == "digits classifier per channel"
    assert f"{classifier.test_error:.2%}" in str(found.mode_kl)
    assert 200 < found.modes_covered.total < 400


class Brightness:
    """A classifier of one's own: dark or bright."""

    name, test_error = "brightness", math.nan

    def __call__(self, images: Tensor) -> Extracted:
        mean = images.flatten(1).mean(1)
        p = torch.stack([1 - mean, mean], 1)
        return Extracted(images.flatten(1)[:, :3], p.log())


def test_a_classifier_of_ones_own():
    with seeded(0):
        data = torch.rand(100, 5, 5)
    found = sample_quality(lambda n: torch.rand(n, 5, 5), data, classifier=Brightness(),
                           num_images=100, critic=None, seed=0)  # fmt: skip
    assert "brightness, unknown test error" in str(found.inception_score)
    assert found.inception_score.mean < 2


class Pictures:
    """A model whose decoder shows a training digit for z > cut, and noise below.

    The posterior is the prior, or sits where the digits are.
    """

    def __init__(self, cut: float, posterior: Normal) -> None:
        self.cut, self.posterior = cut, posterior

    def prior(self) -> Independent:
        return Independent(Normal(torch.zeros(1), torch.ones(1)), 1)

    def encode(self, x: Tensor) -> Independent:
        return Independent(self.posterior.expand((len(x), 1)), 1)

    def decode(self, z: Tensor) -> PointMass:
        u = Normal(0.0, 1.0).cdf(z[..., 0]).clamp(0, 0.999999)
        which = ((u * 7919) % 1 * len(DIGITS.train)).long()
        digits, bad = DIGITS.train[which], z[..., 0, None, None, None] <= self.cut
        return PointMass(torch.where(bad, torch.rand_like(digits), digits), 3)


def test_where_the_posterior_is_the_prior_there_is_no_gap():
    found = sample_quality_gap(Pictures(-9.0, Normal(0.0, 1.0)), DIGITS.train[:800], seed=0)
    for name, gap in found.gap.items():
        assert abs(gap.mean) <= 3 * gap.stderr or gap.stderr == 0 == gap.mean, name
    assert found.samples.settings["sampler"] == "E[x|z] of prior draws"
    assert found.reconstructions.settings["sampler"] == "E[x|z] of draws from q(z|x)"


def test_a_hole_in_the_prior_is_a_gap():
    """Half of the prior's draws decode to noise; no reconstruction does."""
    found = sample_quality_gap(Pictures(0.0, Normal(2.0, 0.3)), DIGITS.train[:800], seed=0)
    for name in ("inception_score", "density"):
        assert found.gap[name].mean < -3 * found.gap[name].stderr, name
    assert found.gap["frechet_distance"].mean > 3 * found.gap["frechet_distance"].stderr
    assert "samples − reconstructions" in str(found.gap["coverage"])
    assert repr(found).startswith("<SampleQualityGap, samples − reconstructions: Inception Score -")
    assert found.table().splitlines()[0].split() == [
        "score", "samples", "reconstructions", "difference", "data", "better",
    ]  # fmt: skip


def test_the_shared_data_cancel_in_the_error_of_the_gap():
    found = sample_quality_gap(Pictures(-9.0, Normal(0.0, 1.0)), DIGITS.train[:800], seed=0)
    a, b = (q.estimates["coverage"] for q in (found.samples, found.reconstructions))
    torch.testing.assert_close(found.gap["coverage"].values, a.values - b.values)
    assert found.gap["inception_score"].stderr == pytest.approx(
        math.hypot(*(q.inception_score.stderr for q in (found.samples, found.reconstructions)))
    )


def test_reconstructions_are_of_each_datapoint_once():
    class Copier(Pictures):
        def encode(self, x: Tensor) -> Independent:
            return Independent(Normal(x.flatten(1), 1e-9), 1)

        def decode(self, z: Tensor) -> PointMass:
            return PointMass(z.view(*z.shape[:-1], 1, 8, 8), 3)

    x = DIGITS.train[:30]
    with seeded(0):
        sampler = reconstructions_of(Copier(0.0, Normal(0.0, 1.0)), x)
        first, second = torch.cat([sampler(10), sampler(20)]), sampler(30)
    for found in (first, second):
        assert torch.cdist(found.flatten(1), x.flatten(1)).argmin(1).sort().values.tolist() == [
            *range(30)
        ]


def test_a_model_samples_means_or_draws_and_says_which():
    model = es.models.mlp_vae((1, 8, 8), 2, hidden=(8,))
    means, draws = sampler_of(model), sampler_of(model, noise=True)
    with seeded(0):
        assert set(draws(200).unique().tolist()) == {0.0, 1.0}
        assert 0 < means(200).min() < means(200).max() < 1
    assert (means.description, draws.description) == (
        "E[x|z] of prior draws",
        "draws from p(x|z) of prior draws",
    )


def test_means_outside_the_unit_interval_are_clipped():
    class Wide(Pictures):
        def decode(self, z: Tensor) -> PointMass:
            return PointMass(3 * z[..., None, None].expand(*z.shape[:-1], 1, 8, 8), 3)

    with seeded(0):
        x = sampler_of(Wide(0.0, Normal(0.0, 1.0)))(100)
    assert (x.min(), x.max()) == (0, 1)


def test_a_generator_without_likelihood_has_no_noise():
    gan = es.models.mlp_gan((1, 8, 8), 2, (8,))
    assert sampler_of(gan).description == "G(z) of prior draws"
    with pytest.raises(InputError, match=r"noise: expected a model with a likelihood"):
        sampler_of(gan, noise=True)
    with pytest.raises(InputError, match="model: expected a model with an encoder"):
        reconstructions_of(gan, DIGITS.test)


@pytest.mark.parametrize(
    ("sampler", "words"),
    [
        (lambda n: torch.rand(n, 1, 9, 9), r"sampler: expected n → images of shape \(n, 1, 8, 8\)"),
        (lambda n: 2 * torch.ones(n, 1, 8, 8), r"samples: expected values in \[0, 1\]"),
        (lambda n: torch.full((n, 1, 8, 8), math.nan), "samples: expected finite values"),
        (lambda n: torch.rand(n, 64), r"samples: expected images \(N, C, H, W\) or \(N, H, W\)"),
        (lambda n: "images", "sampler: expected a function n → Tensor; got a str"),
        (lambda n: torch.rand(3, 1, 8, 8), "sampler: expected n → images"),
        (lambda n: torch.tensor(1.0), r"sampler: expected n → images .* got shape \(\)"),
        (es.models.mlp_gan((1, 8, 8), 2), r"got a GAN. Pass es.samples.sampler_of\(model\)"),
    ],
)
def test_samplers_that_are_none_are_refused(sampler, words):
    with pytest.raises(InputError, match=words):
        scored(sampler)


def test_a_sampler_whose_images_change_their_size():
    with pytest.raises(InputError, match=r"got shape \(1000, 1, 8, 8\) and \(5, 1, 8, 7\)"):
        scored(lambda n: torch.rand(n, 1, 8, 8 if n > 5 else 7), num_images=1005)


def test_counts_and_training_data_that_do_not_fit():
    with pytest.raises(InputError, match="num_compared: expected at least 20; got -5"):
        scored(real, num_compared=-5)
    with pytest.raises(InputError, match="num_images: expected at least 40; got 0"):
        scored(real, num_images=0)
    with pytest.raises(InputError, match=r"x_train: expected images of shape \(1, 8, 8\)"):
        scored(real, x_train=torch.rand(50, 1, 9, 9))


def test_a_share_of_none_is_no_negative_zero():
    found = scored(lambda n: torch.zeros(n, 1, 8, 8), num_images=400)
    assert "-0.0" not in found.table()


def test_too_few_images_are_refused():
    with pytest.raises(InputError, match="x: expected at least 40 images; got 7"):
        sample_quality(real, DIGITS.test[:7], seed=0)
    with pytest.raises(InputError, match="num_images: expected at least 40; got 9"):
        scored(real, num_images=9)


class Shown:
    """Codes are pixels: reconstructions show what was encoded, samples are noise."""

    def prior(self):
        return Independent(Normal(torch.full((64,), 0.5), 0.5), 1)

    def encode(self, x):
        return Independent(Normal(x, 1e-3), 1)

    def decode(self, z):
        return Independent(Normal(z, 1.0), 1)


def test_the_gap_of_flat_binary_x_is_taken_of_the_images_they_were_drawn_from():
    """With x itself shown, reconstructions of binary draws would be scored as grey digits."""
    binary = (DIGITS.test > 0.5).float().flatten(1)
    found = sample_quality_gap(Shown(), DIGITS.test.flatten(1), images=DIGITS.test, seed=0)
    assert found.reconstructions.coverage.mean > 0.9 > 0.2 > found.samples.coverage.mean
    blurred = sample_quality_gap(Shown(), binary, images=DIGITS.test, seed=0)
    same = found.reconstructions.of_data["mode_kl"], blurred.reconstructions.of_data["mode_kl"]
    assert same[0].mean == same[1].mean  # the images alone are compared with
    assert blurred.reconstructions.coverage.mean < found.reconstructions.coverage.mean - 0.1
    with pytest.raises(InputError, match=r"images: expected one row per datapoint \(359\)"):
        sample_quality_gap(Shown(), binary, images=DIGITS.train)
