"""A GPU that is none: its tensors compute on the CPU, say that they are on cuda:0, and refuse what a GPU's refuse.

It shows, on a machine without a GPU, what would go wrong with tensors in two places, and where the host waits for the
GPU. Of speed, memory, numerics, streams and the kernels themselves it knows nothing.
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from types import FrameType, SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

CUDA = torch.device("cuda", 0)

WAITS = {"item", "tolist", "nonzero", "argwhere", "unique", "bincount", "masked_select", "equal", "cpu"}
WAITS |= {"__bool__", "__float__", "__int__", "__index__", "new_tensor"}
"""What makes the host wait until the GPU has computed its argument, or has taken numbers from memory not pinned."""

MIXING = {"copy_", "__setitem__", "__getitem__", "to", "type_as"}
"""What takes tensors of both."""

TORCH_CUDA: dict[str, Callable[..., Any]] = {
    "is_available": lambda: True,
    "device_count": lambda: 1,
    "current_device": lambda: 0,
    "get_device_name": lambda *_: "emulated GPU",
    "is_bf16_supported": lambda **_: False,
    "mem_get_info": lambda *_: (10**10, 10**10),
    "max_memory_allocated": lambda *_: 0,
    "memory_allocated": lambda *_: 0,
    "memory_reserved": lambda *_: 0,
    "Event": lambda: SimpleNamespace(record=lambda: None, synchronize=lambda: None),
    "manual_seed": lambda *_: None,
    "set_device": lambda *_: None,
    "synchronize": lambda *_: None,
    "empty_cache": lambda: None,
    "_lazy_init": lambda: None,
}


class GpuTensor(Tensor):
    """A tensor whose memory is the CPU's."""

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        raise AssertionError("outside of emulated_gpu")


