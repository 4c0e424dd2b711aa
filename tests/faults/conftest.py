"""How many trials a row of the faults harness gets."""

import os

import pytest


@pytest.fixture
def trials() -> int:
    """10 in the ordinary suite; `PTFT_FAULTS_TRIALS` in the long run of scripts/faults.sh."""
    return int(os.environ.get("PTFT_FAULTS_TRIALS", "10"))
