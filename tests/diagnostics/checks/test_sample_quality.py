"""Samples judged by scenario: healthy and sick samplers, whose fault it is, and who may judge."""

import math
from dataclasses import replace

import pytest
import torch
from handmade import evidence, scores, scores_gap
from torch import nn
from torch.distributions import Independent, Normal
from torch.nn.functional import avg_pool2d, interpolate

import elboscope as es
from elboscope.core import as_generative, check_model, evaluating, seeded
from elboscope.data import Binarisation
from elboscope.diagnostics import QUICK, Evidence, Subject, sample_quality
from elboscope.diagnostics.checks.sample_quality import modes_lost
from elboscope.diagnostics.gather import measure
from elboscope.diagnostics.plan import plan_for
from elboscope.diagnostics.quantities.samples import (
    DISCRIMINATOR_KL,
    SAMPLE_QUALITY,
    SAMPLE_QUALITY_GAP,
    SCORING,
    Scoring,
    suitable_classifier,
)

DIGITS = es.data.digits()
CHEAP = replace(
    QUICK, num_samples=20, num_elbo_samples=2, num_data=40, num_train=40, num_mixture=60,
    num_temperatures=0, num_optimised=0, num_prior=0,
)  # fmt: skip


class Drawer:
    """A GAN that knows these images by heart: u ~ N(0, 1) is one of them, in any order."""

    def __init__(self, images):
        self.images = images

    def prior(self):
        return Independent(Normal(torch.zeros(1), 1.0), 1)

    def generate(self, z):
        u = Normal(0.0, 1.0).cdf(z[..., 0])
        return self.images[(u * len(self.images)).long().clamp(0, len(self.images) - 1)]


class Pixels:
    """A code is an image: q(z|x) lies on x, and the prior on the images that it is given."""

    def __init__(self, prior, seen=lambda z: z):
        self._prior, self.seen = prior, seen

    def prior(self):
        return self._prior

    def encode(self, x):
        return Independent(Normal(x.flatten(1), 0.01), 1)

    def decode(self, z):
        images = self.seen(z.reshape(-1, 1, 8, 8)).reshape(*z.shape[:-1], 1, 8, 8)
        return Independent(Normal(images, 0.3), 3)


class Among(Normal):
    """Narrow around each of these images; its density is that of one Gaussian, and not asked."""

    def __init__(self, images):
        self.images = images.flatten(1)
        super().__init__(self.images.mean(0), 1.0)

    def sample(self, shape=()):
        rows = torch.randint(len(self.images), shape)
        return self.images[rows] + 0.01 * torch.randn(*shape, self.images.shape[1])


def among(images):
    return Independent(Among(images), 1)


def blurred(images):
    return interpolate(avg_pool2d(images, 4), scale_factor=4)


def gathered(model, x=DIGITS.test, *, images=None, condition=None, settings=None, budget=CHEAP):
    """The evidence of the samples alone: the other quantities have tests of their own."""
    generative = as_generative(model)
    with evaluating(generative), seeded(0):
        capabilities = check_model(
            generative, x[:8], condition=None if condition is None else condition[:8]
        )
        plan = plan_for(generative, capabilities, x, None, budget, 0, condition)
        known = {"data": "digits"} | (settings or {})
        start = Evidence(capabilities, known, plan.x)
        subject = Subject(generative, plan, start, model, x, images)
        return measure(subject, (SCORING, SAMPLE_QUALITY_GAP, SAMPLE_QUALITY, DISCRIMINATOR_KL))


def judged(model, **more):
    return sample_quality(gathered(model, **more))


def few_classes(classes):
    return DIGITS.train[(DIGITS.train_labels[:, None] == torch.tensor(classes)).any(1)]


def test_a_generator_of_other_real_digits_is_ok():
    finding = judged(Drawer(DIGITS.train))
    assert finding.severity == "ok"
    assert "test error 0.84%" in finding.summary
    assert finding.evidence["modes_lost"] == ()


@pytest.mark.parametrize(
    ("images", "severity", "lost", "cause"),
    [
        (few_classes(range(5)), "problem", (5, 6, 7, 8, 9), "collapse"),
        (few_classes(range(9)), "warning", (9,), "collapse"),
        (torch.rand(500, 1, 8, 8, generator=torch.Generator().manual_seed(0)), "problem", None,
         "generator"),
    ],
)  # fmt: skip
def test_generators_that_collapsed_or_make_noise(images, severity, lost, cause):
    finding = judged(Drawer(images))
    assert (finding.severity, finding.evidence["cause"]) == (severity, cause)
    assert lost is None or finding.evidence["modes_lost"] == lost
    assert "WGANGP" in finding.action


