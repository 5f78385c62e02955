"""Sparse and dense codes: exact values, verdicts by hand, a small run and its slices."""

import math
import shutil

import pytest
import torch

from elboscope.core import InputError, evaluating, seeded
from elboscope.distributions import standard_normal
from elboscope.distributions.posteriors import diagonal_gaussian
from elboscope.estimators.inputs import prepared
from elboscope.estimators.latents.aggregate import draw_aggregate
from elboscope.estimators.latents.surgery import marginal_kl_of
from elboscope.reproductions.frame.experiment import reproduce
from elboscope.reproductions.frame.sitting import Options, Unfinished
from elboscope.reproductions.rosca2018 import latent_scaling
from elboscope.reproductions.rosca2018.latent_codes import (
    BINS,
    PAPER,
    SMOKE,
    Codes,
    Subject,
    codes_of,
    load_images,
)
from elboscope.reproductions.rosca2018.latent_scaling import claims_of, plot_codes

MANY = 10_000


class Scaled:
    """q(z|x) with means x times a scale in the first dimensions, and the prior in all others."""

    def __init__(self, d, log_variance, scale=1.0):
        self.d, self.log_variance, self.scale = d, log_variance, scale

    def prior(self):
        return standard_normal((self.d,), torch.zeros(1, dtype=torch.float64))

    def encode(self, x):
        few = self.scale * x.flatten(1)
        rest = torch.zeros(len(x), self.d - few.shape[1], dtype=x.dtype)
        variance = torch.cat([torch.full_like(few, self.log_variance), rest], 1)
        return diagonal_gaussian(torch.cat([few, rest], 1), variance)

    def decode(self, z):
        zeros = torch.zeros(*z.shape[:-1], 3, 1, 1, dtype=z.dtype)
        likelihood = torch.distributions.Bernoulli(logits=zeros)
        return torch.distributions.Independent(likelihood, 3)


def images(n):
    with seeded(0):
        return torch.randn(n, 3, 1, 1, dtype=torch.float64).sign().clamp(min=0.0)


def draws_of(model, x):
    with evaluating(model), seeded(1) as used:
        return draw_aggregate(model, prepared(model, x, None), len(x), used)


@pytest.mark.parametrize("log_variance", [-3.0, -14.0])
def test_ten_thousand_dimensions_at_the_prior_add_nothing(log_variance):
    """Narrow posteriors too, where an expanded square in float32 would be off by 27 nats."""
    x = images(96)
    few, many = (draws_of(Scaled(d, log_variance), x) for d in (3, MANY))
    assert torch.equal(few.kl, many.kl)
    apart = (few.log_own - few.log_mixture) - (many.log_own - many.log_mixture)
    assert apart.abs().max() < 1e-8
    assert marginal_kl_of(few).mean == pytest.approx(marginal_kl_of(many).mean, abs=1e-8)


