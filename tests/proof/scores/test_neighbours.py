"""The nearest neighbours against a loop over images."""

import numpy as np
import pytest
from making_features import make_features
from sklearn.neighbors import KNeighborsClassifier

from ptft.proof.scores import neighbours
from ptft.proof.scores.neighbours import neighbours_right


def naive(features: np.ndarray, labels: np.ndarray, num_neighbours: int) -> list[bool]:
    rows = [list(row) for row in (features - features.mean(axis=0)) / features.std(axis=0)]
    right = []
    for mine, label in zip(rows, labels, strict=True):
        found = []
        for other, vote in zip(rows, labels, strict=True):
            if other is not mine:
                lengths = sum(x * x for x in mine) ** 0.5 * sum(x * x for x in other) ** 0.5
                found.append((sum(x * y for x, y in zip(mine, other, strict=True)) / lengths, vote))
        votes = np.zeros(labels.max() + 1)
        for similarity, vote in sorted(found, reverse=True)[:num_neighbours]:
            votes[vote] += np.exp(similarity / 0.07)
        right.append(votes.argmax() == label)
    return right


@pytest.mark.parametrize("num_neighbours", [1, 20])
@pytest.mark.parametrize("num_images", [9, 80])
def test_the_vote_is_that_of_a_loop_over_images(num_images: int, num_neighbours: int) -> None:
    features, labels = make_features(num_images, 6)
    assert neighbours_right(features, labels, num_neighbours).tolist() == naive(features, labels, num_neighbours)


def test_20_neighbours_vote_where_no_number_is_given() -> None:
    features, labels = make_features(80, 6)
    expected = naive(features, labels, 20)
    assert neighbours_right(features, labels).tolist() == expected
    assert expected not in (naive(features, labels, 1), naive(features, labels, 5))


def test_one_neighbour_is_scikit_learns_and_portions_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = make_features(100, 6)
    rows = (features - features.mean(axis=0)) / features.std(axis=0)
    expected = []
    for index in range(100):
        others = np.arange(100) != index
        nearest = KNeighborsClassifier(1, metric="cosine").fit(rows[others], labels[others])
        expected.append(nearest.predict(rows[[index]])[0] == labels[index])
    assert neighbours_right(features, labels, 1).tolist() == expected
    monkeypatch.setattr(neighbours, "_ROWS_AT_ONCE", 7)
    assert neighbours_right(features, labels, 1).tolist() == expected


def test_an_image_has_no_vote_on_itself() -> None:
    features, _ = make_features(60, 4, signal=0.0)
    labels = np.random.default_rng(1).integers(0, 6, 60)
    labels[:6] = range(6)
    assert neighbours_right(features, labels, 1).mean() < 0.4
    assert neighbours_right(np.repeat(features, 2, axis=0), np.repeat(labels, 2), 1).mean() == 1.0
