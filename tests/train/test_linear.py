"""Logistic and ridge regression against scikit-learn and torch; the head solved with it against both."""

import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

from ptft.data.labelling import Scale
from ptft.objectives import Supervised
from ptft.objectives.binary_cross_entropy import BinaryCrossEntropy
from ptft.objectives.mixing import Mixing
from ptft.objectives.squared_error import SquaredError
from ptft.train.linear import fit_linear
from ptft.train.solve import PENALTIES, Split, choose_penalty, standardized

SOFTMAX = Supervised().build([1, 1], 0).unmixed_loss


def make_rows(
    count: int = 90, width: int = 7, num_classes: int = 3, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Overlapping clouds whose columns have very different scales; one column never changes."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % num_classes
    centres = np.random.default_rng(9).normal(0, 1, (num_classes, width))
    rows = (rng.normal(0, 1.5, (count, width)) + centres[labels]) * np.logspace(-2, 2, width) + 5
    rows[:, 3] = 0.25
    return torch.from_numpy(rows), torch.from_numpy(labels)


def targets_of(labels: torch.Tensor, **settings: object) -> torch.Tensor:
    counts = torch.bincount(labels).tolist()
    return Supervised(**settings).build(counts, 0).targets(labels, len(counts))  # type: ignore[arg-type]


@pytest.mark.parametrize("penalty", [10.0, 0.01, 1e-5])
def test_the_solution_is_scikit_learns(penalty: float) -> None:
    features, labels = make_rows()
    _, turn, rows = standardized(features)
    ours = fit_linear(rows, targets_of(labels), SOFTMAX, penalty)
    theirs = LogisticRegression(C=1 / (penalty * len(rows)), tol=1e-10, max_iter=10_000)
    scaler = StandardScaler().fit(features.numpy())
    theirs.fit(scaler.transform(features.numpy()), labels.numpy())
    weight = (ours.weight @ turn.T).numpy()
    np.testing.assert_allclose(weight, theirs.coef_ / scaler.scale_, rtol=1e-3, atol=1e-4)
    logits = rows.numpy() @ ours.weight.numpy().T + ours.bias.numpy()
    expected = theirs.decision_function(scaler.transform(features.numpy()))
    np.testing.assert_allclose(logits - logits.mean(1, keepdims=True), expected, rtol=1e-3, atol=1e-4)
    assert ours.grad_norm < 1e-6


@pytest.mark.parametrize("penalty", [10.0, 0.01, 1e-5])
def test_numbers_are_solved_as_by_scikit_learns_ridge(penalty: float) -> None:
    features, labels = make_rows()
    _, _, rows = standardized(features)
    numbers = torch.stack([features[:, 2] + labels, torch.sin(features[:, 4])], dim=1)
    objective = SquaredError(
        Scale(tuple(numbers.mean(dim=0).tolist()), tuple(numbers.std(dim=0, correction=0).tolist()))
    )
    targets = objective.targets(numbers, 2)
    ours = fit_linear(rows, targets, objective.unmixed_loss, penalty)
    scaler = StandardScaler().fit(features.numpy())
    theirs = Ridge(alpha=penalty * len(rows)).fit(scaler.transform(features.numpy()), targets.numpy())
    got = rows.numpy() @ ours.weight.numpy().T + ours.bias.numpy()
    np.testing.assert_allclose(got, theirs.predict(scaler.transform(features.numpy())), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("penalty", [10.0, 0.01, 1e-5])
def test_several_classes_an_image_are_solved_as_by_a_logistic_regression_each(penalty: float) -> None:
    features, labels = make_rows()
    _, _, rows = standardized(features)
    shown = torch.stack([labels == 1, (labels == 2) | (features[:, 2] > 5)], dim=1).float()
    objective = BinaryCrossEntropy(0.0, None, Mixing(0.0, 0.0, 0))
    ours = fit_linear(rows, objective.targets(shown, 2), objective.unmixed_loss, penalty)
    scaler = StandardScaler().fit(features.numpy())
    logits = rows.numpy() @ ours.weight.numpy().T + ours.bias.numpy()
    for column in range(2):
        theirs = LogisticRegression(C=1 / (penalty * len(rows)), tol=1e-10, max_iter=10_000)
        theirs.fit(scaler.transform(features.numpy()), shown[:, column].numpy())
        expected = theirs.decision_function(scaler.transform(features.numpy()))
        np.testing.assert_allclose(logits[:, column], expected, rtol=1e-3, atol=1e-3)


def test_another_penalty_is_another_solution() -> None:
    features, labels = make_rows()
    _, _, rows = standardized(features)
    strong, weak = (fit_linear(rows, targets_of(labels), SOFTMAX, penalty) for penalty in (0.1, 0.01))
    assert not torch.allclose(strong.weight, weak.weight, rtol=0.1)


def test_a_warm_start_leads_to_the_same_solution() -> None:
    features, labels = make_rows()
    _, _, rows = standardized(features)
    targets = targets_of(labels)
    cold = fit_linear(rows, targets, SOFTMAX, 0.01)
    warm = fit_linear(rows, targets, SOFTMAX, 0.01, start=fit_linear(rows, targets, SOFTMAX, 1.0))
    torch.testing.assert_close(warm.weight, cold.weight, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("settings", [{}, {"label_smoothing": 0.2}, {"class_weights": "balanced"}])
def test_the_loss_is_that_of_the_objective(settings: dict[str, object]) -> None:
    """So label smoothing and class weights mean in a probe what they mean in training."""
    features, labels = make_rows()
    labels = torch.where(torch.arange(len(labels)) % 5 == 0, 0, labels)  # uneven classes
    weight, bias = torch.randn(3, 7, dtype=torch.float64) / 100, torch.randn(3, dtype=torch.float64)
    ours = SOFTMAX(features @ weight.T + bias, targets_of(labels, label_smoothing=0.2, class_weights="balanced"))
    objective = Supervised(label_smoothing=0.2, class_weights="balanced").build(torch.bincount(labels).tolist(), 0)
    theirs = objective.loss((features @ weight.T + bias).float(), labels)
    torch.testing.assert_close(ours.float(), theirs, rtol=1e-5, atol=1e-6)
    plain = Supervised(**settings).build(torch.bincount(labels).tolist(), 0)  # type: ignore[arg-type]
    torch.testing.assert_close(
        SOFTMAX(features @ weight.T + bias, targets_of(labels, **settings)).float(),
        plain.loss((features @ weight.T + bias).float(), labels),
        rtol=1e-5,
        atol=1e-6,
    )


def test_the_loss_of_several_classes_is_that_of_the_objective_and_of_a_plain_loop() -> None:
    logits, shown = torch.randn(5, 2, dtype=torch.float64), torch.tensor([[0, 1], [1, 1], [0, 0], [1, 0], [0, 1]])
    weights = (3.0, 0.5)
    objective = BinaryCrossEntropy(0.2, weights, Mixing(0.0, 0.0, 0))
    ours = objective.unmixed_loss(logits, objective.targets(shown.float(), 2))
    torch.testing.assert_close(objective.loss(logits.float(), shown.float()).double(), ours, rtol=1e-5, atol=1e-6)
    total = 0.0
    for row, there in zip(logits.tolist(), shown.tolist(), strict=True):
        for logit, label, weight in zip(row, there, weights, strict=True):
            share, target = 1 / (1 + math.exp(-logit)), 0.8 * label + 0.1
            total -= weight * target * math.log(share) + (1 - target) * math.log(1 - share)
    assert ours.item() == pytest.approx(total / 5)


def test_the_chosen_penalty_is_the_best_of_the_grid_on_what_is_held_out() -> None:
    features, labels = make_rows(60, seed=1)
    others, their_labels = make_rows(300, seed=2)
    mean, turn, rows = standardized(features)
    held, targets = (others - mean) @ turn, targets_of(their_labels)
    chosen, _ = choose_penalty([Split(rows, targets_of(labels), held, targets)], SOFTMAX, lambda: None)
    losses = {}
    for penalty in PENALTIES:
        fit = fit_linear(rows, targets_of(labels), SOFTMAX, penalty)
        losses[penalty] = SOFTMAX(held @ fit.weight.T + fit.bias, targets).item()
    assert chosen == min(losses, key=lambda penalty: losses[penalty])
    assert PENALTIES[0] > chosen > PENALTIES[-1]
