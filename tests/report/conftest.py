"""Here every run makes its page."""

from functools import partial

import pytest
from making import Ptft


@pytest.fixture
def ptft(ptft: Ptft) -> Ptft:
    """Calls `ptft ARGUMENTS` in this process, in an empty folder; pages are made."""
    return partial(ptft, page=True)
