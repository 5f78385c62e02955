"""Rows as tables: crossed where nothing is lost by it."""

from dataclasses import replace

from elboscope.reproductions.frame.claims import Published
from elboscope.reproductions.frame.result import Row, tables

ROWS = [
    Row(label, quantity, value, 0.03, "sd over 3 seeds", 2, None, 500, unit=unit)
    for label, base in (("VAE, samples", 1.0), ("VAE, gap", 2.0), ("GAN, samples", 3.0))
    for quantity, unit, value in (("recall", "share", base), ("modes", "units", 10 * base))
]


def test_labels_by_quantities_with_their_counts_below():
    assert tables(ROWS) == [
        "|  | recall [share] | modes |",
        "| --- | --- | --- |",
        "| VAE, samples | 1.000 ± 0.030 | 10.000 ± 0.030 |",
        "| VAE, gap | 2.000 ± 0.030 | 20.000 ± 0.030 |",
        "| GAN, samples | 3.000 ± 0.030 | 30.000 ± 0.030 |",
        "",
        "epochs: 2, n = 500.",
        "",
        "± of ours: sd over 3 seeds (recall, modes).",
        "",
    ]


def test_an_empty_cell_is_a_dash_and_rows_of_other_quantities_come_below():
    quantities = ("recall", "modes", "KL")
    block = [Row(a, q, 1.0, 0.1) for a in ("VAE", "GAN") for q in quantities][:-1]
    lines = tables([*block, Row("GAN, 4 settings", "sd of recall", 0.2, 0.1)])
    assert "| GAN | 1.00 ± 0.10 | 1.00 ± 0.10 | – |" in lines
    assert lines[-4].startswith("| GAN, 4 settings | sd of recall [nats] | 0.20 ± 0.10 |")


def test_a_published_number_another_count_or_a_second_value_keeps_the_long_form():
    beside = replace(ROWS[0], published=Published(0.9, "a paper"))
    for changed in (beside, replace(ROWS[0], num_data=7), replace(ROWS[0], epochs=None)):
        lines = tables([changed, *ROWS[1:]])
        assert lines[0].startswith("|  | quantity | ours | epochs | K | n | paper |")
        assert sum(line.startswith(("| VAE", "| GAN")) for line in lines) == 6
    assert tables([*ROWS, *ROWS[:2]])[0].startswith("|  | quantity | ours |")
