"""McNemar's test against a sum of binomial coefficients."""

from math import comb

import numpy as np
import pytest
import torch

from ptft.proof.mcnemar import mcnemar


def naive_p_value(only_first: int, only_second: int) -> float:
    count = only_first + only_second
    seen = comb(count, only_first)
    return sum(comb(count, k) for k in range(count + 1) if comb(count, k) <= seen) / 2**count


@pytest.mark.parametrize(("only_first", "only_second"), [(0, 0), (0, 1), (3, 3), (2, 9), (15, 1), (40, 61)])
def test_the_p_value_is_the_exact_binomial_one(only_first: int, only_second: int) -> None:
    first = [True] * 7 + [False] * 4 + [True] * only_first + [False] * only_second
    second = [True] * 7 + [False] * 4 + [False] * only_first + [True] * only_second
    found = mcnemar(first, second)
    assert (found.num_only_first, found.num_only_second) == (only_first, only_second)
    assert found.p_value == pytest.approx(naive_p_value(only_first, only_second), rel=1e-9)
    assert mcnemar(torch.tensor(first), torch.tensor(second)) == found


def test_equally_good_classifiers_seldom_look_different() -> None:
    rng = np.random.default_rng(0)
    small = [mcnemar(rng.random(80) < 0.8, rng.random(80) < 0.8).p_value < 0.05 for _ in range(1000)]
    assert np.mean(small) < 0.06
    unequal = [mcnemar(rng.random(80) < 0.6, rng.random(80) < 0.95).p_value < 0.05 for _ in range(100)]
    assert np.mean(unequal) > 0.9


def test_rows_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="same length"):
        mcnemar([True], [True, False])
