"""Networks without memory: building and running the largest ones costs milliseconds."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

FACTORIES = (torch.empty, torch.zeros, torch.ones)


class ParametersOnMeta(TorchFunctionMode):
    """Puts what modules allocate on the meta device.

    `torch.device("meta")` as a context would catch `torch.arange` too, and torchvision's RegNet needs values.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in FACTORIES and kwargs.get("device") is None:
            kwargs["device"] = "meta"
        return func(*args, **kwargs)


@pytest.fixture
def on_meta() -> ParametersOnMeta:
    """A context in which modules are built without memory."""
    return ParametersOnMeta()


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)
