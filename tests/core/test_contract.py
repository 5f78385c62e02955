"""Every clause of the contract, on a model that breaks it and on one that keeps it."""

import math
import subprocess
import sys
from typing import ClassVar

import pytest
import torch
from torch import nn
from torch.distributions import Bernoulli, Distribution, Independent, Normal

from elboscope.core import ContractError, InputError, check_model, evaluating, modules_of, seeded
from elboscope.models import LinearGaussian, from_modules, mlp_vae


class Model(nn.Module):
    """A small VAE whose parts can be replaced by broken ones."""

    def __init__(self, d=2, D=3):
        super().__init__()
        with seeded(0):
            self.enc, self.dec = nn.Linear(D, 2 * d), nn.Linear(d, D)
        self.d = d

    def prior(self):
        zero = torch.zeros(self.d, dtype=self.dec.weight.dtype, device="cpu")
        return Independent(Normal(zero, torch.ones_like(zero)), 1)

    def decode(self, z):
        return Independent(Normal(self.dec(z), 1.0), 1)

    def encode(self, x):
        mu, s = self.enc(x).chunk(2, -1)
        return Independent(Normal(mu, s.exp()), 1)


def broken(**methods):
    """A model with some methods replaced."""
    return type("Broken", (Model,), methods)()


@pytest.fixture
def x():
    with seeded(1):
        return torch.randn(20, 3)


def test_a_sound_model_has_no_problem_and_says_what_it_can(x):
    found = check_model(Model(), x)
    assert found.problems == ()
    assert found.finite
    assert (found.latent_shape, found.data_shape) == ((2,), (3,))
    assert (found.posterior, found.likelihood) == ("Normal", "Normal")
    assert found.has_encoder
    assert found.has_posterior_density
    assert found.has_likelihood
    assert found.reparameterised
    assert found.analytic_kl
    assert found.in_support


def test_one_datapoint_is_enough(x):
    assert check_model(Model(), x[:1]).problems == ()


BREACHES = {
    "forgotten Independent in the prior": (
        {"prior": lambda self: Normal(torch.zeros(2), 1.0)},
        r"prior\(\): expected batch shape \(\).*got batch shape \(2,\) and event shape \(\)"
        r".*Independent\(…, 1\)",
    ),
    "forgotten Independent in encode": (
        {"encode": lambda self, x: Normal(self.enc(x)[:, :2], 1.0)},
        r"encode\(x\): expected batch shape \(16,\).*got batch shape \(16, 2\) and event.*"
        r"Independent\(…, 1\)",
    ),
    "forgotten Independent in decode": (
        {"decode": lambda self, z: Normal(self.dec(z), 1.0)},
        r"decode\(z\): expected batch shape \(2, 16\) and event shape \(3,\)"
        r".*got batch shape \(2, 16, 3\).*Independent\(…, 1\)",
    ),
    "samples flattened into the batch": (
        {"decode": lambda self, z: Independent(Normal(self.dec(z.reshape(-1, 2)), 1.0), 1)},
        r"decode\(z\): .*got batch shape \(32,\).*Keep the leading axes",
    ),
    "an event of another shape": (
        {"decode": lambda self, z: Independent(Normal(z, 1.0), 1)},
        r"decode\(z\): .*event shape \(3,\).*got.*event shape \(2,\).*data_shape=x\.shape\[1:\]",
    ),
    "a latent of another dimension": (
        {"encode": lambda self, x: Independent(Normal(x, 1.0), 1)},
        r"encode\(x\): .*event shape \(2,\).*got.*event shape \(3,\)",
    ),
    "encode returns a tuple": (
        {"encode": lambda self, x: self.enc(x).chunk(2, -1)},
        r"encode\(x\): expected a torch.distributions.Distribution; got tuple.*from_modules",
    ),
    "decode returns a tensor": (
        {"decode": lambda self, z: self.dec(z)},
        r"decode\(z\): expected a torch.distributions.Distribution; got Tensor",
    ),
    "decode takes one batch axis only": (
        {"decode": lambda self, z: Independent(Normal(self.dec(torch.bmm(z, z)), 1.0), 1)},
        r"decode\(z\): expected an answer for an argument of shape \(2, 16, 2\); got RuntimeError",
    ),
    "datapoints mixed without training mode": (
        {"encode": lambda self, x: Independent(Normal(self.enc(x - x.mean(0))[:, :2], 1.0), 1)},
        r"encode\(x\): expected each datapoint's density to depend on that datapoint alone",
    ),
}


