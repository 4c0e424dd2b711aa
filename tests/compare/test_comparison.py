"""What a comparison says of its numbers."""

import numpy as np
import pytest

from ptft.compare.comparison import ArmResult, Comparison, Gain, Point
from ptft.compare.comparison_page import page_of_comparison
from ptft.compare.learning_rates import Choice
from ptft.compare.verdict import verdict_of
from ptft.proof.mcnemar import mcnemar
from ptft.proof.paired import OF_ACCURACY
from ptft.proof.spread import spread_of


def comparison(right: np.ndarray) -> Comparison:
    """Of random weights that are always wrong and pretrained ones that are `right`, bool (seeds, images)."""
    wrong = np.zeros_like(right)
    difference = spread_of(right * 1.0 - wrong)
    tests = [mcnemar(*pair) for pair in zip(wrong, right, strict=True)]
    gain = Gain(difference, verdict_of(difference), tests, 1.0, None, None)

    def arm(found: np.ndarray, gain: Gain | None) -> ArmResult:
        choice = Choice(0.1, {0.1: 0.5}, is_at_edge=True)
        top1_of_seeds = found.mean(axis=1).tolist()
        return ArmResult(choice, spread_of(found * 1.0, OF_ACCURACY), top1_of_seeds, [(1, 0.5)], 1, gain)

    return Comparison(
        command="ptft compare",
        sources=["a.pt"],
        data="folder things/",
        classes=["dark", "light"],
        num_validation=4,
        num_test=right.shape[1],
        charged_steps=0,
        points=[Point(2, 4, {"random": arm(wrong, None), "pretrained": arm(right, gain)}, gain.verdict)],
        leak=None,
        config={},
    )


@pytest.mark.parametrize(("num_images", "is_few"), [(5, True), (19, True), (20, False)])
def test_a_verdict_from_few_test_images_says_that_they_are_few(num_images: int, is_few: bool) -> None:
    right = np.zeros((3, num_images), dtype=bool)
    right[:, : num_images * 3 // 5] = True
    found = comparison(right)
    caution = f"n = {num_images} test images are few: neither interval nor verdict knows of others."
    assert found.verdict == "helped"
    assert found.sentence().startswith("pretraining helped: +")
    assert found.sentence().endswith(caution) == is_few
    assert (caution in page_of_comparison(found).notes) == is_few


def test_one_seed_is_not_told_as_several() -> None:
    notes = page_of_comparison(comparison(np.ones((1, 30), dtype=bool))).notes
    assert notes[0].startswith("1 seed, each with its own draw")
