"""Where a process begins: signals are in hand before anything is imported that takes time."""

import atexit
import gc
import os
import sys
from contextlib import suppress
from typing import NoReturn

from ptft.allocator import keep_freed_memory
from ptft.distributed.place import prepare
from ptft.stop import end_on_signals


def main() -> NoReturn:
    """Entry point of the `ptft` command."""
    _open_standard_streams()
    end_on_signals()
    codes: list[int] = []
    atexit.register(_end_at_once, codes)  # registered first, it is called after all others of ours
    # Imports make some 300,000 objects, none of which is garbage: the usual 700 between two searches are too few.
    gc.set_threshold(20_000, 20, 20)
    prepare()
    keep_freed_memory()
    from ptft.cli import main

    try:
        main()
    except SystemExit as ended:
        codes.append(ended.code if isinstance(ended.code, int) else int(ended.code is not None))
        raise


def _end_at_once(codes: list[int]) -> None:
    """Ends the process with this exit code, if there is one, without taking interpreter and libraries apart.

    That takes a fifth of a second and, as it touches pages that nothing else needs, 120 MB.
    """
    if codes:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):
                stream.flush()
        os._exit(codes[0])


def _open_standard_streams() -> None:
    """Whoever starts a command may have closed them; a file opened later would then be taken for one."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)  # for processes that this one starts, too
    os.close(descriptor)
    sys.stdout = sys.stdout or os.fdopen(1, "w", encoding="utf-8")
    sys.stderr = sys.stderr or os.fdopen(2, "w", encoding="utf-8")
