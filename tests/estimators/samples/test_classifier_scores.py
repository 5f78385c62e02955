"""Inception Score and modes: exact in every scenario whose value is known."""

import math
import os

import pytest
import torch

import elboscope as es
from elboscope.classifiers import classifier_for
from elboscope.core import InputError, seeded
from elboscope.estimators.samples.classifier import inception_score, mode_kl, modes_covered


def sure(classes: torch.Tensor, of: int) -> torch.Tensor:
    """log p(y|x) of a classifier without doubt: 0 and −∞."""
    return torch.nn.functional.one_hot(classes, of).float().log()


def drawn(n: int, of: int) -> torch.Tensor:
    return sure(torch.randint(of, (n,)), of)


@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_sure_answers_over_all_classes_score_their_number_exactly(classes):
    log_probs = sure(torch.arange(classes).repeat(5), classes)
    score = inception_score(log_probs, splits=5)
    assert score.values.tolist() == pytest.approx([classes] * 5, rel=1e-12)


def test_mode_collapse_scores_one():
    assert inception_score(sure(torch.full((50,), 3), 10)).values.tolist() == [1.0] * 10


def test_a_constant_unsure_answer_scores_one():
    log_probs = torch.log_softmax(torch.randn(1, 10), 1).expand(40, 10)
    assert inception_score(log_probs, splits=4).mean == pytest.approx(1, abs=1e-6)


def test_saturated_logits_give_a_number():
    """0 · log 0 is 0: the peer returns NaN here, and says nothing."""
    logits = torch.full((20, 10), -1e30).scatter(1, torch.arange(20)[:, None] % 10, 1e30)
    score = inception_score(torch.log_softmax(logits, 1), splits=2)
    assert score.values.tolist() == pytest.approx([10, 10], rel=1e-12)


@pytest.mark.filterwarnings("ignore")
def test_the_convention_is_that_of_the_peer():
    peer = pytest.importorskip("torchmetrics.image.inception")
    with seeded(0):
        logits = 2 * torch.randn(2000, 10)
        metric = peer.InceptionScore(feature=torch.nn.Identity(), splits=10)
        metric.update(logits)
        mean, sd = metric.compute()
    score = inception_score(torch.log_softmax(logits, 1))
    assert abs(score.mean - mean.item()) < 4 * score.stderr * math.sqrt(2)
    assert score.settings["sd"] == pytest.approx(sd.item(), rel=0.8)


def test_fewer_images_a_split_score_lower():
    with seeded(0):
        log_probs = torch.log_softmax(2 * torch.randn(10_000, 5), 1)
    scores = [inception_score(log_probs, splits=s).mean for s in (1, 100, 1000, 10_000)]
    assert scores == sorted(scores, reverse=True)
    assert scores[-1] == pytest.approx(1)


def test_the_error_over_splits_is_that_of_the_score():
    with seeded(0):
        scores = [
            inception_score(torch.log_softmax(2 * torch.randn(1000, 5), 1)) for _ in range(100)
        ]
    sd = torch.tensor([s.mean for s in scores]).std().item()
    stderr = sum(s.stderr for s in scores) / 100
    assert stderr == pytest.approx(sd, rel=0.25)


def test_modes_are_those_that_some_image_is_most_probably_of():
    covered = modes_covered(sure(torch.tensor([0, 7, 7, 9]), 10))
    assert covered.total == 3
    assert covered.diagnostics["count"].tolist() == [1, 0, 0, 0, 0, 0, 0, 2, 0, 1]
    assert "total modes covered ≈ 3.0" in str(covered)


@pytest.mark.slow
def test_the_protocol_of_26000_perfect_samples_covers_1000_modes():
    with seeded(0):
        covered = modes_covered(drawn(26_000, 1000))
    assert covered.total == 1000
    assert covered.stderr < 0.01


