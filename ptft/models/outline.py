"""Classifiers without memory: names and shapes of all tensors, in milliseconds also for the largest."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from ptft.models.base import ModelConfig
from ptft.models.classifier import Classifier

_FACTORIES = (torch.empty, torch.zeros, torch.ones)
_FILLS = {"normal_", "uniform_", "kaiming_uniform_", "erfinv_", "mul_", "add_", "clamp_", "fill_", "zero_"}


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
        if func.__name__ in _FILLS and isinstance(target, torch.Tensor) and target.is_meta:
            return target
        if func in _FACTORIES and kwargs.get("device") is None:
            kwargs["device"] = "meta"
        return func(*args, **kwargs)


def outline(model: ModelConfig, num_classes: int, in_channels: int) -> Classifier:
    """The classifier that `model.build` would give, with every tensor on the meta device."""
    with ParametersOnMeta():
        return model.build(num_classes, in_channels)
