"""The JSON files against the tables, typed once more."""

import json
from pathlib import Path

import pytest

from elboscope import reproductions
from elboscope.reproductions.frame.claims import references

BURDA = """
1 1  86.76 19   86.76 19   108.11 28   108.11 28
1 5  86.47 20   85.54 22   107.62 28   106.12 34
1 50 86.35 20   84.78 25   107.80 28   104.67 41
2 1  85.33 16+5 85.33 16+5 107.58 28+4 107.56 30+5
2 5  85.01 17+5 83.89 21+5 106.31 30+5 104.79 38+6
2 50 84.78 17+5 82.90 26+7 106.30 30+5 103.38 44+7
"""
COLUMNS = (("mnist", "VAE"), ("mnist", "IWAE"), ("omniglot", "VAE"), ("omniglot", "IWAE"))

RAINFORTH = {
    "IWAE-64": "-86.11±.10 -85.74±.07 -85.69±.04 -86.08±.08 -86.69±.08",
    "log p̂": "-84.52±.02 -84.46±.06 -84.97±.10 -85.24±.08 -86.21±.19",
    "−KL(Q‖P)": "-1.59±.10 -1.28±.09 -0.72±.11 -0.84±.11 -0.47±.20",
}
METHODS = ("IWAE", "PIWAE(8,8)", "MIWAE(8,8)", "CIWAE β=0.5", "VAE")


def test_burda_table_1():
    found, seen = references("iwae-table1"), 0
    for line in BURDA.strip().splitlines():
        layers, k, *cells = line.split()
        for (data, objective), nll, units in zip(COLUMNS, cells[::2], cells[1::2], strict=True):
            plural = "s" if layers == "2" else ""
            name = f"{data}, {layers} layer{plural}, {objective} k={k}"
            assert found[f"{name}, NLL"].value == float(nll)
            assert found[f"{name}, NLL"].num_samples == 5000
            active = units.split("+")
            suffixes = [""] if layers == "1" else [", z1", ", z2"]
            for suffix, count in zip(suffixes, active, strict=True):
                assert found[f"{name}, active units{suffix}"].value == float(count)
            seen += 1 + len(active)
    assert len(found) == seen


def test_rainforth_table_1():
    found = references("tighter-bounds-table1")
    assert len(found) == 15
    for quantity, row in RAINFORTH.items():
        for method, cell in zip(METHODS, row.split(), strict=True):
            value, error = map(float, cell.split("±"))
            number = found[f"{method}, {quantity}"]
            assert (number.value, number.error) == (value, error)
            assert number.error_kind == "sd over 4 runs"


def test_the_gap_of_the_paper_is_its_two_bounds_difference():
    found = references("tighter-bounds-table1")
    for method in METHODS:
        bound, log_px, gap = (found[f"{method}, {q}"].value for q in RAINFORTH)
        assert gap == pytest.approx(bound - log_px, abs=0.0151)


FOLDER = Path(reproductions.__file__).parent


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*/*.json")), ids=lambda path: path.stem)
def test_every_number_has_a_source_and_a_paper(path):
    content = json.loads(path.read_text())
    assert content["paper"]
    assert content["url"].startswith("https://")
    on_arxiv = content["url"].startswith("https://arxiv.org/abs/")
    for entry in content["numbers"]:
        assert ("arXiv" in entry["source"]) == on_arxiv, entry
