"""Long training in short sittings: what a sitting leaves is what the next one continues."""

import json
import os
import signal
import types
import warnings
from functools import partial

import pytest
import torch

from elboscope.core import Bound, InputError, log_mean_exp, log_weights, seeded
from elboscope.data import Binarisation
from elboscope.models import hierarchical_vae, member, mlp_vae, stack
from elboscope.objectives import iwae
from elboscope.training import (
    IWAE,
    PIWAE,
    AnnealedEntropy,
    BetaELBO,
    TrainingInterrupted,
    train_in_slices,
)
from elboscope.training import slices as slice_loop
from elboscope.training.graphed import GraphedStep, captured, unchanged

N, B, EPOCHS = 26, 6, 3  # four steps an epoch, two datapoints left over
STEPS = 4 * EPOCHS


def grey():
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (N, 5), generator=generator, dtype=torch.uint8)


def model(members=2, seed=0):
    with seeded(seed):
        return stack([mlp_vae((5,), 2, (8,), "tanh") for _ in range(members)])


def run(net, folder, objective=None, **changes):
    settings = {"epochs": EPOCHS, "batch_size": B, "seed": 3, "learning_rate": 0.01} | changes
    return train_in_slices(net, objective or IWAE(4), settings.pop("x", grey()), folder, **settings)


def same(a, b):
    return all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())


@pytest.mark.parametrize(
    "objective",
    [IWAE(4), PIWAE(2, 3), AnnealedEntropy(2.0), BetaELBO(warm_up_epochs=9.0)],
    ids=["iwae", "piwae", "annealed", "beta"],
)
def test_one_sitting_and_one_a_step_give_the_same_weights_bit_for_bit(tmp_path, objective):
    whole = model()
    once = run(whole, tmp_path / "once", objective)
    assert (once.status, once.step, once.epoch) == ("finished", STEPS, float(EPOCHS))
    sittings = 0
    while True:
        net = model(seed=sittings)  # whatever it holds is replaced by what was saved
        if sittings == 0:
            net = model()
        part = run(net, tmp_path / "parts", objective, slice_seconds=0.0)
        sittings += 1
        assert part.step == sittings
        if part.finished:
            break
        assert part.status == "to be continued"
    assert sittings == STEPS
    assert same(whole, net)
    assert torch.equal(once.bounds, part.bounds)
    assert once.bounds.shape == (EPOCHS, 2)
    again = run(model(seed=9), tmp_path / "once", objective)
    assert again.finished
    assert torch.equal(again.bounds, once.bounds)


def test_each_member_trains_as_it_would_alone_on_its_own_shuffling(tmp_path, monkeypatch):
    def constant(shape, dtype, device):
        return torch.linspace(-1, 1, shape[0])[:, None, None].expand(shape).to(dtype)

    monkeypatch.setattr("torch.distributions.normal._standard_normal", constant)
    stacked = model()
    settings = {"x": grey() / 255, "binarisation": Binarisation("none")}
    singles = [member(stacked, s) for s in range(2)]
    both = run(stacked, tmp_path / "both", **settings)
    for s, single in enumerate(singles):
        alone = run(single, tmp_path / str(s), seed=3 + s, **settings)
        torch.testing.assert_close(both.bounds[:, s], alone.bounds[:, 0], atol=1e-5, rtol=0)
        trained = member(stacked, s).state_dict()
        for name, value in single.state_dict().items():
            torch.testing.assert_close(trained[name], value, atol=2e-5, rtol=0)
    assert (both.bounds[:, 0] - both.bounds[:, 1]).abs().min() > 1e-4


@pytest.mark.slow
def test_training_raises_the_bound_and_follows_the_schedule(tmp_path):
    seen = []
    asked = []

    def schedule(epoch):
        asked.append(epoch)
        return 1.0

    net = mlp_vae((5,), 2, (8,), "tanh")
    x = (torch.arange(300).reshape(60, 5) % 2 * 255).to(torch.uint8)  # two patterns: ln 2 nats
    result = run(net, tmp_path, x=x, epochs=60, schedule=schedule,
                 progress=lambda epoch, bounds: seen.append((epoch, *bounds)))  # fmt: skip
    assert asked == [float(e) for e in range(60)]
    assert [row[0] for row in seen] == list(range(1, 61))
    assert [row[1] for row in seen] == result.bounds[:, 0].tolist()
    assert result.bounds[0, 0] < -3.0
    assert -1.5 < result.bounds[-1, 0] < -0.69


