"""Accuracies of images that are asked more than once."""

import numpy as np
import pytest

from ptft.proof.scores.worth import accuracy
from ptft.train.metrics import wilson_interval


def test_the_interval_is_of_the_share_that_is_told_and_not_of_a_whole_number_near_it() -> None:
    right = np.array([1.0] * 7 + [0.75, 0.75] + [0.0] * 5)
    found = accuracy(right)
    assert found["top1"] == pytest.approx(8.5 / 14)
    assert wilson_interval(8, 14)[0] < found["top1_low"] < wilson_interval(9, 14)[0]
    # Wilson's ends are where a score test just rejects: (share - end)^2 = z^2 end (1 - end) / n.
    for end in (found["top1_low"], found["top1_high"]):
        assert (8.5 / 14 - end) ** 2 == pytest.approx(1.959964**2 * end * (1 - end) / 14, rel=1e-5)
