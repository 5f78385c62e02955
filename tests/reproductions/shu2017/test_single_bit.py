"""The single bit: quadrature against closed forms, verdicts on numbers made by hand, slices."""

import math

import pytest
import torch

import elboscope as es
from elboscope.core import seeded
from elboscope.models import SingleBit
from elboscope.reproductions.frame.experiment import reproduce
from elboscope.reproductions.frame.result import cells
from elboscope.reproductions.frame.sitting import Options, Unfinished
from elboscope.reproductions.shu2017 import single_bit
from elboscope.reproductions.shu2017.network import (
    Bit,
    BitSchedule,
    bit_network,
    evaluate,
    softplus_variance,
)
from elboscope.reproductions.shu2017.single_bit import (
    Moved,
    bit_claims,
    plot_copies,
    plot_valley,
    valley,
)

LN2 = math.log(2)
TINY = single_bit.Plan(
    copies=(1, 2),
    schedule=BitSchedule(30, num_samples=10),
    num_seeds=1,
    other_steps=(10,),
    other_copies=2,
    num_check=200,
)
STILL = Moved(4.9e-5, 0.03, 0.0299)


@pytest.mark.parametrize("copies", [2, 10, 1000])
def test_quadrature_of_any_model_agrees_with_the_closed_forms(copies):
    model = SingleBit(0.7, 0.4, copies)
    found = evaluate(model, model.data())
    assert found.reconstruction == pytest.approx(model.reconstruction().item(), rel=1e-9)
    assert found.kl == pytest.approx(model.kl().item(), abs=1e-10)
    assert found.elbo == pytest.approx(model.elbo().item(), rel=1e-9)
    assert found.mutual_information == pytest.approx(model.mutual_information().item(), abs=1e-9)
    assert found.marginal_kl == pytest.approx(model.marginal_kl().item(), abs=1e-9)


def test_the_parts_of_an_untrained_network_add_up_and_agree_with_sampling():
    with seeded(0):
        model = bit_network(3)
    x = SingleBit(0.0, 1.0, 3).data().float()
    found = evaluate(model, x)
    assert found.kl == pytest.approx(found.mutual_information + found.marginal_kl, abs=1e-6)
    assert 0 < found.mutual_information < LN2
    sampled = es.evidence_lower_bound(model, x, 20_000, seed=0)
    error = sampled.mc_stderr.square().sum().sqrt().item() / 2
    assert abs(sampled.mean - found.elbo) < 4 * error
    parts = es.marginal_kl(model, x, num_draws=20_000, seed=0)
    assert abs(parts.mean - found.marginal_kl) < 4 * parts.mc_error_of_mean + 1e-6


@pytest.mark.parametrize(
    ("copies", "elbo", "reconstruction", "kl"),
    [
        (1, -0.693147, -0.693147, 0.0),
        (2, -0.907558, -0.21634, 0.69122),
        (3, -0.985894, -0.17384, 0.81205),
        (5, -1.065787, -0.14153, 0.92426),
        (10, -1.153715, -0.11434, 1.03937),
        (100, -1.3595987, -0.07161, 1.28799),
        (1000, -1.5004938, -0.05277, 1.44772),
    ],
)
def test_the_optima_of_all_numbers_of_copies(copies, elbo, reconstruction, kl):
    best = SingleBit.optimal(copies)
    found = evaluate(best, best.data())
    assert found.elbo == pytest.approx(elbo, abs=1e-6)
    assert found.reconstruction == pytest.approx(reconstruction, abs=1e-5)
    assert found.kl == pytest.approx(kl, abs=1e-5)


@pytest.mark.parametrize("start", [(-0.9, -1.0, 0.9, -1.0), (-0.3, -0.1, 1.5, -2.0)])
def test_an_asymmetric_pair_of_posteriors_is_no_better(start):
    """Both means and widths free, the best decoder of each: the symmetric optimum is found."""
    u = torch.linspace(-12, 12, 2001, dtype=torch.float64)
    weight = torch.softmax(-0.5 * u**2, 0)
    free = torch.tensor(start, dtype=torch.float64, requires_grad=True)

    def loss():
        m, s = free[0::2], free[1::2].exp()
        z = m + s * u[:, None]
        own, other = (
            torch.distributions.Normal(a, b).log_prob(z)
            for a, b in ((m, s), (m.flip(0), s.flip(0)))
        )
        reconstruction = 5 * (weight @ torch.nn.functional.logsigmoid(own - other)).mean()
        return (0.5 * (m**2 + s**2 - 1) - s.log()).mean() - reconstruction

    optimiser = torch.optim.LBFGS(
        [free], max_iter=300, tolerance_grad=1e-10, line_search_fn="strong_wolfe"
    )

    def closure():
        optimiser.zero_grad()
        value = loss()
        value.backward()
        return value

    optimiser.step(closure)
    assert -loss().item() == pytest.approx(SingleBit.optimal(5).elbo().item(), abs=1e-8)


@pytest.mark.parametrize(
    ("m", "excess", "kl"), [(0.2, 2.1e-7, 0.0204), (0.5, 3.9e-4, 0.144), (0.9, 0.189, 0.830)]
)
def test_the_valley_is_flat_where_its_kl_is_not(m, excess, kl):
    at = valley([m])
    assert at.excess[0] == pytest.approx(excess, rel=0.03)
    assert at.kl[0] == pytest.approx(kl, rel=0.01)
    law = valley([0.1]).excess[0] / valley([0.1]).law[0]
    assert law == pytest.approx(1, abs=0.05)


