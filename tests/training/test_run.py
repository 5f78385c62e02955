"""What a run decides and records: selection, divergence, validation, the folder's files."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from small_vae import SampledELBO, SmallVAE, grey, settings
from torch import Tensor, nn

from elboscope.core import Bound, ContractError, InputError, LatentVariableModel
from elboscope.data import Binarisation
from elboscope.models import mlp_vae
from elboscope.training import (
    ELBO,
    BetaELBO,
    HeldOut,
    KLWeight,
    TrainingSettings,
    held_out_bound,
    load_run,
    read_rows,
    train,
)
from elboscope.training import recorded as training_loop

X = grey().round()


def scripted(monkeypatch: pytest.MonkeyPatch, elbos: list[float]) -> None:
    """Replaces the held-out bound by given values, one an epoch."""
    values = iter(elbos)
    monkeypatch.setattr(
        training_loop, "held_out_bound", lambda *args, **more: HeldOut(next(values), 0.0)
    )


def weights_after(epochs: int) -> dict[str, Tensor]:
    model = SmallVAE()
    train(model, X, settings(epochs=epochs, patience=None))
    return model.state_dict()


def assert_weights(model: nn.Module, expected: dict[str, Tensor]) -> None:
    for name, value in model.state_dict().items():
        assert torch.equal(value, expected[name]), name


def test_early_stopping_keeps_the_best(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    expected = weights_after(2)
    scripted(monkeypatch, [-9.0, -5.0, -6.0, -5.0, -5.5, -1.0])
    model = SmallVAE()
    result = train(model, X, settings(epochs=9, patience=3), tmp_path)
    assert result.status == "stopped early at epoch 5, best at step 12"
    assert len(result.history) == 5
    assert_weights(model, expected)
    other = SmallVAE(seed=7)
    assert load_run(tmp_path, other).record["status"] == result.status
    assert_weights(other, expected)


def test_nothing_is_selected_before_warm_up_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, [-1.0, -2.0, -9.0, -8.0, -8.5, -8.6, -8.7])
    model = SmallVAE()
    warming = settings(epochs=9, patience=3, objective=SampledELBO(warm_up=3.0))
    result = train(model, X, warming)
    assert result.status == "stopped early at epoch 7, best at step 24"
    assert [row["weight"] for row in result.history] == [0.5, 0.5, 1.0, 1.0, 1.0, 1.0, 1.0]


def test_without_patience_the_last_weights_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = weights_after(3)
    scripted(monkeypatch, [-1.0, -2.0, -3.0])
    model = SmallVAE()
    assert train(model, X, settings(epochs=3, patience=None)).status == "finished"
    assert_weights(model, expected)


@dataclass(frozen=True)
class Exploding(SampledELBO):
    """NaN (or an infinite gradient) from a moment on."""

    at: float = 2.4
    how: str = "loss"

    def __call__(self, model: LatentVariableModel, x: Tensor, epoch: float) -> Bound:
        bound = super().__call__(model, x, epoch)
        if epoch <= self.at:
            return bound
        if self.how == "loss":
            return Bound(bound.value, bound.loss * math.nan)
        weight = model.decoder[0].weight  # type: ignore[attr-defined]
        return Bound(bound.value, bound.loss + (weight * 0).abs().sqrt().sum())  # NaN gradient


@pytest.mark.parametrize(("how", "step"), [("loss", 15), ("gradient", 16)])
@pytest.mark.parametrize("in_folder", [True, False])
def test_divergence_is_recorded_not_raised(
    how: str, step: int, in_folder: bool, tmp_path: Path
) -> None:
    model = SmallVAE()
    exploding = settings(objective=Exploding(how=how), checkpoint_epochs=1)
    result = train(model, X, exploding, tmp_path if in_folder else None)
    assert result.diverged
    assert result.status.startswith(f"diverged at step {step} (epoch 2.")
    assert len(result.history) == 3
    assert result.history[-1]["step"] == step
    assert math.isnan(result.history[-1]["loss"])
    assert_weights(model, weights_after(2))  # the last finite checkpoint
    if in_folder:
        assert load_run(tmp_path).record["status"] == result.status
        assert math.isnan(read_rows(tmp_path / "metrics.csv")[-1]["train_bound"])


def test_a_mistake_inside_the_model_is_no_divergence() -> None:
    class Wrong(SampledELBO):
        def __call__(self, model: LatentVariableModel, x: Tensor, epoch: float) -> Bound:
            raise ValueError("my own mistake")

    with pytest.raises(ValueError, match="my own mistake"):
        train(SmallVAE(), X, settings(objective=Wrong()))


def test_the_row_is_the_mean_of_what_the_steps_reported() -> None:
    seen: list[tuple[Tensor, Tensor]] = []

    class Seen(SampledELBO):
        def __call__(self, model: LatentVariableModel, x: Tensor, epoch: float) -> Bound:
            bound = super().__call__(model, x, epoch)
            seen.append((bound.value, bound.loss.detach()))
            return bound

    decaying = settings(epochs=2, objective=Seen(), rate_schedule="burda")
    rows = train(SmallVAE(), X, decaying).history
    for row, steps in zip(rows, (seen[:6], seen[6:]), strict=True):
        values = torch.cat([value for value, _ in steps]).double()
        assert len(values) == 45
        assert row["train_bound"] == pytest.approx(values.mean().item(), abs=1e-12)
        losses = torch.stack([loss for _, loss in steps]).double()
        assert row["loss"] == pytest.approx(losses.mean().item(), abs=1e-12)
    assert [row["learning_rate"] for row in rows] == pytest.approx([0.01 * 10 ** (-1 / 7)] * 2)


def test_held_out_bound_agrees_with_the_row_and_splits_into_two_parts() -> None:
    valid = grey(400, seed=3).round()
    model = SmallVAE()
    result = train(model, X, settings(epochs=1), x=valid)
    again = held_out_bound(model, valid, seed=0)
    row = result.history[0]
    assert (row["validation_elbo"], row["validation_kl"]) == (again.elbo, again.kl)
    many = held_out_bound(model, valid, seed=1, num_samples=200)
    with torch.no_grad():
        q = model.encode(valid)
        kl = torch.distributions.kl_divergence(q, model.prior()).mean().item()
    assert many.kl == pytest.approx(kl, abs=0.02)
    assert again.elbo == pytest.approx(many.elbo, abs=0.2)


def test_evaluation_is_skipped_between_and_is_no_miss(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, [-5.0, -6.0, -6.0])
    result = train(SmallVAE(), X, settings(epochs=9, patience=2, validate_every=2))
    assert result.status == "stopped early at epoch 6, best at step 12"
    assert [math.isnan(row["validation_elbo"]) for row in result.history] == [True, False] * 3


def test_run_json_says_what_the_numbers_must_be_read_with(tmp_path: Path) -> None:
    chosen = settings(epochs=1, objective=BetaELBO(beta=4.0))
    train(SmallVAE(), grey(), chosen, tmp_path, binarisation=Binarisation("fixed", seed=5),
          config="model: small\n", about={"data set": "noise"})  # fmt: skip
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["status"] == "finished"
    assert record["likelihood"] == "Bernoulli"
    assert record["binarisation"] == str(Binarisation("fixed", seed=5))
    assert record["data"]["num_train"] == 45
    assert record["data"]["num_validation"] == 5
    assert record["settings"]["objective"] == {
        "class": "BetaELBO", "beta": 4.0, "warm_up_epochs": 0.0, "cycle_epochs": 0.0,
        "analytic_kl": True,
    }  # fmt: skip
    assert record["versions"]["torch"] == torch.__version__
    assert record["threads"] == torch.get_num_threads()
    assert record["data set"] == "noise"
    assert (tmp_path / "config.yaml").read_text() == "model: small\n"
    assert "implied_decoder_variance" not in record


def test_a_kl_weight_records_the_variance_it_implies(tmp_path: Path) -> None:
    weighted = settings(epochs=1, objective=KLWeight(0.01, "mean"))
    train(SmallVAE(), X, weighted, tmp_path)
    record = load_run(tmp_path).record
    assert record["implied_decoder_variance"] == pytest.approx(0.01 * 6 / 2)


def test_tensorboard_events_hold_the_rows(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    rows = train(SmallVAE(), X, settings(epochs=2, tensorboard=True), tmp_path).history
    events = accumulator.EventAccumulator(str(tmp_path))
    events.Reload()
    scalars = events.Scalars("train_bound")
    assert [s.step for s in scalars] == [row["step"] for row in rows]
    assert [s.value for s in scalars] == pytest.approx([row["train_bound"] for row in rows])


def test_without_tensorboard_it_is_said_once(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    result = train(SmallVAE(), X, settings(tensorboard=True), tmp_path, progress=True)
    assert result.status == "finished"
    assert len(result.notes) == 1
    assert "no TensorBoard events" in result.notes[0]
    assert capsys.readouterr().err.count("no TensorBoard events") == 1


def test_a_library_call_is_silent_and_progress_goes_to_standard_error(capsys) -> None:
    train(SmallVAE(), X, settings(epochs=1))
    assert capsys.readouterr() == ("", "")
    calls: list[tuple[int, int]] = []
    train(SmallVAE(), X, settings(epochs=2), progress=lambda *call: calls.append(call))
    assert calls == [(1, 2), (2, 2)]
    assert capsys.readouterr() == ("", "")
    train(SmallVAE(), X, settings(epochs=1), progress=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "nats" in shown.err


def test_the_model_comes_back_in_evaluation_mode_with_its_tied_weights(tmp_path: Path) -> None:
    class Tied(SmallVAE):
        def __init__(self, seed: int = 0) -> None:
            super().__init__(seed)
            self.again = self.decoder

    model, other = Tied(), Tied(1)
    train(model, X, settings(epochs=2), tmp_path)
    assert not any(module.training for module in model.modules())
    load_run(tmp_path, other)
    assert_weights(other, model.state_dict())
    assert other.again[0].weight is other.decoder[0].weight


def test_a_plain_object_with_two_networks_is_trained() -> None:
    class Plain:
        def __init__(self) -> None:
            whole = SmallVAE()
            self.encoder, self.decoder = whole.encoder, whole.decoder

        prior, encode, decode = SmallVAE.prior, SmallVAE.encode, SmallVAE.decode

    plain, module = Plain(), SmallVAE()
    train(plain, X, settings(epochs=2))
    train(module, X, settings(epochs=2))
    assert_weights(plain.decoder, module.decoder.state_dict())


def test_compile_reaches_the_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[nn.Module] = []
    monkeypatch.setattr(nn.Module, "compile", lambda self: compiled.append(self))
    model = SmallVAE()
    train(model, X, settings(epochs=1, compile=True))
    assert compiled == [model.encoder, model.decoder]


def test_gradients_are_clipped() -> None:
    norms: list[float] = []

    class Clipped(SampledELBO):
        def __call__(self, model: LatentVariableModel, x: Tensor, epoch: float) -> Bound:
            gradients = [p.grad for p in model.parameters() if p.grad is not None]  # type: ignore[attr-defined]
            norms.append(sum(g.square().sum().item() for g in gradients) ** 0.5)
            return super().__call__(model, x, epoch)

    train(SmallVAE(), X, settings(epochs=1, objective=Clipped(), max_grad_norm=0.1))
    assert norms == [0.0] * 6  # set to none before each step
    from elboscope.training import Minibatch, adam, objective_step

    model = SmallVAE()
    step = objective_step(model, SampledELBO(), adam(model.parameters()), max_grad_norm=0.1)
    step(Minibatch(X[:8], 0.1))
    norm = sum(p.grad.square().sum().item() for p in model.parameters() if p.grad is not None)
    assert norm**0.5 == pytest.approx(0.1, rel=1e-4)


def test_an_encoder_loss_moves_the_encoder_alone() -> None:
    from elboscope.training import Minibatch, objective_step

    def apart(model: LatentVariableModel, x: Tensor, epoch: float) -> Bound:
        bound = SampledELBO()(model, x, epoch)
        return Bound(bound.value, bound.loss, bound.loss * 0)

    model, before = SmallVAE(), SmallVAE().state_dict()
    step = objective_step(model, apart, torch.optim.SGD(model.parameters(), lr=0.1))
    step(Minibatch(X, 0.1))
    names = [n for n, p in model.named_parameters() if not torch.equal(p, before[n])]
    assert {n.split(".")[0] for n in names} == {"decoder"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs: expected a whole number ≥ 1; got 0."),
        ({"batch_size": -1}, "batch_size: expected a whole number ≥ 1; got -1."),
        ({"learning_rate": 0.0}, "learning_rate: expected a number > 0; got 0.0."),
        ({"learning_rate": math.inf}, "learning_rate: expected a number > 0; got inf."),
        ({"checkpoint_seconds": -1.0}, "checkpoint_seconds: expected a number ≥ 0; got -1.0."),
        ({"patience": 0}, "patience: expected a number > 0, or none; got 0."),
        ({"validation_fraction": 1.0}, r"validation_fraction: expected a number in \[0, 1\)"),
        ({"rate_schedule": "cosine"}, "rate_schedule: expected constant or burda; got 'cosine'"),
    ],
)
def test_settings_out_of_range(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TrainingSettings(**change)  # type: ignore[arg-type]


def test_data_and_models_that_do_not_fit(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.raises(InputError, match=r"x_train: expected values in \[0, 1\]"):
        train(SmallVAE(), 3 * X, settings(), folder, binarisation=Binarisation("dynamic"))
    with pytest.raises(
        InputError, match="condition_train: expected 50 rows, one a datapoint; got 3"
    ):
        train(SmallVAE(), X, settings(), folder, condition_train=torch.zeros(3))
    with pytest.raises(InputError, match="x_train: expected enough datapoints to train on; got 1"):
        train(SmallVAE(), X[:1], settings(validation_fraction=0.9), folder)
    with pytest.raises(ContractError, match="event shape"):
        train(SmallVAE(), X[:, :5], settings(), folder)
    frozen = SmallVAE().requires_grad_(False)
    with pytest.raises(InputError, match=r"model: expected an nn.Module with parameters"):
        train(frozen, X, settings(), folder)
    assert not folder.exists()  # a refused call leaves nothing behind
    with pytest.raises(
        InputError, match="x_train: expected values in the support of the Bernoulli"
    ):
        train(SmallVAE(), grey(), settings())


def test_conditions_of_held_out_data_need_the_data(tmp_path: Path) -> None:
    """They would be dropped without a word, and the model trained without any condition."""
    said = (
        "condition: expected none without held-out data x, whose conditions they are; got 50 rows"
    )
    with pytest.raises(InputError, match=said):
        train(SmallVAE(), X, settings(), tmp_path / "run", condition=torch.zeros(50))
    assert not (tmp_path / "run").exists()


def test_reading_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected a run folder with a run.json; got none"):
        load_run(tmp_path)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(InputError, match=r"run.json; got a damaged one"):
        load_run(tmp_path)
    (tmp_path / "run.json").unlink()  # of no run: training would not write beside it
    train(SmallVAE(), X, settings(epochs=1), tmp_path)
    wider = SmallVAE()
    wider.decoder = nn.Sequential(nn.Linear(2, 6))
    with pytest.raises(InputError, match=r"model.safetensors: expected the weights of this model"):
        load_run(tmp_path, wider)


def test_objective_settings_refuse_nonsense() -> None:
    with pytest.raises(InputError, match="beta: expected a finite number ≥ 0; got -1"):
        BetaELBO(beta=-1.0)
    with pytest.raises(InputError, match="objective: expected warm_up_epochs or cycle_epochs"):
        BetaELBO(warm_up_epochs=1.0, cycle_epochs=1.0)
    assert ELBO().settled(0.0)


def test_patience_without_held_out_data_is_refused() -> None:
    with pytest.raises(InputError, match="patience: expected held-out data"):
        train(SmallVAE(), X, settings(patience=3, validation_fraction=0.0))


def test_resuming_to_fewer_epochs_than_were_trained_changes_nothing(tmp_path: Path) -> None:
    train(SmallVAE(), X, settings(epochs=3), tmp_path, config="epochs: 3")
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    with pytest.raises(InputError, match="epochs: expected at least the 3 that the run in"):
        train(SmallVAE(), X, settings(epochs=1), tmp_path, resume=True, config="epochs: 1")
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_what_is_no_bound_is_said_to_be_none() -> None:
    one = settings(epochs=1, patience=None)
    assert train(SmallVAE(), X, one).notes == ()
    late = X.clone()
    late[-1, 0] = 0.5
    permissive = mlp_vae(tuple(X.shape[1:]), 2, hidden=())
    assert "is a cross-entropy, and no bound made of it" in train(permissive, late, one).notes[0]
    weighted = settings(epochs=1, patience=None, objective=KLWeight(0.5, "sum"))
    assert "σ² = 0.25; the held-out ELBO" in train(SmallVAE(), X, weighted).notes[0]