@pytest.mark.parametrize(
    ("objective", "weights"),
    [
        (AnnealedEntropy(3.0), [1 / 3, 2 / 3, 1.0, 1.0, 1.0]),  # min(1, number of the epoch / 3)
        (BetaELBO(warm_up_epochs=2.0), [0.25, 0.75, 1.0, 1.0, 1.0]),
        (IWAE(2), [1.0] * 5),
    ],
    ids=["annealed", "beta", "iwae"],
)
def test_a_weight_is_that_of_the_epoch_and_a_step_is_made_anew_when_it_moves(
    tmp_path, monkeypatch, objective, weights
):
    made, followed = [], []

    def frozen(step):
        weight = step.weight
        made.append(weight)

        def advance():
            followed.append(weight)
            step()

        return advance

    monkeypatch.setattr(slice_loop, "captured", frozen)
    run(model(), tmp_path, objective, epochs=5)
    assert followed == [pytest.approx(w) for w in weights for _ in range(4)]
    assert made == [pytest.approx(w) for w in dict.fromkeys(weights)]


def test_an_annealed_run_follows_lambda_and_reports_the_bound(tmp_path):
    nets = {length: model() for length in (1.0, 1e9)}
    for length, net in nets.items():
        bounds = run(net, tmp_path / str(length), AnnealedEntropy(length), epochs=40).bounds
        assert bounds.shape == (40, 2)
    with torch.no_grad():
        x = grey()[:B].repeat(2, 1) / 255
        widths = [net.encode(x).stddev.log().mean() for net in nets.values()]
    assert widths[1] < widths[0] - 0.5  # without entropy q shrinks to a point


def test_a_rate_of_zero_changes_nothing_but_the_noise(tmp_path):
    net = model()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    result = run(net, tmp_path, learning_rate=0.0)
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
    assert result.bounds.std() > 0


def test_ctrl_c_between_steps_saves_and_the_run_goes_on(tmp_path):
    whole = model()
    run(whole, tmp_path / "whole")
    calls = []

    class Interrupted(IWAE):
        def __call__(self, net, x, epoch):
            calls.append(1)
            if len(calls) == 7:  # one of them traced the parameters' parts
                os.kill(os.getpid(), signal.SIGINT)
            return super().__call__(net, x, epoch)

        def __repr__(self):
            return repr(IWAE(4))

    with pytest.raises(TrainingInterrupted, match=r"Ctrl-C at epoch 1\.75 \(step 7\); saved in"):
        run(model(), tmp_path / "cut", Interrupted(4))
    net = model(seed=5)
    assert run(net, tmp_path / "cut").finished
    assert same(whole, net)


def test_divergence_names_the_member_and_puts_the_last_saved_weights_back(tmp_path):
    steps = []

    def breaks(net, x, epoch):
        steps.append(1)
        value = log_mean_exp(log_weights(net, x, 4)).float()
        if len(steps) > 6:
            value = torch.cat([value[:B], value[B:] * torch.nan])
        return Bound(value.detach(), -value.mean())

    net = model()
    result = run(net, tmp_path, breaks, checkpoint_seconds=0.0)
    assert result.status == "diverged before epoch 2.00: no finite bound for member 1"
    assert result.diverged
    assert result.step == 4
    assert len(result.bounds) == 1
    assert all(v.isfinite().all() for v in net.state_dict().values())
    good = model()
    assert run(good, tmp_path / "good", lambda *a: iwae(a[0], a[1], 4), epochs=1).finished
    assert same(good, net)


def test_weights_that_are_no_numbers_are_never_saved(tmp_path):
    def breaks(net, x, epoch):
        bound = iwae(net, x, 4)
        return Bound(bound.value, bound.loss * torch.nan)

    result = run(model(), tmp_path, breaks, slice_seconds=0.0)
    assert result.status == "diverged before epoch 0.25: a weight is not finite"


def stepper(net, device="cpu", members=2):
    x = grey().to(device)
    optimizer = torch.optim.Adam(
        net.parameters(),
        lr=torch.tensor(0.01, device=device),
        fused=True,
        capturable=device != "cpu",
    )
    step = GraphedStep(net, IWAE(4), optimizer, x, B, members, Binarisation("dynamic"))
    step.shuffle(0, 0)
    return step