def test_the_softplus_is_the_variance():
    q = softplus_variance(torch.tensor([[0.5, 3.0]]))
    assert q.mean.item() == pytest.approx(0.5)
    assert q.variance.item() == pytest.approx(math.log1p(math.exp(3.0)), rel=1e-6)


def test_the_rate_falls_exponentially_from_the_first_to_the_last():
    schedule = BitSchedule(5000)
    rates = [schedule.first * schedule.factor(t) for t in (0.0, 2500.0, 5000.0)]
    assert rates == pytest.approx([5e-3, math.sqrt(5e-7), 1e-4])


def bit(elbo, kl=0.0):
    return Bit(elbo, elbo + kl, kl, 0.0, kl)


def verdicts(one, two, *, moved=STILL):
    optimum = {1: bit(-LN2), 2: bit(-0.9076)}
    trained = {1: [bit(v, 0.1) for v in one], 2: [bit(v) for v in two]}
    return [claim.verdict for claim in bit_claims(trained, optimum, moved)]


def test_collapse_is_asked_of_the_bound_and_not_of_the_kl():
    """The KL of every one of these is 0.1."""
    assert verdicts([-LN2 - 1e-4, -LN2 - 2e-4, -LN2], [-0.91] * 3)[0] == "reproduced"
    assert verdicts([-LN2 - 0.1, -LN2 - 0.101, -LN2 - 0.102], [-0.91] * 3)[0] == "contradicted"
    assert verdicts([-LN2, -LN2 - 0.002, -LN2 - 0.001], [-0.91] * 3)[0] == "undecided"


def test_two_copies_must_beat_the_collapsed_bound():
    one = [-LN2] * 3
    assert verdicts(one, [-0.91, -0.92, -0.91])[1] == "reproduced"
    assert verdicts(one, [-2 * LN2 - 0.1, -2 * LN2 - 0.11, -2 * LN2 - 0.1])[1] == "contradicted"
    assert verdicts(one, [-1.0, -2 * LN2, -2 * LN2 - 0.3])[1] == "undecided"


def test_a_network_above_the_optimum_contradicts():
    assert verdicts([-LN2] * 2, [-0.91, -0.9076])[2] == "reproduced"
    assert verdicts([-LN2] * 2, [-0.91, -0.90])[2] == "contradicted"


def test_a_rate_that_moves_weights_is_no_initialisation():
    assert verdicts([-LN2] * 2, [-0.91] * 2)[3] == "reproduced"
    assert verdicts([-LN2] * 2, [-0.91] * 2, moved=Moved(1e-3, 0.03, 0.01))[3] == "contradicted"


@pytest.fixture(scope="module")
def outcome(smoke):
    return smoke("single-bit")


@pytest.mark.slow
def test_a_run_shows_trained_and_best_beside_the_published(outcome):
    rows = {(row.label, row.quantity): row for row in outcome.rows}
    assert rows["D = 1", "distortion −E_q log p(x|z)"].published.value == 0.693
    assert cells(rows["D = 1", "KL(q(z|x)‖p(z))"])[6] == "0"
    for D in (1, 2, 10):
        gap = rows[f"D = {D}", "optimum − ELBO"]
        best, ours = (rows[name, "ELBO"].value for name in (f"D = {D}, optimum", f"D = {D}"))
        assert gap.value == pytest.approx(1e3 * (best - ours), abs=1e-4)
        assert gap.value > -1e-2
        check = rows[f"D = {D}", "ELBO, sampled − exact"]
        assert abs(check.value) < 4 * check.error
    moved = rows["D = 1, rate 1e-6", "largest move of a parameter"].value
    assert 30 < moved <= 50
    assert set(outcome.figures) == {"copies", "valley"}
    assert all(claim.verdict == "undecided" for claim in outcome.claims)
    assert any("50, " in note and "exp(r)" in note for note in outcome.notes)


def test_figures_show_the_optimum_as_a_line_and_each_seed_as_a_point():
    figure = plot_copies({2: [bit(-1.0), bit(-1.1)]}, {2: bit(-0.9), 10: bit(-1.2)})
    lines = {line.get_label(): line for line in figure.axes[0].get_lines()}
    assert list(lines["−ELBO"].get_ydata()) == [0.9, 1.2]
    points = [line for line in figure.axes[0].get_lines() if line.get_marker() == "o"]
    assert [1.0, 1.1] in [list(line.get_ydata()) for line in points]
    curves = plot_valley(valley([0.3, 0.6])).axes[0].get_lines()
    assert list(curves[1].get_ydata()) == pytest.approx([0.3**8 / 12, 0.6**8 / 12])


@pytest.mark.slow
def test_slices_give_the_numbers_of_one_sitting(monkeypatch, tmp_path):
    monkeypatch.setitem(single_bit.EXPERIMENT.plans, "smoke", TINY)
    whole = reproduce(single_bit.EXPERIMENT, "smoke", out=tmp_path / "whole")
    pauses, again = [], None
    while again is None:
        options = Options(resume=True, slice_seconds=0.15)
        try:
            again = reproduce(single_bit.EXPERIMENT, "smoke", out=tmp_path / "run", options=options)
        except Unfinished as pause:
            pauses.append(str(pause))
        assert len(pauses) < 300
    assert any("step" in text for text in pauses)
    assert [row.per_seed for row in again.rows] == [row.per_seed for row in whole.rows]
    assert [row.value for row in again.rows] == [row.value for row in whole.rows]
