"""torchvision without the compiler that it imports: `from ptft.vision import torchvision`, in place of its own import.

One line of `torchvision.ops.roi_align`, which asks whether torch.compile works here, imports torch._dynamo, with sympy
and triton behind it: 150 MB and more than half of torchvision's import time. No network of ours has such a layer.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

_COMPILER = ("torch._dynamo", "torch._dynamo.utils")


class _OnDemand(ModuleType):
    """Stands in for a module of the compiler until something of it is used."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what the import system looks for
            raise AttributeError(name)
        if name == "is_compile_supported":
            return lambda device_type: self._real().is_compile_supported(device_type)
        return getattr(self._real(), name)

    def _real(self) -> Any:
        for other in _COMPILER:
            if isinstance(sys.modules.get(other), _OnDemand):
                del sys.modules[other]
        return import_module(self.__name__)


@contextmanager
def _compiler_on_demand() -> Iterator[None]:
    """Nothing of the compiler is imported inside, unless it is used there."""
    if any(name in sys.modules for name in _COMPILER):
        yield
        return
    sys.modules.update({name: _OnDemand(name) for name in _COMPILER})
    try:
        yield
    finally:
        for name in _COMPILER:
            if isinstance(sys.modules.get(name), _OnDemand):
                del sys.modules[name]


with _compiler_on_demand():
    import torchvision

__all__ = ["torchvision"]
