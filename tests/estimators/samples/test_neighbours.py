"""Precision, recall, density, coverage and Fréchet distance in scenarios of known outcome."""

import math

import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from elboscope.core import InputError, seeded
from elboscope.estimators.samples.distances import (
    expected_coverage,
    feature_frechet_distance,
    frechet_distance,
    group_values,
    neighbour_metrics,
)


def normal(n: int, d: int = 4, seed: int = 0) -> torch.Tensor:
    with seeded(seed):
        return torch.randn(n, d)


def literal(x: torch.Tensor, y: torch.Tensor) -> list[float]:
    """By scikit-learn's nearest neighbours, a point at a time."""
    radius = {k: NearestNeighbors(n_neighbors=k).fit(x).kneighbors()[0][:, -1] for k in (3, 5)}
    own = NearestNeighbors(n_neighbors=3).fit(y).kneighbors()[0][:, -1]
    d = torch.cdist(x.double(), y.double()).numpy()
    n, m = d.shape
    precision = sum(any(d[i, j] <= radius[3][i] for i in range(n)) for j in range(m)) / m
    recall = sum(any(d[i, j] <= own[j] for j in range(m)) for i in range(n)) / n
    density = sum((d[:, j] <= radius[5]).sum() for j in range(m)) / (5 * m)
    coverage = sum(d[i].min() <= radius[5][i] for i in range(n)) / n
    return [precision, recall, density, coverage]


def test_it_is_the_literal_version():
    x, y = normal(120), 0.7 * normal(90, seed=1) + 0.5
    found = vars(neighbour_metrics(x, y)).values()
    assert [e.mean for e in found] == pytest.approx(literal(x, y), abs=1e-12)


def test_what_perfect_samples_score_is_known_of_density_and_coverage_alone():
    """A datapoint is covered unless its 5 nearest of the 119 + 90 others are all data."""
    x, y = normal(120), 0.7 * normal(90, seed=1) + 0.5
    found = neighbour_metrics(x, y)
    missed = math.comb(119, 5) / math.comb(119 + 90, 5)
    assert found.density.expected == 1
    assert found.coverage.expected == pytest.approx(1 - missed, rel=1e-12)
    assert found.coverage.settings["expected of perfect samples"] == found.coverage.expected
    assert math.isnan(found.precision.expected)
    assert math.isnan(found.recall.expected)


def test_the_exact_expected_coverage():
    assert expected_coverage(1000, 1000, 5) == pytest.approx(0.96898, abs=5e-6)
    assert expected_coverage(1000, 10**9, 5) == pytest.approx(1)


@pytest.mark.slow
def test_equal_distributions_have_density_one_and_the_expected_coverage():
    found = [
        neighbour_metrics(normal(1000, 8, seed), normal(1000, 8, 100 + seed)) for seed in range(8)
    ]
    density = torch.tensor([f.density.mean for f in found])
    coverage = torch.tensor([f.coverage.mean for f in found])
    for values, truth in ((density, 1.0), (coverage, expected_coverage(1000, 1000))):
        assert abs(values.mean().item() - truth) < 4 * values.std().item() / 8**0.5
    assert coverage.std().item() < 0.01


@pytest.mark.slow
def test_errors_are_conservative_and_not_by_much():
    """Efron and Stein: not below the truth; for nearest neighbours up to twice it."""
    found = [neighbour_metrics(normal(200, 4, s), normal(200, 4, 500 + s)) for s in range(40)]
    for name in vars(found[0]):
        values = torch.tensor([getattr(f, name).mean for f in found])
        stderr = sum(getattr(f, name).stderr for f in found) / len(found)
        assert 0.8 * values.std().item() < stderr < 2.6 * values.std().item(), name


def test_mode_collapse_is_precise_and_recalls_nothing():
    x = normal(500)
    found = neighbour_metrics(x, x[:1].expand(500, 4) + 1e-3 * normal(500, seed=2))
    assert found.precision.mean == 1
    assert found.recall.mean < 0.02
    assert found.coverage.mean < 0.05


def test_memorised_data_are_seen_by_none_of_the_four():
    x = normal(400)
    found = neighbour_metrics(x, x.clone())
    assert [e.mean for e in (found.precision, found.recall, found.coverage)] == [1, 1, 1]
    assert found.density.mean > 1


