"""The machine a run meets: device, precision, memory, seeds, and the record of what it ran on."""

import functools
import hashlib
import os
import platform
import re
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

import ptft
from ptft.errors import OutOfMemoryError, UsageError
from ptft.paths import user_path

DeviceName = Literal["auto", "cpu", "cuda"]
Precision = Literal["fp32", "bf16", "fp16"]

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def derive_seed(*parts: int | str) -> int:
    """A seed in [0, 2^63) that is a pure function of where it is used.

    Args:
        parts: what the randomness is for and where it stands, for example `("order", seed, epoch)`.
    """
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def seed_draws(device: torch.device, seed: int) -> None:
    """Sets what torch draws from next on the CPU and, for a GPU, on the current one, which `pick_device` has made it.

    As torch.manual_seed, which notes down the whole call stack for each other kind of device that is not in use: a
    third of a millisecond, which is too much for every step.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)


def pick_device(name: DeviceName, local_rank: int | None = None) -> torch.device:
    """The device a run computes on.

    Args:
        name: as in the config.
        local_rank: the GPU to take, for one rank of many; None for the first.

    Raises:
        UsageError: `cuda` was asked for and torch sees no GPU, or fewer than there are ranks on this host.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("device: cuda was asked for, but torch sees no GPU here. Write device: auto or cpu.")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cpu" or local_rank is None:
        return torch.device(name)
    if local_rank >= torch.cuda.device_count():
        raise UsageError(
            f"local rank {local_rank} has no GPU: torch sees {torch.cuda.device_count()} here. Start one rank for each "
            "GPU (--nproc-per-node), or write device: cpu."
        )
    torch.cuda.set_device(local_rank)
    return torch.device(name, local_rank)


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on the device. To a GPU it goes through pinned memory, which torch keeps and uses again, so that the
    host does not wait for what the GPU has yet to do."""
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def fetched(tensor: Tensor) -> Callable[[], Tensor]:
    """Begins to bring a tensor to the CPU; the function returned waits for that alone, not for what a GPU does next."""
    if tensor.device.type != "cuda":
        copy = tensor.detach().clone()
        return lambda: copy
    copy, arrived = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True), torch.cuda.Event()
    copy.copy_(tensor.detach(), non_blocking=True)
    arrived.record()

    def wait() -> Tensor:
        arrived.synchronize()
        return copy

    return wait


@functools.lru_cache(maxsize=64)
def constant(values: tuple[float, ...], device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """The numbers on the device, (N,); kept, as the host waits for the GPU to which it sends numbers. Not to change."""
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=dtype, device=device)


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """The context in which the forward pass computes; nothing at all for fp32."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=_DTYPES[precision])


def computes_bf16(device: torch.device) -> bool:
    """Whether the device has instructions for bf16 that torch uses.

    Without them torch imitates it, on a processor 10 to 16 times as slow as fp32 (small-vgg, AVX2).
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # Where torch is built without oneDNN, as for macOS, it has not even the question.
    return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def computes_on_tiles() -> bool:
    """Whether the processor multiplies matrices on tiles (Intel AMX) that torch uses."""
    return computes_bf16(torch.device("cpu")) and bool(torch.cpu._is_amx_tile_supported())


def num_cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available_memory_bytes() -> int:
    """Main memory this process may still take: the kernel's estimate, or the cgroup's limit when that is lower."""
    available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                available = int(line.split()[1]) * 1024
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
    except (OSError, ValueError):
        return available
    return available if limit == "max" else min(available, int(limit) - used)


def peak_memory_bytes(device: torch.device) -> int:
    """The most memory that this process has had so far: on the GPU for one, else of the machine."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def machine(device: torch.device) -> str:
    """What the speed of a step depends on beside the step: processor or GPU, cores, threads, torch."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{name}, {capability}, {num_cores()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}"


def _processor() -> str:
    """Name of the processor as Linux tells it; elsewhere its kind."""
    try:
        told = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    found = re.search(r"^model name\s*:\s*(.+)$", told, re.MULTILINE)
    return found[1] if found else platform.machine()


def waited_seconds() -> float:
    """Time in which threads of this process could have run and had no processor, summed, as Linux counts it; else 0."""
    waited = 0.0
    for path in Path("/proc/self/task").glob("*/schedstat"):
        with suppress(OSError, ValueError, IndexError):  # a thread that has ended
            waited += int(path.read_text().split()[1]) / 1e9
    return waited


def cache_folder(given: Path | None) -> Path | None:
    """Where ptft keeps what it can make again: `given`, else $PTFT_CACHE_DIR, $XDG_CACHE_HOME/ptft or ~/.cache/ptft.

    None where nothing is given and there is no home folder.
    """
    if given is not None:
        return given
    if own := os.environ.get("PTFT_CACHE_DIR"):
        return user_path(own)
    # A relative XDG_CACHE_HOME is to be ignored (XDG base directory specification).
    shared = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        return (shared if shared.is_absolute() else Path.home() / ".cache") / "ptft"
    except RuntimeError:
        return None


def cache_limit_bytes() -> int | None:
    """Most bytes of the cache folder, as $PTFT_CACHE_GB says; None where it says nothing.

    Raises:
        UsageError: it is no number.
    """
    told = os.environ.get("PTFT_CACHE_GB")
    if not told:
        return None
    try:
        limit = float(told) * 1e9
    except ValueError:
        limit = float("nan")
    if not 0 <= limit < float("inf"):
        raise UsageError(f"PTFT_CACHE_GB: {told!r} is no number of gigabytes. Set it to 20, for example, or unset it.")
    return int(limit)


def environment(device: torch.device) -> dict[str, Any]:
    """What a result depends on beside config and data: versions, commit, hardware."""
    return {
        "ptft": ptft.__version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "num_threads": torch.get_num_threads(),
    }


def _commit() -> str | None:
    """Commit of ptft's own source when it runs from a checkout; None when installed as a package."""
    source = Path(ptft.__file__).parent
    if not (source.parent / ".git").exists():
        return None
    try:
        asked = subprocess.run(
            ["git", "-C", str(source), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return asked.stdout.strip()


@contextmanager
def memory_errors() -> Iterator[None]:
    """Turns running out of memory, of the machine or the GPU, into one error with advice.

    Raises:
        OutOfMemoryError: for torch's, Python's and the CPU allocator's own.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemoryError(
            f"out of memory: {first_line(error)}. Lower train.batch_size or data.image_size, take a smaller model, or "
            "give the process more memory."
        ) from error


# oneDNN does not say why it could not create a primitive that it has just described: it had no memory for it.
_OUT_OF_MEMORY = re.compile(
    r"can't allocate memory|could not create a primitive$"
    r"|CUDA[^\n]* out of memory|CUBLAS_STATUS_ALLOC_FAILED|CUDNN_STATUS_\w*ALLOC\w*_FAILED"
)


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that main memory or GPU memory is exhausted: torch's, Python's, the CPU allocator's."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or bool(_OUT_OF_MEMORY.search(str(error)))


def first_line(error: Exception) -> str:
    """What an error of torch says before its details, without the place in torch's source and without the stop."""
    text = re.sub(r"^\[enforce fail at [^]]*\][^.]*\. ", "", str(error))
    text = re.sub(r" GPU \d+ has a total capacity of .*", "", text, flags=re.DOTALL)
    return (text.splitlines() or ["the machine has no more"])[0].rstrip(". ")
