"""From numbers to words, and what they are worth in labels and steps."""

import numpy as np
import pytest

from ptft.compare.verdict import Worth, overall_of, steps_to_reach, verdict_of, verdicts_together, worth_of
from ptft.proof.spread import Spread, spread_of


def spread(seeds: list[float]) -> Spread:
    """Of seeds whose images are all alike."""
    return spread_of(np.repeat(np.array(seeds)[:, None], 3, axis=1))


@pytest.mark.parametrize(
    ("seeds", "verdict"),
    [
        ([0.05, 0.06, 0.07, 0.06], "helped"),
        ([-0.05, -0.06, -0.07, -0.06], "hurt"),
        ([0.05, -0.06, 0.01, -0.02], "within noise"),
        ([0.0, 0.0, 0.0], "within noise"),
        ([0.05, 0.06], "too few seeds to tell"),
        ([0.05], "too few seeds to tell"),
        # Two seeds say nothing, neither where they agree nor where they do not.
        ([0.05, 0.0501], "too few seeds to tell"),
        ([0.05, -0.05], "too few seeds to tell"),
        # Its interval holds 0 (Student with 2 degrees of freedom), at 3.5 standard errors.
        ([0.03, 0.07, 0.10], "too few seeds to tell"),
        # At 2.2 standard errors more seeds need not make it clear.
        ([0.0135, 0.0635, 0.1135], "within noise"),
        # The same 3.5 standard errors with 6 seeds are clear, and 2.2 of them are noise.
        ([0.03, 0.07, 0.10, 0.02, 0.01, 0.13], "helped"),
        ([0.03, 0.07, 0.10, -0.02, 0.0, 0.01], "within noise"),
    ],
)
def test_a_verdict_alone(seeds: list[float], verdict: str) -> None:
    assert verdict_of(spread(seeds)) == verdict


def test_what_is_clear_alone_may_be_noise_among_several_looks() -> None:
    barely = spread([0.09, 0.02, 0.06, 0.04, 0.01])
    clear = spread([0.10, 0.11, 0.12, 0.10, 0.11])
    nothing = spread([0.02, -0.02, 0.01, -0.01, 0.0])
    assert verdict_of(barely) == "helped"
    assert verdicts_together([barely]) == ["helped"]
    assert verdicts_together([barely, nothing, nothing]) == ["within noise"] * 3
    assert verdicts_together([clear, nothing, nothing]) == ["helped", "within noise", "within noise"]
    assert verdicts_together([clear, barely, nothing])[:2] == ["helped", "within noise"]


def test_harm_must_be_clear_among_several_looks_too() -> None:
    barely = spread([-0.09, -0.02, -0.06, -0.04, -0.01])
    clear = spread([-0.10, -0.11, -0.12, -0.10, -0.11])
    assert verdicts_together([barely]) == ["hurt"]
    assert verdicts_together([clear, barely, spread([0.02, -0.02, 0.01])])[:2] == ["hurt", "within noise"]


def test_looks_of_too_few_seeds_stay_so_and_count_among_the_looks() -> None:
    barely, single = spread([0.09, 0.02, 0.06, 0.04, 0.01]), spread([0.05])
    assert verdicts_together([single]) == ["too few seeds to tell"]
    assert verdicts_together([barely, single, single])[0] == "within noise"


def test_the_overall_verdict() -> None:
    assert overall_of(["helped", "within noise"]) == "helped"
    assert overall_of(["hurt", "within noise", "too few seeds to tell"]) == "hurt"
    assert overall_of(["helped", "hurt"]) == "mixed"
    assert overall_of(["within noise", "too few seeds to tell"]) == "too few seeds to tell"
    assert overall_of(["within noise"]) == "within noise"


CURVE = [(5.0, 0.6), (20.0, 0.8), (80.0, 0.9)]


@pytest.mark.parametrize(
    ("top1", "worth"),
    [
        (0.7, Worth(10.0)),  # half way between 5 and 20 on the logarithm
        (0.8, Worth(20.0)),
        (0.85, Worth(40.0)),
        (0.6, Worth(5.0)),
        (0.5, Worth(5.0, "fewer")),
        (0.91, Worth(80.0, "more")),
    ],
)
def test_worth_in_labels_is_interpolated_on_their_logarithm(top1: float, worth: Worth) -> None:
    found = worth_of(top1, CURVE)
    assert found is not None
    assert found.bound == worth.bound
    assert found.labels == pytest.approx(worth.labels)


def test_worth_where_more_labels_did_worse_counts_from_the_best_before() -> None:
    found = worth_of(0.7, [(5, 0.6), (20, 0.5), (80, 0.8)])
    assert found is not None
    assert found.labels == pytest.approx(20.0)  # half way between 5 and 80
    flat = worth_of(0.6, [(5, 0.6), (20, 0.6), (80, 0.8)])
    assert flat is not None
    assert flat.labels == pytest.approx(5.0)
    assert worth_of(0.9, [(5, 0.6), (20, 0.8), (80, 0.7)]) == Worth(80, "more")
    assert worth_of(0.7, [(5, 0.6)]) is None


def test_steps_to_reach_an_accuracy() -> None:
    curve = [(0, 0.3), (10, 0.6), (20, 0.55), (30, 0.7)]
    assert steps_to_reach(0.6, curve) == 10
    assert steps_to_reach(0.65, curve) == 30
    assert steps_to_reach(0.71, curve) is None
