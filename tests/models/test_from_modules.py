"""The usual pair of modules becomes a model; what does not fit is refused by name."""

import inspect
import math
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.distributions import Independent, Laplace, Normal

import elboscope as es
from elboscope.core import ContractError, InputError, check_model, log_weights, seeded
from elboscope.models import LinearGaussian
from elboscope.models.from_modules import from_modules

unchecked = inspect.unwrap(from_modules)  # without the type check that runs in tests only


class Pair(nn.Module):
    """A user's encoder that returns two tensors."""

    def __init__(self, spread=lambda s: s, shape=(6,)):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), 4))
        self.spread = spread

    def forward(self, x):
        mu, s = self.body(x).chunk(2, 1)
        return mu, self.spread(s)


@pytest.mark.parametrize(
    ("word", "spread"),
    [
        ("mu_logvar", lambda s: s),
        ("mu_logsigma", lambda s: s / 2),
        ("mu_std", lambda s: (s / 2).exp()),
    ],
)
def test_three_ways_to_say_a_spread_are_one_posterior(word, spread):
    with seeded(0):
        encoder, x = Pair(spread), torch.rand(5, 6)
    mu, s = encoder.body(x).chunk(2, 1)
    model = from_modules(encoder, nn.Linear(2, 6), encoder_output=word, data_shape=(6,))
    torch.testing.assert_close(model.encode(x).mean, mu)
    torch.testing.assert_close(model.encode(x).stddev, (s / 2).exp())


def test_one_tensor_is_halved_and_a_function_is_asked():
    with seeded(0):
        encoder, decoder, x = nn.Linear(6, 4), nn.Linear(2, 6), torch.rand(5, 6)
    halved = from_modules(encoder, decoder).encode(x)
    torch.testing.assert_close(halved.mean, encoder(x)[:, :2])
    wide = from_modules(encoder, nn.Linear(4, 6), encoder_output=lambda h: laplace(h)).encode(x)
    assert (wide.event_shape, es.core.family(wide)) == ((4,), "Laplace")


def laplace(h):
    return Independent(Laplace(h, torch.ones_like(h)), 1)


def test_numbers_are_those_of_the_exact_model():
    truth = LinearGaussian.instance_1()
    x, z = truth.sample(4, seed=0)
    decoder = nn.Linear(2, 3).double()
    with torch.no_grad():
        decoder.weight.copy_(truth.W)
        decoder.bias.copy_(truth.b)
    model = from_modules(
        nn.Linear(3, 4).double(), decoder, likelihood="gaussian", scale=math.sqrt(0.5)
    )
    z = z.expand(7, 4, 2)
    torch.testing.assert_close(model.decode(z).log_prob(x), truth.decode(z).log_prob(x))
    assert model.prior().sample().dtype == torch.float64


def test_mlp_pair_on_images_flattens_and_lays_out():
    with seeded(0):
        encoder, decoder = nn.Linear(64, 4), nn.Linear(2, 64)
        x = (torch.rand(5, 1, 8, 8) < 0.5).float()
        z = torch.randn(3, 5, 2)
    model = from_modules(encoder, decoder, data_shape=(1, 8, 8))
    assert "encoder takes x reshaped to (64,)" in repr(model)
    torch.testing.assert_close(model.encode(x).mean, encoder(x.flatten(1))[:, :2])
    logits = decoder(z)
    slow = (x.flatten(1) * logits - nn.functional.softplus(logits)).sum(-1)
    torch.testing.assert_close(model.decode(z).log_prob(x), slow)
    assert check_model(model, x).problems == ()


def conv_pair():
    with seeded(0):
        encoder = nn.Sequential(nn.Conv2d(1, 3, 3, 2, 1), nn.Flatten(), nn.Linear(48, 4))
        decoder = nn.Sequential(
            nn.Linear(2, 48), nn.Unflatten(1, (3, 4, 4)), nn.ConvTranspose2d(3, 1, 4, 2, 1)
        )
    return encoder, decoder


def test_conv_pair_takes_samples_and_batches():
    model = from_modules(*conv_pair(), data_shape=(1, 8, 8))
    with seeded(0):
        x = (torch.rand(5, 1, 8, 8) < 0.5).float()
        assert check_model(model, x).problems == ()
        assert log_weights(model, x, 3).shape == (3, 5)
    assert "reshaped" not in repr(model)


