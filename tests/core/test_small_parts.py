"""Errors, findings, seeds, modes, placement, files."""

import os
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

from elboscope.core import (
    SEVERITIES,
    ContractError,
    Finding,
    InputError,
    evaluating,
    modules_of,
    placed_like,
    seeded,
)
from elboscope.core.files import replace_file
from elboscope.models import LinearGaussian, from_modules


@pytest.mark.parametrize("kind", [InputError, ContractError])
def test_errors_survive_pickling_as_another_process_sends_them(kind):
    error = kind("x", expected="values in [0, 1]", got="max 255", do="Divide by 255.")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == str(error) == "x: expected values in [0, 1]; got max 255. Divide by 255."
    assert (again.what, again.expected, again.got, again.do) == (
        "x",
        "values in [0, 1]",
        "max 255",
        "Divide by 255.",
    )


def test_an_error_is_one_line_and_a_value_error():
    error = InputError("a\nb", expected="c", got="d\n\n  e")
    assert str(error) == "a b: expected c; got d e."
    assert isinstance(error, ValueError)
    assert issubclass(ContractError, InputError)


def test_a_finding_says_its_severity_and_what_to_do():
    finding = Finding("prior hole", "problem", "KL is 3 nats.", action="Train a flow prior.")
    assert str(finding) == "[problem] prior hole: KL is 3 nats."
    for severity in SEVERITIES:
        if severity in ("warning", "problem"):
            with pytest.raises(ValueError, match=f"c: a {severity} says what to do next"):
                Finding("c", severity, "s")
        else:
            assert Finding("c", severity, "s").action == ""


def test_a_seed_fixes_the_draws_and_leaves_the_callers_alone():
    before = torch.get_rng_state()
    with seeded(3) as used:
        a = torch.randn(4)
    with seeded(3):
        b = torch.randn(4)
    with seeded(4):
        c = torch.randn(4)
    assert used == 3
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert torch.equal(before, torch.get_rng_state())


def test_without_a_seed_two_calls_differ_and_the_seed_is_told():
    with seeded(None) as first:
        a = torch.randn(4)
    with seeded(None) as second:
        b = torch.randn(4)
    assert first != second
    assert not torch.equal(a, b)
    with seeded(first):
        assert torch.equal(a, torch.randn(4))


def test_the_state_is_restored_after_an_exception():
    before = torch.get_rng_state()
    with pytest.raises(RuntimeError), seeded(0):
        torch.randn(3) @ torch.randn(4)
    assert torch.equal(before, torch.get_rng_state())


def test_evaluating_restores_every_flag_also_mixed_ones_and_after_an_exception():
    model = nn.Sequential(nn.BatchNorm1d(2), nn.Sequential(nn.Dropout(), nn.Linear(2, 2)))
    model[0].eval()
    flags = [m.training for m in model.modules()]
    assert set(flags) == {True, False}
    with evaluating(model):
        assert not any(m.training for m in model.modules())
        assert not torch.is_grad_enabled()
    assert [m.training for m in model.modules()] == flags
    with pytest.raises(KeyError), evaluating(model):
        raise KeyError
    assert [m.training for m in model.modules()] == flags
    assert torch.is_grad_enabled()


def test_the_modules_of_a_plain_object_are_its_attributes():
    class Plain:
        def __init__(self):
            self.net, self.number = nn.Linear(2, 2), 3

    plain = Plain()
    assert modules_of(plain) == [plain.net]
    assert modules_of(plain.net) == [plain.net]
    assert modules_of(3) == []


def test_x_follows_the_models_dtype():
    x = torch.tensor([[1, 0, 1]])
    assert placed_like(x, LinearGaussian.instance_1()).dtype == torch.float64
    assert placed_like(x, from_modules(nn.Linear(3, 2), nn.Linear(1, 3))).dtype == torch.float32
    with pytest.raises(InputError, match=r"x: expected real numbers; got torch\.complex64"):
        placed_like(torch.zeros(2, 3, dtype=torch.complex64), LinearGaussian.instance_1())


@pytest.mark.parametrize("seed", [True, 2**64, -(2**63) - 1])
def test_seeds_that_torch_would_not_take_as_they_are_are_refused(seed) -> None:
    with pytest.raises(InputError, match="seed: expected a whole number"), seeded(seed):
        pass


def test_two_writers_of_one_file_do_not_collide(tmp_path, monkeypatch):
    path, own = tmp_path / "report.html", os.getpid()

    def write(aside: Path) -> None:
        aside.write_text("half")
        with monkeypatch.context() as patch:
            patch.setattr(os, "getpid", lambda: own + 1)
            replace_file(path, lambda other: other.write_text("the other's"))
        assert path.read_text() == "the other's"
        aside.write_text("whole")

    replace_file(path, write)
    assert path.read_text() == "whole"
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path):
    (tmp_path / ".a.txt.12345.part").write_text("half")
    (tmp_path / ".b.txt.12345.part").write_text("of another file")
    replace_file(tmp_path / "a.txt", lambda aside: aside.write_text("whole"))
    assert {p.name for p in tmp_path.iterdir()} == {"a.txt", ".b.txt.12345.part"}