def test_who_played_wgan_gp_is_not_told_to_play_it():
    history = [{"epoch": 1.0, "critic_difference": 0.5}]
    found = gathered(Drawer(few_classes(range(5)))).replace(history=history)
    action = sample_quality(found).action
    assert "WGANGP" not in action
    assert "--objective.critic_steps" in action


def test_a_prior_where_the_codes_are_is_ok_and_one_beside_them_is_not():
    """The same encoder and decoder; the prior of one lies where no digit is encoded to."""
    healthy = judged(Pixels(among(DIGITS.train)))
    assert (healthy.severity, healthy.evidence["cause"]) == ("ok", "none")
    holed = judged(Pixels(Independent(Normal(torch.full((64,), 0.5), 0.5), 1)))
    assert (holed.severity, holed.evidence["cause"]) == ("problem", "latents")
    assert holed.evidence["reconstructions_lack_coverage"] < 0.1
    assert "the fault lies not with the decoder" in holed.summary
    assert "See 'prior hole'" in holed.action


def test_a_decoder_that_blurs_is_to_blame_itself():
    finding = judged(Pixels(among(DIGITS.train), blurred))
    assert (finding.severity, finding.evidence["cause"]) == ("problem", "decoder")
    assert "--model.hidden" in finding.action


def test_both_may_have_a_share():
    half = Pixels(Independent(Normal(torch.full((64,), 0.5), 0.5), 1), lambda z: 0.6 * z + 0.2)
    assert judged(half).evidence["cause"] == "both"


@pytest.mark.parametrize(
    ("mine", "theirs", "severity", "cause"),
    [
        ({"coverage": 0.40}, {}, "problem", "latents"),
        ({"coverage": 0.60}, {}, "warning", "latents"),
        ({"coverage": 0.70}, {}, "undecided", "none"),
        ({"density": 0.60}, {"density": 0.62}, "warning", "decoder"),
        ({"coverage": 0.40}, {"coverage": 0.60}, "problem", "both"),
        ({"coverage": 0.60}, {"coverage": 0.74}, "warning", "latents at least"),
        ({"coverage": 0.60}, {"coverage": 0.69}, "warning", "undecided"),
        ({"coverage": 0.95}, {"coverage": 0.30}, "ok", "none"),
    ],
)
def test_whose_fault_it_is(mine, theirs, severity, cause):
    """A quarter less than perfect samples have is a warning, half a problem; error 0.03."""
    samples, reconstructions = scores(**mine), scores(**theirs)
    found = evidence(
        sample_quality=samples, sample_quality_gap=scores_gap(samples, reconstructions)
    )
    finding = sample_quality(found)
    assert (finding.severity, finding.evidence["cause"]) == (severity, cause)
    assert bool(finding.action) == (severity != "ok")


@pytest.mark.parametrize(
    ("n_scored", "action"),
    [
        (358, "Give more evaluation data: all of it is already scored."),
        (200, "A larger budget scores more than 200 of the 359 datapoints: "
         "es.diagnose(model, x, budget='thorough')."),
    ],
)  # fmt: skip
def test_a_larger_budget_is_advised_only_where_it_scores_more(n_scored, action):
    """358 of 359 images are scored, in two halves of one size."""
    samples, images = scores(coverage=0.70), torch.zeros(n_scored, 1, 8, 8)
    scoring = Scoring(images, images, None, False, suitable_classifier(images, "digits"))
    gap = scores_gap(samples, scores())
    finding = sample_quality(
        evidence(sample_quality=samples, sample_quality_gap=gap, scoring=scoring, num_given=359)
    )
    assert (finding.severity, finding.action) == ("undecided", action)


def test_classes_are_missed_beyond_chance_only():
    """Ten equal images all fall among the data with a chance of 2⁻¹⁰ ≈ 0.01/10: fewer prove less.

    Of two data for a sample it takes fifteen: (2/3)¹⁵ < 0.01/3 < (2/3)¹⁴.
    """
    few = scores(counts=(0, 0, 50), of_data=(15, 14, 71))
    assert modes_lost(few) == (0,)
    equal = scores(counts=(0, *(40,) * 9), of_data=(9, *(40,) * 9))
    assert modes_lost(equal) == ()
    assert modes_lost(scores(counts=(0, *(40,) * 9), of_data=(11, *(40,) * 9))) == (0,)


