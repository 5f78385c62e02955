"""A diagnosis stopped and resumed gives the numbers of one that was not, bit for bit."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch.distributions import Independent, MultivariateNormal, Normal

import elboscope as es
from elboscope.core import InputError
from elboscope.core.files import only_process
from elboscope.diagnostics import QUANTITIES, Interrupted
from elboscope.diagnostics import kept as kept_module
from elboscope.diagnostics.budget import Budget
from elboscope.diagnostics.kept import FOLDER, Kept, UnwritableError, decode, discard, encode
from elboscope.estimators.inference.flow_family import local_flow
from elboscope.models import LinearGaussian

SMALL = Budget("quick", 100, 10, 40, 40, 100, 60.0, num_prior=200)
RICH = replace(SMALL, num_temperatures=5, num_chains=4, num_annealed=10, num_simulated=20,
               num_optimised=10, richer="full", ratio_steps=5, densities=("gmm",))  # fmt: skip
COMPUTED_AGAIN = {"fitted_prior"}  # it holds the model


@pytest.fixture(scope="module")
def subject():
    model = LinearGaussian.instance_1()
    return model, model.sample(40, seed=0)[0], model.sample(60, seed=1)[0]


def diagnose(subject, folder=None, *, budget=SMALL, stop_before=-1, **more):
    """A diagnosis, with Ctrl-C before its n-th quantity."""
    model, x, x_train = subject

    def progress(stage: str, done: int, total: int) -> None:
        if done == stop_before:
            raise KeyboardInterrupt

    return es.report.diagnose(
        model, x, x_train=x_train, budget=budget, seed=3, keep_in=folder, progress=progress, **more
    )


def bits(diagnosis) -> dict[str, object]:
    """All values, as text and bytes; the timed seconds, which no two runs share, left out."""
    tensors: dict[str, torch.Tensor] = {}
    evidence = diagnosis.evidence
    kept = {k: v for k, v in evidence.values.items() if k not in COMPUTED_AGAIN}
    settings = {k: v for k, v in evidence.settings.items() if k != "expected_seconds"}
    facts = (kept, evidence.skipped, evidence.nonfinite, evidence.rows, settings)
    text = json.dumps(encode((*facts, diagnosis.findings), tensors))
    return {"structure": text} | {k: v.numpy().tobytes() for k, v in tensors.items()}


@pytest.fixture(scope="module")
def whole(subject):
    return bits(diagnose(subject))


def test_stopped_thrice_and_resumed_is_the_whole_diagnosis(subject, whole, tmp_path):
    for stop_before in (1, 9, 26):
        words = rf"Stopped by Ctrl-C after {stop_before} of \d+ quantities"
        with pytest.raises(Interrupted, match=words):
            diagnose(subject, tmp_path, stop_before=stop_before, resume=True)
    assert bits(diagnose(subject, tmp_path, resume=True)) == whole


@pytest.mark.slow
@pytest.mark.parametrize("stop_before", range(0, len(QUANTITIES), 4))
def test_stopped_anywhere_and_resumed_is_the_whole_diagnosis(stop_before, subject, whole, tmp_path):
    with pytest.raises(Interrupted):
        diagnose(subject, tmp_path, stop_before=stop_before)
    assert bits(diagnose(subject, tmp_path, resume=True)) == whole


def test_what_is_kept_is_not_computed_again(subject, tmp_path, monkeypatch):
    computed: list[str] = []
    for quantity in QUANTITIES:
        original = quantity.compute

        def counting(subject, name=quantity.name, compute=original):
            computed.append(name)
            return compute(subject)

        monkeypatch.setitem(vars(quantity), "compute", counting)

    def until(stop_before: int, *, resume: bool) -> list[str]:
        computed.clear()
        with pytest.raises(Interrupted):
            diagnose(subject, tmp_path, stop_before=stop_before, resume=resume)
        return [*computed]

    first = until(5, resume=False)
    assert {"log_px", "elbo"} <= set(first)
    more = until(8, resume=True)
    assert more
    assert not {*first} & {*more}
    assert until(5, resume=False) == first  # it begins again


def test_the_diagnosis_until_then_has_what_was_done_and_says_why_the_rest_is_missing(
    subject, tmp_path
):
    with pytest.raises(Interrupted) as stop:
        diagnose(subject, tmp_path, stop_before=5)
    found, complete = es.report.judge(stop.value.evidence), diagnose(subject)
    assert {"log_px", "elbo"} <= set(found.estimates) < set(complete.estimates)
    for name, estimate in found.estimates.items():
        assert torch.equal(estimate.values, complete.estimates[name].values), name
    assert found.evidence.reason("surgery") == "the diagnosis was stopped by Ctrl-C before it"
    assert found.evidence.settings["unfinished"].startswith("stopped by Ctrl-C after 5 of ")
    assert found["prior hole"].severity == "unavailable"
    assert "stopped by Ctrl-C" in found["prior hole"].summary
    assert "stopped by Ctrl-C after 5 of" in found.to_json()


@pytest.mark.slow
def test_every_quantity_of_a_rich_budget_is_kept(subject, tmp_path):
    first = diagnose(subject, tmp_path, budget=RICH)
    files = {path.stem for path in (tmp_path / FOLDER).glob("*.safetensors")}
    assert set(first.evidence.values) - files == COMPUTED_AGAIN
    with pytest.raises(Interrupted):
        diagnose(subject, tmp_path, budget=RICH, stop_before=13, resume=True)
    for late in ("surgery", "low_posterior"):
        (tmp_path / FOLDER / f"{late}.safetensors").unlink()
    assert bits(diagnose(subject, tmp_path, budget=RICH, resume=True)) == bits(first)
    discard(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": 4}, "seed: expected 3, with which the diagnosis in .* was begun; got 4"),
        ({"budget": replace(SMALL, num_samples=50)}, "budget: expected .*num_samples=100"),
        ({"x": 2}, "x: expected '.*Resume with the same model, data and options"),
        ({"model": 2}, "model: expected '"),
    ],
)
def test_another_diagnosis_is_not_continued(change, words, subject, tmp_path):
    model, x, x_train = subject
    with pytest.raises(Interrupted):
        diagnose(subject, tmp_path, stop_before=2)
    model = LinearGaussian.instance_2() if change.pop("model", 0) else model
    x = x[1:] if change.pop("x", 0) else x
    if model is not subject[0]:
        x, x_train = model.sample(40, seed=0)[0], None
        words = "(images|model|x|x_train): expected"
    with pytest.raises(InputError, match=words):
        es.report.diagnose(model, x, x_train=x_train, keep_in=tmp_path, resume=True,
                           **{"budget": SMALL, "seed": 3, **change})  # fmt: skip


def test_a_network_whose_weights_changed_is_another_model(tmp_path):
    model = es.models.mlp_vae((6,), latent_dim=2, hidden=(4,))
    x = torch.rand(40, 6).round()
    with pytest.raises(Interrupted):
        diagnose((model, x, None), tmp_path, stop_before=1)
    with torch.no_grad():
        next(iter(model.parameters())).add_(1e-3)
    with pytest.raises(InputError, match=r"model: expected '.*with which the diagnosis"):
        diagnose((model, x, None), tmp_path, resume=True)


def test_a_damaged_file_is_computed_again(subject, tmp_path):
    stopped: list[Interrupted] = []
    for _ in range(2):
        with pytest.raises(Interrupted) as stop:
            diagnose(subject, tmp_path, stop_before=5, resume=True)
        stopped.append(stop.value)
        path = tmp_path / FOLDER / "elbo.safetensors"
        path.write_bytes(path.read_bytes()[:-40])
        assert Kept(tmp_path / FOLDER).read("elbo") is None
    before, after = (es.report.judge(stop.evidence) for stop in stopped)
    assert bits(before) == bits(after)


@pytest.mark.parametrize(
    "value",
    [
        {"result": "os:system", "fields": {"command": "touch HACKED"}},
        {"result": "subprocess:Popen", "fields": {"args": ["touch", "HACKED"]}},
        {"result": "elboscope.core.files:os.system", "fields": {"command": "touch HACKED"}},
        {"result": "elboscope.core.files:Path.write_text", "fields": {}},
        {"result": "elboscope.diagnostics.kept:discard", "fields": {"out": "."}},
        {"result": "elboscope.training.run_folder:RunFolder", "fields": {"path": "."}},
        {"global": "os.system"},
    ],
)
def test_a_hostile_file_makes_nothing(value, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="is nothing that is kept"):
        decode(value, {})
    save_file({}, tmp_path / "elbo.safetensors", metadata={"value": json.dumps(value)})
    assert Kept(tmp_path).read("elbo") is None
    assert not (tmp_path / "HACKED").exists()


def test_posteriors_are_read_back_with_the_bits_they_had():
    x = torch.randn(3, 2, generator=torch.Generator().manual_seed(0))
    factor = torch.eye(2).expand(3, 2, 2) + 0.3 * (x[..., None] * x[:, None]).tril()
    for q in (Independent(Normal(x, x.exp()), 1), MultivariateNormal(x, scale_tril=factor)):
        tensors: dict[str, torch.Tensor] = {}
        again = decode(json.loads(json.dumps(encode(q, tensors))), tensors)
        assert torch.equal(again.log_prob(x), q.log_prob(x))
    with pytest.raises(UnwritableError, match="Linear"):
        encode((torch.nn.Linear(1, 1),), {})


def test_a_flow_of_each_datapoint_is_read_back_with_the_bits_it_had():
    x = torch.randn(3, 2, generator=torch.Generator().manual_seed(0))
    family = local_flow((2,), x, seed=5)
    q = family.distribution(tuple(p + 0.1 for p in family.start(x, x.exp())))
    tensors: dict[str, torch.Tensor] = {}
    again = decode(json.loads(json.dumps(encode(q, tensors))), tensors)
    draws = []
    for posterior in (q, again):
        with es.seeded(1):
            draws.append(posterior.rsample_and_log_prob(torch.Size((5,))))
    assert torch.equal(draws[0][0], draws[1][0])
    assert torch.equal(draws[0][1], draws[1][1])


def test_a_full_disk_loses_no_number(subject, whole, tmp_path, monkeypatch):
    def full(tensors, path, metadata):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(kept_module, "save_file", full)
    found = diagnose(subject, tmp_path)
    note = found.evidence.settings["not kept"]
    assert "log_px could not be kept: [Errno 28] No space left on device" in note
    settings = {k: v for k, v in found.evidence.settings.items() if k != "not kept"}
    assert bits(replace(found, evidence=replace(found.evidence, settings=settings))) == whole
    assert not list((tmp_path / FOLDER).glob(".*.part"))


def test_a_folder_that_cannot_take_the_report_is_refused_first(subject, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        InputError, match=r"file: expected a folder that can be written, with 32 MB"
    ):
        diagnose(subject, tmp_path / "file", stop_before=0)

    def full(size: int) -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "urandom", full)
    with pytest.raises(InputError, match=r"got OSError: No space left on device\. Choose another"):
        diagnose(subject, tmp_path / "new", stop_before=0)
    assert not (tmp_path / "new" / FOLDER / "room").exists()


def test_one_process_at_a_time(subject, tmp_path):
    (tmp_path / FOLDER).mkdir()
    with (
        only_process(tmp_path / FOLDER),
        pytest.raises(InputError, match=f"one that process {os.getpid()} is writing in. Wait for"),
    ):
        diagnose(subject, tmp_path)
