"""The sweep of KL weights: predictions, coverage, verdicts on numbers made by hand, slices."""

import math
import os
from pathlib import Path

import pytest
import torch

from elboscope.core import InputError, seeded
from elboscope.data import mnist
from elboscope.models import LinearGaussian
from elboscope.reproductions.frame.experiment import reproduce
from elboscope.reproductions.frame.sitting import Options, Unfinished
from elboscope.reproductions.lucas2019 import kl_weight_sweep
from elboscope.reproductions.lucas2019.kl_weight_sweep import (
    AUTOENCODER,
    SETTINGS,
    Plan,
    plot_rate_distortion,
    sweep_claims,
)
from elboscope.reproductions.lucas2019.measures import (
    Latents,
    Measured,
    SweepMeasure,
    coverage,
    fitted_draws,
    linear_collapse,
    measure,
    pixel_eigenvalues,
)
from elboscope.reproductions.lucas2019.networks import (
    Setting,
    SweepSchedule,
    distance_of_two_optimisers,
    mu_and_log_sigma,
    sweep_network,
)

EIGENVALUES = torch.tensor([5.0, 2.0, 0.5, 0.1], dtype=torch.float64)
TINY = Plan(
    num_train=100,
    num_test=40,
    schedule=SweepSchedule(1, 50),
    measure=SweepMeasure(num_decoded=20, num_samples=1, num_draws=40),
    steps=2,
)


# What a linear VAE does.


@pytest.mark.parametrize("sigma2", [0.05, 0.3, 1.0, 3.0])
def test_the_prediction_is_what_the_best_linear_model_does_to_its_data(sigma2):
    with seeded(0):
        scales = torch.tensor([2.0, 1.2, 0.8, 0.4, 0.2], dtype=torch.float64)
        x = torch.randn(400, 5, dtype=torch.float64) * scales
    found = linear_collapse(pixel_eigenvalues(x), sigma2, 2)
    best = LinearGaussian.fit(x, 2, sigma2)
    constant = 2.5 * math.log(2 * math.pi * sigma2)
    error = -2 * sigma2 * (best.reconstruction(x).mean().item() + constant)
    assert found.error == pytest.approx(error, rel=1e-9)
    assert found.information == pytest.approx(best.kl(x).mean().item(), abs=1e-9)
    assert found.kept == int((best.W.abs().sum(0) > 0).sum())
    gained = (pixel_eigenvalues(x).sum().item() - error) / (2 * sigma2)
    assert gained <= found.most_gain


@pytest.mark.parametrize(
    ("setting", "sigma2"),
    [
        (Setting(1.0, "sum"), 0.5),
        (Setting(0.01, "sum"), 0.005),
        (Setting(0.01, "mean"), 3.92),
        (Setting(1.0, "mean"), 392.0),
    ],
)
def test_a_weight_implies_a_variance_only_with_its_reduction(setting, sigma2):
    assert setting.variance(784) == pytest.approx(sigma2)


def test_a_prediction_without_a_variance_or_with_too_many_units_is_refused():
    with pytest.raises(InputError, match=r"sigma2: expected a number > 0; got 0"):
        linear_collapse(EIGENVALUES, 0.0, 2)
    with pytest.raises(InputError, match=r"latent_dim: expected 1 to 4; got 5"):
        linear_collapse(EIGENVALUES, 1.0, 5)


@pytest.mark.skipif(
    not (Path(os.environ.get("ELBOSCOPE_DATA", "/nowhere")) / "MNIST").is_dir(),
    reason="ELBOSCOPE_DATA is not set to a folder that holds MNIST",
)
def test_the_spectrum_of_mnist_and_what_it_predicts():
    spectrum = pixel_eigenvalues(mnist(download=False).train)
    leading = [5.1169, 3.7414, 3.2527, 2.8416, 2.5671]
    assert spectrum[:5].tolist() == pytest.approx(leading, abs=2e-4)
    assert spectrum.sum().item() * 60_000 / 59_999 == pytest.approx(52.7259, abs=1e-4)
    whole = linear_collapse(spectrum, 0.5, 784)
    assert (whole.kept, round(whole.information, 2)) == (23, 10.17)
    one = linear_collapse(spectrum, 3.92, 2)
    assert (one.kept, round(one.information, 3), round(one.most_gain, 1)) == (1, 0.133, 6.7)
    none = linear_collapse(spectrum, 392.0, 2)
    assert (none.kept, round(none.most_gain, 3)) == (0, 0.067)
    floor = linear_collapse(spectrum, 1e-9, 2).error * 60_000 / 59_999  # with N − 1
    assert floor == pytest.approx(43.868, abs=1e-3)


# Networks.


