"""Calibration against naive loops, scikit-learn and closed forms."""

import numpy as np
import pytest
import torch
from sklearn.calibration import calibration_curve

from ptft.proof.calibration_error import expected_calibration_error, fit_temperature


def naive_error(confidences: list[float], is_right: list[bool], num_bins: int) -> float:
    error = 0.0
    for index in range(num_bins):
        low, high = index / num_bins, (index + 1) / num_bins
        members = [
            (confidence, right)
            for confidence, right in zip(confidences, is_right, strict=True)
            if low < confidence <= high or (index == 0 and confidence == 0)
        ]
        if members:
            accuracy = sum(right for _, right in members) / len(members)
            confidence = sum(confidence for confidence, _ in members) / len(members)
            error += len(members) / len(confidences) * abs(accuracy - confidence)
    return error


@pytest.mark.parametrize("num_bins", [1, 10, 15])
def test_the_error_is_that_of_the_formula_and_the_bins_are_scikit_learns(num_bins: int) -> None:
    rng = np.random.default_rng(0)
    confidences = np.concatenate([rng.beta(5, 2, 500), [0.0, 1.0]])
    is_right = rng.random(502) < confidences**1.5
    found = expected_calibration_error(torch.from_numpy(confidences), torch.from_numpy(is_right), num_bins)
    assert found.error == pytest.approx(naive_error(confidences.tolist(), is_right.tolist(), num_bins), rel=1e-9)
    accuracies, means = calibration_curve(is_right, confidences, n_bins=num_bins)
    filled = [b for b in found.bins if b.num_examples]
    assert [b.accuracy for b in filled] == pytest.approx(accuracies.tolist())
    assert [b.confidence for b in filled] == pytest.approx(means.tolist())
    assert sum(b.num_examples for b in found.bins) == 502


def test_a_confidence_on_an_edge_belongs_to_the_lower_bin_and_empty_bins_have_no_accuracy() -> None:
    found = expected_calibration_error([0.5, 0.5, 0.75], [True, False, False], num_bins=4)
    assert [b.num_examples for b in found.bins] == [0, 2, 1, 0]
    assert (found.bins[0].accuracy, found.bins[1].accuracy, found.bins[2].accuracy) == (None, 0.5, 0.0)
    assert found.error == pytest.approx(0.75 / 3)
    assert len(expected_calibration_error([0.5], [True]).bins) == 15


@pytest.mark.parametrize(("confidences", "is_right"), [([], []), ([0.5], [True, True]), ([1.5], [True])])
def test_confidences_that_are_none_are_refused(confidences: list[float], is_right: list[bool]) -> None:
    with pytest.raises(ValueError, match=r"needs|must be"):
        expected_calibration_error(confidences, is_right)


@pytest.mark.parametrize("share", [0.6, 0.75, 0.95])
def test_the_temperature_of_two_classes_has_a_closed_form(share: float) -> None:
    """Logits (a, -a), right with frequency q: most likely is sigmoid(2 a / T) = q."""
    labels = np.array([0] * round(share * 100) + [1] * round((1 - share) * 100))
    logits = np.tile([3.0, -3.0], (100, 1))
    assert fit_temperature(logits, labels) == pytest.approx(6 / np.log(share / (1 - share)), rel=1e-6)


def test_the_temperature_has_the_lowest_loss_of_a_fine_grid_and_undoes_scaling() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2000, 7, generator=generator, dtype=torch.float64) * 2
    labels = torch.multinomial(logits.softmax(dim=1), 1, generator=generator)[:, 0]
    found = fit_temperature(logits, labels)
    losses = {
        temperature: float(torch.nn.functional.cross_entropy(logits / temperature, labels))
        for temperature in np.exp(np.linspace(-1, 1, 801))
    }
    assert found == pytest.approx(min(losses, key=lambda temperature: losses[temperature]), rel=3e-3)
    assert found == pytest.approx(1.0, abs=0.1)
    assert fit_temperature(5 * logits, labels) == pytest.approx(5 * found, rel=1e-6)


def test_a_fitted_temperature_lowers_the_calibration_error_of_an_overconfident_classifier() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (3000, 4))
    labels = np.array([rng.choice(4, p=np.exp(row) / np.exp(row).sum()) for row in logits])
    right = logits.argmax(axis=1) == labels

    def error(temperature: float) -> float:
        shares = torch.from_numpy(4 * logits / temperature).softmax(dim=1).amax(dim=1)
        return expected_calibration_error(shares, right).error

    assert error(fit_temperature(4 * logits, labels)) < 0.03 < 0.15 < error(1.0)


def test_answers_that_are_all_right_or_all_wrong_give_the_ends_of_the_range() -> None:
    logits = np.array([[2.0, 0.0], [0.0, 1.0]])
    assert fit_temperature(logits, [0, 1]) == 0.01
    assert fit_temperature(logits, [1, 0]) == 100.0
    with pytest.raises(ValueError, match="needs finite"):
        fit_temperature(logits, [0])
