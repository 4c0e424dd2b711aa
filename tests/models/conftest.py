"""Networks without memory: building and running the largest ones costs milliseconds."""

import pytest
import torch

from ptft.models.outline import ParametersOnMeta


@pytest.fixture
def on_meta() -> ParametersOnMeta:
    """A context in which modules are built without memory."""
    return ParametersOnMeta()


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)
