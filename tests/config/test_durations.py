import pytest
from pydantic import ValidationError

from ptft.config.durations import Duration


@pytest.mark.parametrize(
    ("duration", "steps"),
    [
        (Duration(steps=7), 7),
        (Duration(steps=0), 0),
        (Duration(epochs=1), 10),
        (Duration(epochs=0.5), 5),
        (Duration(epochs=0.51), 6),
        (Duration(epochs=1e-12), 1),
        (Duration(epochs=0), 0),
        (Duration(examples=100), 10),
        (Duration(examples=101), 11),
        (Duration(examples=1), 1),
        (Duration(examples=0), 0),
    ],
)
def test_duration_in_steps_for_100_images_in_batches_of_10(duration: Duration, steps: int) -> None:
    assert duration.to_steps(num_examples=100, batch_size=10) == steps


def test_last_incomplete_batch_is_a_step() -> None:
    assert Duration(epochs=1).to_steps(num_examples=101, batch_size=10) == 11
    assert Duration(epochs=1).to_steps(num_examples=3, batch_size=10) == 1


def test_rounding_of_floats_adds_no_step() -> None:
    assert 0.07 * 100 / 7 > 1
    assert Duration(epochs=0.07).to_steps(num_examples=100, batch_size=7) == 1


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({}, "expected one of epochs, steps or examples, got none."),
        ({"epochs": 1, "steps": 1}, "expected one of epochs, steps or examples, got epochs and steps."),
        ({"steps": 1, "examples": 1}, "expected one of epochs, steps or examples, got steps and examples."),
    ],
)
def test_none_or_two_units_are_refused_in_one_sentence(given: dict[str, int], sentence: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Duration.model_validate(given)
    assert [str(error["ctx"]["error"]) for error in caught.value.errors()] == [sentence]


def test_only_the_unit_given_is_written() -> None:
    assert Duration(epochs=2).model_dump() == {"epochs": 2.0}
