"""The order of checkpoints and what is said about it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import ttest_rel

from ptft.proof.ranking import Measured, Ranking, rank
from ptft.proof.scores.probe import Probe
from ptft.proof.scores.worth import Worth


def ranking(levels: Sequence[float], random: float = 0.6, num_images: int = 300, seed: int = 0) -> Ranking:
    """Checkpoints a, b, ... with such errors of the probe, independent from image to image."""
    rng = np.random.default_rng(seed)

    def worth(level: float) -> Worth:
        errors = rng.normal(level, 0.3, num_images)
        return Worth(Probe(errors, (errors < 0.5).astype(float)), errors < 0.5, logme=0.0, h_score=0.0)

    zero = worth(random)
    names = [Path(chr(ord("a") + place)) for place in range(len(levels))]
    return rank(
        [Measured(name, None, "small-cnn", 28, worth(level), zero) for name, level in zip(names, levels, strict=True)]
    )


def names(found: Ranking) -> str:
    return "".join(str(place.measured.path) for place in found.places)


def test_a_clear_winner_is_to_be_used() -> None:
    found = ranking([0.5, 0.2, 0.35])
    assert (names(found), found.verdict) == ("bca", "use")
    assert found.sentence().startswith(
        "use b: better than random weights and than 2 of 2 others; on its features a probe names "
    )


def test_near_ones_cannot_be_told_apart_and_are_named_without_those_that_are_clearly_worse() -> None:
    found = ranking([0.5, 0.201, 0.2])
    assert found.verdict == "cannot tell"
    assert names(found)[-1] == "a"
    assert {str(place.measured.path) for place in found.rivals} == set(names(found)[1])
    assert f"cannot tell {names(found)[0]} from {names(found)[1]}:" in found.sentence()


def test_a_checkpoint_that_is_no_better_than_random_weights_is_not_recommended() -> None:
    found = ranking([0.59, 0.9])
    assert (names(found), found.verdict) == ("ab", "none")
    assert [place.is_better_than_random for place in found.places] == [False, False]
    assert found.places[1].over_random.high < 0
    assert found.sentence().startswith(
        "none is surely better than random weights: on features of the first, a, a probe"
    )
    assert (
        ranking([0.8]).sentence().startswith("none is better than random weights: on features of the first, a, a probe")
    )


def test_one_checkpoint_is_compared_with_random_weights_alone() -> None:
    found = ranking([0.3])
    assert (found.verdict, found.confidence) == ("use", pytest.approx(0.95))
    assert found.as_dict()["ranking"][0]["behind"] is None


def test_differences_are_students_of_the_images_at_a_confidence_that_lets_all_hold_together() -> None:
    found = ranking([0.2, 0.3, 0.5])
    assert found.confidence == pytest.approx(1 - 0.05 / 3)
    first, last = found.places[0], found.places[2]
    expected = ttest_rel(last.measured.worth.probe.errors, first.measured.worth.probe.errors)
    interval = expected.confidence_interval(1 - 0.05 / 3)
    assert last.behind is not None
    assert (last.behind.low, last.behind.high) == pytest.approx((interval.low, interval.high))
    assert last.behind.mean == pytest.approx(last.measured.worth.probe.error - first.measured.worth.probe.error)


def test_among_many_equal_checkpoints_a_winner_is_rare_and_a_real_one_is_found() -> None:
    equal = [ranking([0.6] * 8, seed=seed) for seed in range(100)]
    assert sum(one.verdict != "none" for one in equal) <= 5
    # At 95 % each, some of eight would look better than random weights far more often.
    plain = [any(place.over_random.mean > 1.96 * 0.3 * (2 / 300) ** 0.5 for place in one.places) for one in equal]
    assert sum(plain) > 8
    assert ranking([0.6] * 7 + [0.3]).verdict == "use"


def test_a_difference_that_is_sure_but_too_small_to_matter_cannot_be_told() -> None:
    found = ranking([0.200, 0.215], num_images=200_000)
    behind = found.places[1].behind
    assert behind is not None
    assert 0 < behind.low < behind.high < 0.02
    assert found.verdict == "cannot tell"
    alone = ranking([0.585], num_images=200_000)
    assert 0 < alone.best.over_random.low < 0.02
    assert alone.verdict == "none"


def test_a_difference_that_would_matter_but_is_not_sure_cannot_be_told() -> None:
    found = ranking([0.20, 0.24], num_images=200)
    behind = found.places[1].behind
    assert behind is not None
    assert behind.low < 0.02 < behind.mean
    assert found.verdict == "cannot tell"


def test_the_order_is_that_of_the_probes_error_not_of_its_accuracy() -> None:
    def measured(name: str, error: float, top1: float) -> Measured:
        worth = Worth(Probe(np.full(50, error), np.full(50, top1)), np.ones(50, bool), logme=0.0, h_score=0.0)
        return Measured(Path(name), None, "small-cnn", 28, worth, worth)

    assert names(rank([measured("a", 0.4, 0.9), measured("b", 0.2, 0.8)])) == "ba"
