"""The classifier is backbone, dropout and head, and nothing else."""

import torch
from torch import nn

from ptft.models.classifier import Classifier

IMAGES = torch.arange(24.0).reshape(2, 3, 2, 2)


def classifier_of(dropout: float = 0.0) -> Classifier:
    return Classifier(nn.Flatten(), nn.Linear(12, 5), in_channels=3, dropout=dropout)


def test_dimensions_are_known_without_a_forward_pass() -> None:
    classifier = classifier_of()
    assert (classifier.in_channels, classifier.feature_dim, classifier.num_classes) == (3, 12, 5)


def test_logits_are_the_head_applied_to_the_features() -> None:
    classifier = classifier_of(dropout=0.5).eval()
    features = classifier.features(IMAGES)
    assert torch.equal(features, IMAGES.flatten(1))
    assert torch.equal(classifier(IMAGES), features @ classifier.head.weight.T + classifier.head.bias)
    assert torch.equal(classifier.classify(features), classifier(IMAGES))


def test_dropout_acts_on_logits_in_training_only_and_never_on_features() -> None:
    classifier = classifier_of(dropout=0.5)
    assert not torch.equal(classifier(IMAGES), classifier(IMAGES))
    assert torch.equal(classifier.features(IMAGES), classifier.features(IMAGES))
    classifier.eval()
    assert torch.equal(classifier(IMAGES), classifier(IMAGES))


def test_dropout_adds_no_name_to_the_state_dict() -> None:
    assert set(classifier_of(dropout=0.5).state_dict()) == set(classifier_of().state_dict())
    assert set(classifier_of().state_dict()) == {"head.weight", "head.bias"}


def test_a_new_head_changes_the_number_of_classes() -> None:
    classifier = classifier_of()
    classifier.head = nn.Linear(classifier.feature_dim, 2)
    assert classifier.num_classes == 2
    assert classifier(IMAGES).shape == (2, 2)