class EmulatedGpu(TorchFunctionMode):
    """Around all that may meet such a tensor, in each thread.

    Args:
        waits: counts, by function and place in ptft, what the host would wait for.
    """

    def __init__(self, waits: Counter[tuple[str, str]]) -> None:
        super().__init__()
        self._waits = waits

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        with torch._C.DisableTorchFunction():
            return self._call(func, getattr(func, "__name__", ""), args, dict(kwargs or {}))

    def _call(self, func: Any, name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        near = [tensor for tensor in tensors if isinstance(tensor, GpuTensor)]
        if not near:
            return self._without(func, name, args, kwargs)
        if name == "__get__":
            return self._attribute(func, args[0])
        if name in ("numpy", "__array__"):
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first.")
        if name == "__deepcopy__":
            return _copied(*args)
        if name == "_has_compatible_shallow_copy_type":
            return len(near) == 2
        if name in WAITS or (name == "__getitem__" and getattr(args[1], "dtype", None) == torch.bool):
            self._waits[name, _place()] += 1
        if name == "cpu":
            return _far(args[0]).clone()
        if name == "to":
            return self._moved(func, args, kwargs)
        others = [tensor for tensor in tensors if not isinstance(tensor, GpuTensor) and tensor.dim()]
        is_into_far = name in ("copy_", "__setitem__", "__getitem__") and not isinstance(args[0], GpuTensor)
        if name in ("copy_", "__setitem__") and (is_into_far or others) and not kwargs.get("non_blocking"):
            self._waits[name, _place()] += 1
        if (others and name not in MIXING) or (is_into_far and name == "__getitem__"):
            shapes = [(type(tensor).__name__, tuple(tensor.shape)) for tensor in tensors]
            raise RuntimeError(f"{name}: expected all tensors to be on the same device, found {shapes}")
        found = func(*args, **kwargs)
        return found if is_into_far or any(found is tensor for tensor in tensors) else tree_map(_near, found)

    def _without(self, func: Any, name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """What begins on the CPU."""
        if name == "pin_memory":
            pinned = args[0].detach()
            pinned.is_pinned_here = True
            return pinned
        if name == "to":
            return self._moved(func, args, kwargs)
        kwargs.pop("pin_memory", None)
        device = kwargs.get("device")
        if device is None or torch.device(device).type != "cuda":
            return func(*args, **kwargs)
        if name in ("tensor", "as_tensor"):
            self._waits[name, _place()] += 1
        return tree_map(_near, func(*args, **kwargs | {"device": "cpu"}))

    def _attribute(self, func: Any, tensor: Tensor) -> Any:
        known = {"device": CUDA, "is_cuda": True, "is_cpu": False}
        name = getattr(func.__self__, "__name__", "")
        return known[name] if name in known else _near(func(tensor))

    def _moved(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """`Tensor.to`: a copy where the device is another."""
        targets = [value for value in (*args[1:], *kwargs.values()) if isinstance(value, str | torch.device | Tensor)]
        stays = isinstance(args[0], GpuTensor)
        goes = _is_near(targets[0]) if targets else stays
        found = func(_far(args[0]), *map(_target, args[1:]), **{key: _target(value) for key, value in kwargs.items()})
        if stays != goes and not hasattr(args[0], "is_pinned_here") and not _is_torchs():
            self._waits["to", _place()] += 1
        if stays != goes and found.data_ptr() == args[0].data_ptr():
            found = found.clone()
        return _near(found) if goes else found


def _near(value: Any) -> Any:
    return value.as_subclass(GpuTensor) if type(value) in (Tensor, nn.Parameter) else value


def _far(value: Any) -> Any:
    return value.as_subclass(Tensor) if isinstance(value, GpuTensor) else value


def _is_near(target: str | torch.device | Tensor) -> bool:
    return isinstance(target, GpuTensor) if isinstance(target, Tensor) else torch.device(target).type == "cuda"


def _target(value: Any) -> Any:
    return torch.device("cpu") if isinstance(value, str | torch.device) else _far(value)


def _copied(tensor: Tensor, memo: dict[int, Tensor]) -> Tensor:
    if id(tensor) not in memo:
        memo[id(tensor)] = _near(_far(tensor).detach().clone())
        if isinstance(tensor, nn.Parameter):
            memo[id(tensor)].requires_grad_(tensor.requires_grad)
            memo[id(tensor)]._is_param = True  # type: ignore[attr-defined]
    return memo[id(tensor)]


def _callers() -> Iterator[tuple[str, int]]:
    """File and line of who called the function, the innermost first."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code.co_filename != __file__:
            yield frame.f_code.co_filename, frame.f_lineno
        frame = frame.f_back


def _is_torchs() -> bool:
    """Whether torch itself asks: it sorts tensors by the device that they are really on."""
    return "/torch/" in next(_callers())[0]


def _place() -> str:
    """The innermost line of ptft."""
    return next((f"{file.rsplit('/ptft/', 1)[1]}:{line}" for file, line in _callers() if "/ptft/" in file), "")


@contextmanager
def emulated_gpu() -> Iterator[Counter[tuple[str, str]]]:
    """Inside, torch has one GPU. Yields what the host waited for: function, file:line in ptft and how often."""
    waits: Counter[tuple[str, str]] = Counter()

    def begin_thread() -> None:
        EmulatedGpu(waits).__enter__()

    autocast = torch.autocast
    overwrites = torch.__future__.get_overwrite_module_params_on_conversion()
    with ExitStack() as stack:
        for name, value in TORCH_CUDA.items():
            stack.enter_context(patch.object(torch.cuda, name, value))
        for name in ("_accelerator_graph_capture_health_check", "_cuda_graph_capture_health_check"):
            if hasattr(torch.optim.Optimizer, name):
                stack.enter_context(patch.object(torch.optim.Optimizer, name, lambda _: None))
        stack.enter_context(patch("torch.autocast", lambda _, **options: autocast("cpu", **options)))
        pool = partial(ThreadPoolExecutor, initializer=begin_thread)
        stack.enter_context(patch("ptft.data.ahead.ThreadPoolExecutor", pool))
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        stack.callback(torch.__future__.set_overwrite_module_params_on_conversion, overwrites)
        stack.enter_context(EmulatedGpu(waits))
        yield waits
