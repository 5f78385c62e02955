"""The same noise whatever is decoded at once, within the memory; a bar is drawn on request."""

import gc
import inspect
from pathlib import Path

import pytest
import torch
from torch.distributions import Independent, Normal

import elboscope as es
from elboscope.core import Grid, InputError, Pieces, log_weights, memory_budget, seeded
from elboscope.estimators.inference.target import Target
from elboscope.estimators.inputs import prepared
from elboscope.estimators.likelihood import (
    importance_sampling,
    importance_weighted_bounds,
    reverse_annealed_importance_sampling,
)
from elboscope.estimators.streaming import SharedProgress, Streaming, reporting
from elboscope.models import IAF, FullCovariance, LinearGaussian, RealNVP, mlp_vae


@pytest.mark.parametrize("name", ["num_samples", "sample_chunk", "batch_size"])
def test_counts_below_one_are_refused_by_name(name):
    with pytest.raises(InputError, match=f"{name}: expected at least 1; got 0"):
        Streaming(**{"num_samples": 5, name: 0})


# What is decoded at once changes the rounding of a number, and nothing else.


def _model(**settings):
    with seeded(0):
        model = mlp_vae((12,), 3, hidden=(16,), likelihood="gaussian", scale=0.5, **settings)
        for p in model.parameters():
            p.data += 0.3 * torch.randn_like(p)
        return model, torch.randn(66, 12)


STEPS = torch.full((4,), 0.3)
ANNEALING = {
    "num_temperatures": 5, "num_chains": 3, "num_leapfrog": 2, "step_sizes": STEPS, "seed": 0
}  # fmt: skip


def _weights(model, x, **sizes):
    with seeded(0), torch.no_grad():
        return log_weights(model, x, 130, **sizes)


def _two_sided(model, x, **sizes):
    found = es.bidirectional_monte_carlo(model, 36, **ANNEALING, **sizes)
    return torch.cat([found.lower.values, found.upper.values, found.upper_doubled.values])


def _curve(model, x, **sizes):
    found = importance_weighted_bounds(model, x, (5, 130), seed=0, **sizes)
    return torch.cat([found[5].values, found[130].values])


def _reversed(model, x, **sizes):
    z = torch.linspace(-1, 1, 3).expand(36, 3)
    return reverse_annealed_importance_sampling(model, x[:36], z, **ANNEALING, **sizes).values


def _annealed(model, x, **sizes):
    posterior = es.annealed_importance_sampling(
        model, x[:36], path="posterior", **ANNEALING, **sizes
    )
    prior = es.annealed_importance_sampling(model, x[:36], **ANNEALING, **sizes)
    return torch.cat([posterior.values, prior.values])


def _sampled(estimator):
    return lambda model, x, **sizes: estimator(model, x, 130, seed=0, **sizes).values


BY_CHUNKS = {
    "log_weights": _weights,
    "importance_sampling": _sampled(es.importance_sampling),
    "prior_sampling": _sampled(es.likelihood.prior_sampling),
    "widened_importance_sampling": _sampled(es.likelihood.widened_importance_sampling),
    "evidence_lower_bound": _sampled(es.evidence_lower_bound),
    "reconstruction": _sampled(es.likelihood.reconstruction),
    "importance_weighted_bounds": _curve,
}
BY_ROWS = {
    "annealed_importance_sampling": _annealed,
    "reverse_annealed_importance_sampling": _reversed,
    "bidirectional_monte_carlo": _two_sided,
    "implied_variance": _sampled(es.latents.implied_variance),
    "zeroing_effect": _sampled(es.latents.zeroing_effect),
}
ROWS = ({"batch_size": 7},)
CHUNKS = ({"sample_chunk": 4}, {"batch_size": 11, "sample_chunk": 500})


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    yield lambda: torch.set_num_threads(2 if before == 1 else 1)
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", [*BY_CHUNKS, *BY_ROWS])
def test_the_same_seed_draws_the_same_noise_whatever_is_decoded_at_once(name, two_threads):
    """As the noise is not used up in the order of blocks, no number moves by 1e-4 nats."""
    model, x = _model()
    estimate = {**BY_CHUNKS, **BY_ROWS}[name]
    whole = estimate(model, x)
    assert torch.equal(whole, estimate(model, x))
    for sizes in (*ROWS, *(CHUNKS if name in BY_CHUNKS else ())):
        assert (estimate(model, x, **sizes) - whole).abs().max() < 1e-4, sizes
    with memory_budget(2**17):
        assert (estimate(model, x) - whole).abs().max() < 1e-4
    two_threads()
    assert (estimate(model, x) - whole).abs().max() < 1e-4


