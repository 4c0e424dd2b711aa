"""The draws are splitmix64, uniform, uncorrelated, and depend on nothing but their place in the run."""

import pytest
import torch
from scipy import stats
from torch import Tensor

from ptft.augment.draws import Draws, mix

MASK = 2**64 - 1
GAMMA = 0x9E3779B97F4A7C15
SEEDED_WITH_1234567 = [
    6457827717110365317,
    3203168211198807973,
    9817491932198370423,
    4593380528125082431,
    16408922859458223821,
]
"""The published first outputs of splitmix64 (rosettacode.org, Pseudo-random numbers/Splitmix64)."""


def reference_mix(state: int) -> int:
    z = (state + GAMMA) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def reference_bits(seed: int, epoch: int, index: int, stream: int, column: int) -> int:
    key = reference_mix(reference_mix(reference_mix(seed & MASK) + epoch) + index)
    return reference_mix(reference_mix(key + stream) + column * GAMMA)


def draws(indices: Tensor, seed: int = 0, epoch: int = 0) -> Draws:
    return Draws(seed, torch.full_like(indices, epoch), indices)


def assert_uniform(numbers: Tensor) -> None:
    assert stats.kstest(numbers.flatten().numpy(), "uniform").pvalue > 1e-3


def assert_uncorrelated(first: Tensor, second: Tensor) -> None:
    assert stats.pearsonr(first.numpy(), second.numpy()).pvalue > 1e-3


def test_reference_and_mix_give_the_published_vectors() -> None:
    states = [(1234567 + k * GAMMA) & MASK for k in range(5)]
    signed = torch.tensor([state - 2**64 if state >= 2**63 else state for state in states])
    assert [reference_mix(state) for state in states] == SEEDED_WITH_1234567
    assert [word & MASK for word in mix(signed).tolist()] == SEEDED_WITH_1234567


@pytest.mark.parametrize("seed", [0, 7, -1, 2**63, 2**64 + 5])
def test_numbers_equal_the_pure_python_reference(seed: int) -> None:
    epochs, indices = torch.tensor([0, 3, 3, 2**40]), torch.tensor([0, 0, 59_999, 2**50])
    batch = Draws(seed, epochs, indices)
    for stream in range(3):
        expected = [
            [(reference_bits(seed, epoch, index, stream, column) >> 40) / 2**24 for column in range(4)]
            for epoch, index in zip(epochs.tolist(), indices.tolist(), strict=True)
        ]
        assert batch.uniform(4).tolist() == expected


def test_whole_numbers_equal_the_pure_python_reference() -> None:
    expected = [-3 + ((reference_bits(5, 0, index, 0, 0) >> 32) * 11 >> 32) for index in range(50)]
    assert draws(torch.arange(50), seed=5).integers(-3, 8)[:, 0].tolist() == expected


def test_numbers_do_not_depend_on_the_batch() -> None:
    indices = torch.randperm(100, generator=torch.Generator().manual_seed(0))
    whole = draws(indices)
    parts = [draws(part) for part in indices.split([1, 60, 39])]
    for count in (1, 5, 2):
        torch.testing.assert_close(
            whole.uniform(count), torch.cat([part.uniform(count) for part in parts]), rtol=0, atol=0
        )


def test_a_call_does_not_depend_on_what_earlier_calls_asked_for() -> None:
    first, second = draws(torch.arange(9)), draws(torch.arange(9))
    first.uniform(20)
    second.coin(0.5)
    assert torch.equal(first.uniform(), second.uniform())


@pytest.mark.parametrize("changed", [{"seed": 1}, {"epoch": 1}])
def test_another_seed_or_epoch_gives_other_numbers(changed: dict[str, int]) -> None:
    indices = torch.arange(1000)
    first, second = draws(indices).uniform()[:, 0], draws(indices, **changed).uniform()[:, 0]
    assert (first == second).sum() < 2
    assert_uncorrelated(first, second)


def test_numbers_are_uniform_over_indices_epochs_streams_and_columns() -> None:
    steps, zeros = torch.arange(20_000), torch.zeros(20_000, dtype=torch.int64)
    one = Draws(0, zeros[:1], zeros[:1])
    assert_uniform(Draws(0, zeros, steps).uniform())
    assert_uniform(Draws(0, steps, zeros).uniform())
    assert_uniform(torch.cat([one.uniform() for _ in range(2000)]))
    assert_uniform(one.uniform(20_000))


def test_neighbours_are_uncorrelated() -> None:
    steps = torch.arange(20_000)
    batch = draws(steps)
    first, second = batch.uniform(2), batch.uniform(2)
    assert_uncorrelated(first[:-1, 0], first[1:, 0])
    assert_uncorrelated(first[:, 0], second[:, 0])
    assert_uncorrelated(first[:, 0], first[:, 1])
    assert_uncorrelated(first[:, 0], draws(steps, epoch=1).uniform()[:, 0])
    assert_uncorrelated(first[:, 0], draws(steps, seed=1).uniform()[:, 0])


def test_the_statistics_reject_numbers_that_are_skewed_or_repeated() -> None:
    numbers = draws(torch.arange(20_000)).uniform()[:, 0]
    with pytest.raises(AssertionError):
        assert_uniform(numbers**1.05)
    with pytest.raises(AssertionError):
        assert_uncorrelated(numbers, numbers + 20 * numbers.flip(0))


def test_whole_numbers_fill_their_range_evenly() -> None:
    numbers = draws(torch.arange(30_000)).integers(-2, 5)
    counts = torch.bincount(numbers[:, 0] + 2, minlength=7)
    assert numbers.dtype == torch.int64
    assert len(counts) == 7
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3


@pytest.mark.parametrize(("low", "high"), [(3, 2), (3, 3), (2, 3 + 2**31)])
def test_an_empty_or_too_long_range_is_refused(low: int, high: int) -> None:
    with pytest.raises(ValueError, match="cannot draw from"):
        draws(torch.arange(2)).integers(low, high)


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_a_coin_falls_with_its_probability(p: float) -> None:
    falls = draws(torch.arange(20_000)).coin(p)
    assert falls.dtype == torch.bool
    assert falls.shape == (20_000,)
    assert falls.float().mean().item() == pytest.approx(p, abs=0.015 if 0 < p < 1 else 0)


def test_numbers_stay_below_one() -> None:
    assert draws(torch.arange(1000)).uniform(1000).max() < 1


@pytest.mark.parametrize("seed", [0, 7, -1])
def test_an_alternating_coin_is_one_bit_of_seed_and_index_turned_over_by_the_epoch(seed: int) -> None:
    epochs, indices = torch.tensor([0, 1, 2, 3, 0, 1]), torch.tensor([0, 0, 0, 0, 59_999, 59_999])
    batch = Draws(seed, epochs, indices)
    batch.uniform(3)
    expected = [
        (reference_bits(seed, -1, index, 1, 0) >> 63) ^ (epoch % 2)
        for epoch, index in zip(epochs.tolist(), indices.tolist(), strict=True)
    ]
    assert batch.alternating().long().tolist() == expected
    after = Draws(seed, epochs, indices)
    for _ in range(2):
        after.uniform()
    assert torch.equal(batch.uniform(), after.uniform())