@pytest.mark.parametrize(("methods", "message"), BREACHES.values(), ids=BREACHES)
def test_a_breach_is_named_with_what_came_and_what_to_do(methods, message, x):
    with pytest.raises(ContractError, match=message):
        check_model(broken(**methods), x)


@pytest.mark.parametrize(
    ("layer", "clause"),
    [(nn.BatchNorm1d, "enc"), (nn.BatchNorm1d, "dec"), (nn.Dropout, "enc"), (nn.Dropout, "dec")],
)
def test_training_mode_leaks_and_evaluation_mode_does_not(layer, clause, x):
    with seeded(2):
        encoder, decoder = nn.Linear(3, 4), nn.Linear(2, 3)
    noisy = layer(0.5) if layer is nn.Dropout else layer(4 if clause == "enc" else 3)
    if clause == "enc":
        encoder = nn.Sequential(encoder, noisy)
    else:
        decoder = nn.Sequential(decoder, noisy)
    model = from_modules(encoder, decoder, likelihood="gaussian", scale=0.5)
    where = r"encode\(x\)" if clause == "enc" else r"decode\(z\)"
    with pytest.raises(ContractError, match=rf"{where}: .*training mode.*model\.eval\(\)"):
        check_model(model, x)
    assert check_model(model.eval(), x).problems == ()


def test_a_plain_object_in_training_mode_is_caught_too(x):
    class Plain:
        def __init__(self):
            self.inner = from_modules(
                nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)),
                nn.Linear(2, 3),
                likelihood="gaussian",
                scale=1.0,
            )
            self.prior, self.encode, self.decode = (
                self.inner.prior,
                self.inner.encode,
                self.inner.decode,
            )

    with pytest.raises(ContractError, match=r"call model\.eval\(\)"):
        check_model(Plain(), x)


def test_another_dtype_is_named_with_its_parameter(x):
    message = r"dtype: expected the model in x's dtype torch.float64; got parameter enc.weight in"
    with pytest.raises(ContractError, match=message):
        check_model(Model(), x.double())
    assert check_model(Model().double(), x.double()).problems == ()


def test_another_device_is_named_with_its_parameter(x):
    model = Model()
    model.enc = model.enc.to(torch.device("meta"))
    message = r"device: expected the model on x's device cpu; got parameter enc.weight on meta"
    with pytest.raises(ContractError, match=message):
        check_model(model, x)