def test_the_published_shapes_and_the_width_of_the_posterior():
    vae = sweep_network((1, 28, 28), 0.5)
    shapes, h = [], torch.zeros(1, 2)
    for layer in vae.decoder:
        h = layer(h)
        shapes.append(tuple(h.shape[1:]))
    assert next(s for s in shapes if len(s) == 3) == (32, 8, 8)
    assert {(64, 15, 15), (32, 29, 29), (1, 28, 28)} <= set(shapes)
    assert vae.likelihood(torch.zeros(1, 1, 28, 28)).variance.max().item() == pytest.approx(0.5)
    q = mu_and_log_sigma(torch.tensor([[0.0, 0.0, math.log(0.3), math.log(2.0)]]))
    assert q.stddev[0].tolist() == pytest.approx([0.3, 2.0])


def test_one_optimiser_and_two_take_the_same_steps():
    with seeded(0):
        x = torch.rand(60, 1, 8, 8)
    setting = Setting(0.1, "sum")
    assert distance_of_two_optimisers(setting, x, 6, SweepSchedule(1, 20), 0) <= 1e-6


# Measures.


def test_measures_of_a_model_whose_posterior_is_the_prior():
    """μ = 0 and log σ = 0: no unit, no rate, and an error that a constant decoder explains."""
    with seeded(0):
        vae, x = sweep_network((1, 8, 8), 0.5), torch.rand(60, 1, 8, 8)
    with torch.no_grad():
        for part in (vae.encoder[-1], vae.decoder[0]):
            part.weight.zero_()
            part.bias.zero_()
    found = measure(vae, x, 0.5, SweepMeasure(num_decoded=60, num_samples=2, num_draws=120), 0)
    constant = vae.decode(torch.zeros(1, 2)).mean
    error = (x - constant).square().flatten(1).sum(1).mean().item()
    assert found.units[0] == 0
    assert found.rate[0] == pytest.approx(0, abs=1e-6)
    assert found.information[0] == pytest.approx(0, abs=1e-6)
    assert found.error[0] == pytest.approx(error, rel=1e-4)
    elbo = -error / (2 * 0.5) - 32 * math.log(2 * math.pi * 0.5)
    assert found.elbo[0] == pytest.approx(elbo, rel=1e-5)


def test_units_whose_means_vary_by_more_than_a_hundredth_are_counted():
    """μ = W h + b: with the second row of W at zero, the second unit alone has no variance."""
    with seeded(0):
        vae, x = sweep_network((1, 8, 8), 0.5), torch.rand(60, 1, 8, 8)
    with torch.no_grad():
        vae.encoder[-1].weight[0] *= 100
        vae.encoder[-1].weight[1].zero_()
        variances = vae.encode(x).mean.var(0)
    found = measure(vae, x, 0.5, SweepMeasure(num_decoded=60, num_samples=2, num_draws=120), 0)
    assert found.units[0] == (variances > 0.01).sum() == 1
    assert found.variance == pytest.approx(variances.tolist(), rel=1e-5, abs=1e-12)


def codes(n, seed, d=2):
    with seeded(seed):
        return torch.randn(n, d)


def test_a_gaussian_covers_itself_whatever_its_axes():
    turn = torch.tensor([[30.0, 2.0], [0.0, 0.1]])
    own, further, drawn = (codes(4000, s) for s in (0, 1, 2))
    straight = coverage(own, further, drawn)
    assert abs(straight.uncovered - 0.01) < 4 * straight.stderr
    turned = coverage(own @ turn, further @ turn, drawn @ turn)
    assert turned.uncovered == pytest.approx(straight.uncovered, abs=1e-3)


def test_a_ring_leaves_its_middle_uncovered():
    """Codes on a circle of radius 2: of N(0, 2I) all that is farther from it than codes are."""
    angles = 2 * math.pi * codes(8000, 3, 1).mul(7).frac()
    ring = 2 * torch.cat([angles.cos(), angles.sin()], 1)
    drawn = fitted_draws_of(ring)
    found = coverage(ring[:4000], ring[4000:], drawn)
    radius = drawn.norm(dim=1)
    assert found.uncovered > 0.9
    assert (radius[~found.outside] - 2).abs().max() < 0.1


def fitted_draws_of(z):
    with seeded(5):
        return fitted_draws(z, 4000)


def test_fitted_draws_have_the_moments_of_the_codes():
    z = codes(500, 0) @ torch.tensor([[2.0, 1.0], [0.0, 0.5]]) + 3
    drawn = fitted_draws_of(z)
    assert torch.cov(drawn.T).flatten().tolist() == pytest.approx(
        torch.cov(z.T).flatten().tolist(), rel=0.15
    )
    assert (drawn.mean(0) - z.mean(0)).abs().max() < 4 * drawn.std(0).max() / math.sqrt(4000)


def test_collapsed_codes_are_refused():
    with pytest.raises(InputError, match="more codes than dimensions, spread in each of them"):
        coverage(torch.zeros(10, 2), torch.zeros(10, 2), torch.zeros(10, 2))


# Verdicts.


