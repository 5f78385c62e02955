"""What is called a bound over training: closed forms, rank statistics, verdicts by hand, slices."""

import math
import shutil

import pytest
import torch
from torch.distributions import MultivariateNormal, kl_divergence

from elboscope.core import seeded
from elboscope.models import LinearGaussian
from elboscope.reproductions.frame.experiment import reproduce
from elboscope.reproductions.frame.sitting import Options, Unfinished
from elboscope.reproductions.rosca2018 import bounds_over_training
from elboscope.reproductions.rosca2018.bounds_over_training import (
    claims_of,
    plot_bounds,
    simultaneous,
    smallest_rise,
    tau,
)
from elboscope.reproductions.rosca2018.bounds_values import (
    SMOKE,
    aae_value,
    values_of,
    veegan_value,
)
from elboscope.reproductions.rosca2018.hybrid_runs import evaluation_draw, new_autoencoder


def test_with_the_exact_ratio_the_value_of_an_aae_exceeds_the_likelihood():
    """It is the ELBO plus I(x; z): no lower bound of log p(x), however good the discriminator."""
    model = LinearGaussian.instance_2()
    x, _ = model.sample(20_000, seed=0)
    with seeded(1), torch.no_grad():  # seed 0 would draw z from the very noise of x
        z = model.encode(x).sample()
        log_px = model.decode(z).log_prob(x)
        logits = model.prior().log_prob(z) - model.aggregate_posterior().log_prob(z)
        value = aae_value(log_px, logits)
        apart = value - model.elbo(x)
        over = value - model.log_likelihood(x)
    error = apart.std().item() / len(x) ** 0.5
    assert abs(apart.mean().item() - 1.0739419403) < 4 * error
    assert over.mean().item() > 10 * over.std().item() / len(x) ** 0.5


def test_with_the_exact_ratio_the_value_of_veegan_is_its_closed_form():
    """(x, z) generated against (x, F(x)), both Gaussians: E T is their KL."""
    two = torch.eye(2, dtype=torch.float64)
    made = MultivariateNormal(torch.zeros(2).double(), 1.0 * two + 0.6 * two.flip(0))
    data = MultivariateNormal(torch.tensor([0.5, -0.3]).double(), 1.2 * two)
    with seeded(0):
        pairs = made.sample((20_000,))
        noise = torch.randn(len(pairs), 1, dtype=torch.float64)
    z = pairs[:, 1:]
    value = veegan_value(made.log_prob(pairs) - data.log_prob(pairs), z, 0.5 * z + 0.3 * noise)
    exact = -(kl_divergence(made, data).item() + 0.25 + 0.09 + 0.5 * math.log(2 * math.pi * math.e))
    error = value.std().item() / len(value) ** 0.5
    assert abs(value.mean().item() - exact) < 4 * error
    assert error < 0.02


def looks(means, spread=0.1, n=40, each=0.5):
    """Values around a mean at each look, that differ between images and, less, between looks."""
    with seeded(0):
        images = torch.randn(n, dtype=torch.float64)
        noise = torch.randn(len(means), n, dtype=torch.float64)
    noise = noise - noise.mean(1, keepdim=True)
    return torch.tensor(means).double()[:, None] + 10 * images + spread * noise * each


@pytest.mark.parametrize(
    ("means", "expected"),
    [
        ([0.0, 1.0, 2.0, 3.0], 1.0),
        ([3.0, 2.0, 1.0, 0.0], -1.0),
        ([0.0, 2.0, 1.0, 3.0], 2 / 3),  # one of six pairs falls
        ([0.0, 0.0001, 1.0, 0.9999], 2 / 3),  # two of six are within their errors
    ],
)
def test_tau_counts_pairs_of_looks_beyond_their_paired_error(means, expected):
    assert tau(looks(means)) == pytest.approx(expected)


def test_tau_of_noise_is_seldom_more_than_chance():
    """Two errors of a paired difference: at most about one in twenty pairs counts."""
    with seeded(1):
        noise = torch.randn(300, 4, 60, dtype=torch.float64)
    counted = sum(abs(tau(one)) > 0 for one in noise)
    assert counted < 300 * 6 * 0.05 * 1.5


def test_the_smallest_rise_is_of_the_clearest_fall_and_its_error_is_for_all():
    a = looks([0.0, 1.0, 0.8, 2.0])
    b = looks([0.0, 1.0, 1.9, 2.0])
    found = smallest_rise([b, a])
    assert found.value == pytest.approx(-0.2)
    step = a[2] - a[1]
    error = (step.std() / 40**0.5).item() * simultaneous(6)
    assert found.error == pytest.approx(error)
    assert (found.num_seeds, found.num_data) == (2, 40)


N = 30


def run(means, *, marginal=5.0, ratio=0.5):
    information = torch.full((N,), 3.0, dtype=torch.float64)
    noise = torch.linspace(-0.1, 0.1, N, dtype=torch.float64)
    own = {
        "kl": marginal + 3.0 + noise,
        "information": information,
        "ratio": ratio + noise,
        "elbo": noise - 100,
    }
    return [{"value": one} | own for one in looks(means)]


RISING, FALLING = [0.0, 1.0, 2.0, 3.0], [0.0, 2.0, 1.0, 0.5]
WORDS = (
    "ELBO rises over",
    "ELBO rises monotonically",
    "AAE follows",
    "AAE does not rise",
    "VEEGAN follows",
    "VEEGAN does not rise",
    "VAE: the KL by a classifier",
    "AAE: the KL by a classifier",
    "AAE: the KL by its own",
)