def test_a_latent_map_keeps_its_axes():
    encoder, decoder = nn.Conv2d(1, 4, 2, 2), nn.ConvTranspose2d(2, 1, 2, 2)
    model = from_modules(encoder, decoder, data_shape=(1, 8, 8))
    x = (torch.rand(5, 1, 8, 8) < 0.5).float()
    assert check_model(model, x).latent_shape == (2, 4, 4)


def test_modules_are_used_and_keep_their_keys():
    encoder, decoder = conv_pair()
    model = from_modules(encoder, decoder, data_shape=(1, 8, 8))
    keys = {f"encoder.{k}" for k in encoder.state_dict()}
    keys |= {f"decoder.{k}" for k in decoder.state_dict()}
    assert set(model.state_dict()) == keys
    assert model.encoder is encoder


def test_the_learned_scale_is_in_the_state_and_follows_the_dtype():
    pair = nn.Linear(3, 4).double(), nn.Linear(2, 3).double()
    model = from_modules(*pair, likelihood="gaussian", scale="learned")
    assert model.state_dict()["likelihood.log_scale"].dtype == torch.float64


def test_measuring_leaves_the_random_state_the_mode_and_the_statistics():
    encoder = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
    decoder = nn.Linear(2, 6)
    mean, state = encoder[1].running_mean.clone(), torch.get_rng_state()
    model = from_modules(encoder, decoder)
    assert torch.equal(mean, encoder[1].running_mean)
    assert torch.equal(state, torch.get_rng_state())
    assert model.encoder.training


def test_probabilities_are_declared():
    decoder = nn.Sequential(nn.Linear(2, 6), nn.Sigmoid())
    model = from_modules(nn.Linear(6, 4), decoder, decoder_output="probs")
    z = torch.randn(3, 2)
    torch.testing.assert_close(model.decode(z).mean, decoder(z), rtol=1e-4, atol=1e-5)
    assert "decoder output: probs" in repr(model)


class Squashed(nn.Linear):
    def forward(self, z):
        return super().forward(z).sigmoid()


@pytest.mark.parametrize("likelihood", ["bernoulli", "continuous_bernoulli"])
def test_a_sigmoid_taken_for_logits_is_refused(likelihood):
    encoder, decoder = nn.Linear(6, 4), nn.Sequential(nn.Linear(2, 6), nn.Sigmoid())
    message = r"decoder_output: expected logits.*ends in Sigmoid.*decoder_output='probs'"
    for declared in (None, "logits"):
        with pytest.raises(InputError, match=message):
            from_modules(encoder, decoder, likelihood, decoder_output=declared)


def test_a_hidden_sigmoid_is_refused_unless_logits_are_declared():
    encoder, decoder = nn.Linear(6, 4), Squashed(2, 6)
    with pytest.raises(InputError, match="if they are logits, say decoder_output='logits'"):
        from_modules(encoder, decoder)
    z = torch.zeros(1, 2)
    model = from_modules(encoder, decoder, decoder_output="logits")
    torch.testing.assert_close(model.decode(z).mean, decoder(z).sigmoid())


def test_a_sigmoid_before_a_gaussian_is_no_ones_business():
    decoder = nn.Sequential(nn.Linear(2, 6), nn.Sigmoid())
    model = from_modules(nn.Linear(6, 4), decoder, "gaussian", scale=0.1)
    z = torch.randn(3, 2)
    torch.testing.assert_close(model.decode(z).mean, decoder(z))


def test_logits_declared_as_probabilities_are_refused():
    with pytest.raises(InputError, match=r"decoder_output 'probs': expected outputs in \[0, 1\]"):
        from_modules(nn.Linear(6, 4), nn.Linear(2, 6), decoder_output="probs")


def test_negative_standard_deviations_are_refused():
    message = "encoder_output 'mu_std': expected standard deviations.*'mu_logvar'"
    with seeded(0):
        encoders = Pair(), nn.Linear(6, 4)
    for encoder in encoders:
        with pytest.raises(InputError, match=message):
            from_modules(encoder, nn.Linear(2, 6), encoder_output="mu_std", data_shape=(6,))


