"""Optimizers of torch without the part of them that is for torch.compile.

`step`, `zero_grad` and `add_param_group` of torch.optim import torch._dynamo when they are called first, which takes
longer than to import all of ptft, and only to tell a compiler that is not there to leave them alone.
"""

import inspect
from functools import cache
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch.optim import Optimizer


@cache
def eager(kind: "type[Optimizer]") -> "type[Any]":
    """The same optimizer, bit for bit; it cannot be part of a compiled graph.

    Args:
        kind: of torch.optim, not differentiable.
    """

    def step(self: "Optimizer", closure: "Callable[[], Any] | None" = None) -> Any:
        with torch.no_grad():
            return bare_step(self, closure)

    bare_step = _bare(kind.step)
    bare = {name: _bare(getattr(kind, name)) for name in ("zero_grad", "add_param_group")}
    return type(kind.__name__, (kind,), bare | {"step": step})


def _bare(function: Any) -> Any:
    """What decorators of torch were put around; where a version of torch has none, the function itself."""
    return inspect.unwrap(function)