@pytest.mark.parametrize("steps_before", [0, 2])
def test_trial_steps_before_a_capture_leave_no_trace(steps_before):
    nets = [model(), model()]
    for trial, net in enumerate(nets):
        with seeded(1):
            step = stepper(net)
            for _ in range(steps_before):
                step()
            if trial:
                with unchanged(step):
                    step()
                    step()
            step()
            step()
    assert same(*nets)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_replayed_graph_is_the_step_on_cuda():
    nets = [model().cuda(), model().cuda()]
    for graphed, net in enumerate(nets):
        with seeded(1), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Adam, which is told to be captured
            step = stepper(net, "cuda")
            advance = captured(step) if graphed else step
            for _ in range(4):
                advance()
    for a, b in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda_a_weight_moves_too(tmp_path):
    nets = {length: model().cuda() for length in (1.0, 4.0)}
    runs = {
        length: run(net, tmp_path / str(length), AnnealedEntropy(length), x=grey().cuda())
        for length, net in nets.items()
    }
    whole, parts = model().cuda(), tmp_path / "parts"
    while not (
        part := run(whole, parts, AnnealedEntropy(4.0), x=grey().cuda(), slice_seconds=0.0)
    ).finished:
        pass
    torch.testing.assert_close(part.bounds, runs[4.0].bounds, atol=1e-4, rtol=0)
    assert (runs[1.0].bounds - runs[4.0].bounds).abs().max() > 1e-3


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_sittings_on_cuda_continue_each_other(tmp_path):
    whole, net = model().cuda(), model().cuda()
    once = run(whole, tmp_path / "once", x=grey().cuda())
    while not (part := run(net, tmp_path / "parts", x=grey().cuda(), slice_seconds=0.0)).finished:
        pass
    torch.testing.assert_close(part.bounds, once.bounds, atol=1e-4, rtol=0)
    for a, b in zip(whole.parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=0)


def test_a_checkpoint_of_the_literatures_networks_takes_a_few_megabytes(tmp_path):
    x = torch.zeros(20, 784, dtype=torch.uint8)
    limits = {1: 8, 4: 40}
    for members, limit in limits.items():
        net = stack([mlp_vae((784,), 50, (200, 200), "tanh") for _ in range(members)])
        folder = tmp_path / str(members)
        run(net, folder, IWAE(2), x=x, epochs=1, batch_size=20)
        size = sum(f.stat().st_size for f in folder.iterdir()) / 2**20
        assert 12 * members * 425_284 / 2**20 < size < limit


def test_two_layers_train_in_slices_too(tmp_path):
    with seeded(0):
        net = stack([hierarchical_vae((5,), (3, 2), ((8,), (6,))) for _ in range(2)])
    result = run(net, tmp_path, epochs=30)
    assert bool((result.bounds[-5:].mean(0) > result.bounds[0] + 0.02).all())


def test_another_setting_data_or_objective_is_refused(tmp_path):
    run(model(), tmp_path, slice_seconds=0.0)
    for changes, words in (
        ({"seed": 4}, "seed: expected 3"),
        ({"x": 255 - grey()}, "data: expected"),
        ({"objective": IWAE(5)}, "objective: expected"),
        ({"eps": 1e-8}, "eps: expected"),
    ):
        with pytest.raises(InputError, match=words):
            run(model(), tmp_path, **changes)


def test_functions_are_told_apart_by_name_and_arguments_not_by_address(tmp_path):
    def bound(net, x, epoch, *, num_samples):
        return iwae(net, x, num_samples)

    first = partial(bound, num_samples=4)
    run(model(), tmp_path, first, slice_seconds=0.0)
    copied = types.FunctionType(bound.__code__, bound.__globals__, closure=bound.__closure__)
    copied.__qualname__ = bound.__qualname__
    assert run(model(), tmp_path, partial(copied, num_samples=4), slice_seconds=0.0).step == 2
    with pytest.raises(InputError, match=r"objective: expected .*'num_samples': 4"):
        run(model(), tmp_path, partial(copied, num_samples=5))


def test_bad_arguments_are_named(tmp_path):
    with pytest.raises(InputError, match="batch_size: expected 1 to 26, the data; got 27"):
        run(model(), tmp_path, batch_size=27)
    with pytest.raises(InputError, match="epochs: expected at least 1"):
        run(model(), tmp_path, epochs=0)


def test_random_state_of_the_caller_is_untouched_and_rows_cut_back(tmp_path):
    before = torch.get_rng_state()
    run(model(), tmp_path, epochs=1)
    assert torch.equal(before, torch.get_rng_state())
    rows = json.loads((tmp_path / "bounds.json").read_text())
    (tmp_path / "bounds.json").write_text(json.dumps([*rows, [0.0, 0.0]]))  # killed in between
    assert len(run(model(), tmp_path, epochs=2).bounds) == 2
