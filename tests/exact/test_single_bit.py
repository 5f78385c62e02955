"""The single bit: its table over copies, its flat valley, its exact ELBO identity."""

from __future__ import annotations

import math

import pytest
import torch

from elboscope.core import InputError, log_weights, seeded
from elboscope.models.exact.enumerable import SingleBit

# Copies, ELBO, m, s, reconstruction, KL.
TABLE = [
    (1, -0.693147, 0.0, 1.0, -0.693147, 0.0),
    (2, -0.907558, 0.86547, 0.50097, -0.21634, 0.69122),
    (3, -0.985894, 0.89605, 0.44395, -0.17384, 0.81205),
    (5, -1.065787, 0.91789, 0.39683, -0.14153, 0.92426),
    (10, -1.153715, 0.93537, 0.35368, -0.11434, 1.03937),
]


@pytest.mark.parametrize(("copies", "elbo", "m", "s", "recon", "kl"), TABLE)
def test_optimum(copies, elbo, m, s, recon, kl):
    model = SingleBit.optimal(copies)
    assert model.elbo().item() == pytest.approx(elbo, abs=5.1e-7)
    for value, truth in (
        (model.m, m),
        (model.s, s),
        (model.reconstruction(), recon),
        (model.kl(), kl),
    ):
        assert value.item() == pytest.approx(truth, abs=5.1e-6)
    assert model.elbo() > -copies * math.log(2) - 1e-12


@pytest.mark.parametrize(
    ("copies", "elbo", "m", "s"),
    [(100, -1.3595987201, 0.961208, 0.275824), (1000, -1.5004938073, 0.971970, 0.235105)],
)
def test_optimum_of_many_copies(copies, elbo, m, s):
    """By adaptive quadrature; the method sheet's last two rows are 2e-6 and 1.2e-5 lower."""
    model = SingleBit.optimal(copies)
    assert model.elbo().item() == pytest.approx(elbo, abs=5.1e-11)
    assert model.m.item() == pytest.approx(m, abs=5.1e-7)
    assert model.s.item() == pytest.approx(s, abs=5.1e-7)


@pytest.mark.parametrize(
    ("m", "loss", "loss_digits", "kl", "kl_digits"),
    [
        (0.2, 2.1e-7, 8, 0.0204, 4),
        (0.5, 3.9e-4, 5, 0.144, 3),
        (0.7, 8.8e-3, 4, 0.337, 3),
        (0.8, 0.0383, 4, 0.511, 3),
        (0.9, 0.189, 3, 0.830, 3),
    ],
)
def test_valley_is_flat(m, loss, loss_digits, kl, kl_digits):
    model = SingleBit(m, math.sqrt(1 - m**2))
    excess = -model.elbo().item() - math.log(2)
    assert excess == pytest.approx(loss, abs=0.51 * 10.0**-loss_digits)
    assert model.kl().item() == pytest.approx(kl, abs=0.51 * 10.0**-kl_digits)
    if m <= 0.2:
        assert excess == pytest.approx(m**8 / 12, rel=0.1)


@pytest.mark.parametrize(("m", "s"), [(0.0, 1.0), (0.5, 0.5), (2.0, 0.3), (0.9, 1.4)])
def test_elbo_is_minus_ln_2_minus_marginal_kl_for_any_encoder(m, s):
    model = SingleBit(m, s)
    expected = -math.log(2) - model.marginal_kl()
    assert model.elbo().item() == pytest.approx(expected.item(), abs=1e-12)
    assert (model.kl() - model.mutual_information()).item() == pytest.approx(
        model.marginal_kl().item(), abs=1e-12
    )


def test_the_model_has_this_elbo():
    model = SingleBit.optimal(3)
    with seeded(0), torch.no_grad():
        log_w = log_weights(model, model.data(), 200_000)
    z_score = (log_w.mean(0) - model.elbo()) / (log_w.std(0) / math.sqrt(len(log_w)))
    assert z_score.abs().max() < 3.5


def test_mistake_is_named():
    with pytest.raises(InputError, match="s of SingleBit: expected a positive number; got -1"):
        SingleBit(0.0, -1.0)
