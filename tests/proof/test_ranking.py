"""The order of checkpoints and what is said about it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from ptft.proof.ranking import Measured, Ranking, rank
from ptft.proof.scores.worth import Worth


def ranking(shares: Sequence[float], random: float = 0.4, num_images: int = 300, seed: int = 0) -> Ranking:
    """Checkpoints a, b, ... that name such shares of the images right, independently of one another."""
    rng = np.random.default_rng(seed)

    def worth(share: float) -> Worth:
        right = rng.random(num_images) < share
        return Worth(right, right, logme=0.0, h_score=0.0)

    zero = worth(random)
    names = [Path(chr(ord("a") + place)) for place in range(len(shares))]
    measured = [
        Measured(name, None, "small-cnn", 28, worth(share), zero) for name, share in zip(names, shares, strict=True)
    ]
    return rank(measured, seed=0)


def names(found: Ranking) -> str:
    return "".join(str(place.measured.path) for place in found.places)


def test_a_clear_winner_is_to_be_used() -> None:
    found = ranking([0.5, 0.9, 0.7])
    assert (names(found), found.verdict) == ("bca", "use")
    assert found.sentence().startswith("use b: +")
    assert "c is behind by -" in found.sentence()


def test_near_ones_cannot_be_told_apart_and_are_named_without_those_that_are_clearly_worse() -> None:
    found = ranking([0.5, 0.80, 0.81])
    assert found.verdict == "cannot tell"
    assert names(found)[-1] == "a"
    assert {str(place.measured.path) for place in found.rivals} == set(names(found)[1])


def test_a_checkpoint_that_is_no_better_than_random_weights_is_not_recommended() -> None:
    found = ranking([0.41, 0.2])
    assert (names(found), found.verdict) == ("ab", "none")
    assert found.places[1].over_random.verdict == "hurt"
    assert "none is surely better than random weights" in found.sentence()


def test_one_checkpoint_is_compared_with_random_weights_alone() -> None:
    found = ranking([0.8])
    assert (found.verdict, found.confidence) == ("use", pytest.approx(0.95))
    assert found.as_dict()["ranking"][0]["behind"] is None


def test_equal_accuracies_are_ordered_by_logme() -> None:
    right = np.arange(40) % 3 > 0
    zero = Worth(~right, ~right, -1.0, 0.0)
    measured = [
        Measured(Path(name), None, "small-cnn", 28, Worth(right, right, logme, 0.0), zero)
        for name, logme in (("low", -0.5), ("high", 0.5))
    ]
    assert [str(place.measured.path) for place in rank(measured, seed=0).places] == ["high", "low"]


def test_among_many_equal_checkpoints_a_winner_is_rare_and_a_real_one_is_found() -> None:
    equal = [ranking([0.7] * 8, random=0.7, seed=seed) for seed in range(12)]
    assert equal[0].confidence == pytest.approx(1 - 0.05 / 15)
    assert sum(one.verdict != "none" for one in equal) <= 1
    assert ranking([0.7] * 7 + [0.9], random=0.7).verdict == "use"
    # At 95 % each, the highest of eight looks better than random weights more often than it should.
    gains = [max(place.over_random.mean for place in one.places) for one in equal]
    assert np.mean(gains) > 0.03