def verdicts(vae=RISING, aae=FALLING, veegan=FALLING, *, classifier=1.0, ratio=0.5):
    found = {
        "VAE": [run(vae), run(vae)],
        "AAE": [run(aae, ratio=ratio), run(aae, ratio=ratio)],
        "VEEGAN": [run(veegan), run(veegan)],
    }
    both = torch.full((2, 3, 2), classifier, dtype=torch.float64)
    claims = list(claims_of(found, {"VAE": both, "AAE": both}))
    assert len(claims) == len(WORDS)
    return {w: next(c.verdict for c in claims if w in c.text) for w in WORDS}


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({}, set()),
        ({"vae": [0.0, 2.0, 1.0, 3.0]}, {WORDS[1]}),
        ({"aae": RISING}, {"AAE does not rise"}),
        ({"veegan": RISING}, {"VEEGAN does not rise"}),
        ({"vae": [3.0, 2.0, 1.0, 0.0]}, {*WORDS[:2], "AAE follows", "VEEGAN follows"}),
        ({"classifier": 6.0}, set(WORDS[6:8])),
        ({"ratio": 7.0}, {WORDS[8]}),
    ],
)
def test_each_claim_is_about_its_own_values(change, wrong):
    outcome = verdicts(**change)
    assert {word for word, verdict in outcome.items() if verdict == "contradicted"} == wrong
    open_ones = {word for word, verdict in outcome.items() if verdict == "undecided"}
    # two models that both rise at every look are the same to ranks
    alike = {f"{k.upper()} follows" for k in ("aae", "veegan") if change.get(k) == RISING}
    assert open_ones == alike


def test_a_rise_within_its_error_is_not_monotone_nor_its_opposite():
    outcome = verdicts(vae=[0.0, 1.0, 1.0001, 2.0])
    assert outcome["ELBO rises monotonically"] == "undecided"
    assert outcome["ELBO rises over"] == "reproduced"


def test_values_of_models_as_they_are():
    with seeded(0):
        x = torch.randint(0, 256, (40, 3, 8, 8), dtype=torch.uint8)
        models = {
            k: new_autoencoder(k, x, 3, (2, 4), (8,), (2, 4)) for k in ("VAE", "AAE", "VEEGAN")
        }
    test, some = evaluation_draw(x[:20], of_training=False), evaluation_draw(x, of_training=True)
    found = {k: values_of(k, model, test, some, seed=0) for k, model in models.items()}
    assert {k: sorted(v) for k, v in found.items()} == {
        "VAE": ["information", "kl", "value"],
        "AAE": ["elbo", "information", "kl", "ratio", "value"],
        "VEEGAN": ["value"],
    }
    again = values_of("AAE", models["AAE"], test, some, seed=0)
    assert torch.equal(again["value"], found["AAE"]["value"])
    assert (found["AAE"]["information"] <= math.log(40) + 1e-9).all()
    # a discriminator that sees nothing leaves the reconstruction alone, which is the ELBO plus KL
    for p in models["AAE"].adversaries["code"].parameters():
        torch.nn.init.zeros_(p)
    blind = values_of("AAE", models["AAE"], test, some, seed=0)
    assert blind["ratio"].abs().max() == 0
    with torch.no_grad():
        q = models["AAE"].eval().encode(test)
        kl = kl_divergence(q, models["AAE"].prior())
    assert torch.allclose(blind["value"] - blind["elbo"], kl.double(), atol=1e-4)


def test_the_figure_has_a_line_for_every_run():
    found = {kind: [run(RISING), run(FALLING)] for kind in ("VAE", "AAE", "VEEGAN")}
    figure = plot_bounds(found, range(1, 5))
    assert [len(axes.lines) for axes in figure.axes] == [2, 4, 2, 8]
    assert "what the paper calls a bound" in figure.axes[1].get_title(loc="left")
    mixture = figure.axes[3].lines[0].get_ydata()
    assert mixture.tolist() == pytest.approx([5.0] * 4)


@pytest.fixture(scope="module")
def smoke(smoke_run):
    return smoke_run("bounds-over-training")


@pytest.mark.slow
def test_a_small_run_calls_nothing_a_bound_of_ours_and_decides_nothing(smoke):
    outcome, _ = smoke
    plan = SMOKE
    assert {claim.verdict for claim in outcome.claims} == {"undecided"}
    for row in outcome.rows:
        assert len(row.per_seed) == plan.seeds
        if "bound" in row.quantity:
            fair = ("what the paper calls a bound", "no bound", "Donsker–Varadhan lower bound")
            assert any(word in row.quantity for word in fair), row.quantity
    by = {(row.label, row.quantity): row.value for row in outcome.rows}
    end = f"AAE, step {plan.steps}"
    called = next(v for (label, q), v in by.items() if label == end and "the paper calls" in q)
    assert math.isfinite(called)
    assert not any("ELBO" in q for label, q in by if label.startswith("VEEGAN"))


@pytest.mark.slow
def test_slices_give_the_numbers_of_one_sitting(smoke, tmp_path, ticking):
    """One run of each game is done again, in slices."""
    outcome, finished = smoke
    out, pauses, again = tmp_path / "run", [], None
    shutil.copytree(finished, out)
    for kind in ("AAE", "VEEGAN"):
        parts = list((out / "state").glob(f"{kind}-seed-1*"))
        assert parts
        for part in parts:
            part.unlink()
    while again is None:
        try:
            options = Options(resume=True, slice_seconds=4.0)
            again = reproduce(bounds_over_training.EXPERIMENT, "smoke", out=out, options=options)
        except Unfinished as pause:
            pauses.append(str(pause))
        assert len(pauses) < 30
    assert any("AAE, seed 1, step" in text for text in pauses), pauses
    assert any("VEEGAN, seed 1, step" in text for text in pauses), pauses
    assert [row.value for row in again.rows] == [row.value for row in outcome.rows]
