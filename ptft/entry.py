"""Where a process begins: signals are in hand before anything is imported that takes time."""

import gc
import os
import sys
from typing import NoReturn

from ptft.allocator import keep_freed_memory
from ptft.distributed.place import prepare
from ptft.stop import end_on_signals


def main() -> NoReturn:
    """Entry point of the `ptft` command."""
    _open_standard_streams()
    end_on_signals()
    # Imports make some 300,000 objects, none of which is garbage: the usual 700 between two searches are too few.
    gc.set_threshold(20_000, 20, 20)
    prepare()
    keep_freed_memory()
    from ptft.cli import main

    try:
        main()
    finally:
        # An interpreter that ends looks for garbage among all that it holds, three times: half a second with torch.
        gc.freeze()


def _open_standard_streams() -> None:
    """Whoever starts a command may have closed them; a file opened later would then be taken for one."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    sys.stdout = sys.stdout or os.fdopen(1, "w", encoding="utf-8")
    sys.stderr = sys.stderr or os.fdopen(2, "w", encoding="utf-8")
