"""How values are spelled."""

import pytest

from ptft.config.wording import rounded


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (0.0083581, "0.008358"),
        (37.2, "37.2"),
        (-1035.4784, "-1,035"),
        (9999.4, "9,999"),
        (999.6, "999.6"),
        (9999.6, "10,000"),
        (250_000, "250,000"),
        (1.2e-7, "1.2e-07"),
        (2e20, "2e+20"),
        (0.0, "0"),
    ],
)
def test_numbers_of_any_unit_keep_four_digits_and_prices_all_of_theirs(value: float, told: str) -> None:
    assert rounded(value) == told
    assert rounded(999.6, 3) == "1,000"
