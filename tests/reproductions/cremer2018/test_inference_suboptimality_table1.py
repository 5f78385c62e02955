"""Table 1 of Cremer et al.: its numbers, verdicts on numbers made by hand, and a run in slices."""

import pytest
import torch

from elboscope.core import InputError
from elboscope.reproductions.cremer2018 import table1 as table1
from elboscope.reproductions.cremer2018.gaps import Gaps
from elboscope.reproductions.cremer2018.table1 import COLUMNS, Column, column_claims, gap_of
from elboscope.reproductions.frame.claims import references
from elboscope.reproductions.frame.experiment import reproduce
from elboscope.reproductions.frame.sitting import Options, Unfinished
from elboscope.training import ELBO, AnnealedEntropy

NAME = "inference-suboptimality-table1"
PRINTED = [
    Column(data, variant, q)
    for data in ("MNIST", "Fashion")
    for variant in ("Regular", "Large", "No annealing")
    for q in ("FFG", "Flow")
]
TABLE = """
log p̂              -89.85 -88.82 -89.09 -88.59 -89.84 -89.41 -97.78 -97.35 -94.55 -96.16 -100.56 -100.33
L[q*_Flow]         -90.83 -90.40 -90.05 -90.26 -90.89 -90.78 -98.03 -97.74 -95.93 -96.87 -100.74 -100.61
L[q*_FFG]          -91.19 -102.88 -90.34 -103.53 -91.02 -92.34 -99.03 -130.90 -98.09 -129.24 -101.26 -102.80
L[q]               -92.76 -91.42 -91.12 -91.25 -94.31 -94.29 -103.20 -102.19 -101.28 -100.60 -103.63 -104.05
approximation gap  1.34 1.58 1.25 1.67 1.18 1.37 1.25 0.39 3.54 0.71 0.70 0.28
amortisation gap   1.57 1.02 0.78 0.99 3.29 3.51 4.17 4.45 3.19 3.73 2.37 3.44
inference gap      2.91 2.60 2.03 2.66 4.47 4.88 5.42 4.84 6.73 4.44 3.07 3.72
"""  # noqa: E501


def published(column, quantity):
    return references(NAME)[f"{column}, {quantity}"].value


def test_the_file_holds_the_printed_table():
    seen = 0
    for line in TABLE.strip().splitlines():
        name, numbers = line[:18].strip(), [float(n) for n in line[18:].split()]
        for column, number in zip(PRINTED, numbers, strict=True):
            assert published(column, name) == number, (column, name)
            seen += 1
    assert seen == len(references(NAME)) == 84


@pytest.mark.parametrize("column", PRINTED, ids=str)
def test_the_printed_gaps_are_differences_of_the_printed_bounds(column):
    log_px, optimal, elbo = (
        published(column, name) for name in ("log p̂", f"L[q*_{column.q}]", "L[q]")
    )
    assert published(column, "approximation gap") == pytest.approx(log_px - optimal, abs=0.0101)
    assert published(column, "amortisation gap") == pytest.approx(optimal - elbo, abs=0.0101)
    assert published(column, "inference gap") == pytest.approx(log_px - elbo, abs=0.0101)


def test_a_gpu_spends_its_time_in_the_published_order_of_importance():
    first = ["MNIST, Regular, FFG", "MNIST, Regular, Flow", "Fashion, Regular, FFG"]
    assert [str(column) for column in COLUMNS[:3]] == first
    assert [column.variant for column in COLUMNS[4:]] == ["No annealing"] * 4 + ["Large"] * 4
    assert sorted(map(str, COLUMNS)) == sorted(map(str, PRINTED))


def test_annealing_is_in_proportion_and_the_ablation_has_none():
    regular, bare = (Column("MNIST", variant, "FFG") for variant in ("Regular", "No annealing"))
    assert regular.objective(3280) == AnnealedEntropy(400.0)
    assert regular.objective(82) == AnnealedEntropy(10.0)
    assert bare.objective(3280) == ELBO(analytic_kl=False)


def made(column, within=0.02, flip=False, rows=None):
    """Gaps with the published means (or with q* on the wrong side), spread over 50 images."""
    spread = torch.linspace(-1, 1, 50).double()
    values = {name: published(column, name) + 10 * spread for name in gap_of(fake())}
    if flip:
        values["L[q*_FFG]"], values["L[q*_Flow]"] = values["L[q*_Flow]"], values["L[q*_FFG]"]
    rows = torch.arange(50) if rows is None else rows
    return Gaps(
        *(values[name][rows] for name in ("log p̂", "L[q*_Flow]", "L[q*_FFG]", "L[q]")),
        column.family, {}, {"diagonal": within, "flow": within}, True, "", {}, rows,
    )  # fmt: skip


def fake():
    one = torch.zeros(1).double()
    return Gaps(one, one, one, one, "flow", {}, {}, True, "", {}, one.long())


def claims(**changes):
    return list(column_claims({c: made(c, **changes) for c in COLUMNS}, published_schedule=True))


def test_the_papers_own_numbers_reproduce_all_of_its_claims():
    found = claims()
    assert {claim.verdict for claim in found} == {"reproduced"}, [
        (c.text, c.evidence) for c in found if c.verdict != "reproduced"
    ]
    texts = [claim.text for claim in found]
    assert len(texts) == len(set(texts))
    assert sum("flows are worth" in text for text in texts) == 12 + 2
    assert sum("gap is larger than" in text for text in texts) == 12
    assert sum("larger encoder has a smaller amortisation gap" in text for text in texts) == 3
    assert sum(text.startswith("log p̂ of") for text in texts) == 12
    assert all("±" in claim.evidence for claim in found)


