"""The configuration: overrides, defaults written out, and the classes that may be named."""

import pytest
import yaml

from elboscope.cli.config import apply_overrides, dump, read_config
from elboscope.cli.resolve import resolve
from elboscope.cli.terminal import UsageError
from elboscope.models import FullCovariance, RealNVP
from elboscope.training import IWAE, BetaELBO

BASE = {
    "data": "digits",
    "model": {"class_path": "mlp_vae", "init_args": {"latent_dim": 3}},
    "objective": {"class_path": "BetaELBO", "init_args": {"beta": 4.0}},
}


def resolved(*pairs):
    return resolve(apply_overrides(BASE, pairs))


def test_another_class_forgets_the_arguments_of_the_old_one(monkeypatch):
    """jsonargparse keeps a default instance's init_args when another class is chosen."""
    assert resolved(("objective", "IWAE")).settings.objective == IWAE(5)
    assert resolved(("objective.class_path", "IWAE")).settings.objective == IWAE(5)
    back = resolved(("objective", "IWAE"), ("objective", "BetaELBO"))
    assert back.settings.objective == BetaELBO()  # β = 1, not the 4 of the file
    assert resolved(("objective", "BetaELBO")).settings.objective == BetaELBO(4.0)
    with pytest.raises(UsageError, match="latent_dim: expected a value; got none"):
        resolved(("model", "conv_vae"))
    conv = resolved(("model", "conv_vae"), ("model.latent_dim", "2"))
    assert conv.config["model"]["init_args"]["channels"] == [32, 64]


def test_overrides_are_typed():
    run = resolved(
        ("training.learning_rate", "3e-4"), ("training.betas", "[0.8, 0.9]"),
        ("training.patience", "null"), ("objective.beta", "2"),
    )  # fmt: skip
    assert run.settings.learning_rate == 3e-4
    assert run.settings.betas == (0.8, 0.9)
    assert run.settings.patience is None
    assert run.settings.objective == BetaELBO(2.0)


def test_the_base_is_left_as_it_was():
    before = yaml.safe_dump(BASE)
    resolved(("model.hidden", "[5]"), ("training.epochs", "3"), ("objective", "IWAE"))
    assert yaml.safe_dump(BASE) == before


def test_the_resolved_configuration_is_complete_and_resolves_to_itself(tmp_path):
    run = resolved(("training.epochs", "3"))
    (tmp_path / "config.yaml").write_text(dump(run.config))
    again = resolve(read_config(tmp_path / "config.yaml"))
    assert again == run
    assert run.config["training"]["batch_size"] == 100
    assert run.config["model"]["init_args"]["hidden"] == [200, 200]


def test_a_users_own_function_class_and_object(folder, user_file):
    user_file("""
        from torch import nn
        import elboscope as es
        def build(data_shape, width: int = 5):
            return es.models.mlp_vae(data_shape, 2, hidden=(width,))
        class Mine(es.models.VAE):
            def __init__(self, units: int): ...
        ready = es.from_modules(nn.Linear(64, 4), nn.Linear(2, 64), data_shape=(1, 8, 8))
    """)
    run = resolved(("model", "mine.py:build"), ("model.width", "7"))
    assert run.model((1, 8, 8)).encoder[0].out_features == 7
    ready = resolved(("model", "mine.py:ready"))
    assert ready.model((1, 8, 8)).data_shape == (1, 8, 8)
    with pytest.raises(UsageError, match=r"model.init_args.unit: .* Did you mean 'units'\?"):
        resolved(("model", "mine.py:Mine"), ("model.unit", "1"))
    with pytest.raises(UsageError, match="expected no key at all; got 'unit'"):
        resolved(("model", "mine.py:ready"), ("model.unit", "1"))


@pytest.mark.parametrize("name", ["digits", "mnist"])
def test_the_examples_resolve(name):
    from pathlib import Path

    path = Path(__file__).parents[2] / "examples" / f"{name}.yaml"
    run = resolve(read_config(path))
    assert run.data == name
    assert run.binarisation.mode == "dynamic"
    if name == "mnist":
        arguments = run.config["model"]["init_args"]
        assert (arguments["latent_dim"], arguments["hidden"]) == (50, [200, 200])


def test_a_posterior_is_a_class_within_the_model(tmp_path):
    run = resolved(("model.posterior", "{class_path: RealNVP, init_args: {hidden: 16}}"))
    whole = {"num_steps": 2, "hidden": 16, "context": 50}
    section = run.config["model"]["init_args"]["posterior"]
    assert section == {"class_path": "RealNVP", "init_args": whole}
    (tmp_path / "config.yaml").write_text(dump(run.config))
    assert resolve(read_config(tmp_path / "config.yaml")) == run
    made = run.model((1, 8, 8))
    assert made.encoder_output.family == RealNVP(hidden=16)
    assert made.encoder[-1].out_features == 2 * 3 + 50
    short = resolved(("model.posterior", "FullCovariance")).model((1, 8, 8))
    assert short.encoder_output.family == FullCovariance()
    again = resolved(
        ("model.posterior", "{class_path: RealNVP}"),
        ("model.posterior.init_args.num_steps", "3"),
    )
    assert again.model((1, 8, 8)).encoder_output.family.num_steps == 3
    assert resolved().config["model"]["init_args"]["posterior"] is None


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("RealNVQ", r"posterior.class_path: expected one of FullCovariance, .* Did you mean 'Real"),
        ("{class_path: RealNVP, init_args: {hiden: 3}}", "posterior.init_args.hiden: .*'hidden'"),
        ("{class_path: MAF, init_args: {hidden: x}}", "hidden: expected a whole number; got 'x'"),
        ("{hidden: 3}", "posterior: expected one of FullCovariance.*got {'hidden': 3}"),
        ("{class_path: IAF, args: {}}", "posterior.args: expected one of class_path, init_args"),
        ("7", "posterior: expected one of FullCovariance, .*; got 7"),
    ],
)
def test_a_posterior_that_is_none_is_refused(value, message):
    with pytest.raises(UsageError, match=message):
        resolved(("model.posterior", value))


def test_a_prior_is_a_class_within_the_model(tmp_path):
    run = resolved(("model.prior", "{class_path: VampPrior, init_args: {num_components: 7}}"))
    section = run.config["model"]["init_args"]["prior"]
    assert section["class_path"] == "VampPrior"
    assert section["init_args"]["num_components"] == 7
    (tmp_path / "config.yaml").write_text(dump(run.config))
    assert resolve(read_config(tmp_path / "config.yaml")) == run
    made = run.model((1, 8, 8))
    assert made.given_prior.pseudo_inputs.shape == (7, 1, 8, 8)
    flow = resolved(("model.prior", "FlowPrior")).model((1, 8, 8))
    assert flow.given_prior.family.num_steps == 4
    with pytest.raises(UsageError, match=r"prior.class_path: .* MixturePrior, .*RealN"):
        resolved(("model.prior", "RealNVP"))


def test_a_discrete_likelihood_and_its_levels_are_settings_of_the_model():
    chosen = (("model.likelihood", "discretised_logistic"), ("model.scale", "predicted"))
    made = resolved(*chosen, ("model.levels", "17")).model((1, 8, 8))
    assert str(made.likelihood) == "DiscretisedLogisticLikelihood(17 levels, s predicted)"
    with pytest.raises(UsageError, match=r"model.init_args.likelihood: .*quantized_normal"):
        resolved(("model.likelihood", "quantised"))