def test_noise_is_imprecise_and_far():
    x, y = normal(400), 20 * normal(400, seed=1)
    found = neighbour_metrics(x, y)
    assert found.precision.mean < 0.05
    assert found.coverage.mean < 0.05
    near = feature_frechet_distance(x, normal(400, seed=1))
    assert feature_frechet_distance(x, y).mean > 100 * near.mean


def test_an_outlier_raises_precision_and_not_density():
    """Its ball reaches over everything between it and the data."""
    x, y = normal(500), normal(500, seed=1) + 8
    outlier = torch.cat([x[:-1], torch.full((1, 4), 40.0)])
    clean, spoilt = neighbour_metrics(x, y), neighbour_metrics(outlier, y)
    assert clean.precision.mean < 0.05
    assert spoilt.precision.mean > 0.95
    assert spoilt.density.mean < 0.25
    assert spoilt.coverage.mean < 0.05


def test_gaussians_have_the_distance_of_the_closed_form():
    with seeded(0):
        a, b = torch.randn(2, 5, 5, dtype=torch.float64)
        mu, nu = torch.randn(2, 5, dtype=torch.float64)
    s, t = a @ a.T, b @ b.T
    root = torch.linalg.eigvals(s @ t).real.sqrt().sum()
    truth = (mu - nu).square().sum() + s.trace() + t.trace() - 2 * root
    torch.testing.assert_close(frechet_distance(mu, s, nu, t), truth)


def test_commuting_covariances_in_closed_form_even_without_full_rank():
    s, t = (torch.diag(torch.tensor(v).double()) for v in ([4.0, 1.0, 0.0], [1.0, 0.0, 0.0]))
    mu = torch.zeros(3).double()
    assert frechet_distance(mu, s, mu + 1, t).item() == pytest.approx(3 + 1 + 1)


def test_the_distance_of_features_is_the_peers():
    fid = pytest.importorskip("torchmetrics.image.fid")

    class Features(torch.nn.Module):
        num_features = 6

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.flatten(1)[:, :6]

    x, y = normal(200, 12), 1.5 * normal(300, 12, seed=1) + 0.5
    metric = fid.FrechetInceptionDistance(
        feature=Features(), input_img_size=(3, 2, 2), normalize=True
    ).set_dtype(torch.float64)
    metric.update(x.view(-1, 3, 2, 2), real=True)
    metric.update(y.view(-1, 3, 2, 2), real=False)
    ours = feature_frechet_distance(x[:, :6], y[:, :6])
    assert ours.mean == pytest.approx(metric.compute().item(), rel=1e-4)


def test_the_distance_of_shifted_features_lies_within_its_error():
    found = [
        feature_frechet_distance(normal(1000, 3, s), 2 * normal(1000, 3, 500 + s) + 1)
        for s in range(40)
    ]
    z = torch.tensor([(f.mean - 6.0) / f.stderr for f in found])
    assert abs(z.mean().item()) < 0.7
    assert 0.6 < z.std().item() < 1.3


def test_it_is_biased_upwards_for_few_images():
    few, many = (
        [feature_frechet_distance(normal(n, 8, s), normal(n, 8, 99 + s)).mean for s in range(8)]
        for n in (50, 1000)
    )
    assert min(few) > max(many) > 0


def test_the_jackknife_of_a_mean_is_its_standard_error():
    x, y = normal(200, 1).flatten(), normal(200, 1, seed=1).flatten()
    values = group_values(lambda i, j: (x[i].mean() - y[j].mean())[None], 200, 200)[0]
    groups = (x - y).view(20, 10).mean(0)
    assert values.mean().item() == pytest.approx((x - y).mean().item(), abs=1e-6)
    torch.testing.assert_close(values, groups.double(), rtol=1e-4, atol=1e-5)


def test_too_few_rows_and_unequal_widths_are_refused():
    with pytest.raises(InputError, match="at least 20 data and samples; got 10 and 30"):
        neighbour_metrics(normal(10), normal(30))
    with pytest.raises(InputError, match="one width of data and samples; got 4 and 3"):
        neighbour_metrics(normal(30), normal(30, 3))
    with pytest.raises(InputError, match="one width of data and samples"):
        feature_frechet_distance(normal(30), normal(30, 3))
    with pytest.raises(InputError, match="groups: expected at least 2"):
        feature_frechet_distance(normal(30), normal(30), groups=1)
