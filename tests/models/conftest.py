"""Networks without memory: building and running the largest ones costs milliseconds."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

FACTORIES = (torch.empty, torch.zeros, torch.ones)
FILLS = {"normal_", "uniform_", "kaiming_uniform_", "erfinv_", "mul_", "add_", "clamp_", "fill_", "zero_"}


class ParametersOnMeta(TorchFunctionMode):
    """Puts what modules allocate on the meta device, and skips initialisation: there is nothing to fill.

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
        target = args[0] if args else kwargs.get("tensor")
        if func.__name__ in FILLS and isinstance(target, torch.Tensor) and target.is_meta:
            return target
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