def test_a_gaussian_without_a_scale_is_refused():
    with pytest.raises(InputError, match=r"scale: expected a standard deviation.*no density"):
        from_modules(nn.Linear(6, 4), nn.Linear(2, 6), "gaussian")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scale": 0.1}, "scale: expected none, unless likelihood is one of gaussian"),
        (
            {"likelihood": "gaussian", "scale": 1.0, "decoder_output": "logits"},
            "decoder_output: .*with one of the two Bernoullis.*with likelihood 'gaussian'",
        ),
        ({"data_shape": (2, 4)}, r"encoder: expected a module that takes x of shape \(16, 2, 4\)"),
        ({"latent_shape": (4,)}, r"latent_shape: expected \(2,\), which the encoder returns"),
        ({"decoder": nn.Linear(3, 6)}, r"decoder: expected a module from z of shape \(16, 2\)"),
        ({"decoder": nn.Linear(2, 5)}, r"decoder: .* to 6 numbers a datapoint"),
        ({"decoder": nn.LSTM(2, 6)}, r"decoder: .*several tensors"),
        ({"encoder": nn.Linear(6, 3)}, r"encoder output: expected a pair .*got one tensor"),
        ({"encoder": nn.LSTM(6, 6), "data_shape": (6,)}, "encoder output: .*got 2 values"),
        ({"encoder": nn.Conv1d(1, 1, 1)}, "data_shape: .*an encoder that begins with Conv1d"),
        ({"conditional": True}, "conditional=True: expected data_shape and latent_shape"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(settings, message):
    pair = {"encoder": nn.Linear(6, 4), "decoder": nn.Linear(2, 6)}
    with pytest.raises(InputError, match=message):
        unchecked(**{**pair, **settings})


def test_unknown_words_are_refused_by_name():
    """In a process of its own, since the type check that runs in tests is quicker."""
    code = """
from torch import nn
from elboscope import from_modules
from elboscope.core import InputError
for word in ({"likelihood": "poisson"}, {"encoder_output": "mu_var"}, {"decoder_output": "odds"}):
    try:
        from_modules(nn.Linear(6, 4), nn.Linear(2, 6), **word)
    except InputError as error:
        print(error)
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = told.stdout.splitlines()
    assert lines[0].startswith("likelihood: expected one of bernoulli, continuous_bernoulli")
    assert lines[1].startswith("encoder_output: expected one of mu_logvar, mu_logsigma, mu_std")
    assert lines[2].startswith("decoder_output: expected 'logits' or 'probs'")
    assert [line.split("got ")[1][:9] for line in lines] == ["'poisson'", "'mu_var'.", "'odds' wi"]


def test_x_that_the_model_was_not_told_of_is_explained_by_check_model():
    model = from_modules(nn.Linear(64, 4), nn.Linear(2, 64))
    with pytest.raises(ContractError, match=r"decode\(z\): .*data_shape=x\.shape\[1:\]"):
        check_model(model, torch.zeros(5, 1, 8, 8))


class WithCondition(nn.Linear):
    def forward(self, v, c):
        return super().forward(torch.cat([v, c], dim=1))


def test_conditions_reach_both_networks_row_by_row():
    with seeded(0):
        encoder, decoder = WithCondition(6 + 3, 4), WithCondition(2 + 3, 6)
        x, c = torch.randn(5, 6), torch.randn(5, 3)
        z = torch.randn(7, 5, 2)
    model = from_modules(
        encoder,
        decoder,
        "gaussian",
        scale=1.0,
        data_shape=(6,),
        latent_shape=(2,),
        conditional=True,
    )
    local = model.given(c)
    torch.testing.assert_close(local.encode(x).mean, encoder(x, c)[:, :2])
    slow = torch.stack([Normal(decoder(v, c), 1.0).log_prob(x).sum(-1) for v in z])
    torch.testing.assert_close(local.decode(z).log_prob(x), slow)
    assert check_model(model, x, condition=c).problems == ()
    by_rows = log_weights(model, x, 3, condition=c, batch_size=2)
    assert by_rows.shape == (3, 5)
    with pytest.raises(ContractError, match=r"condition: .*model\.given\(condition\)"):
        model.encode(x)


def test_a_callable_likelihood_gets_the_layout_of_x():
    def heavy_tailed(out):
        return Independent(Laplace(out, torch.ones_like(out)), 3)

    model = from_modules(
        nn.Linear(64, 4), nn.Linear(2, 64), likelihood=heavy_tailed, data_shape=(1, 8, 8)
    )
    assert model.decode(torch.zeros(3, 5, 2)).event_shape == (1, 8, 8)
    assert "p(x|z): heavy_tailed" in repr(model)
