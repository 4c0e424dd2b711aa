import math

import pytest

from ptft.config.scalars import resolve

NUMBERS = [
    ("0", 0),
    ("7", 7),
    ("-3", -3),
    ("+3", 3),
    ("1e-3", 0.001),
    ("1E5", 1e5),
    ("1e+5", 1e5),
    ("-1.5e-07", -1.5e-07),
    (".5", 0.5),
    ("-.5", -0.5),
    ("1.", 1.0),
    ("0.1", 0.1),
    ("5.0e-4", 5e-4),
]
STRINGS = [
    *("no", "No", "NO", "yes", "on", "off", "y", "n", "TRUE", "tRue", "NULL", "Null", "None"),
    *("012", "007", "00.5", "1_000", "1:30", "0x1F", "0o7", "0b1", "2020-01-01", "1e", "e5", "1e-", "."),
    *("+", "-", "--1", "1,5", "1 2", "nan", "inf", "-inf", "infinity", "T-shirt/top", "٣", "1\n", "²"),
]


@pytest.mark.parametrize(("text", "number"), NUMBERS)
def test_text_is_a_number_of_the_right_type(text: str, number: float) -> None:
    assert resolve(text) == number
    assert type(resolve(text)) is type(number)


@pytest.mark.parametrize("text", STRINGS)
def test_text_stays_a_string(text: str) -> None:
    assert resolve(text) == text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("True", True),
        ("false", False),
        ("False", False),
        ("", None),
        ("~", None),
        ("null", None),
    ],
)
def test_constant_is_read(text: str, value: bool | None) -> None:
    assert resolve(text) is value


@pytest.mark.parametrize("text", [".inf", "-.inf", "+.Inf", ".nan", ".NaN", "1e999", "-1e400", "9" * 301])
def test_number_that_is_not_finite_or_too_long_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="Put it in quotes if it is text"):
        resolve(text)


def test_longest_whole_number_still_fits_a_float() -> None:
    assert math.isfinite(float(str(resolve("9" * 300))))