def test_missing_methods_are_named():
    """In a process of its own: the type check that runs in tests is quicker."""
    code = """
import torch
from torch import nn
from elboscope.core import ContractError, check_model
class OnlyPrior:
    def prior(self):
        return torch.distributions.MultivariateNormal(torch.zeros(2), torch.eye(2))
class Number(OnlyPrior):
    prior = 3
for model in (object(), OnlyPrior(), Number(), nn.Linear(3, 3)):
    try:
        check_model(model, torch.zeros(4, 3))
    except ContractError as error:
        print(error)
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.splitlines() == [
        f"{name}: expected a method {name}(…); got {kind} without it. "
        "Add it, or wrap an encoder and a decoder with es.from_modules."
        for name, kind in (
            ("prior", "object"),
            ("decode", "OnlyPrior"),
            ("prior", "Number"),
            ("prior", "Linear"),
        )
    ]


@pytest.mark.parametrize("x", [torch.zeros(4, 3, dtype=torch.long), torch.zeros(0, 3)])
def test_data_that_is_no_data_is_refused(x):
    with pytest.raises(InputError, match=r"x: expected floating numbers, one row a datapoint"):
        check_model(Model(), x)


def test_without_an_encoder_it_is_a_generative_model(x):
    class Generative:
        prior, decode, dec, d = Model.prior, Model.decode, Model().dec, 2

    found = check_model(Generative(), x)
    assert found.problems == ()
    assert not found.has_encoder
    assert not found.analytic_kl
    assert found.posterior == ""
    assert found.has_likelihood


def test_nan_parameters_are_a_finding_and_no_crash(x):
    for name in ("enc", "dec"):
        for model in (Model(), from_modules(nn.Linear(3, 4), nn.Linear(2, 3))):
            part = {"enc": 0, "dec": 1}[name]
            nn.init.constant_(list(model.children())[part].weight, math.nan)
            found = check_model(model, (x > 0).float())
            assert not found.finite
            assert found.has_encoder
            assert any("NaN" in problem for problem in found.problems), found.problems


def test_infinite_densities_are_counted(x):
    def decode(self, z):
        return Independent(Normal(self.dec(z), 1e-45, validate_args=False), 1, validate_args=False)

    found = check_model(broken(decode=decode), x)
    assert found.problems == ("log p(x|z) is infinite for 32 of 32 values",)


def test_grey_values_on_a_bernoulli_are_out_of_support():
    model = mlp_vae((3,), 2, hidden=())
    with seeded(0):
        grey = torch.rand(20, 3)
    found = check_model(model, grey)
    assert not found.in_support
    assert found.has_likelihood  # a number comes, but it is a cross-entropy
    assert found.finite
    assert found.problems[0].startswith("x lies outside the support of Bernoulli: its values run")
    assert check_model(model, grey.round()).in_support
    assert check_model(mlp_vae((3,), 2, likelihood="continuous_bernoulli"), grey).in_support


def test_torchs_own_validation_of_the_support_is_not_a_crash():
    def decode(self, z):
        return Independent(Bernoulli(logits=self.dec(z), validate_args=True), 1)

    found = check_model(broken(decode=decode), torch.full((20, 3), 0.5))
    assert not found.in_support
    assert not found.has_likelihood


class OnlySamples(Distribution):
    """An implicit posterior."""

    arg_constraints: ClassVar = {}
    has_rsample = True

    def __init__(self, q):
        self.q = q
        super().__init__(q.batch_shape, q.event_shape, validate_args=False)

    def rsample(self, sample_shape=()):
        return self.q.rsample(torch.Size(sample_shape))


def test_an_implicit_posterior_has_no_density_and_is_no_breach(x):
    sound = Model()
    found = check_model(broken(encode=lambda self, x: OnlySamples(sound.encode(x))), x)
    assert found.has_encoder
    assert not found.has_posterior_density
    assert not found.analytic_kl
    assert found.problems == ()
    assert found.posterior == "OnlySamples"


def test_a_full_covariance_posterior_is_recognised():
    model = LinearGaussian.instance_1().with_exact_posterior()
    found = check_model(model, model.sample(5, seed=0)[0])
    assert (found.posterior, found.likelihood) == ("MultivariateNormal", "Normal")


def test_a_condition_without_given_is_refused(x):
    with pytest.raises(ContractError, match=r"condition: expected a model with a method given"):
        check_model(Model(), x, condition=torch.zeros(20, 1))


def test_a_condition_that_leaks_is_found():
    """The widened batch repeats the conditions; a model that averages them is caught."""

    with seeded(3):
        x, c = torch.randn(8, 3), torch.randn(8, 3)

    class Local:
        def __init__(self, c, leaks):
            self.model, self.c, self.leaks = Model(), c, leaks
            self.prior = self.model.prior

        def decode(self, z):
            return self.model.decode(z + self.c[:, :2])

        def encode(self, x):
            return self.model.encode(x + (self.c.sum(0) if self.leaks else self.c))

    def conditional(leaks):
        return broken(given=lambda self, c: Local(c, leaks))

    assert check_model(conditional(False), x, condition=c).problems == ()
    with pytest.raises(ContractError, match="depend on that datapoint alone"):
        check_model(conditional(True), x, condition=c)


def test_the_check_leaves_random_state_gradients_and_mode(x):
    model, state = Model().train(), torch.get_rng_state()
    check_model(model, x)
    assert torch.equal(state, torch.get_rng_state())
    assert all(p.grad is None for p in model.parameters())
    assert model.training


def test_one_grey_datapoint_after_the_first_sixteen_is_out_of_support():
    x = torch.zeros(40, 3)
    x[39, 1] = 0.5
    found = check_model(mlp_vae((3,), 2, hidden=()), x)
    assert not found.in_support
    assert "its values run from 0 to 0.5" in found.problems[0]


@pytest.mark.parametrize("name", ["prior", "encode", "decode"])
def test_whatever_the_models_own_code_raises_is_its_breach(name, x):
    def raises(self, *args):
        raise KeyError("no such weight")

    with pytest.raises(ContractError, match=rf"{name}\(.*KeyError: 'no such weight'"):
        check_model(broken(**{name: raises}), x)


def test_modules_in_containers_of_a_plain_object_are_found_and_evaluated():
    class Plain:
        def __init__(self):
            self.nets = {"encoder": [nn.Dropout()], "decoder": (nn.Linear(2, 3),)}
            self.inner = type("Inner", (), {})()
            self.inner.net = nn.BatchNorm1d(3)
            self.inner.outer = self  # a cycle

    model = Plain()
    found = modules_of(model)
    assert {type(m) for m in found} == {nn.Dropout, nn.Linear, nn.BatchNorm1d}
    with evaluating(model):
        assert not any(m.training for m in found)
    assert all(m.training for m in found)