def test_few_images_are_no_reason_to_judge():
    e = gathered(Drawer(DIGITS.train), DIGITS.test[:30])
    assert sample_quality(e).severity == "unavailable"
    assert e.skipped["sample_quality"] == "30 images, where 40 are needed"


@pytest.mark.parametrize(
    ("images", "name", "words"),
    [
        (DIGITS.test.flip(2), "", "is unsure of"),
        (1 - DIGITS.test, "", "is unsure of"),
        (DIGITS.test[DIGITS.test_labels < 2], "", "finds about 2"),
        (torch.rand(60, 1, 28, 28), "fashion_mnist", "no classifier is packaged for fashion_mnist"),
        (torch.rand(60, 1, 28, 28), "Fashion-MNIST", "no classifier is packaged for fashion_mnist"),
        (torch.rand(60, 1, 28, 28), "", "the mnist classifier finds about 1.0 of its 10 classes"),
        (torch.rand(60, 1, 9, 9), "", r"no classifier is packaged for images of shape \(1, 9, 9\)"),
    ],
)
def test_no_classifier_judges_images_that_it_does_not_know(images, name, words):
    found = suitable_classifier(images, name)
    assert found.classifier is None
    with pytest.raises(AssertionError, match=words):
        assert not found.reason, found.reason


def test_digits_are_known_by_name_or_by_shape():
    for name, by in (("digits", "the data's name, digits"), ("my.npy", "the images' shape")):
        found = suitable_classifier(DIGITS.test, name)
        assert found.classifier.name == "digits classifier"
        assert found.chosen_by.startswith(by)


def test_binarised_digits_are_scored_by_the_grey_ones_they_were_drawn_from():
    x = Binarisation("dynamic", seed=0).fixed_draw(DIGITS.test)
    without = gathered(Pixels(among(DIGITS.train)), x)
    assert "binarised" in without.skipped["sample_quality"]
    assert "classifier" not in without.settings
    found = gathered(Pixels(among(DIGITS.train)), x, images=DIGITS.test)
    assert found.settings["classifier"].startswith("digits classifier, 0.84% test error, chosen by")
    assert found["sample_quality"].coverage.mean > 0.85
    assert found.settings["n_scored"] == 358


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (3 * DIGITS.test, "values from 0 to 3 are no images"),
        (torch.rand(100, 9), "the data are not images"),
    ],
)
def test_what_is_no_image_is_not_scored(x, words):
    model = es.models.mlp_vae(tuple(x.shape[1:]), 2, hidden=(4,), likelihood="gaussian", scale=1.0)
    assert words in gathered(model, x).skipped["sample_quality_gap"]


def test_a_budget_without_scores_and_a_conditional_model_say_so():
    no_scores = gathered(Drawer(DIGITS.train), budget=replace(CHEAP, num_scored=0))
    assert no_scores.skipped["sample_quality"] == "budget 'quick' scores no samples"

    class Joined(nn.Linear):
        def forward(self, h, c):
            return super().forward(torch.cat([h, c.expand(*h.shape[:-1], 1)], -1))

    with seeded(0):
        model = es.from_modules(Joined(65, 4), Joined(3, 64), data_shape=(64,), latent_shape=(2,),
                                conditional=True, likelihood="gaussian", scale=1.0)  # fmt: skip
    e = gathered(model, DIGITS.test[:80].flatten(1), condition=torch.ones(80, 1))
    assert "conditional model" in e.skipped["sample_quality"]


def test_flat_digits_and_the_same_seed():
    flat = DIGITS.test.flatten(1)
    with seeded(0):
        model = es.models.mlp_vae((64,), 2, hidden=(8,), likelihood="gaussian", scale=0.3)
    pair = [gathered(model, flat)["sample_quality"].estimates for _ in range(2)]
    assert all(
        math.isclose(a.mean, pair[1][name].mean, rel_tol=1e-9) for name, a in pair[0].items()
    )


def test_a_hybrids_own_discriminator_is_asked_and_others_say_why_not():
    hidden = {"hidden": (8,), "likelihood": "gaussian", "scale": 0.3}
    with seeded(0):
        hybrid = es.models.mlp_hybrid((1, 8, 8), 2, code_hidden=(8,), **hidden)
        pairs = es.models.mlp_hybrid((1, 8, 8), 2, adversaries=("joint",), **hidden)
    own = gathered(hybrid)["discriminator_kl"]
    assert own.kl.side == "none"
    assert 0 <= own.accuracy.mean <= 1
    assert "pairs of x and z" in gathered(pairs).skipped["discriminator_kl"]
    assert "a GAN has no encoder" in gathered(Drawer(DIGITS.train)).skipped["discriminator_kl"]