def test_the_number_of_modes_of_few_images_is_that_of_chance():
    """E = C (1 − (1 − 1/C)ⁿ), and the bootstrap's error is that of the count."""
    with seeded(0):
        found = [modes_covered(drawn(200, 200)) for _ in range(100)]
    totals = torch.tensor([f.total for f in found])
    expected = 200 * (1 - (1 - 1 / 200) ** 200)
    assert abs(totals.mean().item() - expected) < 4 * totals.std().item() / 10
    mean_error = sum(f.stderr for f in found) / 100
    assert mean_error == pytest.approx(totals.std().item(), rel=0.3)


def test_collapse_to_one_mode_has_the_kl_log_c():
    kl = mode_kl(sure(torch.zeros(50, dtype=torch.long), 1000))
    assert kl.mean == pytest.approx(math.log(1000), rel=1e-12)
    assert (kl.num_images, kl.expected) == (50, 999 / 100)  # (C − 1)/(2n)
    assert kl.settings["expected of perfect samples"] == kl.expected
    assert kl.stderr == 0


def test_even_modes_have_no_kl():
    assert mode_kl(sure(torch.arange(40) % 4, 4)).mean == pytest.approx(0, abs=1e-12)


def test_perfect_samples_have_the_expected_kl_within_its_error():
    """2n KL is χ² with C − 1 degrees of freedom; the first-order error alone would be zero."""
    with seeded(0):
        found = [mode_kl(drawn(2000, 50)) for _ in range(100)]
    z = [(f.mean - f.expected) / f.stderr for f in found]
    z = torch.tensor(z)
    assert abs(z.mean().item()) < 0.4
    assert 0.4 < z.std().item() < 1.2


def test_uneven_modes_have_their_kl_within_its_error():
    p = torch.tensor([0.5, 0.3, 0.15, 0.05])
    truth = (p * (4 * p).log()).sum().item()
    with seeded(0):
        found = [mode_kl(sure(torch.multinomial(p, 5000, True), 4)) for _ in range(100)]
    z = torch.tensor([(f.mean - truth) / f.stderr for f in found])
    assert abs(z.mean().item()) < 0.5
    assert 0.8 < z.std().item() < 1.2


def test_logits_are_refused():
    with pytest.raises(InputError, match=r"rows of log-probabilities.*Apply log_softmax"):
        inception_score(torch.randn(20, 10) + 3)


def test_more_splits_than_images_are_refused():
    with pytest.raises(InputError, match="splits: expected at least one image in each"):
        inception_score(sure(torch.arange(5), 5))


@pytest.mark.full_data
@pytest.mark.slow
def test_stacked_digits_cover_all_modes():
    """26 000 true triples: all modes, and the KL of perfect samples but for the digits' shares."""
    images = es.data.load("mnist", os.environ["ELBOSCOPE_DATA"], download=False)
    with seeded(0):
        which = torch.randint(len(images.test), (6_500, 3))
    single = classifier_for((1, 28, 28))(images.test).log_probs
    red, green, blue = (single[which[:, i]] for i in range(3))
    triples = (red[:, :, None, None] + green[:, None, :, None] + blue[:, None, None, :]).flatten(1)
    x = images.test[which[:200]].squeeze(2)
    per_channel = classifier_for((3, 28, 28))(x).log_probs
    torch.testing.assert_close(per_channel, triples[:200], rtol=1e-3, atol=1e-3)
    with seeded(1):
        modes = single.argmax(1)[torch.randint(len(single), (26_000, 3))]
    labels = modes @ torch.tensor([100, 10, 1])
    covered, kl = modes_covered(sure(labels, 1000)), mode_kl(sure(labels, 1000))
    assert covered.total == 1000
    # The digits of MNIST are not equally frequent: three times the KL of one of them.
    shares = images.test_labels.bincount().double() / len(images.test)
    uneven = 3 * (shares * (10 * shares).log()).sum().item()
    assert abs(kl.mean - uneven - 999 / 52_000) < 4 * kl.stderr
    # Splits of 650 triples cannot hold 1000 classes evenly: the score is below their number.
    assert 300 < inception_score(triples).mean < 650
    assert 800 < inception_score(triples, splits=1).mean < 1000
