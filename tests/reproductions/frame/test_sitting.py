"""A folder of a reproduction: whose it is, how long a sitting lasts, what is refused."""

import json
import time

import pytest

from elboscope.core import InputError
from elboscope.reproductions.frame.sitting import Options, Unfinished, sitting

ASKED = {"name": "a-table", "seed": 0}


def test_time_adds_up_over_sittings(tmp_path):
    out = tmp_path / "run"
    with sitting(out, ASKED, Options(), None):
        time.sleep(0.05)
    with sitting(out, ASKED, Options(resume=True), None) as now:
        assert now.seconds >= 0.05
    assert json.loads((out / "state/seconds.json").read_text()) >= 0.05


def test_a_slice_ends_at_its_time_and_says_how_to_go_on(tmp_path):
    with (
        pytest.raises(Unfinished, match=r"at the evaluation.*same command and --resume"),
        sitting(tmp_path / "run", ASKED, Options(slice_seconds=1e-6), None) as now,
    ):
        now.require_time("the evaluation")
    with sitting(tmp_path / "other", ASKED, Options(slice_seconds=60.0), None) as now:
        now.require_time("the evaluation")


@pytest.mark.parametrize(
    ("prepare", "options", "words"),
    [
        (lambda out: out.write_text(""), Options(), "a folder; got a file"),
        (lambda out: (out.mkdir(), (out / "mine.txt").touch()), Options(), "other files"),
        (lambda out: begun(out, ASKED), Options(), "Continue it with --resume"),
        (lambda out: begun(out, {**ASKED, "seed": 7}), Options(resume=True), "seed: expected 7"),
    ],
)
def test_a_folder_of_something_else_is_refused_untouched(tmp_path, prepare, options, words):
    out = tmp_path / "run"
    prepare(out)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=words), sitting(out, ASKED, options, None):
        pytest.fail("opened")
    assert sorted(tmp_path.rglob("*")) == before


def begun(out, asked):
    with sitting(out, asked, Options(), None):
        pass


def test_resuming_nothing_begins(tmp_path):
    (tmp_path / "empty").mkdir()
    for out in (tmp_path / "empty", tmp_path / "new"):
        with sitting(out, ASKED, Options(resume=True), None) as now:
            assert now.before == 0.0


def test_one_process_at_a_time(tmp_path):
    out, resume = tmp_path / "run", Options(resume=True)
    with (
        sitting(out, ASKED, resume, None),
        pytest.raises(InputError, match="no other process is writing"),
        sitting(out, ASKED, resume, None),
    ):
        pytest.fail("opened twice")


def test_ctrl_c_says_how_to_go_on_and_keeps_what_training_said(tmp_path):
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt, match=f"{out}/state. Continue with --resume"):
        interrupted(out, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt, match=r"^at epoch 3$"):
        interrupted(out, KeyboardInterrupt("at epoch 3"))


def interrupted(out, stop):
    with sitting(out, ASKED, Options(resume=True), None):
        raise stop
