"""Every datapoint once an epoch; any step can be found again."""

import itertools

import torch

from elboscope.core import seeded
from elboscope.data import Binarisation
from elboscope.training import minibatches


def take(n: int, start: int = 0, seed: int = 3) -> list[torch.Tensor]:
    x = torch.arange(10.0).reshape(10, 1)
    return [b.x for b in itertools.islice(minibatches(x, 4, seed, start=start), n)]


def test_each_epoch_is_a_permutation_of_its_own() -> None:
    batches = take(6)
    first, second = torch.cat(batches[:3]).flatten(), torch.cat(batches[3:]).flatten()
    assert first.sort().values.tolist() == second.sort().values.tolist() == list(range(10))
    assert first.tolist() != second.tolist()
    assert first.tolist() != torch.cat(take(3, seed=4)).flatten().tolist()
    assert [len(b) for b in batches[:3]] == [4, 4, 2]


def test_any_start_continues_the_same_sequence() -> None:
    whole = take(9)
    for start in range(7):
        for a, b in zip(take(2, start), whole[start:], strict=False):
            assert torch.equal(a, b)


def test_conditions_travel_with_their_datapoints_and_time_counts_epochs() -> None:
    x = torch.arange(10.0).reshape(10, 1)
    batches = list(itertools.islice(minibatches(x, 4, 0, condition=x[:, 0] * 2), 3))
    for batch in batches:
        assert batch.condition is not None
        assert torch.equal(batch.x[:, 0] * 2, batch.condition)
    assert [round(b.epoch, 6) for b in batches] == [0.333333, 0.666667, 1.0]


def test_dynamic_binarisation_draws_afresh_with_the_right_mean() -> None:
    x = torch.full((500, 20), 0.3)
    batches = minibatches(x, 500, 0, binarisation=Binarisation("dynamic"))
    with seeded(0):
        a, b = next(batches).x, next(batches).x
    assert set(a.unique().tolist()) == {0.0, 1.0}
    assert not torch.equal(a, b)
    z = (torch.cat([a, b]).mean() - 0.3) / (0.3 * 0.7 / 20_000) ** 0.5
    assert abs(z) < 4


def test_a_single_datapoint_left_over_joins_the_minibatch_before() -> None:
    x = torch.arange(9.0).reshape(9, 1)
    batches = [b.x for b in itertools.islice(minibatches(x, 4, 0), 2)]
    assert [len(b) for b in batches] == [4, 5]
    assert torch.cat(batches).flatten().sort().values.tolist() == list(range(9))
    assert [len(b.x) for b in itertools.islice(minibatches(x, 1, 0), 9)] == [1] * 9
