"""Accuracies of images that are asked more than once."""

import numpy as np
import pytest
from making_features import make_features

from ptft.proof.scores.evidence import logme
from ptft.proof.scores.h_score import h_score
from ptft.proof.scores.neighbours import neighbours_right
from ptft.proof.scores.probe import probe
from ptft.proof.scores.worth import accuracy, measure
from ptft.train.metrics import wilson_interval


def test_the_interval_is_of_the_share_that_is_told_and_not_of_a_whole_number_near_it() -> None:
    right = np.array([1.0] * 7 + [0.75, 0.75] + [0.0] * 5)
    found = accuracy(right)
    assert found["top1"] == pytest.approx(8.5 / 14)
    assert wilson_interval(8, 14)[0] < found["top1_low"] < wilson_interval(9, 14)[0]
    # Wilson's ends are where a score test just rejects: (share - end)^2 = z^2 end (1 - end) / n.
    for end in (found["top1_low"], found["top1_high"]):
        assert (8.5 / 14 - end) ** 2 == pytest.approx(1.959964**2 * end * (1 - end) / 14, rel=1e-5)


def test_the_probe_is_of_all_stages_and_the_other_scores_of_the_last_features() -> None:
    features, labels = make_features(60, 5, signal=1.0)
    stages, _ = make_features(60, 8, signal=2.0, seed=1)
    found = measure(features, stages, labels, seed=3)
    assert found.probe.error == probe(stages, labels, seed=3).error
    assert np.array_equal(found.neighbours_right, neighbours_right(features, labels))
    assert (found.logme, found.h_score) == (logme(features, labels), h_score(features, labels))
