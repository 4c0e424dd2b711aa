"""What each kind of task makes of its records' labels."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ptft.data.labelling import ONE_CLASS, Labelling, Numbers, OneClass, Scale, SeveralClasses
from ptft.data.records import Record, Source
from ptft.data.task import listing_of
from ptft.errors import DataError

CLASSES = ("ant", "bee", "cat")


def record(label: str | None = None, labels: tuple[str, ...] = (), targets: tuple[float, ...] = ()) -> Record:
    return Record(Path("a.png"), label, None, "a.png", labels=labels, targets=targets)


def listing(labelling: Labelling, only: Record) -> str:
    return listing_of({"train": [only], "validation": [], "test": []}, labelling)


def test_a_class_is_its_place_and_an_unknown_or_missing_one_is_minus_1() -> None:
    records = [record("cat"), record("wasp"), record(None), record("ant")]
    assert ONE_CLASS.encode(records, CLASSES).tolist() == [2, -1, -1, 0]
    assert ONE_CLASS.strangers(records, CLASSES) == ["wasp"]
    assert ONE_CLASS.counts(torch.tensor([0, 0]), 3) == [2, 0, 0]


def test_several_classes_are_ones_in_their_columns() -> None:
    records = [record(labels=("cat", "ant")), record(), record(labels=("wasp",))]
    assert SeveralClasses().encode(records, CLASSES).tolist() == [[1, 0, 1], [0, 0, 0], [0, 0, 0]]
    assert SeveralClasses().strangers(records, CLASSES) == ["wasp"]
    assert SeveralClasses().strata(record()) == (None,)


@pytest.mark.parametrize(
    ("labelling", "one", "other"),
    [
        (OneClass(), record("ant"), record("bee")),
        (SeveralClasses(), record(labels=("ant",)), record(labels=("ant", "bee"))),
        (Numbers(), record(targets=(1.0, 2.0)), record(targets=(1.0, 2.5))),
    ],
)
def test_another_label_under_the_same_name_is_another_listing(labelling: Labelling, one: Record, other: Record) -> None:
    assert listing(labelling, one) == listing(labelling, replace(one))
    assert listing(labelling, one) != listing(labelling, other)


def test_the_order_in_which_the_classes_of_an_image_are_named_is_no_difference() -> None:
    first, second = (record(labels=names) for names in (("ant", "bee"), ("bee", "ant")))
    assert listing(SeveralClasses(), first) == listing(SeveralClasses(), second)


def test_targets_are_standardised_by_their_mean_and_the_deviation_of_all_and_restored() -> None:
    labels = torch.tensor([[1.0, -20.0], [2.0, 40.0], [6.0, 10.0]], dtype=torch.float64)
    scale = Numbers().scale(labels, ("a", "b"))
    assert scale is not None
    np.testing.assert_allclose(scale.mean, labels.numpy().mean(axis=0))
    np.testing.assert_allclose(scale.std, labels.numpy().std(axis=0))
    standard = scale.standardize(labels).numpy()
    np.testing.assert_allclose(standard, (labels.numpy() - scale.mean) / scale.std)
    torch.testing.assert_close(scale.restore(scale.standardize(labels)), labels)
    assert scale == Scale(scale.mean, scale.std)


@pytest.mark.parametrize("value", [0.0, 0.1, -1e6])
def test_a_target_that_never_changes_is_refused_although_its_deviation_is_rounded(value: float) -> None:
    with pytest.raises(DataError, match=r"target 'a' is .* for every training image"):
        Numbers().scale(torch.full((7, 1), value, dtype=torch.float64), ("a",))


def test_too_little_to_learn_from_is_told() -> None:
    with pytest.raises(DataError, match=r"one class \('ant'\) is not enough"):
        ONE_CLASS.check_train([record("ant")], ("ant",), "here")
    with pytest.raises(DataError, match="no training image of class 'bee'"):
        ONE_CLASS.check_train([record("ant")], ("ant", "bee"), "here")
    with pytest.raises(DataError, match="every training image has class 'ant'"):
        SeveralClasses().check_train([record(labels=("ant",))], ("ant",), "here")
    with pytest.raises(DataError, match="here: no training image"):
        Numbers().check_train([], ("a",), "here")


@pytest.mark.parametrize("labelling", [OneClass(), SeveralClasses()])
def test_a_class_that_training_has_not_is_refused_unless_the_classes_are_chosen(labelling: Labelling) -> None:
    records = [record("ant", ("ant",)), record("bee", ("bee",)), record("wasp", ("wasp",))]
    source = Source(records, ("ant", "bee"), "here")
    with pytest.raises(DataError, match="'wasp' is in validation or test but not in train"):
        labelling.choose(source, None)
    classes, chosen = labelling.choose(source, ["bee", "ant"])
    assert classes == ("bee", "ant")
    assert chosen[:2] == records[:2]
