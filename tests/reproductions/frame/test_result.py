"""What is kept: a schema, null for what is no number, whole files or none."""

import json
import math

import pytest
from matplotlib.figure import Figure

from elboscope.core import InputError
from elboscope.reproductions.frame import result as module
from elboscope.reproductions.frame.claims import Claim, Published
from elboscope.reproductions.frame.result import Reproduction, Row, cells, meaning_of_errors

PUBLISHED = Published(-84.52, "Rainforth et al. 2018", 0.02, "sd over 4 runs", 3280, 5000)
ROWS = (
    Row("IWAE", "log p̂", -90.123, 0.456, "sd over 2 runs", 1, 1000, 10_000, PUBLISHED),
    Row("IWAE", "active|units", 19.0, math.nan, unit="units"),
)
CLAIM = Claim("A > B", "a paper", "undecided", "+1.0 ± 1.0 nats", 1.0, math.inf)


def outcome(**changes) -> Reproduction:
    fields = {"rows": ROWS, "claims": (CLAIM,), "notes": ("a note",), "provenance": {"seed": 3}}
    return Reproduction("a-table", "A table", "cpu", **(fields | changes))


def test_a_row_shows_both_numbers_with_epochs_samples_and_source():
    assert cells(ROWS[0]) == (
        "IWAE", "log p̂ [nats]", "-90.12 ± 0.46", "1", "1000", "10000",
        "-84.52 ± 0.02", "3280", "Rainforth et al. 2018",
    )  # fmt: skip
    assert cells(ROWS[1])[2] == "19.00"
    text = meaning_of_errors(ROWS)
    assert text == "± of ours: sd over 2 runs (log p̂). ± of the paper: sd over 4 runs."


def test_the_record_is_complete_and_strict_json(tmp_path):
    path = outcome(figures={"picture": Figure()}).save(tmp_path / "new" / "folder")
    content = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert content["format"] == module.FORMAT
    assert set(content) == {
        "format", "name", "title", "scale", "rows", "claims", "notes", "provenance", "figures",
    }  # fmt: skip
    assert content["rows"][0]["published"]["value"] == -84.52
    assert content["rows"][1]["error"] is None
    assert content["claims"][0]["error"] is None
    assert content["claims"][0]["verdict"] == "undecided"
    names = {file.name for file in path.parent.iterdir()}
    assert names == {"result.json", "result.md", "picture.svg", "picture.png"}


def test_markdown_has_the_same_and_escapes_bars():
    text = outcome().to_markdown()
    for word in ("-90.12 ± 0.46", "-84.52 ± 0.02", "**undecided**", "active\\|units", "- a note"):
        assert word in text


def test_an_interrupted_save_leaves_the_old_record(tmp_path, monkeypatch):
    outcome().save(tmp_path)
    before = (tmp_path / "result.json").read_text()

    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(Figure, "savefig", stop)
    with pytest.raises(KeyboardInterrupt):
        outcome(notes=(), figures={"picture": Figure()}).save(tmp_path)
    assert (tmp_path / "result.json").read_text() == before
    assert {file.name for file in tmp_path.iterdir()} == {"result.json", "result.md"}


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="a path that can be written"):
        outcome().save(tmp_path / "file")
