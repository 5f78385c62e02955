"""The packaged classifiers err as often as they say, and count the modes of stacked digits."""

import dataclasses
import math
import os
from importlib import resources
from pathlib import Path

import pytest
import torch

import elboscope as es
from elboscope.classifiers import (
    RECIPES,
    Classifier,
    Extractor,
    PerChannel,
    classifier_for,
    digits_classifier,
    error_rate,
    load_classifier,
    mnist_classifier,
    packaged_names,
    save_classifier,
    trained,
)
from elboscope.classifiers.__main__ import main
from elboscope.classifiers.training import build, shifted
from elboscope.core import InputError, seeded

MEGABYTE = 2**20


def measured(classifier, images):
    return error_rate(classifier.network, images.test, images.test_labels)


def test_the_digits_classifier_errs_as_its_file_says():
    classifier = digits_classifier()
    assert measured(classifier, es.data.digits()) == pytest.approx(classifier.test_error, abs=0.003)
    assert classifier.test_error < 0.02


@pytest.mark.full_data
@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_the_packaged_classifiers_err_as_their_files_say(name):
    images = es.data.load(name, os.environ["ELBOSCOPE_DATA"], download=False)
    images = dataclasses.replace(
        images, test=images.test[:2500], test_labels=images.test_labels[:2500]
    )
    error = classifier_for(images.data_shape).test_error
    sd = math.sqrt(error * (1 - error) / 2500)
    assert abs(measured(classifier_for(images.data_shape), images) - error) < 4 * sd


def test_mnist_is_good_enough_to_count_by():
    assert mnist_classifier().test_error <= 0.008


def test_packaged_weights_are_small_and_name_their_recipe():
    folder = resources.files("elboscope.classifiers") / "weights"
    for name in packaged_names():
        content = (folder / f"{name}.safetensors").read_bytes()
        assert len(content) < MEGABYTE
        assert str(RECIPES[name]).encode() in content


def test_colours_count_as_hundreds_tens_and_ones():
    """On triples of digits the classifier errs as often as independent mistakes would make it."""
    images = es.data.color_digits(10, 2000)
    classifier = classifier_for(images.data_shape)
    log_probs = classifier(images.test).log_probs
    error = (log_probs.argmax(1) != images.test_labels).double().mean().item()
    assert isinstance(classifier, PerChannel)
    assert error == pytest.approx(classifier.test_error, abs=0.01)
    torch.testing.assert_close(log_probs.exp().sum(1), torch.ones(2000))


def test_features_of_colours_stand_side_by_side():
    x = torch.rand(4, 3, 8, 8)
    features = PerChannel(digits_classifier())(x).features
    green = digits_classifier()(x[:, 1:2]).features
    torch.testing.assert_close(features[:, 48:96], green)


def test_what_was_saved_is_what_is_loaded(tmp_path):
    recipe = dataclasses.replace(RECIPES["digits"], epochs=1)
    images = es.data.digits()
    network = trained(recipe, images)
    error = save_classifier(tmp_path / "w.safetensors", network, recipe, images)
    classifier = load_classifier(tmp_path / "w.safetensors")
    assert classifier.test_error == error == measured(classifier, images)
    assert classifier.name == "digits classifier"
    assert isinstance(classifier, Extractor)


def test_a_recipe_gives_the_same_weights_twice_and_leaves_the_random_state():
    recipe = dataclasses.replace(RECIPES["digits"], epochs=1)
    before = torch.get_rng_state()
    first, second = (trained(recipe, es.data.digits()) for _ in range(2))
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(before, torch.get_rng_state())


def test_shifts_move_whole_images_over_black():
    with seeded(0):
        x = torch.zeros(500, 2, 5, 5)
        x[:, :, 2, 2] = 1
        moved = shifted(x, 1, mirror=False)
    assert torch.equal(moved.sum((1, 2, 3)), torch.full((500,), 2.0))
    assert torch.equal(moved[:, 0], moved[:, 1])
    assert (moved.mean(0)[0] > 0).sum() == 9


def test_mirroring_is_of_whole_images():
    with seeded(0):
        x = torch.zeros(400, 1, 2, 3)
        x[..., 0] = 1
        moved = shifted(x, 0, mirror=True)
    left, right = moved[:, 0, 0, 0].mean().item(), moved[:, 0, 0, 2].mean().item()
    assert left + right == 1
    assert abs(left - 0.5) < 4 * 0.5 / 20


def test_an_untrained_network_says_that_its_error_is_unknown():
    network = es.nn.ConvClassifier((1, 8, 8), (4,), 6, 10)
    assert math.isnan(Classifier(network, "mine", (1, 8, 8)).test_error)


def test_a_shape_without_a_classifier_is_refused():
    with pytest.raises(InputError, match=r"none is packaged for images of shape \(1, 5, 5\)"):
        classifier_for((1, 5, 5))


def test_images_of_another_shape_are_refused():
    with pytest.raises(InputError, match=r"\(1, 8, 8\), which the digits classifier takes"):
        digits_classifier()(torch.zeros(2, 1, 9, 9))
    with pytest.raises(InputError, match="three channels"):
        PerChannel(digits_classifier())(torch.zeros(2, 1, 8, 8))


def test_files_that_are_no_classifier_are_refused(tmp_path):
    path = tmp_path / "w.safetensors"
    with pytest.raises(InputError, match="a file of a classifier; got No such file"):
        load_classifier(path)
    for content in (b"", b"\x80\x04pickled", (8).to_bytes(8, "little") + b'{"a": 1}'):
        path.write_bytes(content)
        with pytest.raises(InputError, match="written by elboscope"):
            load_classifier(path)


def test_a_file_cannot_name_code_to_run():
    with pytest.raises(InputError, match="a kind of ConvClassifier, ResidualClassifier"):
        build({"kind": "os.system", "command": "true"})


def test_the_command_lists_what_is_packaged(capsys):
    assert main(["list"]) == 0
    assert "digits: (1, 8, 8), 20530 weights, test error 0.84%" in capsys.readouterr().out


def test_the_command_says_what_data_are_missing(tmp_path: Path, capsys):
    (tmp_path / "empty").mkdir()
    assert main(["train", "mnist", "--data-dir", str(tmp_path / "nothing"), "--no-download"]) == 2
    assert "mnist: expected" in capsys.readouterr().err


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_recipe_s_network_takes_its_images(name):
    """Logits are the head of the features, which are rectified."""
    architecture = RECIPES[name].architecture
    network = build(architecture).eval()
    with seeded(0):
        x = torch.rand(2, *architecture["image_shape"])
    features = network.features(x)
    assert bool((features >= 0).all())
    torch.testing.assert_close(network(x), network.head(features))
    assert network(x).shape == (2, 10)
