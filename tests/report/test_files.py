"""What a diagnosis writes: JSON, a table, a tree, and files that are whole or absent."""

from __future__ import annotations

import json
import math
import os
from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr
from hand_made_evidence import complete_diagnosis

from elboscope.core import Finding, InputError
from elboscope.report import SCHEMA, Diagnosis, replace_with


@pytest.fixture(scope="module")
def diagnosis() -> Diagnosis:
    return complete_diagnosis()


def no_constants(name: str) -> float:
    raise AssertionError(f"{name} is not JSON")


def test_json_holds_the_verdicts_and_the_numbers(diagnosis):
    read = json.loads(diagnosis.to_json(), parse_constant=no_constants)
    assert read["schema"] == SCHEMA == "elboscope.findings/1"
    assert [f["check"] for f in read["findings"]] == [f.check for f in diagnosis.findings]
    log_px = diagnosis.estimates["log_px"]
    written = read["estimates"]["log_px"]
    assert written["mean"] == log_px.mean
    assert written["stderr"] == log_px.stderr
    assert written["mc_error_of_mean"] == log_px.mc_error_of_mean
    assert written["side"] == "lower"
    assert written["diagnostics"]["khat"]["max"] == pytest.approx(
        log_px.diagnostics["khat"].max().item()
    )
    assert read["estimates"]["unit_kl"]["total"] == diagnosis.estimates["unit_kl"].total
    assert len(read["estimates"]["unit_kl"]["values"]) == 6
    assert read["elbo_surgery"]["log_n"] == pytest.approx(math.log(200))


def test_json_writes_nan_and_infinity_as_words(diagnosis):
    values = torch.tensor([math.nan, 1.0])
    bad = replace(diagnosis.estimates["elbo"], values=values, mc_stderr=values, diagnostics={})
    finding = Finding("x", "ok", "…", {"a": math.inf, "b": (-math.inf, np.float64(math.nan))})
    sick = Diagnosis((finding,), {"elbo": bad}, diagnosis.evidence)
    read = json.loads(sick.to_json(), parse_constant=no_constants)
    assert read["estimates"]["elbo"]["mean"] == "NaN"
    assert read["findings"][0]["evidence"] == {"a": "Infinity", "b": ["-Infinity", "NaN"]}


def test_every_estimate_is_documented_by_what_it_is_not(diagnosis):
    read = json.loads(diagnosis.to_json())
    assert all(e["is_not"].startswith("Not ") for e in read["estimates"].values())


def test_the_certificate_is_written_with_its_reasons(diagnosis):
    read = json.loads(diagnosis.to_json())
    assert read["certificate"] == {
        "certified": True, "within": 0.042, "tolerance": 0.1, "n_simulated": 20,
        "n_pairs": 5000, "reasons": [], "more": "",
    }  # fmt: skip
    assert read["estimates"]["simulated_upper"]["side"] == "upper"
    assert read["estimates"]["simulated_upper"]["settings"]["num_temperatures"] == 100
    assert read["estimates"]["bound_50"]["settings"]["num_samples"] == 50
    assert "bound_5000" not in read["estimates"]  # it is log_px


def test_the_inference_gap_is_written_with_its_parts(diagnosis):
    read = json.loads(diagnosis.to_json(), parse_constant=no_constants)
    gap, estimates = diagnosis.evidence["inference_gap"], read["estimates"]
    assert estimates["approximation_gap"]["mean"] == gap.approximation.mean
    assert estimates["optimal_flow"]["mean"] == gap.optimal["flow"].elbo.mean
    assert estimates["train_amortisation_gap"]["mean"] == gap.train.amortisation.mean
    written = read["inference"]
    assert (written["family"], written["certified"]) == ("diagonal", False)
    assert written["within"] == {"diagonal": 0.012, "flow": 0.05}
    assert written["reasons"] == ["q*_flow: within ±0.05 …", "2 datapoints lie below L[q]"]
    assert set(written["test_minus_train"]) == {"approximation", "amortisation", "inference"}
    without = json.loads(complete_diagnosis(inference_gap=None).to_json())
    assert without["inference"] is None


@pytest.mark.slow
def test_searched_datapoints_are_named_by_their_rows_of_x(diagnosis, tmp_path):
    gap, rows = diagnosis.evidence["inference_gap"], diagnosis.evidence.rows["inference_gap"]
    best = gap.optimal["flow"]
    lost = replace(best, certificate=replace(best.certificate, diverged=(2,), unconverged=(3, 4)))
    found = complete_diagnosis(
        inference_gap=replace(gap, diverged=(2,), optimal={**gap.optimal, "flow": lost})
    )
    assert rows[2] != 2
    assert json.loads(found.to_json())["inference"]["diverged"] == [int(rows[2])]
    certificate = f"not converged (datapoints {rows[3]}, {rows[4]})"
    page = found.save(tmp_path / "report.html").read_text()
    assert certificate in page
    assert f"diverged and left out (datapoints {rows[2]})" in page


