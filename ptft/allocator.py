"""How this process keeps its memory. Imports no torch."""

import ctypes
import os

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
"""Of glibc's malloc.h."""


def keep_freed_memory() -> bool:
    """Has the C library keep what is freed for the next request, for the rest of this process.

    A step frees large blocks and asks for the same again. glibc gives them back to the kernel meanwhile, which has to
    clear every page anew: up to a fifth of the time of a step on a CPU (`scripts/bench/allocator.py`). The price is
    memory that stays with the process until its end.

    Returns:
        Whether it was done: not with another C library, nor where the user's environment tunes it (`MALLOC_…`,
        `GLIBC_TUNABLES`).
    """
    if "GLIBC_TUNABLES" in os.environ or any(name.startswith("MALLOC_") for name in os.environ) or not _is_glibc():
        return False
    library = ctypes.CDLL(None)
    return bool(library.mallopt(_M_MMAP_MAX, 0) and library.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))


def release_freed_memory() -> None:
    """Gives back what was kept, where what follows needs less at a time than what went before."""
    if _is_glibc():
        ctypes.CDLL(None).malloc_trim(0)


def _is_glibc() -> bool:
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (AttributeError, ValueError):  # Windows; another C library
        return False