def test_codes_of_a_known_encoder():
    d, log_variance, scale, x = 200, -3.0, 2.0, images(128)
    codes = codes_of(Scaled(d, log_variance, scale), x, seed=0)
    sigma = math.exp(log_variance / 2)
    on = x.flatten(1).sum(1)
    assert torch.allclose(codes.spread, scale**2 * on / d)
    assert torch.allclose(codes.std, torch.full_like(on, (3 * sigma + d - 3) / d))
    assert torch.allclose(codes.unit_std[:3], torch.full((3,), sigma).double())
    assert codes.active == 3
    assert codes.active_error == 0
    assert codes.unit_kl.sum() == pytest.approx(codes.kl.mean().item())
    assert codes.unit_kl[3:].abs().max() == 0
    assert 2.9 < codes.effective < 3
    assert 0 < codes.effective_error < 0.05
    exact = 3 * 0.5 * (sigma**2 - 1 - log_variance) + 0.5 * scale**2 * on
    assert torch.allclose(codes.kl, exact)
    # eight kinds of images, far apart in units of σ: the information is that of the kind
    kinds = (x.flatten(1) * torch.tensor([4.0, 2.0, 1.0])).sum(1).long()
    share = torch.bincount(kinds, minlength=8)[kinds] / len(x)
    assert torch.allclose(codes.information, -share.double().log(), atol=1e-3)
    assert torch.allclose(codes.reconstruction, torch.full_like(on, -3 * math.log(2)))
    assert codes.histogram.sum() == d * len(x)
    assert codes.histogram[BINS // 2] == d * len(x) - on.sum()
    assert codes.histogram[BINS // 2 + 20] == on.sum()  # 2, in bins of 0.1


def test_units_near_the_threshold_have_an_error():
    with seeded(0):
        x = 0.1 * torch.randn(320, 3, 4, 5, dtype=torch.float64)
    codes = codes_of(_Means(), x, seed=0)
    assert 0 < codes.active < 60
    assert codes.active_error > 1


class _Means(Scaled):
    """All dimensions have means of variance 0.01, the threshold itself."""

    def __init__(self):
        super().__init__(60, -1.0)

    def decode(self, z):
        zeros = torch.zeros(*z.shape[:-1], 3, 4, 5, dtype=z.dtype)
        return torch.distributions.Independent(torch.distributions.Normal(zeros, 1.0), 3)


N = 64


def built(d, *, spread=0.02, std=0.95, active=5, marginal=5.0, reconstruction=-300.0, error=0.5):
    def per_image(value):
        noise = torch.linspace(-1, 1, N, dtype=torch.float64)
        return value + 1e-3 * noise * max(abs(value), 1e-3)

    ones = torch.ones(d, dtype=torch.float64)
    return Codes(
        per_image(spread),
        per_image(std),
        std * ones,
        (torch.arange(d) < active).double(),
        (torch.arange(d) < active).double(),
        torch.ones(BINS, dtype=torch.float64),
        per_image(marginal + 3.0),
        3.0 + torch.zeros(N, dtype=torch.float64),
        per_image(reconstruction),
        torch.tensor(error, dtype=torch.float64),
        torch.tensor(error, dtype=torch.float64),
        torch.zeros(8, 3, 8, 8),
        torch.zeros(8, 3, 8, 8),
    )


def dense(d, **changes):
    made = {"spread": 0.9, "std": 0.02, "active": d, "marginal": 20.0 * math.sqrt(d)}
    return built(d, **(made | changes))


def group(vae=None, aae=None):
    return {
        Subject("ColorMNIST", "VAE", 10): built(10),
        Subject("ColorMNIST", "AAE", 10): dense(10),
        Subject("ColorMNIST", "VAE", 100): built(100, reconstruction=-299.0, **(vae or {})),
        Subject("ColorMNIST", "AAE", 100): dense(100, **(aae or {})),
    }


WORDS = (
    "spread wider",
    "narrower",
    "collapses",
    "uses more",
    "spreads its KL",
    "dense",
    "match the prior less",
    "ignores latents",
    "scales",
    "struggles",
)


def verdicts(found):
    claims = {claim.text: claim.verdict for claim in claims_of(found)}
    return {next(w for w in WORDS if w in text): verdict for text, verdict in claims.items()}


@pytest.mark.parametrize(
    ("vae", "aae", "wrong"),
    [
        ({}, {}, set()),
        ({"spread": 2.0}, {}, {"spread wider"}),
        ({}, {"std": 0.5}, {"collapses"}),
        ({"std": 0.01}, {}, {"narrower"}),
        ({"active": 60}, {}, {"ignores latents"}),
        ({}, {"active": 70}, {"dense"}),
        ({}, {"active": 2}, {"dense", "uses more", "spreads its KL"}),
        ({"reconstruction": -310.0}, {}, {"scales"}),
        ({}, {"marginal": 6.0}, {"struggles"}),
        ({"marginal": 900.0}, {}, {"match the prior less", "scales"}),
    ],
)
def test_each_claim_is_about_its_own_part(vae, aae, wrong):
    found = group()
    names = (Subject("ColorMNIST", "VAE", 100), Subject("ColorMNIST", "AAE", 100))
    found[names[0]] = built(100, **({"reconstruction": -299.0} | vae))
    found[names[1]] = dense(100, **aae)
    outcome = verdicts(found)
    assert set(outcome) == set(WORDS)
    assert {word for word, verdict in outcome.items() if verdict == "contradicted"} == wrong
    assert "undecided" not in outcome.values()


def test_a_count_within_its_error_decides_nothing():
    outcome = verdicts(group(vae={"active": 13, "error": 2.0}, aae={"active": 91, "error": 2.0}))
    assert outcome["ignores latents"] == outcome["dense"] == "undecided"
    assert outcome["uses more"] == "reproduced"


def test_a_wider_discriminator_is_judged_apart_and_drawn_apart():
    wide = {s._replace(wide=True): c for s, c in group().items() if s.kind == "AAE"}
    texts = [claim.text for claim in claims_of(group() | wide)]
    assert sum("struggles" in text for text in texts) == 2
    assert sum("even with a wider discriminator" in text for text in texts) == 1
    figure = plot_codes(group() | wide)
    assert [len(axes.lines) for axes in figure.axes] == [4, 3, 4, 3]
    first = figure.axes[1].lines[0]
    assert first.get_xdata()[-1] == 1.0
    assert first.get_ydata().tolist() == pytest.approx([0.95] * 10)


def test_the_scales_differ_in_latents_alone():
    for plan in latent_scaling.EXPERIMENT.plans.values():
        assert {s.kind for s in plan.subjects} == {"VAE", "AAE"}
        assert len({s.label for s in plan.subjects}) == len(plan.subjects)
    paper = PAPER.subjects
    assert sum(s.wide for s in paper) == 8
    assert {s.latents for s in paper} == {10, 100, 1000, 10_000}
    assert {s.data for s in paper} == {"ColorMNIST", "CelebA"}


def test_faces_that_no_one_brought_are_left_out_and_digits_are_not(tmp_path):
    plan = PAPER
    with pytest.raises(InputError, match="celeba"):
        load_images("CelebA", plan, Options(data_dir=tmp_path))
    some = SMOKE
    faces = type(some)(**{**some.__dict__, "data": ("ColorMNIST", "CelebA")})
    images, missing = latent_scaling._images(faces, Options(data_dir=tmp_path))
    assert list(images) == ["ColorMNIST"]
    assert missing[0].startswith("Without CelebA, which is brought by the user")
    many = type(some)(**{**some.__dict__, "num_images": 1000})
    with pytest.raises(InputError, match="ColorMNIST: expected at least 1000 images; got 128"):
        load_images("ColorMNIST", many, Options())


@pytest.fixture(scope="module")
def smoke(smoke_run):
    return smoke_run("latent-scaling")


@pytest.mark.slow
def test_rows_of_a_small_run_add_up_and_decide_nothing(smoke):
    outcome, _ = smoke
    by = {(row.label, row.quantity): row.value for row in outcome.rows}
    labels = [subject.label for subject in SMOKE.subjects]
    assert list(dict.fromkeys(label for label, _ in by)) == labels
    for label in labels:
        rate, information = by[label, "average KL"], by[label, "I(n; z), at most log N"]
        assert by[label, "KL(q_N‖p)"] == pytest.approx(rate - information, abs=1e-9)
        assert ((label, "ELBO") in by) == ("VAE" in label)
    assert {claim.verdict for claim in outcome.claims} == {"undecided"}
    assert set(outcome.figures) == {"codes-ColorMNIST", "pictures-ColorMNIST"}


@pytest.mark.slow
def test_slices_give_the_numbers_of_one_sitting(smoke, tmp_path, ticking):
    """The last model is trained and measured again, in slices."""
    outcome, finished = smoke
    out, pauses, again = tmp_path / "run", [], None
    shutil.copytree(finished, out)
    last = list((out / "state").glob("ColorMNIST-AAE-12-latents*"))
    assert last
    for part in last:
        part.unlink()
    while again is None:
        try:
            options = Options(resume=True, slice_seconds=3.0)
            again = reproduce(latent_scaling.EXPERIMENT, "smoke", out=out, options=options)
        except Unfinished as pause:
            pauses.append(str(pause))
        assert len(pauses) < 30
    assert len(pauses) >= 2, pauses
    assert [row.value for row in again.rows] == [row.value for row in outcome.rows]