def test_no_certificate_is_null_and_its_numbers_say_why(diagnosis):
    missing = {"skipped": {"log_likelihood": "would take an hour"}, "log_likelihood": None}
    read = json.loads(complete_diagnosis(**missing).to_json())
    assert read["certificate"] is None
    assert read["skipped"]["simulated_upper"] == "would take an hour"


def test_dataframe_gives_totals_for_units_and_means_for_datapoints(diagnosis):
    table = diagnosis.to_dataframe()
    assert list(table.index) == list(diagnosis.estimates)
    assert table.loc["unit_kl", "value"] == diagnosis.estimates["unit_kl"].total
    assert table.loc["log_px", "value"] == diagnosis.estimates["log_px"].mean
    assert table.loc["log_px", "num_samples"] == 5000
    assert table.loc["log_px_half", "num_samples"] == 2500


@pytest.mark.slow
def test_the_tree_comes_back_from_its_file(diagnosis, tmp_path):
    path = diagnosis.save_datatree(tmp_path / "new" / "d.nc")
    with xr.open_datatree(path, engine="h5netcdf") as tree:
        log_px = tree["estimates/log_px"]
        expected = diagnosis.estimates["log_px"]
        assert (log_px["value"].values == expected.values.numpy()).all()
        assert (log_px["khat"].values == expected.diagnostics["khat"].numpy()).all()
        assert log_px.attrs["side"] == "lower"
        z = tree["posterior/z_mean"]
        assert z.dims == ("chain", "draw", "latent")
        assert (z.values[0] == diagnosis.evidence["posterior_means"].numpy()).all()
        assert (tree["observed_data/x"].values == diagnosis.evidence.x.numpy()).all()
        assert tree["findings/severity"].values.tolist() == [f.severity for f in diagnosis.findings]
        assert tree["training/train_bound"].shape == (24,)
    assert os.listdir(path.parent) == ["d.nc"]


def test_estimates_of_some_datapoints_meet_the_others_by_their_row(diagnosis):
    evidence = diagnosis.evidence
    tree, gap = diagnosis.to_datatree(), evidence["inference_gap"]
    assert gap is not None
    assert evidence.rows["inference_gap"] is not None
    rows = evidence.rows["inference_gap"][gap.index]
    assert rows.tolist() != list(range(len(rows)))
    names = ("inference_elbo", "optimal_diagonal", "approximation_gap", "log_px_annealed")
    for name in names:
        assert tree[f"estimates/{name}"]["datapoint"].values.tolist() == rows.tolist()
    lost = tree["estimates/elbo"]["value"] - tree["estimates/inference_elbo"]["value"]
    assert "elbo" in evidence
    expected = evidence["elbo"].values[rows] - gap.elbo.values
    assert lost.values.tolist() == pytest.approx(expected.tolist())
    assert tree["estimates/train_amortisation_gap"]["datapoint"].values[1] == 1


def test_saving_makes_folders_and_replaces_the_whole_file(diagnosis, tmp_path):
    path = tmp_path / "a" / "b" / "report.html"
    assert diagnosis.save(str(path)) == path
    first = path.read_text()
    assert first.rstrip().endswith("</html>")
    path.write_text("old")
    diagnosis.save(path)
    assert path.read_text().startswith("<!doctype html>")
    assert json.loads(diagnosis.save_json(path.with_name("findings.json")).read_text())
    assert sorted(os.listdir(path.parent)) == ["findings.json", "report.html"]


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("old")

    def broken(descriptor: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(InputError, match="can be written; got OSError: disk full"):
        replace_with(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["report.html"]


@pytest.mark.slow
def test_a_folder_or_a_file_in_the_way_is_named(diagnosis, tmp_path):
    with pytest.raises(InputError, match="expected the path of a file; got a folder"):
        diagnosis.save(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file/report.html: expected a path that can be written"):
        diagnosis.save(tmp_path / "file" / "report.html")


def test_a_verdict_is_found_by_its_check(diagnosis):
    assert diagnosis["prior hole"].severity == "problem"
    with pytest.raises(KeyError, match=r"no such.*; checks made: likelihood trust, likelihood c"):
        diagnosis["no such"]
    assert str(diagnosis).splitlines()[0].startswith("[ok] likelihood trust:")
