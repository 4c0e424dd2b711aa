"""Scores against scikit-learn, intervals against scipy."""

import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix, log_loss, precision_recall_fscore_support, top_k_accuracy_score

from ptft.errors import NotFiniteError
from ptft.proof.paired import paired_difference
from ptft.train.evaluate import Predictions
from ptft.train.metrics import Tally, wilson_interval


def make(num_classes: int, count: int = 300) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(num_classes)
    labels = torch.randint(0, num_classes, (count,), generator=generator)
    logits = torch.randn(count, num_classes, generator=generator)
    logits[torch.arange(count), labels] += 0.7
    return logits, labels


@pytest.mark.parametrize("num_classes", [2, 5, 6, 12])
def test_scores_equal_scikit_learns(num_classes: int) -> None:
    logits, labels = make(num_classes)
    tally = Tally(num_classes, torch.device("cpu"))
    for rows in torch.arange(300).split(77):
        tally.add(logits[rows], labels[rows])
    scores, predicted = tally.scores(), logits.argmax(dim=1)
    assert np.array_equal(scores.confusion, confusion_matrix(labels, predicted, labels=range(num_classes)))
    probabilities = logits.double().softmax(dim=1).numpy()
    assert scores.loss == pytest.approx(log_loss(labels, probabilities, labels=range(num_classes)), rel=1e-9)
    assert scores.top1 == pytest.approx((predicted == labels).double().mean().item())
    precision, recall, _, _ = precision_recall_fscore_support(labels, predicted, zero_division=0)
    rows = scores.per_class([str(index) for index in range(num_classes)])
    assert [row["precision"] for row in rows] == pytest.approx(list(precision))
    assert [row["recall"] for row in rows] == pytest.approx(list(recall))
    if num_classes > 5:
        expected = top_k_accuracy_score(labels, probabilities, k=5, labels=range(num_classes))
        assert scores.top5 == pytest.approx(expected)
    else:
        assert scores.top5 is None


def test_a_class_never_predicted_has_no_precision_and_an_absent_one_no_recall() -> None:
    tally = Tally(3, torch.device("cpu"))
    tally.add(torch.tensor([[1.0, 0, 0], [1.0, 0, 0]]), torch.tensor([0, 1]))
    rows = tally.scores().per_class(["a", "b", "c"])
    assert [row["precision"] for row in rows] == [0.5, None, None]
    assert [row["recall"] for row in rows] == [1.0, 0.0, None]


@pytest.mark.parametrize(("successes", "trials"), [(0, 5), (5, 5), (3, 7), (896, 1000), (9999, 10000)])
def test_the_interval_is_wilsons(successes: int, trials: int) -> None:
    expected = binomtest(successes, trials).proportion_ci(method="wilson")
    assert wilson_interval(successes, trials) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    draws = rng.binomial(50, 0.9, 4000)
    covered = np.mean([low <= 0.9 <= high for low, high in (wilson_interval(int(draw), 50) for draw in draws)])
    assert 0.93 < covered < 0.98


def test_the_paired_difference_is_students_and_sees_no_effect_where_there_is_none() -> None:
    from scipy.stats import ttest_rel

    first, second = [0.60, 0.62, 0.58, 0.65, 0.61], [0.70, 0.69, 0.66, 0.72, 0.71]
    found = paired_difference(first, second)
    expected = ttest_rel(second, first).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.verdict == "helped"
    assert paired_difference(second, first).verdict == "hurt"
    assert paired_difference(first, [0.62, 0.60, 0.59, 0.63, 0.62]).verdict == "within noise"
    with pytest.raises(ValueError, match="at least 2 pairs"):
        paired_difference([0.5], [0.6])


def test_confidences_are_those_of_the_logits_over_the_temperature() -> None:
    logits = torch.tensor([[2.0, 0.0], [-1.0, 3.0]])
    shares, classes = Predictions(logits, torch.tensor([0, 1])).confidences(2.0)
    assert classes.tolist() == [0, 1]
    assert shares.tolist() == pytest.approx([1 / (1 + np.exp(-1.0)), 1 / (1 + np.exp(-2.0))])


def test_scores_whose_loss_is_not_finite_are_refused() -> None:
    with pytest.raises(NotFiniteError, match="the loss on held-out images is not finite"):
        Predictions(torch.tensor([[float("nan"), 0.0]]), torch.tensor([0])).scores(Tally(2, torch.device("cpu")))