def model(variance, stderr=0.001, error=40.0):
    both = [variance, 0.0], [stderr, 0.0]
    return Measured(
        *both, (float(variance > 0.01), 0.0), *[(1.0, 0.1)] * 3, (error, 0.1), (0.0, 1.0)
    )


def space(uncovered, stderr=0.002):
    z = torch.zeros(3, 2)
    return Latents((1.0, 0.1), (0.01, 0.001), (uncovered, stderr), None, z, z, z[:, 0] > 0)


def sweep(*, mean_1=0.0, sum_1=0.9, mean_2=0.5, parted=0.0, holes=(0.2, 0.02)):
    """All settings of two reductions of a data set of four pixels: σ² = w/2 or 2w."""
    weights = {
        Setting(1.0, "mean"): mean_1,
        Setting(1.0, "sum"): sum_1,
        Setting(0.5, "mean"): mean_2,
    }
    spaces = {"sum, weight 1": space(holes[1]), AUTOENCODER: space(holes[0])}
    spread = torch.tensor([-1.0, 0.0, 1.0, 0.0], dtype=torch.float64)
    errors = {"sum, weight 1": 40 + 10 * spread, AUTOENCODER: 39 + 10.1 * spread}
    eigenvalues = torch.tensor([1.5, 0.2, 0.1, 0.1], dtype=torch.float64)
    found = {setting: model(v) for setting, v in weights.items()}
    return [c.verdict for c in sweep_claims(found, spaces, errors, eigenvalues, parted)]


def test_claims_hold_for_what_the_linear_model_predicts():
    assert sweep() == ["reproduced"] * 6


def test_each_claim_can_be_contradicted_or_left_open():
    assert sweep(mean_1=0.5)[0] == "contradicted"
    assert sweep(mean_1=0.011)[0] == "undecided"
    assert sweep(sum_1=0.0)[1] == "contradicted"
    assert sweep(mean_2=0.0)[2] == "contradicted"
    assert sweep(mean_2=0.0105)[2] == "undecided"
    assert sweep(parted=1e-3)[3] == "contradicted"
    assert sweep(holes=(0.02, 0.2))[4] == "contradicted"
    assert sweep(holes=(0.02, 0.021))[4] == "undecided"


def test_the_figure_draws_information_below_rate():
    figure = plot_rate_distortion({Setting(1.0, "sum"): model(0.9)}, EIGENVALUES)
    lines = {line.get_label(): line for line in figure.axes[0].get_lines()}
    assert list(lines["rate R, sum"].get_xdata()) == [40.0]
    linear = next(line for name, line in lines.items() if name.startswith("linear"))
    assert min(linear.get_xdata()) == pytest.approx(0.6, abs=1e-3)  # the two that are left out


# The run.


@pytest.fixture(scope="module")
def outcome(smoke):
    return smoke("kl-weight-sweep")


@pytest.mark.slow
def test_a_run_has_a_row_of_everything_for_each_setting(outcome):
    rows = {(row.label, row.quantity): row for row in outcome.rows}
    for setting in SETTINGS:
        rate, parts = rows[str(setting), "KL(q(z|x)‖p(z))"], ("I(n; z)", "KL(q(z)‖p(z))")
        assert rate.value == pytest.approx(
            sum(rows[str(setting), p].value for p in parts), abs=1e-6
        )
        assert rows[str(setting), "implied σ²"].value == pytest.approx(1e3 * setting.variance(64))
    assert rows["mean, weight 1", "linear VAE: units kept"].value == 0
    assert rows["mean, weight 1", "active units"].value == 0
    assert rows["mean, weight 1", "any decoder gains at most"].value < 0.1
    for name in ("sum, weight 1", AUTOENCODER):
        assert 0 <= rows[name, "uncovered"].value <= 100
    assert set(outcome.figures) == {"rate-distortion", "manifolds", "latents"}
    assert all(claim.verdict == "undecided" for claim in outcome.claims)
    assert len(outcome.figures["manifolds"].axes) == 3
    assert any("σ² = w/2" in note for note in outcome.notes)


@pytest.mark.slow
def test_slices_give_the_numbers_of_one_sitting(monkeypatch, tmp_path):
    monkeypatch.setitem(kl_weight_sweep.EXPERIMENT.plans, "smoke", TINY)
    whole = reproduce(kl_weight_sweep.EXPERIMENT, "smoke", out=tmp_path / "whole")
    pauses, again = [], None
    while again is None:
        options = Options(resume=True, slice_seconds=0.02)
        try:
            again = reproduce(
                kl_weight_sweep.EXPERIMENT, "smoke", out=tmp_path / "run", options=options
            )
        except Unfinished as pause:
            pauses.append(str(pause))
        assert len(pauses) < 100
    assert any("epoch 0.5" in text for text in pauses)
    assert [row.value for row in again.rows] == [row.value for row in whole.rows]
