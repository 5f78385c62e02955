"""Posteriors of two latents, at the smoke scale: rows that add up, a figure of four datapoints."""

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture
def rows(smoke):
    return {row.quantity: row for row in smoke("latent-2d").rows}


def test_gaps_by_quadrature_add_up(rows):
    inference = rows["KL(q‖p(z|x)), the inference gap"].value
    approximation = rows["KL(q*_diagonal‖p(z|x)), the approximation gap"].value
    amortisation = rows["their difference, the amortisation gap"].value
    assert inference == pytest.approx(approximation + amortisation, abs=1e-9)
    assert approximation > 0
    assert amortisation > 0
    assert rows["H[Gaussian of its moments] − H[p(z|x)]"].value > 0
    # an ELBO's optimum is narrower than the posterior: KL(q‖p) pays for mass where p has none
    assert rows["H[q*_diagonal] − H[p(z|x)]"].value < 0


def test_estimates_are_what_the_grid_says(rows):
    for quantity in ("log p̂, estimate minus grid", "log p̂ − L[q], estimate minus grid"):
        row = rows[quantity]
        assert row.num_samples == 300
        assert abs(row.value) < 4 * row.error + 0.02, quantity
    assert rows["log p(x)"].num_samples is None


def test_the_figure_shows_four_datapoints_and_the_notes_say_which(smoke):
    outcome = smoke("latent-2d")
    figure = outcome.figures["posteriors"]
    assert len(figure.axes) == 4
    for axes in figure.axes:
        number, reason = axes.get_title(loc="left").splitlines()[0].split(": ")
        assert any(f"{number[1:]} ({reason})" in note for note in outcome.notes)
    assert any("never below it" in note for note in outcome.notes)