def test_a_q_star_that_is_in_both_parts_may_lack_its_nats_twice():
    column = Column("MNIST", "Regular", "FFG")
    found = {claim.text: claim for claim in column_claims({column: made(column, within=20.0)},
                                                          published_schedule=False)}  # fmt: skip
    part = "MNIST, Regular, FFG: the amortisation gap is larger than the approximation gap"
    assert found[part].error == pytest.approx(20.0, rel=1e-3)  # 2 · c/2
    flows = "MNIST, Regular, FFG: flows are worth less than 2.5 nats, L[q*_Flow] − L[q*_FFG]"
    assert found[flows].error == pytest.approx(10.0 * 2**0.5, rel=1e-3)  # two searches


def test_the_larger_part_is_said_by_a_positive_difference():
    found = [claim for claim in claims() if "gap is larger than" in claim.text]
    assert {claim.text.split("the ")[1].split()[0] for claim in found} == {
        "amortisation",
        "approximation",
    }
    assert all(claim.value > 0 for claim in found if claim.verdict == "reproduced")
    assert all(claim.evidence.startswith("+") for claim in found)


def test_numbers_on_the_wrong_side_contradict():
    found = {claim.text: claim for claim in claims(flip=True)}
    flow = "MNIST, Regular, Flow: flows are worth more than 10 nats, L[q*_Flow] − L[q*_FFG]"
    assert found[flow].verdict == "contradicted"
    assert found[flow].evidence.startswith("-12.480 ±")
    assert found[flow].evidence.endswith("50 training images) against 10")
    part = "MNIST, Regular, FFG: the amortisation gap is larger than the approximation gap"
    assert found[part].verdict == "reproduced"  # 1.93 against 0.98
    part = "MNIST, Regular, Flow: the approximation gap is larger than the amortisation gap"
    assert found[part].verdict == "reproduced"
    large = "Fashion, Flow: the larger encoder has a smaller amortisation gap"
    assert found[large].verdict == "contradicted"  # −28.64 against −28.71


def test_a_search_that_is_not_certain_decides_nothing():
    assert {c.verdict for c in claims(within=60.0) if "L[q*" in c.text} == {"undecided"}


def test_columns_are_compared_on_the_images_that_both_have():
    regular, large = (Column("MNIST", v, "FFG") for v in ("Regular", "Large"))
    found = {regular: made(regular, rows=torch.arange(0, 40)),
             large: made(large, rows=torch.arange(5, 50))}  # fmt: skip
    (claim,) = [c for c in column_claims(found, published_schedule=False) if "larger e" in c.text]
    assert "35 training images" in claim.evidence
    assert claim.value == pytest.approx(0.78 - 1.57, abs=0.011)


def values(outcome):
    return [(row.label, row.quantity, row.value, row.error) for row in outcome.rows]


@pytest.mark.slow
def test_a_run_shows_all_kinds_of_columns_with_both_splits(smoke):
    outcome = smoke(NAME)
    rows = {(row.label, row.quantity): row for row in outcome.rows}
    assert len(rows) == 4 * 2 * 7
    for label in {label for label, _ in rows}:
        log_px, elbo, flow, ffg = (
            rows[label, name].value for name in ("log p̂", "L[q]", "L[q*_Flow]", "L[q*_FFG]")
        )
        assert -60 < elbo < log_px < -10
        assert ffg > elbo - 0.5 if "FFG" in label else flow > elbo - 0.5
        assert flow > ffg - 0.1
        parts = [rows[label, f"{part} gap"].value for part in ("approximation", "amortisation")]
        assert sum(parts) == pytest.approx(rows[label, "inference gap"].value, abs=1e-9)
    assert all(row.published is None for row in outcome.rows)
    assert all(c.verdict == "undecided" and "±" in c.evidence for c in outcome.claims)
    assert sum("flows are worth" in claim.text for claim in outcome.claims) == 4 + 1
    assert {"python", "torch", "elboscope"} <= set(outcome.record()["provenance"]["versions"])


@pytest.mark.slow
def test_columns_can_be_chosen_and_slices_give_the_numbers_of_one_sitting(smoke, ticking, tmp_path):
    chosen, pauses, outcome = "digits-large-ffg", [], None
    while outcome is None:
        options = Options(resume=True, slice_seconds=25.0, columns=(chosen,))
        try:
            outcome = reproduce(table1.EXPERIMENT, "smoke", out=tmp_path / "run", options=options)
        except Unfinished as pause:
            pauses.append(str(pause))
        assert len(pauses) < 100
    assert pauses
    whole = [row for row in values(smoke(NAME)) if row[0].startswith("digits, Large, FFG")]
    assert len(whole) == 14
    assert values(outcome) == whole


def test_an_unknown_column_is_named(tmp_path):
    with pytest.raises(InputError, match=r"--columns: expected some of digits-regular-ffg, .* got"):
        reproduce(table1.EXPERIMENT, "smoke", out=tmp_path, options=Options(columns=("mnist",)))


def test_published_numbers_stand_beside_training_images():
    column, plan = COLUMNS[0], table1.EXPERIMENT.plans["paper"]
    found = {column: {split: made(column) for split in ("train", "test")}}
    rows = list(table1._rows(found, plan))
    assert [row.published.value for row in rows[:2]] == [-89.85, -90.83]
    assert [row.published for row in rows[7:]] == [None] * 7
    assert (rows[0].epochs, rows[0].num_samples, rows[0].num_data) == (3280, 5000, 50)
