"""Where a process begins: signals are in hand before anything is imported that takes time."""

import gc
from typing import NoReturn

from ptft.allocator import keep_freed_memory
from ptft.distributed.place import prepare
from ptft.stop import end_on_signals


def main() -> NoReturn:
    """Entry point of the `ptft` command."""
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