@pytest.mark.parametrize("posterior", [IAF(), RealNVP(), FullCovariance()], ids=repr)
def test_other_posteriors_draw_the_same_noise_too(posterior):
    model, x = _model(posterior=posterior)
    found = [
        es.importance_sampling(model, x, 130, seed=0, **sizes).values
        for sizes in ({}, {"batch_size": 7}, {"batch_size": 31, "sample_chunk": 5})
    ]
    assert (found[0] - found[1]).abs().max() < 1e-4
    assert (found[0] - found[2]).abs().max() < 1e-4


def test_no_estimator_with_blocks_is_left_out():
    rooms = (es.core, es.likelihood, es.latents, es.inference, es.gradients, es.samples)
    taking = {
        name
        for room in rooms
        for name in room.__all__
        if inspect.isfunction(f := getattr(room, name))
        and {"batch_size", "sample_chunk"} & set(inspect.signature(f).parameters)
    }
    assert taking - {"decode_in_pieces"} == {*BY_CHUNKS, *BY_ROWS}


def test_the_grid_does_not_ask_what_is_decoded_at_once():
    model, x = _model()
    grid = Grid.of(model, x, None, 130)
    assert grid == (33, 124)
    cells = [(r.start, s.start, s.stop) for r, s in grid.cells(66, 130)]
    assert cells == [(0, 0, 124), (0, 124, 130), (33, 0, 124), (33, 124, 130)]
    assert Pieces.of(model, x, None, grid, 7, 500) == (7, 124)
    assert Pieces.of(model, x, None, grid) == (33, 124)


# Memory: one budget for whatever is decoded and followed back.


class Wide:
    """A decoder of five layers of 65 536 numbers, all of which a gradient keeps."""

    def __init__(self):
        self.W = torch.linspace(-1, 1, 2**16)

    def prior(self):
        return Independent(Normal(torch.zeros(2), torch.ones(2)), 1)

    def encode(self, x):
        return Independent(Normal(x[:, :2], torch.full_like(x[:, :2], 0.5)), 1)

    def decode(self, z):
        h = z[..., :1] * self.W
        for _ in range(4):
            h = h.tanh()
        mean = torch.stack([h.mean(-1), z[..., 1]], -1)
        return Independent(Normal(mean, torch.ones_like(mean)), 1)


def _peak(compute):
    """Bytes by which the process grows at most."""

    def status(key):
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(key))

    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    compute()
    return status("VmHWM") - before


BACKPROPAGATE = {
    "implied_kl_weight": lambda m, x: es.latents.implied_kl_weight(m, x, 16, seed=0),
    "annealed": lambda m, x: es.annealed_importance_sampling(
        m, x, num_temperatures=2, num_leapfrog=1, num_chains=16, step_sizes=torch.ones(1), seed=0
    ),
    "optimal_posterior": lambda m, x: Target(m, prepared(m, x, None)).slope(
        torch.zeros(16, len(x), 2), torch.arange(len(x))
    ),
}


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux tells the peak")
@pytest.mark.parametrize("name", BACKPROPAGATE)
def test_the_peak_stays_within_the_budget(name):
    """All 256 samples at once would take 320 MiB."""
    model, x, budget = Wide(), torch.zeros(16, 2), 2**26
    with memory_budget(budget):
        assert _peak(lambda: BACKPROPAGATE[name](model, x)) < budget


def test_a_budget_that_is_no_number_of_bytes_is_refused():
    for wrong in (0, -(2**31), True):
        with (
            pytest.raises(InputError, match=r"size: expected a whole number of bytes, at least 1"),
            memory_budget(wrong),
        ):
            pass


def test_true_draws_a_bar_that_ends_with_a_newline(capsys):
    model = LinearGaussian.instance_1()
    x, _ = model.sample(4, seed=0)
    importance_sampling(model, x, 2048, seed=0, progress=True)  # two cells
    out, err = capsys.readouterr()
    assert out == ""
    assert " 50%" in err
    assert " 100%" in err
    assert err.endswith("s\n")


def test_a_callable_is_called_as_it_is_and_nothing_is_drawn_unasked(capsys):
    told = []
    progress = reporting(lambda done, total: told.append((done, total)))
    assert progress is not None
    progress(1, 2)
    assert told == [(1, 2)]
    assert reporting(None) is None
    assert SharedProgress(False).part(1.0) is None
    assert capsys.readouterr() == ("", "")
