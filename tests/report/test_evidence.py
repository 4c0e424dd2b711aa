"""What the page looks at: calibration, mistakes, principal components, against independent references."""

import math

import pytest
import torch
from sklearn.decomposition import PCA
from torch import Tensor

from ptft.data.images import ResidentImages
from ptft.data.task import Examples, Format
from ptft.models import SmallCnn
from ptft.report.evidence import describe_calibration, gather_evidence, project
from ptft.train.evaluate import Predictions, evaluate, predictions_of
from ptft.train.metrics import Scores, Tally, wilson_interval

CPU = torch.device("cpu")


def overconfident(count: int, sharpness: float, seed: int) -> Predictions:
    """Labels drawn from softmax(z), logits sharpness·z: the temperature that mends them is the sharpness."""
    generator = torch.Generator().manual_seed(seed)
    honest = 2 * torch.randn(count, 4, generator=generator)
    labels = torch.multinomial(honest.softmax(dim=1), 1, generator=generator)[:, 0]
    return Predictions(sharpness * honest, labels)


def test_the_temperature_comes_from_validation_and_mends_the_test_part() -> None:
    test, validation = overconfident(4000, 3.0, seed=0), overconfident(4000, 3.0, seed=1)
    found = describe_calibration({"validation": validation, "test": test})
    assert found is not None
    assert (found["part"], found["num_examples"], found["num_validation"]) == ("test", 4000, 4000)
    assert found["temperature"] == pytest.approx(3.0, rel=0.1)
    assert found["error"] > 0.1
    assert found["scaled_error"] < 0.03
    assert sum(one["num_examples"] for one in found["bins"]) == 4000
    for one in found["bins"]:
        right = round(one["accuracy"] * one["num_examples"])
        assert (one["accuracy_low"], one["accuracy_high"]) == wilson_interval(right, one["num_examples"])


def test_without_a_test_part_no_temperature_is_fitted_on_what_it_would_be_judged_by() -> None:
    found = describe_calibration({"validation": overconfident(100, 3.0, seed=0)})
    assert found is not None
    assert found["part"] == "validation"
    assert "temperature" not in found
    assert describe_calibration({}) is None
    assert describe_calibration({"test": Predictions(torch.tensor([[-math.inf, 0.0]]), torch.tensor([1]))}) is None


def test_principal_components_are_those_of_scikit_learn_with_a_fixed_sign() -> None:
    features = torch.randn(50, 7, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 8)
    found = project(features)
    assert found is not None
    reference = PCA(2)
    expected = torch.from_numpy(reference.fit_transform(features.double().numpy()))
    for column in range(2):
        sign = 1 if reference.components_[column][abs(reference.components_[column]).argmax()] > 0 else -1
        torch.testing.assert_close(found[0][:, column], sign * expected[:, column])
    assert found[1] == pytest.approx(tuple(reference.explained_variance_ratio_))


@pytest.mark.parametrize("features", [torch.randn(2, 5), torch.randn(5, 1), torch.full((5, 5), math.nan)])
def test_too_few_or_spoilt_features_have_no_map(features: Tensor) -> None:
    assert project(features) is None


def task(count: int) -> tuple[Examples, Format]:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, 1, 12, 12), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, 3, (count,), generator=generator)
    return Examples(ResidentImages(pixels), labels, [f"i{row}" for row in range(count)]), Format(12, 1, (0.5,), (0.3,))


def test_mistakes_are_the_surest_wrong_ones_and_scores_are_those_of_evaluate() -> None:
    torch.manual_seed(0)
    classifier, (examples, format_) = SmallCnn(name="small-cnn", width=4).build(3, 1), task(300)
    predictions = predictions_of(classifier, examples, format_, CPU)
    scores, reference = predictions.scores(Tally(3, CPU)), evaluate(classifier, examples, format_, Tally(3, CPU), CPU)
    assert isinstance(scores, Scores)
    assert isinstance(reference, Scores)
    assert scores.confusion.equal(reference.confusion)
    assert scores.loss == reference.loss
    evidence = gather_evidence("test", classifier, examples, predictions, format_, CPU)
    shares = predictions.logits.double().softmax(dim=1)
    wrong = [
        (float(shares[row].max()), f"i{row}")
        for row in range(300)
        if int(shares[row].argmax()) != int(examples.labels[row])
    ]
    expected = [name for _, name in sorted(wrong, reverse=True)[:24]]
    assert [one.name for one in evidence.mistakes] == expected
    assert all(one.true != one.predicted for one in evidence.mistakes)
    assert [one.true == one.predicted for one in evidence.heated] == [False] * 4 + [True] * 4
    assert all(one.heat is not None and one.heat.shape == (3, 3) for one in evidence.heated)
    assert all(one.image.equal(examples.images.take(torch.tensor([int(one.name[1:])]))[0]) for one in evidence.mistakes)
    assert evidence.feature_map is not None
    assert len(evidence.feature_map.points) == 300


@pytest.mark.parametrize("count", [1, 2])
def test_a_part_of_one_or_two_images_is_looked_at_too(count: int) -> None:
    classifier, (examples, format_) = SmallCnn(name="small-cnn", width=4).build(3, 1), task(count)
    predictions = predictions_of(classifier, examples, format_, CPU)
    evidence = gather_evidence("test", classifier, examples, predictions, format_, CPU)
    assert evidence.feature_map is None
    assert len(evidence.heated) == count
